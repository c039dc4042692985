//! `stanch identify`: what a leaked value is, and what to type next.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::asking::Asking;
use super::context::{Access, Context, Open};
use super::drive::block_on;
use super::revoke::field;
use super::{CliError, Exit, Global, print, print_json};
use crate::kind::{self, ISSUERS};
use crate::plan::Action;
use crate::runbook::{Source, check};
use crate::secret::Secret;
use crate::shape::{self, Shape};
use crate::text::{sanitize, shell_word};

/// A longer input is no credential.
const MAX_BYTES: u64 = 1 << 16;

/// Say what a leaked value is, and what to type next.
///
/// Reads the value from standard input and never prints it. Without --ask, stanch contacts nothing: it goes by the
/// shape of the value. It names the runbooks that rotate such credentials. With --ask, it asks the issuer, as the
/// operator, whose the value is; it then finds the runs that issued or revoked it, too.
#[derive(Debug, Args)]
pub(super) struct IdentifyArgs {
    /// Look into these runbooks. Default: the YAML files in ./runbooks.
    runbooks: Vec<PathBuf>,
    /// Ask the issuer whose the value is. Servers and identity come from the environment, as for their own tools.
    #[arg(long)]
    ask: bool,
    /// Set a field of the kind, for --ask: `user=app` for an access key, `role=app` for a secret ID.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field)]
    set: Vec<(String, String)>,
}

/// One credential that was found in the input.
#[derive(Debug, Serialize)]
struct Found {
    /// What it is, by its shape.
    what: &'static str,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// What else its shape says.
    details: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'static str,
    /// What its issuer says; `null` where it was not asked.
    issuer: Option<Told>,
    runbooks: Vec<Runbook>,
    runs: Vec<String>,
    next: Vec<String>,
}

/// What an issuer said of a value.
#[derive(Debug, Serialize)]
struct Told {
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    says: Vec<String>,
}

/// A runbook that rotates such credentials.
#[derive(Debug, Serialize)]
struct Runbook {
    path: String,
    credentials: Vec<String>,
}

