//! Whether what a runbook names is there, looked at before anything is changed. Starts nothing and sends
//! nothing: a program may not be harmless, and an address need not answer yet.

mod program;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use self::program::Obstacle;
use super::http::safe_url;
use crate::domain::{Check, ErrorKind};
use crate::runbook::model::Runbook;
use crate::runbook::{Named, placeholder};

/// How long looking up a name may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many names are looked up at once.
const AT_ONCE: usize = 16;

/// Looks at every program and every address of a runbook.
pub async fn reach(runbook: &Runbook) -> Vec<Check> {
    let named = runbook.named();
    let mut checks = Vec::new();
    let programs = started(&named.programs);
    let missing: Vec<Check> =
        programs.iter().filter_map(|((program, by_env), places)| lacking(program, *by_env, places)).collect();
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

/// Some of the places, in words.
fn places(places: &[&str]) -> String {
    let named = places.iter().take(3).copied().collect::<Vec<_>>().join("; ");
    if places.len() > 3 { format!("{named}; and {} more", places.len() - 3) } else { named }
}

/// What is still to be filled in, but for prose.
pub fn placeholders(runbook: &Runbook) -> Vec<Check> {
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
        ErrorKind::Local,
        format!("`{first}` is still to be filled in"),
        "stanch validate shows every such place",
    )]
}

/// The programs, and those that `env` starts for the runbook, with the places that name them.
fn started(named: &[Named]) -> BTreeMap<(String, bool), Vec<&str>> {
    let mut programs: BTreeMap<(String, bool), Vec<&str>> = BTreeMap::new();
    for one in named {
        programs.entry((one.what.clone(), false)).or_default().push(&one.place);
        let is_env = Path::new(&one.what).file_name().is_some_and(|name| name == "env");
        if let Some(program) = is_env.then(|| program::env_starts(&one.arguments)).flatten() {
            programs.entry((program, true)).or_default().push(&one.place);
        }
    }
    programs
}

