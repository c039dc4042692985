//! What commands share: the ledger, who we are, the display, the provider.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CliError, Exit, Global};
use crate::clock::{Clock, SystemClock, VirtualClock, add, since};
use crate::domain::{TraceParent, Who};
use crate::drill::{Asks, DrillLedger, Marker, Stage};
use crate::engine::{has_captured, try_open};
use crate::journal::{Ledger, SealingKey, StateDir};
use crate::kind::real::RealProvider;
use crate::output::{Around, Mode, Seals, Style};
use crate::plan::Plan;
use crate::provider::Provider;
use crate::provider::sandbox::{Faults, Sandbox};
use crate::rotation::{Event, State};
use crate::runbook::model::Runbook;

/// What commands share.
pub(super) struct Context {
    pub(super) ledger: Arc<dyn Ledger>,
    /// What opens sealed secrets. It is this machine's, wherever the ledger is.
    pub(super) sealing: SealingKey,
    /// Where the world of the sandbox is kept.
    pub(super) sandbox: PathBuf,
    /// Where messages are kept until they are sent.
    pub(super) outbox: PathBuf,
    /// The `notify.yaml`, where there is one.
    pub(super) notify: Option<PathBuf>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) actor: String,
    pub(super) host: String,
    /// What the surroundings say of who it is.
    pub(super) who: Who,
    /// The trace that this process is a part of, as `TRACEPARENT` says; one that is not valid is none.
    pub(super) parent: Option<TraceParent>,
    /// How to show what happens.
    pub(super) mode: Mode,
    /// The drill whose state directory this is.
    pub(super) drill: Option<Drilled>,
}

/// The drill whose state directory a command was given.
pub(super) struct Drilled {
    pub(super) stage: Arc<Stage>,
    pub(super) ledger: Arc<DrillLedger>,
    pub(super) asks: Asks,
    /// Whether a scripted operator plays: what each session comes to is then not the command's result.
    pub(super) scripted: bool,
}

/// How a command gets its context. Some commands check first what they were given, and open nothing before.
pub(super) type Open<'a> = &'a dyn Fn(Access) -> Result<Context, CliError>;

/// What a command does with what it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It only reads: nothing is made in a directory that is there, so that it may be a copy, or on a disk
    /// that cannot be written.
    Reads,
    /// It may write.
    Writes,
}

impl Context {
    /// The context of a command that a user typed.
    pub(super) fn open(global: &Global, access: Access) -> Result<Self, CliError> {
        let context = Self::unstaged(global, access)?;
        let root = PathBuf::from(context.ledger.place());
        let Some(marker) = Marker::read(&root)? else { return Ok(context) };
        let mut context = context;
        if let Some(speed) = marker.speed.filter(|speed| *speed != 1.0) {
            let elapsed = since(context.clock.now().wall, marker.begun).mul_f64(speed);
            context.clock = Arc::new(VirtualClock::starting(add(marker.begun, elapsed)));
            super::pace::play_at(speed);
        }
        context.on_stage(marker, &root, access)
    }

    /// The same, whether or not the state directory is a drill's.
    pub(super) fn unstaged(global: &Global, access: Access) -> Result<Self, CliError> {
        let state = state_dir(global, access)?;
        Ok(Self {
            sealing: SealingKey::of(state.root()),
            sandbox: state.sandbox(),
            outbox: state.root().join("outbox"),
            notify: notify_file(state.root()),
            ledger: Arc::new(state),
            clock: Arc::new(SystemClock::new()),
            actor: actor(),
            host: host(),
            who: super::who::who(&|name| std::env::var(name).ok()),
            parent: std::env::var("TRACEPARENT").ok().and_then(|text| text.trim().parse().ok()),
            mode: mode(global),
            drill: None,
        })
    }

