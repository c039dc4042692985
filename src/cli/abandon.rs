//! `stanch abandon`: closes a run that can neither finish nor roll back.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::context::{Context, ask, can_ask, is_yes, words};
use super::{CliError, Exit, Global, drive, print, print_json, tell, trace};
use crate::engine::{self, EngineError};
use crate::journal::Journal;
use crate::plan::Action;
use crate::rotation::{End, Event, Holds, Incoming, Outgoing, State};

/// Close a run that can neither finish nor roll back, and list what it leaves open.
#[derive(Debug, Args)]
pub(super) struct AbandonArgs {
    /// The run, or the start of its name. Default: the only open run.
    run: Option<String>,
    /// Record this reason.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Close it without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(super) async fn main(context: &Context, global: &Global, args: &AbandonArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find(args.run.as_deref()).await?;
    let reason = words("--reason", &args.reason)?;
    if reason.is_empty() {
        return Err(CliError::new(Exit::Usage, "--reason is empty; nothing was changed"));
    }
    if context.ledger.is_live(&run).await? {
        return Err(CliError::new(
            Exit::Locked,
            format!("another process is working on {run}; nothing was changed"),
        )
        .hint(format!("stop it first: stanch halt {run}")));
    }
    let now = context.clock.now();
    let (mut journal, mut state) = context.ledger.resume(&run, context.who(), now).await?;
    if let Some(end) = state.end() {
        let word = crate::output::end_word(end);
        return Err(CliError::new(Exit::Usage, format!("run {run} has ended ({word}); nothing was changed")));
    }
    let left = left_open(&state);
    if !args.yes {
        if !can_ask(global) {
            return Err(CliError::new(
                Exit::Usage,
                "cannot ask for confirmation (no terminal); nothing was changed",
            )
            .hint("pass --yes"));
        }
        eprintln!("Abandoning {run} leaves open:\n{}", text(&left));
        match ask("Close the run? stanch does not clean up any of this. [y/N]") {
            Some(answer) if is_yes(&answer) => {}
            _ => return Err(CliError::new(Exit::Failed, "not confirmed; nothing was changed")),
        }
    }
    let reason = scrubbed(context, journal.as_ref(), &state, reason);
    let mut events = vec![Event::Resumed {}];
    events.push(Event::Noted { text: format!("abandoned by {}: {reason}", context.signature()) });
    events.extend(left.iter().map(|text| Event::Noted { text: format!("left open: {text}") }));
    events.push(Event::Closed { end: End::Abandoned });
    for event in &events {
        state.apply(event, now.wall).map_err(EngineError::Illegal)?;
    }
    journal.commit(now, &events)?;
    journal.close()?;
    sweep(context, &state).await;
    tokio::join!(tell::after(context, &run, state.plan()), trace::after(context, &run));
    if global.json {
        print_json(&json!({ "run": run, "end": "abandoned", "reason": reason, "left_open": left }))?;
    } else {
        print(&format!(
            "ABANDONED  run {run}; its targets are free for other runs. It leaves open:\n{}",
            text(&left)
        ))?;
    }
    Ok(Exit::Done)
}

/// Removes what a process that was killed while it wrote a file left beside it: the new value stands in there in
/// the clear, and no later session of this run removes it. Best effort, as in a run: the run is closed by now.
async fn sweep(context: &Context, state: &State) {
    let plan = state.plan();
    if drive::enter(plan).is_err() {
        return;
    }
    let Ok(provider) = context.provider_of(plan) else { return };
    for (name, credential) in &plan.runbook.credentials {
        let files = credential.stores.iter().enumerate();
        for (at, _) in files.filter(|(_, store)| store.local_path().is_some()) {
            // A look at a file removes leftovers first.
            if let Ok(store) = provider.store(name, credential, at).await {
                let _ = store.observe().await;
            }
        }
    }
}

/// A person's reason without the run's secrets. Where those cannot be opened any more, which is when `abandon`
/// is all that is left to do, the reason stays out of the record as a whole: it may hold one of them.
fn scrubbed(context: &Context, journal: &dyn Journal, state: &State, reason: String) -> String {
    let clean = || -> Option<String> {
        let sealed = journal.sealed().ok()?;
        if !engine::has_captured(&sealed, state) {
            return None;
        }
        let mut event = Event::Noted { text: reason };
        engine::scrub(context.sealing.sealer().ok()?.into(), &sealed, &mut event).ok()?;
        match event {
            Event::Noted { text } => Some(text),
            _ => None,
        }
    };
    clean().unwrap_or_else(|| {
        "(reason not recorded: stanch cannot open the run's sealed secrets, so it cannot keep them out of the text)"
            .into()
    })
}

fn text(left: &[String]) -> String {
    if left.is_empty() { "  nothing".into() } else { format!("  {}", left.join("\n  ")) }
}

