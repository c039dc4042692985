//! `stanch approve`: shows what is approved, has it signed, and puts it on the record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::context::{Access, Context, Open, words};
use super::drive::block_on_this_thread;
use super::halt::record;
use super::sign::{SignArgs, Wanted, beside, confirm, read};
use super::write::to_file;
use super::{CliError, Exit, Global, phase, plan, print, print_json};
use crate::approve::{Approvals, Kind, Refused, Signed};
use crate::clock::{Clock as _, SystemClock, add};
use crate::domain::{Period, Phase};
use crate::plan::Plan;
use crate::rotation::{Event, State};

/// Approve phases of a plan or of a run: sign what they do with your SSH key.
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// A plan saved with `stanch plan -o`, or a run, or the start of its name. Default: the only open run.
    #[arg(value_name = "PLAN|RUN")]
    target: Option<String>,
    /// Why you approve. It is signed and recorded.
    #[arg(long, value_name = "TEXT", required_unless_present = "file")]
    reason: Option<String>,
    /// Where the reason is written down, such as a ticket. Required before what cannot be undone.
    #[arg(long, value_name = "TEXT")]
    ticket: Option<String>,
    /// Approve only this phase. Repeatable. Default: every phase ahead that you may approve.
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    phase: Vec<Phase>,
    /// Let the approval hold for no longer than this, such as 2h.
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<Period>,
    #[command(flatten)]
    sign: SignArgs,
    /// Hand in an approval that was signed elsewhere: the statement, with its signature in FILE.sig. Repeatable.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["reason", "ticket", "phase", "lasts", "key", "principal"])]
    file: Vec<PathBuf>,
    /// Sign without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

/// Wait this long for a live process to record the approval.
const ACKNOWLEDGE: Duration = Duration::from_secs(10);

pub(super) fn main(open: Open<'_>, global: &Global, args: &ApproveArgs) -> Result<Exit, CliError> {
    match args.target.as_deref().map(Path::new).filter(|path| path.is_file()) {
        Some(path) => of_plan(global, args, path),
        None => {
            let context = open(Access::Writes)?;
            block_on_this_thread(of_run(&context, global, args))?
        }
    }
}

/// What a person says beside the signature.
struct Said {
    reason: String,
    ticket: Option<String>,
}

impl ApproveArgs {
    fn said(&self) -> Result<Said, CliError> {
        let reason = words("--reason", self.reason.as_deref().unwrap_or_default())?;
        if reason.is_empty() {
            return Err(CliError::new(Exit::Usage, "--reason is empty; nothing was signed")
                .hint("pass --reason TEXT, with why you approve"));
        }
        let ticket = self.ticket.as_deref().map(|text| words("--ticket", text)).transpose()?;
        Ok(Said { reason, ticket: ticket.filter(|ticket| !ticket.is_empty()) })
    }

    /// Until when an approval of these phases holds.
    fn expires(&self, approvals: &Approvals, phases: &[Phase], now: Timestamp) -> Timestamp {
        let within = approvals.required.iter().filter(|r| phases.contains(&r.phase)).map(|r| r.within);
        let lasts = within.chain(self.lasts).min().unwrap_or_default();
        add(now, lasts.get())
    }
}