    /// The same in a drill: injects happen, and nothing but the sandbox is reached.
    pub(super) fn on_stage(mut self, marker: Marker, root: &Path, access: Access) -> Result<Self, CliError> {
        let scenario = marker.scenario().map_err(|why| {
            CliError::new(Exit::Failed, format!("the drill of this state directory cannot be read: {why}"))
        })?;
        let world = match access {
            Access::Reads => None,
            Access::Writes => Some(self.world()?),
        };
        let clock = Arc::clone(&self.clock);
        let text = marker.scenario.clone();
        let stage = Arc::new(Stage::new(scenario, text, marker.begun, Arc::clone(&clock), world));
        let asks = Asks::of(root);
        let inner = Arc::clone(&self.ledger);
        let ledger = Arc::new(DrillLedger::new(inner, Arc::clone(&stage), clock, asks.clone()));
        self.ledger = Arc::clone(&ledger) as Arc<dyn Ledger>;
        self.drill = Some(Drilled { stage, ledger, asks, scripted: false });
        Ok(self)
    }

    /// The world of the sandbox.
    pub(super) fn world(&self) -> Result<Sandbox, CliError> {
        let folder = &self.sandbox;
        let world = Sandbox::open(folder, self.sealing.sealer()?).map_err(|e| {
            CliError::new(Exit::Failed, format!("cannot open the sandbox in {}: {e}", folder.display()))
                .hint("remove the directory to start with an empty sandbox")
        })?;
        Ok(world.with_clock(Arc::clone(&self.clock)))
    }

    pub(super) fn who(&self) -> (&str, &str) {
        (&self.actor, &self.host)
    }

    /// Who runs this process, as its surroundings say, for the record; nothing where they say no more than the actor.
    /// And the trace that it is a part of.
    pub(super) fn identified(&self) -> Vec<Event> {
        let who = self.who.clone();
        // Every record names the actor already.
        let more = who != Who { login: Some(self.actor.clone()), ..Who::default() };
        let identified = (more && !who.is_empty()).then_some(Event::Identified { who });
        let traced = self.parent.map(|parent| Event::Traced { parent: parent.to_string() });
        identified.into_iter().chain(traced).collect()
    }

    /// Who does this, and where, in one text.
    pub(super) fn signature(&self) -> String {
        format!("{}@{}", self.actor, self.host)
    }

    /// What decides, beside a run's state, which commands are refused now.
    pub(super) async fn around(&self, run: &str, state: &State, live: bool) -> Result<Around, CliError> {
        let seals = if live || state.end().is_some() { Seals::Whole } else { self.seals(run, state).await? };
        let halted = self.ledger.latch(Some(run)).await?.is_some();
        let all_halted = self.ledger.latch(None).await?.is_some();
        Ok(Around { live, halted, all_halted, seals, now: Some(self.clock.now().wall) })
    }

    /// What became of an open run's sealed secrets.
    async fn seals(&self, run: &str, state: &State) -> Result<Seals, CliError> {
        let sealed = self.ledger.sealed(run).await?;
        if !has_captured(&sealed, state) {
            return Ok(Seals::Gone);
        }
        if sealed.is_empty() {
            return Ok(Seals::Whole);
        }
        let sealer = self.sealing.existing().ok().flatten();
        let opens = sealer.is_some_and(|sealer| try_open(&sealer, &sealed).is_ok());
        Ok(if opens { Seals::Whole } else { Seals::Shut })
    }

    /// What makes a plan's parts callable. In the sandbox, what the runbook expects to be there is
    /// put there.
    pub(super) fn provider(&self, runbook: &Runbook, sandbox: bool) -> Result<Arc<dyn Provider>, CliError> {
        if !sandbox && self.drill.is_some() {
            let message = "this would contact real servers, and this state directory is a drill's; nothing was contacted";
            return Err(CliError::new(Exit::Usage, message)
                .hint("in a drill, start from its runbook: stanch run RUNBOOK --env ENV; elsewhere, pass --state DIR"));
        }
        if !sandbox {
            let deadline = runbook.limits.deadline.get();
            return Ok(Arc::new(RealProvider::new(
                runbook.connections.clone(),
                Arc::clone(&self.clock),
                deadline,
            )));
        }
        let latency =
            runbook.connections.values().find_map(|connection| connection.latency()).unwrap_or_default();
        let world = self.world()?;
        for (name, credential) in &runbook.credentials {
            world.seed(name, credential)?;
        }
        let Some(drill) = &self.drill else { return Ok(Arc::new(world.with_latency(latency.get()))) };
        let latency = drill.stage.scenario().latency.unwrap_or(latency);
        let faults = Arc::clone(&drill.stage) as Arc<dyn Faults>;
        Ok(Arc::new(world.with_latency(latency.get()).with_faults(faults)))
    }

