//! `stanch plan`: what a run would do. Also how every command gets from a file to a plan.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::context::{Access, Context, Open, style};
use super::drive::block_on;
use super::policy::PolicyArgs;
use super::write::to_file;
use super::{CliError, Exit, Global, StrategyArg, print, validate, windows};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{Check, CheckVerdict, Strategy};
use crate::engine::{self, Choices, Learnt};
use crate::plan::{Governed, Plan, Request, SANDBOX, compile, preview};
use crate::policy::Violation;
use crate::provider::Provider;
use crate::provider::reach::placeholders;
use crate::runbook::model::{OwnStep, Phases, Runbook};
use crate::runbook::{Severity, Source, Template, check};

/// Show what a run would do. Reads from servers, changes nothing.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The runbook to plan, or a saved plan to show again.
    file: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Save the plan. `stanch run FILE` then runs exactly that plan.
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What the person chose on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct Choice {
    /// Use this environment of the runbook. There is no default.
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// Use this strategy instead of the one in the runbook.
    #[arg(long)]
    strategy: Option<StrategyArg>,
    /// Rotate only this credential. Repeatable.
    #[arg(long, value_name = "CREDENTIAL")]
    only: Vec<String>,
    /// Revoke the credential with this handle when the stores hold a different one, or there is no store:
    /// HANDLE, or CREDENTIAL=HANDLE. Repeatable.
    #[arg(long, value_name = "[CREDENTIAL=]HANDLE")]
    outgoing: Vec<String>,
    /// Replace values that their issuers do not know, and revoke nothing for them. Requires --reason.
    #[arg(long)]
    nothing_to_revoke: bool,
    /// Record this reason.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
}

impl Choice {
    /// An environment, and nothing else.
    pub(super) fn of(env: &str) -> Self {
        Self {
            env: Some(env.to_owned()),
            strategy: None,
            only: Vec::new(),
            outgoing: Vec::new(),
            nothing_to_revoke: false,
            reason: None,
            policy: PolicyArgs::default(),
        }
    }

    fn choices(&self, runbook: &Runbook) -> Result<Choices, CliError> {
        let mut choices = Choices::default();
        for said in &self.outgoing {
            let (name, handle) = match (said.split_once('='), runbook.credentials.first_key_value()) {
                (Some((name, handle)), _) if runbook.credentials.contains_key(name) => (name, handle),
                (_, Some((only, _))) if runbook.credentials.len() == 1 => (only.as_str(), said.as_str()),
                _ => {
                    let names: Vec<&str> = runbook.credentials.keys().map(String::as_str).collect();
                    return Err(CliError::new(
                        Exit::Usage,
                        format!("--outgoing {said} does not name a credential"),
                    )
                    .hint(format!("pass --outgoing CREDENTIAL=HANDLE, with one of: {}", names.join(", "))));
                }
            };
            choices.outgoing.insert(name.to_owned(), handle.to_owned());
        }
        if self.nothing_to_revoke {
            let reason = self.reason.clone().filter(|r| !r.trim().is_empty());
            choices.nothing_to_revoke = Some(reason.ok_or_else(|| {
                CliError::new(Exit::Usage, "--nothing-to-revoke requires --reason TEXT, for the record")
            })?);
        }
        Ok(choices)
    }
}

/// A file, read.
pub(super) enum Input {
    Runbook(Box<Fresh>),
    Plan(Box<Plan>),
}

/// A runbook with an environment's values, and what the plan should say of it.
pub(super) struct Fresh {
    runbook: Runbook,
    request: Request,
    choices: Choices,
    /// The scenario of the drill that this is part of.
    drill: Option<String>,
    /// What the policy adds.
    policy: Option<Governed>,
}

