//! `stanch resume`: takes a run up again. Replay is all there is to it.

use clap::Args;

use super::context::Context;
use super::drive::{drive, take_up};
use super::run::{check_until, halted};
use super::windows::{self, NowArgs};
use super::{BreakGlassArgs, CliError, Exit, Global, SessionArgs};
use crate::rotation::Event;

/// Resume a run after a crash, a pause or a fixed failure.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The run, or the start of its name. Default: the only open run.
    run: Option<String>,
    /// Give up a rollback that cannot finish, and go forward again.
    #[arg(long, conflicts_with_all = ["reissue", "rewrite"])]
    forward: bool,
    /// Revoke the new credential of this name and issue another one.
    #[arg(long, value_name = "CREDENTIAL", conflicts_with = "rewrite")]
    reissue: Option<String>,
    /// Write the new credential of this name into its stores again, over the values that they hold now.
    #[arg(long, value_name = "CREDENTIAL")]
    rewrite: Option<String>,
    #[command(flatten)]
    glass: BreakGlassArgs,
    #[command(flatten)]
    hurry: NowArgs,
    /// Record this reason, with --break-glass or --now.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) async fn main(context: &Context, global: &Global, args: &ResumeArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find(args.run.as_deref()).await?;
    refuse_latched(context, &run).await?;
    let seen = context.ledger.load(&run).await?;
    check_until(seen.plan(), seen.phase(), args.session.until)?;
    if args.reason.is_some() && !args.glass.break_glass && !args.hurry.now {
        return Err(CliError::new(Exit::Usage, "--reason does not apply: it is for --break-glass and --now"));
    }
    let glass = args.glass.event(context, args.reason.as_deref(), seen.plan())?;
    let hurry = args.hurry.event(context, args.reason.as_deref(), seen.plan(), Some(&seen))?;
    let opens = windows::of(seen.plan())?;
    let said = glass.into_iter().chain(hurry).collect();
    let taken = take_up(context, &run, said, change(args, context)).await;
    let (journal, state) = taken.map_err(|error| match args.hurry.now && error.exit == Exit::Locked {
        true => error.hint(format!(
            "it may be the process that waits for the deployment window: end it with Ctrl-C, then: stanch resume {run} --now --reason TEXT"
        )),
        false => error,
    })?;
    let provider = context.provider_of(state.plan())?;
    let conduct = args.session.conduct(global, opens);
    let driven = drive(context, global, provider, journal, state, conduct, &args.session).await?;
    driven.exit.shown(driven.printed)
}

/// What the person wants changed before the run goes on, and why it may not be possible.
fn change(args: &ResumeArgs, context: &Context) -> Option<(Event, String)> {
    if args.forward {
        let why = format!("requested by {}", context.signature());
        return Some((
            Event::Forward { why },
            "cannot go forward: the run is not rolling back, or the outcome of a step is unknown".into(),
        ));
    }
    if let Some(name) = args.rewrite.clone() {
        let refusal =
            format!("cannot write the new {name} again: this run has not written it yet, or is rolling back");
        return Some((Event::Rewrite { credential: name, takes_back: true }, refusal));
    }
    let name = args.reissue.clone()?;
    let refusal =
        format!("cannot replace the new {name}: this run has not issued it, or a store may already hold it");
    Some((Event::Reissue { credential: name, takes_back: true }, refusal))
}

/// Nothing goes on under a latch.
pub(super) async fn refuse_latched(context: &Context, run: &str) -> Result<(), CliError> {
    if let Some(latch) = context.ledger.latch(None).await? {
        return Err(halted(&latch.by, &latch.reason, "stanch halt --all --clear"));
    }
    if let Some(latch) = context.ledger.latch(Some(run)).await? {
        return Err(halted(&latch.by, &latch.reason, &format!("stanch halt --clear {run}")));
    }
    Ok(())
}
