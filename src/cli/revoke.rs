//! `stanch revoke`: the bare kill, for when there is no runbook, or no time for one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::asking::{Asking, is_told_by_value, unfit};
use super::context::{Access, Context, Open, ask, can_ask, words};
use super::drive::{block_on, drive};
use super::run::halted;
use super::{CliError, Exit, Global, SessionArgs, plan, print};
use crate::domain::{CheckVerdict, ErrorKind, Life};
use crate::engine::{self, Choices, Conduct};
use crate::kill::{self, ENVIRONMENT};
use crate::kind::spec::{Handles, IssuerKind};
use crate::kind::{ISSUERS, PREFIXES};
use crate::plan::{Plan, Request, caveats, compile, preview};
use crate::provider::Provider;
use crate::rotation::State;
use crate::runbook::model::Runbook;
use crate::secret::Secret;
use crate::text::{counted, sanitize};

/// A longer line is no handle and no credential of a kind that is revoked by its value.
const MAX_LINE: u64 = 1 << 16;
/// Larger than a hundred thousand handles.
const MAX_BYTES: u64 = 1 << 26;
/// How many of what is below a prefix are named.
const NAMED: usize = 20;

/// Revoke credentials at once, without a runbook and without replacing them.
///
/// Programs that use them fail from then on. The run is recorded, resumable, proved and reported like a rotation.
/// Servers and the operator's identity come from the environment (VAULT_ADDR and VAULT_TOKEN, or AWS's chain).
/// A credential is named by its handle: the accessor of a Vault token or of a secret ID, the ID of an access key, the name
/// of a role. vault-prefix and lease-prefix take paths, such as auth/approle, and revoke everything below them.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The kind of credential.
    #[arg(value_parser = kinds())]
    kind: &'static IssuerKind,
    /// The handles of the credentials to revoke.
    #[arg(value_name = "HANDLE")]
    handles: Vec<String>,
    /// Set a field of the kind, as in a runbook: `user=app` for an access key, `role=app` for a secret ID.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field)]
    set: Vec<(String, String)>,
    /// Read handles from this file, one per line; - is standard input.
    #[arg(long = "handles", value_name = "FILE")]
    handles_from: Option<PathBuf>,
    /// Read the leaked values themselves from this file, one per line; - is standard input. stanch asks the issuer for
    /// their handles, and records and prints only those.
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// Do not revoke this handle; for a prefix, refuse one that this token or lease is below. Repeatable.
    #[arg(long, value_name = "HANDLE")]
    keep: Vec<String>,
    /// Record this reason.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Revoke this many at once.
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Show what would be revoked, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Start without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

/// The kinds whose credentials have handles.
fn kinds() -> impl TypedValueParser<Value = &'static IssuerKind> {
    let all = || ISSUERS.iter().chain(PREFIXES).filter(|kind| kind.bare.is_some());
    PossibleValuesParser::new(all().map(|kind| kind.name))
        .try_map(move |name| all().find(|kind| kind.name == name).copied().ok_or("there is no such kind"))
}

pub(super) fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected FIELD=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn main(open: Open<'_>, global: &Global, args: RevokeArgs) -> Result<Exit, CliError> {
    let reason = words("--reason", &args.reason)?;
    if reason.is_empty() {
        return Err(CliError::new(Exit::Usage, "--reason is empty; nothing was changed")
            .hint("pass --reason TEXT, for the record"));
    }
    let given = given(&args)?;
    let context = open(Access::Writes)?;
    block_on(async {
        if let Some(latch) = context.ledger.latch(None).await? {
            return Err(halted(&latch.by, &latch.reason, "stanch halt --all --clear"));
        }
        let (plan, provider, is_whole) = prepare(&context, &args, given).await?;
        if args.dry_run {
            print(&preview(&plan))?;
            return plan::refusal(&plan.checks).map_or(Ok(Exit::Done), Err);
        }
        if let Some(error) = plan::refusal(&plan.checks) {
            return Err(error);
        }
        confirm(global, &args, &plan)?;
        let now = context.clock.now();
        let plan = Arc::new(plan);
        let journal = context.ledger.open(&plan, Some(reason), context.who(), now).await?;
        let state = State::new(plan, now.wall);
        let session = SessionArgs::default();
        let driven = drive(&context, global, provider, journal, state, Conduct::default(), &session).await?;
        // What could not be revoked at all is alive, whatever became of the others.
        let exit = if is_whole || driven.exit != Exit::Done { driven.exit } else { Exit::NotProved };
        exit.shown(driven.printed)
    })?
}