pub(super) fn main(open: Open<'_>, global: &Global, args: IdentifyArgs) -> Result<Exit, CliError> {
    if args.runbooks.iter().any(|path| crate::runbook::holds_secret(&path.display().to_string())) {
        let message = "an argument looks like a secret value; stanch does not repeat it here";
        return Err(CliError::new(Exit::Usage, message)
            .hint("pass the value on standard input, and remove it from your shell's history"));
    }
    if let Some(missing) = args.runbooks.iter().find(|path| !path.exists()) {
        return Err(CliError::new(Exit::Usage, format!("the file {} does not exist", missing.display()))
            .hint("name runbooks, or none; the value belongs on standard input"));
    }
    let text = input()?;
    let shapes = shape::all(text.expose().trim());
    if shapes.is_empty() {
        if global.json {
            print_json(&serde_json::json!([]))?;
        } else {
            print(
                "no known shape: stanch cannot say what this is\n  next: find out which program used it, and where it was found; then write a runbook: stanch init --help",
            )?;
        }
        return Ok(Exit::Failed);
    }
    let context = open(Access::Reads)?;
    let runbooks = runbooks(&args.runbooks);
    let found = block_on(async {
        let mut found = Vec::new();
        for (range, shape) in shapes {
            let value = Secret::new(&text.expose().trim()[range]);
            found.push(one(&context, &args, shape, &value, &runbooks).await?);
        }
        Ok::<_, CliError>(found)
    })??;
    if global.json {
        print_json(&serde_json::to_value(&found).unwrap_or_default())?;
    } else {
        print(&found.iter().map(words).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Done)
}

fn input() -> Result<Secret, CliError> {
    if std::io::stdin().is_terminal() {
        eprintln!("Paste the value, then press Ctrl-D. Your terminal shows it.");
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| {
        CliError::new(Exit::Usage, format!("cannot read standard input: {e}"))
            .hint("pass the value there: stanch identify < FILE")
    })?;
    let refused =
        |why: &str| Err(CliError::new(Exit::Usage, format!("standard input {why}; nothing was sent")));
    if bytes.len() as u64 > MAX_BYTES {
        return refused("holds more than 64 KiB: pass one value at a time");
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.trim().is_empty() => refused("is empty: pass the value there"),
        Ok(text) => Ok(Secret::new(text)),
        Err(_) => refused("is not text"),
    }
}

/// What is known of one value.
async fn one(
    context: &Context,
    args: &IdentifyArgs,
    shape: &'static Shape,
    value: &Secret,
    runbooks: &[(String, Vec<(String, &'static str)>)],
) -> Result<Found, CliError> {
    let issuer = match (args.ask, shape.issuer) {
        (true, Some(kind)) => Some(asked(context, args, kind, value).await?),
        _ => None,
    };
    // An access key is named by its ID, which is no secret.
    let named = (shape.issuer == Some("iam-access-key")).then(|| value.expose().to_owned());
    let handle = issuer.as_ref().and_then(|told| told.handle.clone()).or(named);
    let runs = match &handle {
        Some(handle) => runs(context, handle).await?,
        None => Vec::new(),
    };
    let fits: Vec<Runbook> = runbooks
        .iter()
        .filter_map(|(path, credentials)| {
            let ours = credentials.iter().filter(|(_, kind)| Some(*kind) == shape.issuer);
            let credentials: Vec<String> = ours.map(|(name, _)| name.clone()).collect();
            (!credentials.is_empty()).then(|| Runbook { path: path.clone(), credentials })
        })
        .collect();
    let dead = issuer.as_ref().is_some_and(|told| !told.known);
    let next = if dead { Vec::new() } else { next(shape, args, handle.as_deref(), &fits) };
    Ok(Found {
        what: shape.name,
        certain: shape.certain,
        kind: shape.issuer,
        details: details(shape, value),
        note: shape.kill,
        issuer,
        runbooks: fits,
        runs,
        next,
    })
}

/// What the value itself says, without its secret parts.
fn details(shape: &Shape, value: &Secret) -> BTreeMap<&'static str, String> {
    let mut details = BTreeMap::new();
    let text = value.expose();
    if text.starts_with("AKIA") || text.starts_with("ASIA") {
        details.insert("id", text.to_owned());
        details.extend(shape::account_of(text).map(|account| ("account", account)));
    }
    if shape.name == "JSON web token" {
        claims(text, &mut details);
    }
    details
}

/// Who issued a JSON web token, for whom, and until when: claims that are no secrets (RFC 7519, section 4.1).
fn claims(token: &str, details: &mut BTreeMap<&'static str, String>) {
    use base64::Engine as _;
    let mut parts = token.split('.').map(|part| {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<serde_json::Value>(&bytes).ok()
    });
    let (head, body) = (parts.next().flatten(), parts.next().flatten());
    for (name, from) in [("alg", &head), ("kid", &head), ("iss", &body), ("aud", &body)] {
        if let Some(text) = from.as_ref().and_then(|from| from[name].as_str()) {
            details.insert(name, sanitize(text));
        }
    }
    let expires = body.as_ref().and_then(|body| body["exp"].as_i64());
    if let Some(at) = expires.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        details.insert("expires", at.to_string());
    }
}

/// Asks the issuer, as the operator. The value is not used.
async fn asked(
    context: &Context,
    args: &IdentifyArgs,
    name: &'static str,
    value: &Secret,
) -> Result<Told, CliError> {
    let Some(kind) = kind::named(ISSUERS, Some(name)) else {
        return Err(CliError::new(Exit::Failed, format!("there is no kind {name}; please report this")));
    };
    let asking = Asking::of(context, kind, &args.set).await?;
    let (handle, mut says) = match asking.tells_by_value() {
        false => (value.expose().to_owned(), Vec::new()),
        true => match asking.about(value).await? {
            Some(standing) => {
                let mut says = vec![format!("it belongs to {}", standing.identity.principal)];
                says.extend(standing.uses_left.map(|left| format!("it has {left} uses left")));
                (standing.identity.handle, says)
            }
            None => return Ok(Told { known: false, handle: None, says: Vec::new() }),
        },
    };
    let issuer = &asking.issuer;
    let life = issuer.life(&handle).await?;
    if life == crate::domain::Life::Gone {
        return Ok(Told { known: false, handle: Some(handle), says });
    }
    says.push(format!("it is {life}"));
    // What it may do is worth knowing; where that cannot be asked, it is dangerous all the same.
    match issuer.inspect(&handle).await {
        Ok(grant) => {
            says.extend(grant.policies.map(|policies| match policies.is_empty() {
                true => "it has no policy of its own".to_owned(),
                false => format!("its policies: {}", policies.join(", ")),
            }));
            says.extend(
                grant.ttl.map(|ttl| format!("it lives for at most {}s from its creation", ttl.as_secs())),
            );
            says.extend(grant.notes);
        }
        Err(error) => says.push(format!("its scope could not be read: {}", sanitize(&error.message))),
    }
    Ok(Told { known: true, handle: Some(handle), says })
}

/// The runs that issued or revoked the credential with this handle.
async fn runs(context: &Context, handle: &str) -> Result<Vec<String>, CliError> {
    let mut found = Vec::new();
    let archived = context.ledger.archived().await?.into_iter().map(|(run, _)| run);
    for run in context.ledger.runs().await?.into_iter().chain(archived) {
        // One run that cannot be read must not hide the others; `stanch runs` names it.
        let Ok(state) = context.ledger.load(&run).await else { continue };
        let plan = state.plan();
        let old = |c: usize| {
            plan.credentials[c].outgoing.as_ref().is_some_and(|outgoing| outgoing.handle == handle)
        };
        let issued = plan.steps.iter().enumerate().any(|(at, step)| {
            matches!(step.action, Action::Issue { .. }) && state.fact(at, "handle") == Some(handle)
        });
        if issued {
            found.push(format!("{run} issued it"));
        }
        if (0..plan.credentials.len()).any(old) {
            found.push(format!("{run} replaces or revokes it"));
        }
    }
    Ok(found)
}

/// The runbooks, with their credentials and the kinds of these. What cannot be read is named, and passed over.
fn runbooks(given: &[PathBuf]) -> Vec<(String, Vec<(String, &'static str)>)> {
    let mut paths = given.to_vec();
    if paths.is_empty() {
        let entries = std::fs::read_dir("runbooks").into_iter().flatten().flatten();
        let is_yaml = |path: &Path| path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        paths = entries.map(|entry| entry.path()).filter(|path| is_yaml(path)).collect();
        paths.sort();
    }
    let mut found = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let template = Source::read(&path).ok().and_then(|source| check(&source).runbook);
        let runbook = template.and_then(|template| {
            let environment = template.environments().next()?.to_owned();
            template.instantiate(&environment).ok()
        });
        match runbook {
            Some(runbook) => found.push((
                name,
                runbook.credentials.iter().map(|(name, c)| (name.clone(), c.issuer.kind().name)).collect(),
            )),
            None => eprintln!("passed over {name}: not a valid runbook; see: stanch validate {name}"),
        }
    }
    found
}

/// What to type.
fn next(shape: &Shape, args: &IdentifyArgs, handle: Option<&str>, runbooks: &[Runbook]) -> Vec<String> {
    let Some(kind) = shape.issuer else { return Vec::new() };
    let mut set = String::new();
    let needs =
        kind::named(ISSUERS, Some(kind)).and_then(|kind| kind.bare).map_or(&[][..], |bare| bare.needs);
    for field in needs {
        let value = args.set.iter().find(|(name, _)| name == field).map_or("NAME", |(_, value)| value);
        set += &format!(" --set {field}={}", shell_word(value));
    }
    let mut next = Vec::new();
    if !args.ask {
        next.push(format!("stanch identify --ask{set}   # the value on standard input"));
    }
    let what = match handle {
        Some(handle) => format!("{} --reason TEXT", shell_word(handle)),
        None => "--values - --yes --reason TEXT   # the value on standard input".to_owned(),
    };
    next.push(format!("stanch revoke {kind}{set} {what}"));
    for runbook in runbooks {
        next.push(format!("stanch run {} --env ENV --strategy contain", shell_word(&runbook.path)));
    }
    if runbooks.is_empty() {
        next.push(format!("stanch init --kind {kind}"));
    }
    next
}

fn words(found: &Found) -> String {
    let mut lines =
        vec![format!("{}{}", found.what, if found.certain { "" } else { " (by its shape alone)" })];
    lines.extend(found.details.iter().map(|(name, value)| format!("  {name}: {value}")));
    match &found.issuer {
        Some(Told { known: false, .. }) => lines
            .push("  its issuer does not know it: it is dead there, or belongs to another server".to_owned()),
        Some(Told { handle, says, .. }) => {
            lines.extend(handle.iter().map(|handle| format!("  handle: {}", sanitize(handle))));
            lines.extend(says.iter().map(|text| format!("  {}", sanitize(text))));
        }
        None => {}
    }
    if !found.note.is_empty() {
        lines.push(format!("  {}", found.note));
    }
    for runbook in &found.runbooks {
        lines.push(format!(
            "  {} rotates such credentials: {}",
            runbook.path,
            runbook.credentials.join(", ")
        ));
    }
    lines.extend(found.runs.iter().map(|run| format!("  run {run}")));
    lines.extend(found.next.iter().map(|command| format!("  next: {command}")));
    lines.join("\n")
}