/// Why a program could not be started.
fn lacking(program: &str, by_env: bool, named_by: &[&str]) -> Option<Check> {
    let Obstacle { why, hint } = program::obstacle(program, by_env)?;
    Some(Check::fail(
        format!("program `{program}`"),
        ErrorKind::Local,
        format!("{why}; the runbook names it in: {}", places(named_by)),
        hint,
    ))
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
                ErrorKind::Invalid,
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
            Check::fail(format!("host {host}"), ErrorKind::Unreachable, detail, hint)
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
        script("env", "#!/usr/bin/env no-such-program -x\n", 0o755);
        script("env-split", "#!/usr/bin/env -S A=1 no-such-program -x\n", 0o755);
        script("env-crlf", "#!/usr/bin/env sh\r\n", 0o755);
        script("crlf", "#!/bin/sh\r\n", 0o755);
        script("text", "exit 0\n", 0o755);
        script("empty", "", 0o755);
        script("blank", "#! \n", 0o755);
        script("relative", "#!sh\n", 0o755);
        script("cut", &format!("#!/{}bin/sh\n", "./".repeat(200)), 0o755);
        script("nested-loader", &format!("#!{}\n", at("loader")), 0o755);
        script("nested", &format!("#!{}\n", at("orphan")), 0o755);
        script("nested-text", &format!("#!{}\n", at("text")), 0o755);
        script("nest-0", &format!("#!{}\n", at("good")), 0o755);
        for n in 1..5 {
            script(&format!("nest-{n}"), &format!("#!{}\n", at(&format!("nest-{}", n - 1))), 0o755);
        }
        let compiled = std::fs::read("/proc/self/exe").expect("this program");
        let loader = compiled.windows(4).position(|name| name == b"/lib").expect("a loader");
        let mut other = compiled;
        other[loader + 1] = b'x';
        std::fs::write(at("loader"), other).expect("written");
        std::fs::set_permissions(at("loader"), std::fs::Permissions::from_mode(0o755)).expect("mode");
        script("spaced", "#! \t/bin/sh -e \t\n", 0o755);
        script("no-end", "#!/bin/sh", 0o755);
        script("env-good", "#!/usr/bin/env -S A=1 sh -e\n", 0o755);
        script("env-else", "#!/usr/bin/env -S -i no-such-program\n", 0o755);
        std::os::unix::fs::symlink("nowhere", at("link")).expect("linked");
        for (program, why) in [
            (at("none"), "does not exist"),
            (at("plain"), "cannot be executed by this user"),
            (at("orphan"), "the interpreter /no/such/interpreter, which does not exist"),
            (at("env"), "its first line has `env` start `no-such-program -x`, which is not in PATH"),
            (at("env-split"), "its first line has `env` start `no-such-program`, which is not in PATH"),
            (at("env-crlf"), "its first line ends in a carriage return"),
            (at("crlf"), "its first line ends in a carriage return"),
            (at("text"), "it is a script whose first line does not name an interpreter"),
            (at("empty"), "it is a script whose first line does not name an interpreter"),
            (at("blank"), "it is a script whose first line does not name an interpreter"),
            (at("relative"), "its first line names the interpreter sh, which does not exist"),
            (at("cut"), "it is a script whose first line does not name an interpreter"),
            (at("nested"), "orphan is a script, whose first line names the interpreter /no/such/interpreter"),
            (at("nested-text"), "text is a script whose first line does not name an interpreter"),
            (at("nest-4"), "more than 5 times"),
            (at("nested-loader"), "loader needs the loader /xib"),
            (at("loader"), "it needs the loader /xib"),
            (at("link"), "is a link that leads nowhere"),
            (folder.path().display().to_string(), "is not a file"),
            ("no-such-program-of-stanch".to_owned(), "is not in PATH"),
        ] {
            let check = lacking(&program, false, &["gate g"]).expect(&program);
            assert!(check.detail.contains(why) && check.detail.contains("gate g"), "{}", check.detail);
        }
        let good = ["good", "nest-3", "spaced", "no-end", "env-good", "env-else"].map(at);
        for program in good.into_iter().chain(["sh", "/bin/sh", "env"].map(str::to_owned)) {
            assert_eq!(lacking(&program, false, &["gate g"]), None);
        }
        assert_eq!(lacking(&at("text"), true, &["gate g"]), None, "env gives it to a shell");
        // What is said here is what happens.
        for name in ["env", "crlf", "text", "empty", "blank", "cut", "nested", "nest-4", "loader"] {
            let ran = std::process::Command::new(at(name)).stderr(std::process::Stdio::null()).status();
            assert!(!ran.is_ok_and(|status| status.success()), "{name} was started");
        }
        for name in ["good", "nest-3", "spaced", "no-end", "env-good"] {
            assert!(std::process::Command::new(at(name)).status().expect(name).success(), "{name}");
        }
    }

    #[test]
    fn the_program_that_env_starts_is_looked_for() {
        for (arguments, program) in [
            (&["prog", "x"][..], Some("prog")),
            (&["A=1", "B=2", "prog", "x=y"], Some("prog")),
            (&["-S", "A=1 prog -x", "y"], Some("prog")),
            (&["-SA=1", "prog"], Some("prog")),
            (&["-S", "prog\r"], Some("prog")),
            (&["prog\r"], Some("prog\r")),
            (&["--split-string=prog -x"], Some("prog")),
            (&["-S", "'a prog'"], None),
            (&["-i", "prog"], None),
            (&["PATH=/x", "prog"], None),
            (&["A=1"], None),
            (&[], None),
        ] {
            let words: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(program::env_starts(&words).as_deref(), program, "{arguments:?}");
        }
        let named = |words: &[&str]| Named {
            what: words[0].into(),
            arguments: words[1..].iter().map(|word| (*word).to_owned()).collect(),
            place: "gate g".into(),
        };
        let all = [named(&["/usr/bin/env", "prog"]), named(&["sh", "prog"])];
        let programs: Vec<(String, bool)> = started(&all).into_keys().collect();
        let expected = [("/usr/bin/env", false), ("prog", true), ("sh", false)];
        assert_eq!(programs, expected.map(|(program, by_env)| (program.to_owned(), by_env)));
    }

    #[tokio::test]
    async fn an_address_without_a_host_that_is_known_is_named() {
        let named = |what: &str| Named { what: what.into(), arguments: Vec::new(), place: "gate g".into() };
        let names = [
            "https://no-such-host.invalid/x",
            "https://no-such-host.invalid/y",
            "http://127.0.0.1:1/",
            "ftp://x/",
        ];
        let checks = addresses(&names.map(named)).await;
        let found: Vec<(&str, Option<ErrorKind>)> =
            checks.iter().map(|c| (c.name.as_str(), c.kind)).collect();
        let expected = [
            ("address ftp://x/", Some(ErrorKind::Invalid)),
            ("host no-such-host.invalid", Some(ErrorKind::Unreachable)),
        ];
        assert_eq!(found, expected);
        assert!(checks[1].detail.ends_with("gate g; gate g"), "{}", checks[1].detail);
        let known = addresses(&[named("http://localhost:8200/v1"), named("http://[::1]/")]).await;
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(known[0].verdict, crate::domain::CheckVerdict::Pass);
    }
}