/// What a person named: handles, and values.
struct Given {
    handles: Vec<String>,
    values: Vec<Secret>,
}

fn given(args: &RevokeArgs) -> Result<Given, CliError> {
    let is_input = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    let from_input = is_input(&args.handles_from) || is_input(&args.values);
    if is_input(&args.handles_from) && is_input(&args.values) {
        return Err(CliError::new(Exit::Usage, "--handles and --values cannot both be standard input"));
    }
    if from_input && !args.yes && !args.dry_run {
        return Err(CliError::new(
            Exit::Usage,
            "cannot ask for confirmation while standard input is a list; nothing was changed",
        )
        .hint("look at it first with --dry-run, then pass --yes"));
    }
    if args.values.is_some() && !is_told_by_value(args.kind) {
        let message = format!("a {} is not identified by one value; nothing was changed", args.kind.name);
        return Err(CliError::new(Exit::Usage, message).hint("name it by its handle"));
    }
    let handles = args.handles.iter().map(|handle| named(args.kind, handle, ""));
    let mut handles = handles.collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.handles_from {
        for (nth, line) in lines(path)? {
            if !line.expose().starts_with('#') {
                handles.push(named(args.kind, line.expose(), &format!("{}, line {nth}: ", called(path)))?);
            }
        }
    }
    let values = args.values.as_deref().map(lines).transpose()?.unwrap_or_default();
    Ok(Given { handles, values: values.into_iter().map(|(_, value)| value).collect() })
}

/// A handle as the kind spells it. It goes into the record, and an argument is in the shell's history.
fn named(kind: &IssuerKind, handle: &str, place: &str) -> Result<String, CliError> {
    let refused = |why: &str| CliError::new(Exit::Usage, format!("{place}{why}; nothing was changed"));
    let spelling = kind.bare.map(|bare| bare.handles);
    let spaces = !matches!(spelling, Some(Handles::Text));
    if crate::runbook::holds_secret(handle)
        || handle.chars().any(|c| c.is_control() || (spaces && c.is_whitespace()))
    {
        return Err(refused(
            "a handle looks like a secret value, or is not one word; stanch did not record it and does not repeat it here",
        )
        .hint("pass values on standard input: --values -   and remove them from your shell's history"));
    }
    match spelling {
        Some(Handles::Prefix(checked)) => checked(handle).map_err(|why| {
            refused(&format!("stanch does not revoke the prefix `{}`: {why}", sanitize(handle)))
                .hint("name the path of one auth method or secrets engine, or a longer one")
        }),
        _ => Ok(handle.to_owned()),
    }
}

/// A file, in words.
fn called(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// The lines of a file that are not empty, with their numbers. They may be secrets.
fn lines(path: &Path) -> Result<Vec<(usize, Secret)>, CliError> {
    let name = called(path);
    let refused = |why: String| CliError::new(Exit::Usage, format!("{why}; nothing was changed"));
    let reader: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => {
            Box::new(std::fs::File::open(path).map_err(|e| refused(format!("cannot read {name}: {e}")))?)
        }
    };
    let mut reader = BufReader::new(reader.take(MAX_BYTES));
    let (mut found, mut total, mut nth) = (Vec::new(), 0, 0);
    loop {
        let mut line = zeroize::Zeroizing::new(String::new());
        nth += 1;
        let read = reader.by_ref().take(MAX_LINE).read_line(&mut line);
        let read = read.map_err(|e| refused(format!("cannot read {name}, line {nth}: {e}")))?;
        total += read as u64;
        if read == 0 {
            return Ok(found);
        }
        if read as u64 == MAX_LINE || total == MAX_BYTES {
            return Err(
                refused(format!("{name}, line {nth}: too long")).hint("put one handle or value on each line")
            );
        }
        let text = line.trim_end_matches(['\n', '\r']);
        if !text.trim().is_empty() {
            found.push((nth, Secret::new(text)));
        }
    }
}