fn of_plan(global: &Global, args: &ApproveArgs, path: &Path) -> Result<Exit, CliError> {
    if !args.file.is_empty() {
        return Err(CliError::new(Exit::Usage, "--file hands an approval to a run; a plan has none yet")
            .hint("pass it when the run starts: stanch run PLAN --approval FILE"));
    }
    let plan = plan::saved(path)?;
    let approvals = needed(&plan)?;
    let said = args.said()?;
    let hand = args.sign.hand(&approvals.signers)?;
    let mine = |phase: &Phase| {
        let asked = args.phase.is_empty() || args.phase.contains(phase);
        asked && approvals.needs(*phase).any(|r| r.from.contains(&hand.by))
    };
    let phases = chosen(
        Phase::order(plan.strategy).iter().copied().filter(mine).collect(),
        args,
        &hand.by,
        approvals,
    )?;
    let now = SystemClock::new().now().wall;
    let expires = args.expires(approvals, &phases, now);
    let Said { reason, ticket } = said;
    let wanted = Wanted {
        kind: Kind::Approval,
        plan: &plan,
        run: None,
        phases,
        reason,
        ticket,
        expires,
        requester: None,
    };
    let statement = wanted.statement(&hand.by);
    refuse_without_ticket(&plan, &statement.phases, statement.ticket.as_deref())?;
    confirm(global, args.yes, &statement.text())?;
    let signed = hand.sign(&statement)?;
    let state = State::new(std::sync::Arc::new(plan), now);
    let approval = state.admit(&signed, None, Some(now)).map_err(refused)?;
    let (file, signature) = free(path)?;
    to_file(&file, |out| out.write_all(signed.statement.as_bytes()))?;
    to_file(&signature, |out| out.write_all(signed.signature.as_bytes()))?;
    let key = approval.signer.fingerprint();
    if global.json {
        print_json(&json!({
            "plan": statement.plan, "by": approval.by, "key": key, "phases": approval.phases,
            "expires": approval.expires, "file": file, "signature": signature,
        }))?;
    } else {
        print(&format!(
            "Approved {} as {}, until {:.0}. The approval is in {} and {}; keep both beside the plan: stanch run {}",
            names(&approval.phases),
            approval.by,
            approval.expires,
            file.display(),
            signature.display(),
            path.display()
        ))?;
    }
    Ok(Exit::Done)
}

async fn of_run(context: &Context, global: &Global, args: &ApproveArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find(args.target.as_deref()).await?;
    let state = context.ledger.load(&run).await?;
    if let Some(end) = state.end() {
        let message =
            format!("run {run} has ended ({}); there is nothing to approve", crate::output::end_word(end));
        return Err(CliError::new(Exit::Usage, message));
    }
    let plan = std::sync::Arc::clone(state.plan());
    let approvals = needed(&plan)?;
    let signed = if args.file.is_empty() {
        vec![sign(context, global, args, &run, &state, approvals)?]
    } else {
        args.file.iter().map(|path| read(path)).collect::<Result<_, _>>()?
    };
    for signed in signed {
        hand_in(context, &run, &signed).await?;
    }
    let state = context.ledger.load(&run).await?;
    let now = context.clock.now().wall;
    let given: Vec<_> = (state.standing().given.iter())
        .map(|(at, given)| json!({ "by": given.by, "key": given.signer.fingerprint(), "phases": given.phases, "at": at, "expires": given.expires }))
        .collect();
    let missing = crate::output::missing_approvals(&state, Some(now));
    if global.json {
        print_json(&json!({ "run": run, "approvals": given, "missing": missing }))?;
        return Ok(Exit::Done);
    }
    let live = context.ledger.is_live(&run).await?;
    let next = match (missing.is_empty(), live) {
        (true, true) => "every approval is there; its process goes on".to_owned(),
        (true, false) => format!("every approval is there; to resume: stanch resume {run}"),
        (false, _) => missing.join("\n"),
    };
    print(&format!("Recorded. {next}"))?;
    Ok(Exit::Done)
}

/// Shows what a run does, and has it signed.
fn sign(
    context: &Context,
    global: &Global,
    args: &ApproveArgs,
    run: &str,
    state: &State,
    approvals: &Approvals,
) -> Result<Signed, CliError> {
    let said = args.said()?;
    let hand = args.sign.hand(&approvals.signers)?;
    let now = context.clock.now().wall;
    let requester = state.standing().request.as_ref().map(|request| request.by.clone());
    if requester.as_ref() == Some(&hand.by) {
        // Before a key is touched for it.
        return Err(refused(Refused::Requester { by: hand.by }));
    }
    let mine = |phase: &Phase| {
        let lacks = state.lacks(*phase, Some(now));
        match args.phase.is_empty() {
            true => lacks.iter().any(|lack| lack.may.contains(&hand.by.as_str())),
            false => args.phase.contains(phase),
        }
    };
    let ahead = state.phases_ahead().into_iter().filter(mine).collect();
    let phases = chosen(ahead, args, &hand.by, approvals)?;
    let expires = args.expires(approvals, &phases, now);
    let Said { reason, ticket } = said;
    let plan = state.plan();
    let wanted =
        Wanted { kind: Kind::Approval, plan, run: Some(run), phases, reason, ticket, expires, requester };
    let statement = wanted.statement(&hand.by);
    refuse_without_ticket(plan, &statement.phases, statement.ticket.as_deref())?;
    confirm(global, args.yes, &statement.text())?;
    hand.sign(&statement)
}

