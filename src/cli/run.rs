//! `stanch run`: plan, show, ask, rotate.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::context::{Access, Context, Open, ask, can_ask, words};
use super::drive::{block_on, drive, enter};
use super::plan::{self, Choice};
use super::sign::{self, SignArgs, Wanted};
use super::windows::{self, NowArgs};
use super::{BreakGlassArgs, CliError, Exit, Global, SessionArgs, approve};
use crate::approve::{Kind, Refused};
use crate::domain::{Opening, Phase};
use crate::engine::{self, EngineError};
use crate::plan::{Plan, SANDBOX, caveats, preview};
use crate::rotation::{Event, State};

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
    /// Use this approval: a statement, with its signature in FILE.sig. Repeatable. Those beside a saved plan are found
    /// without it.
    #[arg(long, value_name = "FILE")]
    approval: Vec<PathBuf>,
    #[command(flatten)]
    glass: BreakGlassArgs,
    #[command(flatten)]
    hurry: NowArgs,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) fn main(open: Open<'_>, global: &Global, args: RunArgs) -> Result<Exit, CliError> {
    // A wrong runbook is refused before anything is opened or contacted.
    let input = plan::Input::load(&args.file, &args.choice, global, args.hurry.now)?;
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
    let plan::Ready { plan, provider, learnt } = prepare(context, global, args, input).await?;
    if let Some(error) = plan::refusal(&plan.checks) {
        eprint!("{}", preview(&plan));
        return Err(error);
    }
    check_until(&plan, None, args.session.until)?;
    let glass = args.glass.event(context, args.choice.reason.as_deref(), &plan)?;
    let hurry = args.hurry.event(context, args.choice.reason.as_deref(), &plan, None)?;
    let opens = windows::of(&plan)?;
    if hurry.is_none() && opens.next(context.clock.now().wall) == Opening::Never {
        let message = "cutover of this plan would wait forever: no deployment window opens any more; nothing was changed";
        return Err(CliError::new(Exit::BadRunbook, message)
            .hint("correct the windows and make a new plan, or pass --now --reason TEXT"));
    }
    refuse_without_reason(args, &plan)?;
    confirm(global, args, &plan)?;
    // The stores' values are known by now; a person may have typed one.
    let reason = reason.map(|text| learnt.clean(&text));
    let now = context.clock.now();
    let plan = Arc::new(plan);
    let mut asked = ask_for(context, args, &plan, glass)?;
    asked.extend(hurry);
    asked.iter_mut().for_each(|event| event.scrub(&|text| learnt.clean(text)));
    let mut journal = context.ledger.open(&plan, reason, context.who(), now).await?;
    let mut state = State::new(plan, now.wall);
    // The request took a person's time; what is on the record was true then.
    let now = context.clock.now();
    for event in &asked {
        state.apply(event, now.wall).map_err(EngineError::Illegal)?;
    }
    journal.commit(now, &asked)?;
    let conduct = args.session.conduct(global, opens);
    let driven = drive(context, global, provider, journal, state, conduct, &args.session).await?;
    driven.exit.shown(driven.printed)
}

/// Before anything irreversible, whoever runs a plan that needs approvals says why, and where that is written down.
fn refuse_without_reason(args: &RunArgs, plan: &Plan) -> Result<(), CliError> {
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
    let needed = plan.approvals.is_some() && plan.point_of_no_return().is_some();
    if !needed || (said(&args.choice.reason) && said(&args.glass.ticket)) {
        return Ok(());
    }
    let message = "the plan needs approvals and has steps that cannot be undone, so it needs a reason and a ticket; nothing was changed";
    Err(CliError::new(Exit::Usage, message).hint("pass --reason TEXT and --ticket TEXT"))
}

