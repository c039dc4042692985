//! `stanch rollback`: takes a run back.

use std::time::Duration;

use clap::Args;

use super::context::{Context, ask, can_ask, is_yes, style, words};
use super::drive::{drive, refuse_older, take_up};
use super::resume::refuse_latched;
use super::{CliError, Exit, Global, SessionArgs, ci, phase, print, print_json};
use crate::domain::Phase;
use crate::engine::Conduct;
use crate::journal::RollbackRequest;
use crate::output;
use crate::rotation::{Direction, End, State, Stop};

/// Roll a run back. Refused past its point of no return.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The run, or the start of its name. Default: the only open run.
    run: Option<String>,
    /// Roll back only to the end of this phase. You can then resume the run.
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    to: Option<Phase>,
    /// Record this reason.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Roll back without asking.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Answer yes to the manual step of this name. Repeatable.
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
}

pub(super) async fn main(context: &Context, global: &Global, args: RollbackArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find(args.run.as_deref()).await?;
    let reason = words("--reason", args.reason.as_deref().unwrap_or("requested"))?;
    refuse_latched(context, &run).await?;
    let state = context.ledger.load(&run).await?;
    check(&run, &state, args.to)?;
    if !args.yes && !can_ask(global) {
        return Err(CliError::new(
            Exit::Usage,
            "cannot ask for confirmation (no terminal); nothing was changed",
        )
        .hint("pass --yes"));
    }
    if !args.yes {
        let how_far = args.to.map_or_else(|| "completely".to_owned(), |p| format!("to the end of {p}"));
        match ask(&format!("Roll back {run} {how_far}? The old credential becomes current again. [y/N]")) {
            Some(answer) if is_yes(&answer) => {}
            _ => return Err(CliError::new(Exit::Failed, "not confirmed; nothing was changed")),
        }
    }
    let why = format!("{}: {reason}", context.signature());
    if context.ledger.is_live(&run).await? {
        let request = RollbackRequest { to: args.to, why: why.clone() };
        context.ledger.request(&run, &request).await?;
        if let Some(exit) = follow(context, global, &run).await? {
            return Ok(exit);
        }
    }
    let (journal, state) = take_up(context, &run, Vec::new(), None).await?;
    check(&run, &state, args.to)?;
    let provider = context.provider_of(state.plan())?;
    let conduct = Conduct { rollback: Some((args.to, why)), ..Conduct::default() };
    let session = SessionArgs { confirm: args.confirm, ..SessionArgs::default() };
    let driven = drive(context, global, provider, journal, state, conduct, &session).await?;
    as_asked(&driven.state, driven.exit).shown(driven.printed)
}

/// A rollback that did what it was asked for is a success of this command.
fn as_asked(state: &State, exit: Exit) -> Exit {
    match (state.end(), state.stopped()) {
        (Some(End::RolledBack | End::GateRolledBack), _) | (None, Some(Stop::Returned { .. })) => Exit::Done,
        // The run went on past the point of no return before it could be turned.
        (Some(End::Done), _) => Exit::Failed,
        _ => exit,
    }
}

fn check(run: &str, state: &State, to: Option<Phase>) -> Result<(), CliError> {
    if let Some(end) = state.end() {
        return Err(CliError::new(
            Exit::Usage,
            format!("run {run} has ended ({}); it cannot be rolled back", crate::output::end_word(end)),
        ));
    }
    refuse_older(run, state.plan())?;
    if state.is_past_return() {
        return Err(CliError::new(
            Exit::Failed,
            "the run is past the point of no return: a revoked credential cannot be restored; nothing was changed",
        )
        .hint(format!("go forward: stanch resume {run}")));
    }
    let order = Phase::order(state.plan().strategy);
    let rank = |p: Phase| order.iter().position(|o| *o == p);
    if let Some(to) = to
        && (state.phase().and_then(rank) <= rank(to) || rank(to).is_none())
    {
        let now = state.phase().map_or("its beginning", Phase::name);
        let passed = state.phase().and_then(rank).unwrap_or(0);
        let passed: Vec<&str> = order[..passed].iter().map(|phase| phase.name()).collect();
        let hint = if passed.is_empty() {
            format!("roll back completely: stanch rollback {run}")
        } else {
            format!("name a phase that it has passed: {}", passed.join(", "))
        };
        return Err(
            CliError::new(Exit::Usage, format!("the run is in {now} and has not passed {to}")).hint(hint)
        );
    }
    Ok(())
}

/// Waits while the run's own process rolls it back. `None` when that process was gone before it saw
/// the request: then the request is taken back, and this process does it.
async fn follow(context: &Context, global: &Global, run: &str) -> Result<Option<Exit>, CliError> {
    eprintln!("asked the process that is working on {run} to roll back; waiting for it");
    let mut turned = false;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let live = context.ledger.is_live(run).await?;
        let state = context.ledger.load(run).await?;
        let back = matches!(state.direction(), Direction::Back { .. });
        if (back || matches!(state.stopped(), Some(Stop::Returned { .. }))) && !turned {
            turned = true;
            eprintln!("it is rolling back");
        }
        if live && state.end().is_none() {
            continue;
        }
        if !turned && state.end().is_none() {
            context.ledger.withdraw(run).await?;
            return Ok(None);
        }
        let around = context.around(run, &state, live).await?;
        let printed = if global.json {
            print_json(&output::summary_json(run, &state, around))
        } else {
            let now = context.clock.now().wall;
            print(&output::summary(style(false), run, &state, around, now))
        };
        ci::after(context, run).await;
        return as_asked(&state, Exit::of(&state, false)).shown(printed).map(Some);
    }
}