/// Puts an approval on the record: itself, or through the process that works on the run.
async fn hand_in(context: &Context, run: &str, signed: &Signed) -> Result<(), CliError> {
    let state = context.ledger.load(run).await?;
    let now = context.clock.now().wall;
    let approval = state.admit(signed, Some(run), Some(now)).map_err(refused)?;
    let before = state.standing().given.len();
    if !context.ledger.is_live(run).await? {
        let (by, key, phases) = (approval.by, approval.signer.fingerprint(), approval.phases);
        return record(context, run, &Event::Approved { by, key, phases, signed: signed.clone() }).await;
    }
    context.ledger.leave_approval(run, signed).await?;
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while waited < ACKNOWLEDGE {
        tokio::time::sleep(step).await;
        waited += step;
        let state = context.ledger.load(run).await?;
        if state.standing().given.iter().skip(before).any(|(_, given)| given.by == approval.by) {
            return Ok(());
        }
    }
    Err(CliError::new(Exit::Partial, format!("the process of {run} has not recorded the approval"))
        .hint(format!("see what it says: stanch audit show {run}   then approve again")))
}

/// What the plan says of approvals.
fn needed(plan: &Plan) -> Result<&Approvals, CliError> {
    plan.approvals.as_ref().ok_or_else(|| {
        CliError::new(Exit::Usage, "the plan asks for no approvals; nothing was signed")
            .hint("the runbook's section `approvals` says which phases need them")
    })
}

/// The phases to approve; none is a mistake.
fn chosen(
    phases: Vec<Phase>,
    args: &ApproveArgs,
    by: &str,
    approvals: &Approvals,
) -> Result<Vec<Phase>, CliError> {
    if !phases.is_empty() {
        return Ok(phases);
    }
    let what = if args.phase.is_empty() { "a phase ahead".to_owned() } else { names(&args.phase) };
    let mut roles: Vec<String> =
        approvals.required.iter().map(|r| format!("{}: {}", r.phase, r.words())).collect();
    roles.dedup();
    Err(CliError::new(
        Exit::Failed,
        format!("{by} cannot approve {what}, or has done so; nothing was signed"),
    )
    .hint(format!("the plan needs {}", roles.join("; "))))
}

fn refuse_without_ticket(plan: &Plan, phases: &[Phase], ticket: Option<&str>) -> Result<(), CliError> {
    match phases.iter().find(|phase| plan.is_irreversible(**phase)) {
        Some(phase) if ticket.is_none() => Err(CliError::new(
            Exit::Usage,
            format!("{phase} cannot be undone, so its approval needs a ticket; nothing was signed"),
        )
        .hint("pass --ticket TEXT, with where the reason is written down")),
        _ => Ok(()),
    }
}

/// The first pair of names beside a plan that no approval has.
fn free(plan: &Path) -> Result<(PathBuf, PathBuf), CliError> {
    let pair = |n: u32| {
        let file = format!("{}{n}", beside(plan));
        (PathBuf::from(&file), PathBuf::from(format!("{file}.sig")))
    };
    (1..1000).map(pair).find(|(file, signature)| !file.exists() && !signature.exists()).ok_or_else(|| {
        CliError::new(Exit::Usage, "there are 999 approvals beside this plan; remove those that are old")
    })
}

fn names(phases: &[Phase]) -> String {
    phases.iter().map(|phase| phase.name()).collect::<Vec<_>>().join(", ")
}

/// An approval that does not count.
pub(super) fn refused(refused: Refused) -> CliError {
    let hint = match &refused {
        Refused::OtherPlan { .. } | Refused::OtherRun(_) => "approve this one: stanch approve",
        Refused::Requester { .. }
        | Refused::Alias { .. }
        | Refused::NotInRole { .. }
        | Refused::Twice { .. } => "another member of the role must approve; see who may: stanch status",
        Refused::Presence { .. } | Refused::Pin { .. } => {
            "make a key for it: ssh-keygen -t ed25519-sk -O verify-required   and have it added to the file of signers"
        }
        Refused::Expired { .. } => "approve again: stanch approve",
        Refused::NoTicket { .. } => "pass --reason TEXT and --ticket TEXT",
        _ => "nothing of it counts; see who may approve: stanch status",
    };
    CliError::new(Exit::Failed, format!("the approval is refused: {refused}; nothing was recorded"))
        .hint(hint)
}
