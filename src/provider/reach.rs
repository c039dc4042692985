//! Whether what a runbook names is there, looked at before anything is changed. Starts nothing and sends
//! nothing: a program may not be harmless, and an address need not answer yet.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::task::JoinSet;

use super::outcome::Kind;
use super::{Check, http::safe_url};
use crate::runbook::model::Runbook;
use crate::runbook::{Named, placeholder};

/// How long looking up a name may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many names are looked up at once.
const AT_ONCE: usize = 16;

/// Looks at every program and every address of a runbook.
pub async fn reach(runbook: &Runbook) -> Vec<Check> {
    let named = runbook.named();
    let mut checks = placeholders(runbook);
    let programs = grouped(&named.programs, |named| named.what.clone());
    let missing: Vec<Check> =
        programs.iter().filter_map(|(program, places)| lacking(program, places)).collect();
    if missing.is_empty() && !programs.is_empty() {
        checks.push(Check::pass(
            "programs",
            format!("all {} that the runbook names can be executed", programs.len()),
        ));
    }
    checks.extend(missing);
    checks.extend(addresses(&named.addresses).await);
    checks
}

/// Things by a name, with the places that name them.
fn grouped(named: &[Named], by: impl Fn(&Named) -> String) -> BTreeMap<String, Vec<&str>> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for one in named {
        groups.entry(by(one)).or_default().push(&one.place);
    }
    groups
}

/// Some of the places, in words.
fn places(places: &[&str]) -> String {
    let named = places.iter().take(3).copied().collect::<Vec<_>>().join("; ");
    if places.len() > 3 { format!("{named}; and {} more", places.len() - 3) } else { named }
}

fn placeholders(runbook: &Runbook) -> Vec<Check> {
    fn walk(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => found.extend(placeholder(text).map(str::to_owned)),
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            serde_json::Value::Object(fields) => {
                // Other environments may be incomplete, and prose changes nothing.
                let used = fields
                    .iter()
                    .filter(|(name, _)| !["environments", "summary", "owner"].contains(&name.as_str()));
                used.for_each(|(_, field)| walk(field, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::to_value(runbook).unwrap_or_default(), &mut found);
    let Some(first) = found.first() else { return Vec::new() };
    vec![Check::fail(
        "runbook",
        Kind::Local,
        format!("`{first}` is still to be filled in"),
        "stanch validate shows every such place",
    )]
}

/// Why a program could not be started.
fn lacking(program: &str, named_by: &[&str]) -> Option<Check> {
    let why = match find(program) {
        Ok(path) => interpreter(&path).and_then(|interpreter| {
            let why = find(&interpreter).err()?;
            Some(format!("its first line names the interpreter {interpreter}, which {why}"))
        })?,
        Err(why) => why,
    };
    Some(Check::fail(
        format!("program `{program}`"),
        Kind::Local,
        format!("it {why}; the runbook names it in: {}", places(named_by)),
        "install it, or correct its name in the runbook; a name without `/` is searched in PATH",
    ))
}

/// The file that would be executed, found as the system finds it, or why there is none.
fn find(program: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return executable(Path::new(program)).map(|()| program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut why = "is not in PATH".to_owned();
    for folder in std::env::split_paths(&path) {
        let file = folder.join(program);
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(_) if !file.exists() => {}
            Err(other) => why = other,
        }
    }
    Err(why)
}

fn executable(file: &Path) -> Result<(), String> {
    let found = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if file.is_symlink() => "is a link that leads nowhere".to_owned(),
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be looked at ({error})"),
    })?;
    if !found.is_file() {
        return Err("is not a file".into());
    }
    access(file, Access::EXEC_OK).map_err(|_| "cannot be executed by this user".to_owned())
}

/// The interpreter that a script's first line names.
fn interpreter(file: &Path) -> Option<String> {
    let mut begin = Vec::new();
    // The kernel reads no more than this.
    std::fs::File::open(file).ok()?.take(256).read_to_end(&mut begin).ok()?;
    let line = begin.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.split_whitespace().next().filter(|word| word.starts_with('/')).map(str::to_owned)
}

async fn addresses(named: &[Named]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut hosts: BTreeMap<(String, u16), Vec<&str>> = BTreeMap::new();
    for one in named {
        match one.what.parse::<reqwest::Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https")) {
            Some(url) => {
                let port = url.port_or_known_default().unwrap_or(443);
                // A host that is a number needs no looking up.
                if let Some(name) = url.domain() {
                    hosts.entry((name.to_owned(), port)).or_default().push(&one.place);
                }
            }
            None => checks.push(Check::fail(
                format!("address {}", safe_url(&one.what)),
                Kind::Invalid,
                format!("it is not an http address; the runbook names it in: {}", one.place),
                "correct it: begin with https://, then the host",
            )),
        }
    }
    let all = hosts.len();
    let mut asking = JoinSet::new();
    let mut unknown = Vec::new();
    for (host, port) in hosts.keys().cloned() {
        if asking.len() >= AT_ONCE {
            unknown.extend(asking.join_next().await.into_iter().flat_map(answer));
        }
        asking.spawn(async move {
            let found = tokio::net::lookup_host((host.clone(), port));
            let why = match tokio::time::timeout(PATIENCE, found).await {
                Ok(Ok(mut addresses)) => addresses.next().is_none().then(|| "it has no address".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            why.map(|why| (host, port, why))
        });
    }
    while let Some(done) = asking.join_next().await {
        unknown.extend(answer(done));
    }
    unknown.sort();
    if unknown.is_empty() && all > 0 {
        checks.push(Check::pass("addresses", format!("all {all} hosts that the runbook names are known")));
    }
    for (host, port, why) in unknown {
        let places = places(hosts.get(&(host.clone(), port)).map_or(&[], Vec::as_slice));
        let detail = format!("its name cannot be looked up ({why}); the runbook names it in: {places}");
        let hint = "correct the address in the runbook, or this machine's name service";
        checks.push(if through_a_proxy() {
            // The proxy may know names that this machine does not.
            Check::warn(format!("host {host}"), detail)
        } else {
            Check::fail(format!("host {host}"), Kind::Unreachable, detail, hint)
        });
    }
    checks
}

fn through_a_proxy() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].into_iter().any(set)
}