pub(super) fn main(open: Open<'_>, global: &Global, args: PlanArgs) -> Result<Exit, CliError> {
    let input = Input::load(&args.file, &args.choice, global, false)?;
    let plan = match input {
        Input::Plan(plan) => *plan,
        Input::Runbook(fresh) => {
            let context = open(Access::Writes)?;
            block_on(async { make(&context, *fresh).await })??.plan
        }
    };
    if let Some(path) = &args.output {
        save(path, &plan)?;
    }
    if global.json {
        print(&serde_json::to_string(&plan).unwrap_or_default())?;
    } else {
        print(&style(std::io::stdout().is_terminal()).plain(&preview(&plan)))?;
        if let Some(line) = windows::line(&plan, SystemClock::new().now().wall)? {
            print(&format!("{line}\n"))?;
        }
        if let Some(path) = &args.output {
            print(&format!("\nSaved. To run exactly this plan: stanch run {}", path.display()))?;
        }
    }
    refusal(&plan.checks).map_or(Ok(Exit::Done), Err)
}

impl Input {
    /// Reads a runbook or a plan, and checks it. Contacts nothing.
    ///
    /// A plan whose cutover would wait for a deployment window for ever is refused, unless `hurry` says that it will not
    /// wait.
    pub(super) fn load(path: &Path, choice: &Choice, global: &Global, hurry: bool) -> Result<Self, CliError> {
        let source = match read(path)? {
            Ok(plan) => return Self::saved(plan, choice),
            Err(source) => source,
        };
        let checked = check(&source);
        if checked.runbook.is_none() || checked.errors() > 0 {
            return Err(validate::report(&source, &checked.findings, global.json));
        }
        let Some(template) = checked.runbook else {
            return Err(validate::report(&source, &checked.findings, global.json));
        };
        let mut input = Self::choose(&template, choice, super::context::drill_of(global)?)?;
        if let Self::Runbook(fresh) = &mut input
            && fresh.drill.is_none()
            && let Some(policy) = choice.policy.load(path, global.json)?
        {
            let held =
                policy.hold_template(&template, [fresh.request.environment.as_str()], &choice.policy)?;
            if !held.violations.is_empty() {
                let found: Vec<_> = held.violations.iter().map(Violation::finding).collect();
                return Err(validate::refuse(&source, &found, global.json, "does not keep the policy"));
            }
            fresh.policy = Some(held.governed);
        }
        if let (Self::Runbook(fresh), false) = (&input, hurry)
            && fresh.drill.is_none()
            && fresh.runbook.strategy == Strategy::Overlap
        {
            let environment = &fresh.request.environment;
            let past = windows::past(&template, [environment.as_str()], true, SystemClock::new().now().wall);
            if past.iter().any(|finding| finding.severity == Severity::Error) {
                return Err(validate::report(&source, &past, global.json)
                    .hint("correct the windows, or run it with --now --reason TEXT"));
            }
        }
        Ok(input)
    }

    fn saved(plan: Plan, choice: &Choice) -> Result<Self, CliError> {
        let other = choice.env.as_ref().is_some_and(|e| *e != plan.environment);
        let chosen = !choice.only.is_empty() || !choice.outgoing.is_empty() || choice.nothing_to_revoke;
        if other || choice.strategy.is_some() || chosen {
            let message = "a saved plan cannot be changed: --env, --strategy, --only, --outgoing and --nothing-to-revoke do not apply";
            return Err(CliError::new(Exit::Usage, message)
                .hint("make a new plan from the runbook: stanch plan RUNBOOK --env ENV"));
        }
        Ok(Self::Plan(Box::new(plan)))
    }

    /// Fills an environment's values in. In a drill the sandbox replaces every connection, whatever the
    /// environment.
    pub(super) fn choose(
        template: &Template,
        choice: &Choice,
        drill: Option<String>,
    ) -> Result<Self, CliError> {
        let environment = environment(template, choice.env.as_deref())?;
        let mut runbook = template.instantiate(environment)?;
        if let Some(strategy) = choice.strategy {
            runbook.strategy = strategy.into();
        }
        narrow(&mut runbook, &choice.only)?;
        let request = Request {
            environment: environment.to_owned(),
            sandbox: environment == SANDBOX || drill.is_some(),
            runbook_sha256: template.sha256().to_owned(),
            tool: concat!("stanch ", env!("CARGO_PKG_VERSION")).to_owned(),
            directory: std::env::current_dir().ok().map(|d| d.display().to_string()),
        };
        let choices = choice.choices(&runbook)?;
        for (name, handle) in &choices.outgoing {
            // In the plan's runbook, too: the sandbox makes what no store of it holds.
            if let Some(credential) = runbook.credentials.get_mut(name).filter(|c| c.stores.is_empty()) {
                credential.outgoing = Some(handle.clone());
            }
        }
        Ok(Self::Runbook(Box::new(Fresh { runbook, request, choices, drill, policy: None })))
    }
}