/// Asks the issuer what it knows of them, and plans. Also whether the plan has all that can be alive.
async fn prepare(
    context: &Context,
    args: &RevokeArgs,
    given: Given,
) -> Result<(Plan, Arc<dyn Provider>, bool), CliError> {
    let concurrency = usize::from(args.concurrency);
    let make = |handles: &[String], note: &str| {
        kill::runbook(args.kind, &args.set, handles, concurrency, note).map_err(|e| unfit(args.kind, &e))
    };
    let (mut handles, mut note, mut is_whole) = (given.handles, String::new(), true);
    if !given.values.is_empty() {
        let asking = Asking::of(context, args.kind, &args.set).await?;
        let identified = identify(asking, given.values, concurrency).await?;
        for text in identified.notes() {
            eprintln!("{text}");
            note += &format!(" {text}.");
        }
        is_whole = identified.beyond.is_empty();
        handles.extend(identified.handles);
    }
    // What is below a prefix cannot be left out of it.
    let prefixes = args.kind.takes_prefixes();
    let left_out = if prefixes { &[][..] } else { &args.keep };
    if let Some(stray) = left_out.iter().find(|keep| !handles.contains(keep)) {
        let message = format!(
            "--keep {}: no credential to revoke has this handle; nothing was changed",
            sanitize(stray)
        );
        return Err(CliError::new(Exit::Usage, message).hint("correct it, or leave it out"));
    }
    let left = kill::to_revoke(handles, left_out);
    if left.is_empty() && !(args.keep.is_empty() && note.is_empty()) {
        let message = format!("nothing is left to revoke; nothing was changed.{note}");
        return Err(CliError::new(Exit::Failed, message)
            .hint("check that this is the right server: a credential of another server is alive there"));
    }
    let below = if prefixes { below(context, &make(&left, "")?).await? } else { BTreeMap::new() };
    for (prefix, found) in &below {
        note += &format!(" Below {prefix}: {}.", counted_names(found));
    }
    let mut runbook = make(&left, &note)?;
    kill::remember(&mut runbook, &below, &args.keep);
    let text = serde_json::to_string(&runbook).unwrap_or_default();
    let request = Request {
        environment: ENVIRONMENT.to_owned(),
        sandbox: false,
        runbook_sha256: hex::encode(Sha256::digest(text)),
        tool: concat!("stanch ", env!("CARGO_PKG_VERSION")).to_owned(),
        directory: None,
    };
    let provider = context.provider(&runbook, false)?;
    let gone = "the issuer did not know it when the run began".to_owned();
    let choices = Choices { nothing_to_revoke: Some(gone), ..Choices::default() };
    let (observed, _) = engine::survey_and_learn(&provider, &runbook, &choices).await?;
    let plan = compile(runbook, &request, observed)?;
    if plan.credentials.iter().all(|planned| planned.waived.is_some()) {
        let message = format!(
            "the issuer knows none of these {}; there is nothing to revoke",
            counted(plan.credentials.len() as u64, "credential")
        );
        return Err(CliError::new(Exit::Failed, message)
            .hint("check the handles, and that this is the right server: a credential of another server is alive there"));
    }
    Ok((plan, provider, is_whole))
}

/// What an issuer said of values.
struct Identified {
    handles: Vec<String>,
    total: usize,
    /// The values that it does not know, by their number.
    unknown: Vec<usize>,
    /// Those that cannot be revoked, with the reason.
    beyond: Vec<(usize, String)>,
}