type Answer = Option<(String, u16, String)>;

/// What a task found. One that failed is a host of which nothing is known.
fn answer(done: Result<Answer, tokio::task::JoinError>) -> Answer {
    done.unwrap_or_else(|error| Some((String::new(), 0, error.to_string())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_that_could_not_be_started_is_named_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let script = |name: &str, text: &str, mode: u32| {
            std::fs::write(at(name), text).expect("written");
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        script("good", "#!/bin/sh\n", 0o755);
        script("plain", "no script\n", 0o644);
        script("orphan", "#!/no/such/interpreter -x\n", 0o755);
        std::os::unix::fs::symlink("nowhere", at("link")).expect("linked");
        for (program, why) in [
            (at("none"), "does not exist"),
            (at("plain"), "cannot be executed by this user"),
            (at("orphan"), "the interpreter /no/such/interpreter, which does not exist"),
            (at("link"), "is a link that leads nowhere"),
            (folder.path().display().to_string(), "is not a file"),
            ("no-such-program-of-stanch".to_owned(), "is not in PATH"),
        ] {
            let check = lacking(&program, &["gate g"]).expect(&program);
            assert!(check.detail.contains(why) && check.detail.contains("gate g"), "{}", check.detail);
        }
        for program in [at("good"), "sh".to_owned(), "/bin/sh".to_owned()] {
            assert_eq!(lacking(&program, &["gate g"]), None);
        }
    }

    #[tokio::test]
    async fn an_address_without_a_host_that_is_known_is_named() {
        let named = |what: &str| Named { what: what.into(), place: "gate g".into() };
        let names = [
            "https://no-such-host.invalid/x",
            "https://no-such-host.invalid/y",
            "http://127.0.0.1:1/",
            "ftp://x/",
        ];
        let checks = addresses(&names.map(named)).await;
        let found: Vec<(&str, Option<Kind>)> = checks.iter().map(|c| (c.name.as_str(), c.kind)).collect();
        let expected = [
            ("address ftp://x/", Some(Kind::Invalid)),
            ("host no-such-host.invalid", Some(Kind::Unreachable)),
        ];
        assert_eq!(found, expected);
        assert!(checks[1].detail.ends_with("gate g; gate g"), "{}", checks[1].detail);
        let known = addresses(&[named("http://localhost:8200/v1"), named("http://[::1]/")]).await;
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(known[0].verdict, super::super::CheckVerdict::Pass);
    }
}