/// What goes on the record right after the plan: who runs this, who asked for it, and the approvals that are there.
fn ask_for(
    context: &Context,
    args: &RunArgs,
    plan: &Arc<Plan>,
    glass: Option<Event>,
) -> Result<Vec<Event>, CliError> {
    let mut events = context.identified();
    let Some(approvals) = &plan.approvals else {
        if args.approval.is_empty() {
            return Ok(events);
        }
        return Err(CliError::new(
            Exit::Usage,
            "--approval does not apply: the plan asks for no approvals; nothing was changed",
        ));
    };
    if args.sign.file().is_none() {
        if let Some(event) = glass {
            events.push(event);
            return Ok(events);
        }
        let message = "the plan needs approvals, so stanch must know who asks for it: that person cannot approve it; nothing was changed";
        return Err(CliError::new(Exit::Usage, message).hint(
            "sign the request: pass --key FILE, such as ~/.ssh/id_ed25519, or set STANCH_SIGNING_KEY",
        ));
    }
    let hand = args.sign.hand(&approvals.signers)?;
    let wanted = Wanted {
        kind: Kind::Request,
        plan,
        run: None,
        phases: Vec::new(),
        reason: words("--reason", args.choice.reason.as_deref().unwrap_or("no reason given"))?,
        ticket: args.glass.ticket.as_deref().map(|text| words("--ticket", text)).transpose()?,
        expires: crate::clock::add(context.clock.now().wall, REQUEST),
        requester: None,
    };
    let signed = hand.sign(&wanted.statement(&hand.by))?;
    let now = context.clock.now().wall;
    let mut state = State::new(Arc::clone(plan), now);
    let request = state.requested_by(&signed, Some(now)).map_err(approve::refused)?;
    events.push(Event::Requested { by: request.by, key: request.key, signed });
    events.extend(glass);
    for event in &events {
        state.apply(event, now).map_err(EngineError::Illegal)?;
    }
    for (path, named) in approvals_of(args) {
        let signed = match sign::read(&path) {
            Ok(signed) => signed,
            Err(error) if named => return Err(error),
            // One that was left half-copied beside the plan must not keep this run from starting either.
            Err(error) => {
                eprintln!("{}: not used: {}", path.display(), error.sentences());
                continue;
            }
        };
        match state.admit(&signed, None, Some(now)) {
            Ok(approval) if signed.is_for_any_run() => {
                let (by, key, phases) = (approval.by, approval.signer.fingerprint(), approval.phases);
                let event = Event::Approved { by, key, phases, signed };
                state.apply(&event, now).map_err(EngineError::Illegal)?;
                events.push(event);
            }
            Ok(_) if named => return Err(approve::refused(Refused::OtherRun("another".into()))),
            Err(refused) if named => return Err(approve::refused(refused)),
            // One that was left there from another time must not keep this run from starting.
            Ok(_) => eprintln!("{}: not used: it approves another run only", path.display()),
            Err(refused) => eprintln!("{}: not used: {refused}", path.display()),
        }
    }
    Ok(events)
}

/// How long a request to run may wait before the run starts.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(3600);

/// The approvals that were named, and those beside a saved plan.
fn approvals_of(args: &RunArgs) -> Vec<(PathBuf, bool)> {
    let mut found: Vec<(PathBuf, bool)> = args.approval.iter().map(|path| (path.clone(), true)).collect();
    let beside = sign::beside(&args.file);
    let numbered = (1..1000).map(|n| PathBuf::from(format!("{beside}{n}")));
    found.extend(
        numbered.filter(|path| path.is_file() && !args.approval.contains(path)).map(|path| (path, false)),
    );
    found
}

/// The plan to run, and what makes it callable. A saved plan must still fit the world.
async fn prepare(
    context: &Context,
    global: &Global,
    args: &RunArgs,
    input: plan::Input,
) -> Result<plan::Ready, CliError> {
    match input {
        plan::Input::Runbook(fresh) => plan::make(context, *fresh).await,
        plan::Input::Plan(plan) => {
            args.choice.policy.refuse_saved(&plan, global.json)?;
            enter(&plan)?;
            let provider = context.provider_of(&plan)?;
            let choices = engine::Choices::of(&plan);
            let (now, learnt) = engine::survey_and_learn(&provider, &plan.runbook, &choices).await?;
            plan::refuse_values(&learnt, &plan.runbook)?;
            plan::same_signers(&plan)?;
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