/// What a store hands out, by version, and what of the run stands beside it.
fn held(state: &State, credential: usize, store: usize) -> String {
    let (planned, _) = state.plan().credential(credential);
    let name = &planned.name;
    let find = |wanted: Action| state.plan().steps.iter().position(|step| step.action == wanted);
    let staged = find(Action::Stage { credential, store });
    let promoted = find(Action::Promote { credential, store });
    let version = |at: Option<usize>| at.and_then(|at| state.fact(at, "version"));
    let is =
        |at: Option<usize>, wanted: &[&str]| at.is_some_and(|at| wanted.contains(&state.status(at).word()));
    let in_doubt = ["unknown", "started"];
    // What cannot be read is told by its version.
    let holds = if planned.reads(store) { "holds" } else { "cannot be read, and was last written with" };
    let before = planned.stores[store].versions.current.as_deref().unwrap_or("unknown");
    let seen = state.seen(name).and_then(|(_, seen)| seen.stores.get(store));
    let mut text = match (seen, is(promoted, &["done", "undoing", "failed"]), version(promoted)) {
        (Some(Holds::Other), _, _) => "holds a value that this run did not write".into(),
        (Some(Holds::Nothing), _, _) => "holds no value: the secret, or its current version, is gone".into(),
        (Some(Holds::Unreadable | Holds::Incomparable), _, _) => {
            "could not be read, or could not be compared with the sealed values of this run".into()
        }
        (Some(Holds::Incoming | Holds::Written), _, at) => {
            format!(
                "{holds} the new {name} (version {}); the old one was version {before}",
                at.unwrap_or("unknown")
            )
        }
        // It was to be written once more, over what others wrote.
        (None, _, Some(new)) if promoted.is_some_and(|at| state.overwrites(at)) => {
            format!("{holds} the new {name} (version {new}), or what another client wrote over it")
        }
        _ if is(promoted, &in_doubt) => {
            format!("{holds} the old {name} (version {before}) or the new one: the outcome is unknown")
        }
        (None, true, Some(new)) => {
            format!("{holds} the new {name} (version {new}); the old one was version {before}")
        }
        // What a way back wrote is a version of its own.
        (_, _, restored) => format!("{holds} the old {name} (version {})", restored.unwrap_or(before)),
    };
    if is(staged, &["done", "undoing"]) && !is(promoted, &["done", "undoing", "failed"]) {
        let _ = write!(text, "; the new one is staged as version {}", version(staged).unwrap_or("unknown"));
    }
    text
}

/// What a person has to clean up: living credentials, stores, consumers, and steps in doubt.
fn left_open(state: &State) -> Vec<String> {
    let plan = state.plan();
    let mut left = Vec::new();
    for (c, truth) in state.truths().into_iter().enumerate() {
        let (planned, credential) = plan.credential(c);
        let name = &truth.credential;
        let word = match truth.incoming {
            Incoming::None | Incoming::Revoked => None,
            // Whether it still lives was not asked just now.
            Incoming::Issued => Some("was issued, and this run did not revoke it"),
            Incoming::Dead => Some("was issued, and is no longer accepted"),
            Incoming::Unknown => Some("may have been issued"),
        };
        if let Some(word) = word {
            let handle = truth.handle.as_deref().unwrap_or("unknown");
            left.push(format!("the new {name} (handle {handle}) {word}"));
        }
        if let Some(outgoing) = &planned.outgoing
            && !matches!(truth.outgoing, Outgoing::Dead)
        {
            let word = match truth.outgoing {
                Outgoing::Accepted => "is still accepted",
                Outgoing::Disabled => "is disabled but not revoked",
                Outgoing::Deleted => {
                    "is deleted at its issuer, but not gone: a login or session lives, or a revocation list does not name it yet"
                }
                Outgoing::Revoked => "was revoked, not proved dead",
                Outgoing::Replaced => "was replaced at its issuer, not proved dead",
                Outgoing::Gone => "is refused, though this run did not revoke it",
                Outgoing::Refused => "is refused by a check, not proved dead",
                _ => "is in an unknown state",
            };
            left.push(format!("the old {name} (handle {}) {word}", outgoing.handle));
        }
        if truth.incoming == Incoming::None {
            continue;
        }
        for (at, store) in credential.stores.iter().enumerate() {
            left.push(format!("{}: {}", store.target(), held(state, c, at)));
        }
        for consumer in &credential.consumers {
            let asked = state.adopted().get(&(name.clone(), consumer.name.clone()));
            left.push(match asked {
                Some((new, of)) => {
                    format!("consumer {}: {new} of {of} instances use the new {name}", consumer.name)
                }
                None => format!("consumer {}: not asked which {name} it uses", consumer.name),
            });
        }
    }
    left.extend(state.unknown().map(|at| format!("the outcome of {} is unknown", plan.steps[at].id)));
    left
}