/// The environment, which is never guessed.
pub(super) fn environment<'a>(template: &Template, env: Option<&'a str>) -> Result<&'a str, CliError> {
    env.ok_or_else(|| {
        let declared: Vec<&str> = template.environments().collect();
        CliError::new(Exit::Usage, "--env is missing; stanch never guesses the environment")
            .hint(format!("pass --env with one of: {}", declared.join(", ")))
    })
}

/// Leaves only the credentials that were asked for.
fn narrow(runbook: &mut Runbook, only: &[String]) -> Result<(), CliError> {
    if let Some(unknown) = only.iter().find(|name| !runbook.credentials.contains_key(*name)) {
        let names: Vec<&str> = runbook.credentials.keys().map(String::as_str).collect();
        return Err(CliError::new(Exit::Usage, format!("the runbook has no credential `{unknown}`"))
            .hint(format!("it has: {}", names.join(", "))));
    }
    if !only.is_empty() {
        runbook.credentials.retain(|name, _| only.contains(name));
        // There is nothing new to deliver of the others.
        let ours = |step: &OwnStep| step.credential.as_ref().is_none_or(|name| only.contains(name));
        let Phases { prepare, distribute, verify, cutover, overlap, sunset, revoke, proof } =
            &mut runbook.phases;
        for phase in [prepare, distribute, verify, cutover, overlap, sunset, revoke, proof] {
            for steps in phase.iter_mut().flat_map(|phase| [&mut phase.before, &mut phase.after]) {
                steps.retain(ours);
            }
        }
    }
    // A connection that nothing uses is not contacted.
    let used = serde_json::to_string(&runbook.credentials).unwrap_or_default();
    let names = |name: &String| serde_json::to_string(name).unwrap_or_default();
    runbook.connections.retain(|name, _| used.contains(&format!("\"connection\":{}", names(name))));
    Ok(())
}

/// A plan that can be run.
pub(super) struct Ready {
    pub(super) plan: Plan,
    /// What makes its parts callable.
    pub(super) provider: Arc<dyn Provider>,
    /// The secrets that were read on the way.
    pub(super) learnt: Learnt,
}

/// Observes the world, read-only, and compiles a plan.
pub(super) async fn make(context: &Context, fresh: Fresh) -> Result<Ready, CliError> {
    if !fresh.request.sandbox
        && let Some(mut refused) = refusal(&placeholders(&fresh.runbook))
    {
        // Before any server is asked about a name that is none.
        refused.exit = Exit::BadRunbook;
        return Err(refused);
    }
    let provider = context.provider(&fresh.runbook, fresh.request.sandbox)?;
    let signers = signers_of(&fresh.runbook, fresh.request.sandbox)?;
    let (mut observed, learnt) = engine::survey_and_learn(&provider, &fresh.runbook, &fresh.choices).await?;
    observed.signers = signers;
    refuse_values(&learnt, &fresh.runbook)?;
    let nothing = fresh.choices.nothing_to_revoke.is_some();
    let mut plan = compile(fresh.runbook, &fresh.request, observed)?;
    plan.policy = fresh.policy;
    plan.drill = fresh.drill;
    if nothing && plan.credentials.iter().all(|planned| planned.waived.is_none()) {
        let known: Vec<&str> = plan.credentials.iter().map(|planned| planned.name.as_str()).collect();
        let message = format!(
            "--nothing-to-revoke is refused: the issuer knows the old {}, so that there is something to revoke; nothing was changed",
            known.join(", ")
        );
        return Err(CliError::new(Exit::Usage, message).hint("leave the option out"));
    }
    Ok(Ready { plan, provider, learnt })
}

/// A saved plan.
pub(super) fn saved(path: &Path) -> Result<Plan, CliError> {
    read(path)?.map_err(|source| {
        CliError::new(Exit::Usage, format!("{} is not a saved plan; nothing was signed", source.name))
            .hint("save one: stanch plan RUNBOOK --env ENV -o plan.json   and approve that, or approve a run by its name")
    })
}