    pub(super) fn provider_of(&self, plan: &Plan) -> Result<Arc<dyn Provider>, CliError> {
        self.provider(&plan.runbook, plan.sandbox)
    }
}

/// The state folder: the flag, else `STANCH_STATE`, else `stanch` in the XDG state folder.
pub(super) fn state_folder(global: &Global) -> Result<PathBuf, CliError> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    global
        .state
        .clone()
        .or_else(|| variable("STANCH_STATE"))
        .or_else(|| variable("XDG_STATE_HOME").map(|d| d.join("stanch")))
        .or_else(|| variable("HOME").map(|d| d.join(".local/state/stanch")))
        .ok_or_else(|| {
            CliError::new(Exit::Usage, "cannot find the state directory: HOME is not set")
                .hint("pass --state DIR")
        })
}

/// The `notify.yaml` that STANCH_NOTIFY names, else the one in the state folder, where it is there.
fn notify_file(state: &std::path::Path) -> Option<PathBuf> {
    let named = std::env::var_os("STANCH_NOTIFY").filter(|path| !path.is_empty());
    let path = named.clone().map_or_else(|| state.join("notify.yaml"), PathBuf::from);
    // A runbook's directory is entered later. One that is named and missing is a mistake to hear of.
    let path = std::path::absolute(&path).unwrap_or(path);
    (named.is_some() || path.exists()).then_some(path)
}

/// The scenario of the drill whose state directory a command is given.
pub(super) fn drill_of(global: &Global) -> Result<Option<String>, CliError> {
    // What has no state directory is no drill.
    let Ok(folder) = state_folder(global) else { return Ok(None) };
    let Some(marker) = Marker::read(&folder)? else { return Ok(None) };
    Ok(marker.scenario().ok().map(|scenario| scenario.name))
}

/// The state folder, opened: for what is done to its files, and for nothing else.
pub(super) fn state_dir(global: &Global, access: Access) -> Result<StateDir, CliError> {
    // Absolute: a resumed run goes to the directory that it was begun in.
    let folder = state_folder(global)?;
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    Ok(match access {
        Access::Reads if folder.exists() => StateDir::look(&folder)?,
        _ => StateDir::open(&folder)?,
    })
}

/// Who runs this process, for the record. CI systems name the person behind the job.
fn actor() -> String {
    ["GITHUB_ACTOR", "GITLAB_USER_LOGIN", "SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
        .map_or_else(
            || format!("uid {}", rustix::process::getuid().as_raw()),
            |name| crate::text::sanitize(&name),
        )
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// How to show what happens.
fn mode(global: &Global) -> Mode {
    if global.json {
        Mode::Json
    } else if std::io::stderr().is_terminal()
        && !super::log::is_on_terminal(global)
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
    {
        Mode::Terminal
    } else {
        Mode::Lines
    }
}

/// What the display on a stream can show.
pub(super) fn style(is_terminal: bool) -> Style {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    Style {
        color: is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb"),
        unicode: locale.contains("utf-8") || locale.contains("utf8"),
    }
}

/// A person's words for the record, made harmless. `flag` is where they were given.
pub(super) fn words(flag: &str, text: &str) -> Result<String, CliError> {
    if crate::runbook::holds_secret(text) {
        let message = format!(
            "`{flag}` contains text that looks like a secret; stanch did not record it and does not repeat it here"
        );
        return Err(CliError::new(Exit::Usage, message)
            .hint("name the credential by its handle (an accessor, an access key ID), and treat the value as leaked: it is in your shell history"));
    }
    Ok(text.trim().chars().map(crate::text::printable).collect())
}

/// Whether somebody can be asked.
pub(super) fn can_ask(global: &Global) -> bool {
    !global.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether an answer is a yes.
pub(super) fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.to_lowercase().as_str())
}

/// Asks a question that is answered with one line. `None` at the end of input.
pub(super) fn ask(question: &str) -> Option<String> {
    eprint!("{question} ");
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim().to_owned()),
    }
}
