//! `stanch status`: what is true of a run now.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use super::ci::{self, Level};
use super::context::{Context, style};
use super::doubt::{self, Doubt};
use super::{CliError, Exit, Global, drive, notify, print, print_json, windows};
use crate::domain::{ADOPTED, Observation};
use crate::plan::Planned;
use crate::rotation::{Direction, End, Holds, Incoming, Outgoing, Sight, State, Status, Truth};
use crate::text::sanitize;
use crate::{engine, output};

/// Show the state of a run and the command to type next.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    run: Option<String>,
    /// Check every store and issuer first. Changes nothing, records nothing.
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    /// Refresh every second, until the run ends or no process is working on it.
    #[arg(long, short = 'w')]
    watch: bool,
}

pub(super) async fn main(context: &Context, global: &Global, args: &StatusArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    loop {
        let live = context.ledger.is_live(&run).await?;
        let mut state = context.ledger.load(&run).await?;
        windows::foresee(&mut state, context.clock.now().wall);
        let mut exit = Exit::Done;
        if args.check {
            look(context, &run, &mut state).await?;
            exit = holds_still(&state);
            let blind = unseen_credentials(&state);
            if !blind.is_empty() {
                let words = format!(
                    "could not check {}: the state shown for it is what stanch saw or did before; nothing was changed",
                    blind.join(", ")
                );
                eprintln!("{words}");
                ci::annotate(Level::Warning, &format!("stanch: {run}"), &words);
                // What was seen to be wrong is said first.
                if exit == Exit::Done {
                    exit = Exit::Unreachable;
                }
            }
        }
        let doubts = doubt::doubts(context, &run, &state, live).await?;
        if global.json {
            let around = context.around(&run, &state, live).await?;
            let mut summary = output::summary_json(&run, &state, around);
            summary["unknown"] = serde_json::to_value(&doubts).unwrap_or_default();
            let messages = notify::wrong_json(context, &run);
            if !messages.is_empty() {
                summary["messages"] = messages.into();
            }
            print_json(&summary)?;
        } else {
            if args.watch && std::io::stdout().is_terminal() {
                let _ = console::Term::stdout().clear_screen();
            }
            print(&text(context, &run, &state, live, &doubts).await?)?;
            if exit == Exit::NotProved {
                print(&format!("  {}\n", since_done(&state)))?;
                ci::annotate(Level::Error, &format!("stanch: {run}"), since_done(&state));
            }
        }
        if !args.watch || state.end().is_some() || !live {
            ci::after(context, &run).await;
            return Ok(exit);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Looks at the world as it is now.
async fn look(context: &Context, run: &str, state: &mut State) -> Result<(), CliError> {
    let plan = std::sync::Arc::clone(state.plan());
    drive::refuse_older(run, &plan)?;
    drive::enter(&plan)?;
    // Looking makes no key: without the one that the run was begun with, nothing of it can be opened.
    let sealer = context.sealing.existing()?.ok_or_else(|| {
        CliError::new(Exit::JournalInvalid, "cannot compare anything: keys/seal.key is gone")
            .hint("restore keys/seal.key of the state directory from a backup")
    })?;
    let check = engine::Check {
        provider: context.provider_of(&plan)?,
        clock: std::sync::Arc::clone(&context.clock),
        sealer: std::sync::Arc::new(sealer),
        run: run.to_owned(),
        sealed: context.ledger.sealed(run).await?,
    };
    engine::check(check, state).await.map_err(|e| CliError::from(engine::EngineError::from(e)))
}

/// The credentials that could not be looked at: a store that cannot be read, or an issuer that tells of neither
/// version.
fn unseen_credentials(state: &State) -> Vec<String> {
    let is_blind = |planned: &&Planned| {
        let Some((_, seen)) = state.seen(&planned.name) else { return true };
        let tells = planned.issuer.change == Observation::Readable && planned.outgoing.is_some();
        let unread = seen.stores.contains(&Holds::Unreadable);
        unread || (tells && seen.outgoing == Sight::Unseen)
    };
    state.plan().credentials.iter().filter(is_blind).map(|planned| planned.name.clone()).collect()
}

/// Whether what a run that is done said of the old credentials is what was seen now.
fn holds_still(state: &State) -> Exit {
    let alive =
        |truth: &Truth| matches!(truth.outgoing, Outgoing::Accepted | Outgoing::Disabled | Outgoing::Deleted);
    let hurt = |truth: &Truth| truth.is_overtaken() || alive(truth);
    if state.end() == Some(End::Done) && state.truths().iter().any(hurt) {
        return Exit::NotProved;
    }
    Exit::Done
}

/// What is to be said of a run that is done where that does not hold any more, or cannot be told.
fn since_done(state: &State) -> &'static str {
    let sure = |truth: &Truth| {
        let known = truth.delivered() + truth.incomparable + truth.unread;
        truth.incoming == Incoming::Dead
            || known < truth.stores
            || matches!(truth.outgoing, Outgoing::Accepted | Outgoing::Disabled | Outgoing::Deleted)
    };
    if state.truths().iter().any(sure) {
        return "the run ended as DONE, which is no longer true: something has changed since";
    }
    "the run ended as DONE; a store has a later version than this run wrote, and the values to compare it with are destroyed: if another client wrote only other fields, the new credential is still there"
}

async fn text(
    context: &Context,
    run: &str,
    state: &State,
    live: bool,
    doubts: &[Doubt],
) -> Result<String, CliError> {
    let style = style(std::io::stdout().is_terminal());
    let now = context.clock.now().wall;
    let around = context.around(run, state, live).await?;
    let mut text = output::summary(style, run, state, around, now);
    for line in output::vantages(state) {
        text.push_str(&format!("  {}\n", sanitize(&line)));
    }
    for line in output::identities(state) {
        text.push_str(&format!("  {}\n", sanitize(&line)));
    }
    for (_, given) in &state.standing().given {
        let names: Vec<&str> = given.phases.iter().map(|phase| phase.name()).collect();
        text.push_str(&format!(
            "  {} approved {}, {} {:.0}\n",
            sanitize(&given.by),
            names.join(", "),
            if given.expires <= now { "which expired at" } else { "until" },
            given.expires
        ));
    }
    if state.end().is_none() {
        let phase = state.phase().map_or_else(|| "not started".to_owned(), |p| p.to_string());
        let who = if live { "a process is working on it" } else { "no process is working on it" };
        // What resumes it goes on that way.
        let way = match state.direction() {
            Direction::Forward => String::new(),
            Direction::Back { to, .. } => format!(", {}", output::rolling_back(*to)),
        };
        text.push_str(&format!("  phase {phase}{way}; {who}\n"));
        if let Some(halted) = state.halted() {
            text.push_str(&format!("  halted by {halted}\n"));
        }
        // Not their reasons: those on the record are scrubbed, and stand above.
        for (run, what) in [(Some(run), "this run"), (None, "all runs")] {
            if let Some(latch) = context.ledger.latch(run).await? {
                text.push_str(&format!("  the halt of {what} is set, by {}\n", sanitize(&latch.by)));
            }
        }
        for (gate, (verdict, detail)) in state.judged() {
            // The counts of adoption go on after the verdict that they led to: the summary has them.
            let detail = if gate == ADOPTED { String::new() } else { format!(" ({detail})") };
            text.push_str(&format!("  gate {gate}: {}{detail}\n", verdict.name()));
        }
        for gate in state.vouched() {
            text.push_str(&format!("  gate {gate}: passed on a person's word\n"));
        }
        let resumes = around.lets_resume(state);
        for doubt in doubts {
            text.push_str(&doubt.text(run, live, resumes));
        }
        let waiting: Vec<_> = (0..state.plan().steps.len())
            .filter(|s| matches!(state.status(*s), Status::Started { .. } | Status::Orphaned { .. }))
            .filter(|s| doubts.iter().all(|d| d.step != state.plan().steps[*s].id))
            .map(|s| format!("{} ({})", state.plan().steps[s].id, state.status(s).word()))
            .take(10)
            .collect();
        if !waiting.is_empty() {
            text.push_str(&format!("  in progress: {}\n", waiting.join(", ")));
        }
    }
    text.push_str(&notify::wrong_text(context, run));
    Ok(style.plain(&text))
}