/// The text of the file of signers, where the plan will need it.
fn signers_of(runbook: &Runbook, sandbox: bool) -> Result<Option<String>, CliError> {
    use std::io::Read as _;
    let Some(spec) = runbook.approvals.as_ref().filter(|spec| spec.sandbox || !sandbox) else {
        return Ok(None);
    };
    let mut text = String::new();
    // More than the signers of any organisation are refused by what reads them.
    let read = std::fs::File::open(&spec.signers).and_then(|f| f.take(1 << 20).read_to_string(&mut text));
    read.map_err(|e| {
        let message = format!("cannot read the file of signers {}: {e}; nothing was changed", spec.signers);
        CliError::new(Exit::BadRunbook, message)
            .hint("correct `approvals.signers`: a path, from the directory in which you plan")
    })?;
    for (line, what) in crate::approve::Signers::read(&text).asleep(SystemClock::new().now().wall) {
        eprintln!("warning: {}:{line}: this line {what}", spec.signers);
    }
    Ok(Some(text))
}

/// A saved plan has the file of signers in it: who was added or removed since must be seen.
pub(super) fn same_signers(plan: &Plan) -> Result<(), CliError> {
    let Some(approvals) = &plan.approvals else { return Ok(()) };
    if signers_of(&plan.runbook, plan.sandbox)?.as_ref() == Some(&approvals.signers) {
        return Ok(());
    }
    Err(CliError::new(Exit::Stale, "the plan is stale: the file of signers has changed since it was made")
        .hint("nothing was changed; make a new plan, and have it approved"))
}

/// A runbook stands in its plan and in the journal, word by word: what its stores hold must not stand in it.
pub(super) fn refuse_values(learnt: &Learnt, runbook: &Runbook) -> Result<(), CliError> {
    let Some((field, credential)) = learnt.written_in(runbook) else { return Ok(()) };
    let message = format!(
        "`{field}` in the runbook contains the value that a store of `{credential}` holds; nothing was changed or recorded, and stanch does not repeat the value here"
    );
    Err(CliError::new(Exit::BadRunbook, message)
        .hint("remove it from the runbook and treat the value as leaked: the file and its history contain it; then: stanch plan RUNBOOK --env ENV"))
}

/// Why a run would be refused, if a check failed.
pub(super) fn refusal(checks: &[Check]) -> Option<CliError> {
    let failed = checks.iter().find(|c| c.verdict == CheckVerdict::Fail)?;
    let exit = failed.kind.map_or(Exit::Failed, Exit::of_kind);
    let error = CliError::new(exit, format!("{}: {}; nothing was changed", failed.name, failed.detail));
    Some(match &failed.hint {
        Some(hint) => error.hint(hint.clone()),
        None => error,
    })
}

/// A saved plan, or a runbook's text when the file is not one, whatever its name. A plan is JSON with a `format`; a
/// runbook that is written as JSON has none at its top.
fn read(path: &Path) -> Result<Result<Plan, Source>, CliError> {
    use std::io::Read as _;
    /// Larger than the plan of a hundred thousand credentials.
    const MAX: u64 = 1 << 30;
    /// How a saved plan begins, also one that is cut off.
    const BEGIN: &str = "{\"format\":";
    #[derive(serde::Deserialize)]
    struct Head {
        format: Option<serde::de::IgnoredAny>,
    }
    let mut bytes = Vec::new();
    // A pipe can be read only once.
    let read = std::fs::File::open(path).and_then(|f| f.take(MAX).read_to_end(&mut bytes));
    if read.is_err() {
        // Reading it as a runbook says better what is wrong.
        return Ok(Err(Source::read(path)?));
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let head = || serde_json::from_str::<Head>(text).is_ok_and(|head| head.format.is_some());
    if text.starts_with(BEGIN) || text.trim_start().starts_with('{') && head() {
        return Ok(Ok(Plan::from_json(text)?));
    }
    Ok(Err(Source::from_reader(path, bytes.as_slice())?))
}

fn save(path: &Path, plan: &Plan) -> Result<(), CliError> {
    to_file(path, |out| {
        serde_json::to_writer(&mut *out, plan)?;
        out.write_all(b"\n")
    })
}
