//! `stanch resume`: takes a run up again. Replay is all there is to it.

use clap::Args;

use super::context::Context;
use super::drive::{block_on, drive, take_up};
use super::run::{check_until, halted};
use super::{CliError, Exit, Global, SessionArgs};
use crate::engine::Conduct;

/// Takes a run up again.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The run, or the beginning of its name; without one, the only open run.
    run: Option<String>,
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) fn main(global: &Global, args: &ResumeArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let run = context.state.find(args.run.as_deref())?;
    refuse_latched(&context, &run)?;
    let (seen, _) = context.state.load(&run)?;
    check_until(seen.plan(), seen.phase(), args.session.until)?;
    let (journal, state) = take_up(&context, &run)?;
    let provider = context.provider_of(state.plan())?;
    let conduct = Conduct { until: args.session.until, no_wait: args.session.no_wait, rollback: None };
    block_on(drive(&context, global, provider, journal, state, conduct, &args.session))?.map(|(_, exit)| exit)
}

/// Nothing goes on under a latch.
pub(super) fn refuse_latched(context: &Context, run: &str) -> Result<(), CliError> {
    if let Some(latch) = context.state.latch(None)? {
        return Err(halted(&latch.by, &latch.reason, "stanch halt --all --clear"));
    }
    if let Some(latch) = context.state.latch(Some(run))? {
        return Err(halted(&latch.by, &latch.reason, &format!("stanch halt --clear {run}")));
    }
    Ok(())
}
