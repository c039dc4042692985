//! `stanch run`: plan, show, ask, rotate.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::context::{Access, Context, Open, ask, can_ask, words};
use super::drive::{block_on, drive, enter};
use super::plan::{self, Choice};
use super::{CliError, Exit, Global, SessionArgs};
use crate::domain::Phase;
use crate::engine::{self, Conduct};
use crate::plan::{Plan, SANDBOX, caveats, preview};
use crate::rotation::State;

/// Run a rotation.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The runbook, or a plan saved with `stanch plan -o`.
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) choice: Choice,
    /// Start without asking.
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) fn main(open: Open<'_>, global: &Global, args: RunArgs) -> Result<Exit, CliError> {
    // A wrong runbook is refused before anything is opened or contacted.
    let input = plan::Input::load(&args.file, &args.choice, global)?;
    let reason = args.choice.reason.as_deref().map(|text| words("--reason", text)).transpose()?;
    let context = open(Access::Writes)?;
    block_on(begin(&context, global, input, reason, &args))?
}

/// Plans, asks, and works on the run.
pub(super) async fn begin(
    context: &Context,
    global: &Global,
    input: plan::Input,
    reason: Option<String>,
    args: &RunArgs,
) -> Result<Exit, CliError> {
    if let Some(latch) = context.ledger.latch(None).await? {
        return Err(halted(&latch.by, &latch.reason, "stanch halt --all --clear"));
    }
    let plan::Ready { plan, provider, learnt } = prepare(context, input).await?;
    if let Some(error) = plan::refusal(&plan.checks) {
        eprint!("{}", preview(&plan));
        return Err(error);
    }
    check_until(&plan, None, args.session.until)?;
    confirm(global, args, &plan)?;
    // The stores' values are known by now; a person may have typed one.
    let reason = reason.map(|text| learnt.clean(&text));
    let now = context.clock.now();
    let plan = Arc::new(plan);
    let journal = context.ledger.open(&plan, reason, context.who(), now).await?;
    let state = State::new(plan, now.wall);
    let conduct = Conduct { until: args.session.until, no_wait: args.session.no_wait, rollback: None };
    let driven = drive(context, global, provider, journal, state, conduct, &args.session).await?;
    driven.exit.shown(driven.printed)
}

/// The plan to run, and what makes it callable. A saved plan must still fit the world.
async fn prepare(context: &Context, input: plan::Input) -> Result<plan::Ready, CliError> {
    match input {
        plan::Input::Runbook(fresh) => plan::make(context, *fresh).await,
        plan::Input::Plan(plan) => {
            enter(&plan)?;
            let provider = context.provider_of(&plan)?;
            let choices = engine::Choices::of(&plan);
            let (now, learnt) = engine::survey_and_learn(&provider, &plan.runbook, &choices).await?;
            plan::refuse_values(&learnt, &plan.runbook)?;
            match engine::drift(&plan, &now) {
                // What was there when the plan was made may be gone.
                None => {
                    plan::refusal(&now.checks).map_or(Ok(plan::Ready { plan: *plan, provider, learnt }), Err)
                }
                Some(drift) => Err(CliError::new(Exit::Stale, format!("the plan is stale: {drift}"))
                    .hint("nothing was changed; find out what changed there, then make a new plan")),
            }
        }
    }
}

/// Shows the plan and asks, unless that was answered on the command line.
fn confirm(global: &Global, args: &RunArgs, plan: &Plan) -> Result<(), CliError> {
    if args.yes || args.session.confirm.contains(&plan.runbook.name) {
        // Who did not see the plan is told at least what it could not settle.
        if !global.json {
            eprint!("{}", caveats(plan));
        }
        return Ok(());
    }
    eprint!("{}", preview(plan));
    if !can_ask(global) {
        return Err(CliError::new(
            Exit::Usage,
            "cannot ask for confirmation (no terminal); nothing was changed",
        )
        .hint(format!("pass --yes, or --confirm {}", plan.runbook.name)));
    }
    // In the sandbox a yes is enough; elsewhere the name is typed, so that no reflex starts it.
    let (question, wanted) = if plan.environment == SANDBOX {
        ("\nStart the run? [y/N]".to_owned(), "y".to_owned())
    } else {
        (
            format!("\nType `{}` to start the run in {}:", plan.environment, plan.environment),
            plan.environment.clone(),
        )
    };
    match ask(&question) {
        Some(answer) if answer == wanted || (wanted == "y" && answer.eq_ignore_ascii_case("yes")) => Ok(()),
        _ => Err(CliError::new(Exit::Failed, "not confirmed; nothing was changed")),
    }
}

/// The refusal to begin, or to go on, under a latch.
pub(super) fn halted(by: &str, reason: &str, clear: &str) -> CliError {
    CliError::new(Exit::Halted, format!("halted by {by}: {reason}"))
        .hint(format!("clear the halt when it is safe: {clear}"))
}

/// A phase to stop after must be one that is still to come.
pub(super) fn check_until(plan: &Plan, now: Option<Phase>, until: Option<Phase>) -> Result<(), CliError> {
    let Some(until) = until else { return Ok(()) };
    let order = Phase::order(plan.strategy);
    let rank = |p: Phase| order.iter().position(|o| *o == p);
    if rank(until).is_none() {
        let names: Vec<&str> = order.iter().map(|p| p.name()).collect();
        let message = format!("this strategy does not have the phase {until}; nothing was changed");
        return Err(CliError::new(Exit::Usage, message).hint(format!("its phases: {}", names.join(", "))));
    }
    match now {
        Some(now) if rank(until) < rank(now) => {
            Err(CliError::new(Exit::Usage, format!("the run is in {now} and has already passed {until}")))
        }
        _ => Ok(()),
    }
}