impl Identified {
    /// What the record should say of values that are not revoked.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.unknown.is_empty() {
            let numbers: Vec<String> = self.unknown.iter().take(20).map(ToString::to_string).collect();
            let more = if self.unknown.len() > 20 { " and others" } else { "" };
            notes.push(format!(
                "the issuer does not know {} of {} values: number {}{more}",
                self.unknown.len(),
                self.total,
                numbers.join(", ")
            ));
        }
        notes.extend(
            self.beyond.iter().map(|(at, why)| format!("NOT REVOKED, value {at} of {}: {why}", self.total)),
        );
        notes
    }
}

/// How many there are, and some of them.
fn counted_names(handles: &[String]) -> String {
    let shown: Vec<&str> = handles.iter().take(NAMED).map(String::as_str).collect();
    let more = handles.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match shown.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{} ({}{more})", handles.len(), sanitize(&shown.join(", "))),
    }
}

/// What is below each prefix of a runbook.
async fn below(context: &Context, runbook: &Runbook) -> Result<BTreeMap<String, Vec<String>>, CliError> {
    let provider = context.provider(runbook, false)?;
    let mut below = BTreeMap::new();
    for (prefix, credential) in &runbook.credentials {
        let found = provider.issuer(prefix, credential).await?.below(prefix).await?;
        below.insert(prefix.clone(), found);
    }
    Ok(below)
}

/// The handles of values, asked of their issuer; the values go no further.
async fn identify(asking: Asking, values: Vec<Secret>, at_once: usize) -> Result<Identified, CliError> {
    let asking = Arc::new(asking);
    let total = values.len();
    let mut identified = Identified { handles: Vec::new(), total, unknown: Vec::new(), beyond: Vec::new() };
    let (mut asked, mut found) = (JoinSet::new(), vec![None; total]);
    let mut values = values.into_iter().enumerate();
    loop {
        while asked.len() < at_once
            && let Some((at, value)) = values.next()
        {
            let asking = Arc::clone(&asking);
            asked.spawn(async move { (at, asking.about(&value).await) });
        }
        let Some(done) = asked.join_next().await else { break };
        let (at, standing) = done.map_err(|e| CliError::new(Exit::Failed, format!("stanch crashed: {e}")))?;
        match standing {
            Ok(Some(standing)) if standing.life != Life::Gone => found[at] = Some(standing.identity.handle),
            Ok(_) => identified.unknown.push(at + 1),
            // One of another kind must not keep the others alive.
            Err(e) if e.kind == ErrorKind::Invalid => identified.beyond.push((at + 1, sanitize(&e.message))),
            Err(e) => {
                let error = CliError::from(e);
                return Err(error.note(format!("this was value {} of {total}; nothing was changed", at + 1)));
            }
        }
    }
    identified.unknown.sort_unstable();
    identified.beyond.sort_unstable();
    identified.handles = found.into_iter().flatten().collect();
    Ok(identified)
}

fn confirm(global: &Global, args: &RevokeArgs, plan: &Plan) -> Result<(), CliError> {
    if args.yes {
        // As for `run`: a person who did not see the plan is told what it could not settle, and what else dies.
        if !global.json {
            eprint!("{}", caveats(plan));
            for check in plan.checks.iter().filter(|check| check.verdict == CheckVerdict::Warn) {
                eprintln!("  - {}", sanitize(&check.detail));
            }
        }
        return Ok(());
    }
    eprint!("{}", preview(plan));
    if !can_ask(global) {
        let message = "cannot ask for confirmation (no terminal); nothing was changed";
        return Err(CliError::new(Exit::Usage, message).hint("pass --yes"));
    }
    let living = plan.credentials.iter().filter(|planned| planned.waived.is_none()).count();
    let question = format!(
        "\nNothing replaces them. Type `revoke` to revoke {}:",
        counted(living as u64, args.kind.name)
    );
    match ask(&question) {
        Some(answer) if answer == "revoke" => Ok(()),
        _ => Err(CliError::new(Exit::Failed, "not confirmed; nothing was changed")),
    }
}
