//! Working on a run: signals, questions, the display, and the summary at the end.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};

use super::context::{Context, can_ask, is_yes, style};
use super::{CliError, Exit, Global, SessionArgs, ci, pace, print, tell, trace};
use crate::clock::Moment;
use crate::drill::{Stage, is_note};
use crate::engine::{self, Answer, Conduct, Engine, EngineError, Observer, Operator};
use crate::journal::{Journal, Ledger};
use crate::output::{self, Screen};
use crate::plan::Plan;
use crate::provider::Provider;
use crate::rotation::{Event, State, Stop};

/// The runtime that everything asynchronous runs on.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    super::reap::where_needed();
    if let Some(speed) = pace::speed() {
        return pace::block_on_virtual(Some(speed), true, future);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(4)
        .build()
        .map_err(|e| CliError::new(Exit::Failed, format!("cannot start threads: {e}")))?;
    let result = runtime.block_on(future);
    // A question that nobody answered must not keep the process alive.
    runtime.shutdown_background();
    Ok(result)
}

/// The runtime of commands that work on no run: one thread, so that a halt needs no other. Where a process may
/// not start any, it still takes effect.
pub(super) fn block_on_this_thread<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(Exit::Failed, format!("cannot wait for anything here: {e}")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}

/// Takes up a run for this process: its lock, its state, and the record of it. `change` is what a person wants
/// changed before it goes on, with the reason why that may not be possible; `said` is what a person takes on himself:
/// going on without approvals, or outside of the deployment windows.
///
/// Nothing is recorded before all of it is known to be possible: a refusal must leave what was last seen, and why
/// the run stopped, as it is.
pub(super) async fn take_up(
    context: &Context,
    run: &str,
    said: Vec<Event>,
    change: Option<(Event, String)>,
) -> Result<(Box<dyn Journal>, State), CliError> {
    let now = context.clock.now();
    let (mut journal, mut state) = context.ledger.resume(run, context.who(), now).await?;
    if let Some(end) = state.end() {
        // A crash may have come between the last record and the clearing away.
        journal.close()?;
        let word = output::end_word(end);
        let message = format!("run {run} has ended ({word}); nothing is left to do");
        return Err(CliError::new(Exit::Usage, message).hint(format!("stanch audit show {run}")));
    }
    let plan = state.plan();
    refuse_older(run, plan)?;
    enter(plan)?;
    engine::try_open(&context.sealing.sealer()?, &journal.sealed()?).map_err(EngineError::Safe)?;
    let mut events = vec![Event::Resumed {}];
    events.extend(context.identified());
    for mut event in said {
        let sealer = Arc::new(context.sealing.sealer()?);
        engine::scrub(sealer, &journal.sealed()?, &mut event).map_err(EngineError::Safe)?;
        events.push(event);
    }
    for event in &events {
        state.apply(event, now.wall).map_err(EngineError::Illegal)?;
    }
    if let Some((event, refusal)) = change {
        if state.apply(&event, now.wall).is_err() {
            return Err(CliError::new(Exit::Usage, format!("{refusal}; nothing was changed"))
                .hint(format!("see its state: stanch status {run}")));
        }
        events.push(event);
    }
    // What was asked of a process that is gone is not done by surprise.
    let _ = journal.take_request()?;
    journal.commit(now, &events)?;
    Ok((journal, state))
}

/// Only the version that began a run knows its plan's steps.
pub(super) fn refuse_older(run: &str, plan: &Plan) -> Result<(), CliError> {
    if plan.format == crate::plan::FORMAT {
        return Ok(());
    }
    let message =
        format!("an older version of stanch ({}) started run {run}; nothing was changed", plan.tool);
    Err(CliError::new(Exit::Failed, message)
        .hint(format!("finish it with that version, or close it: stanch abandon {run} --reason TEXT")))
}

/// Goes to the directory that the plan was made in: the runbook's relative paths start there.
pub(super) fn enter(plan: &Plan) -> Result<(), CliError> {
    let Some(directory) = &plan.directory else { return Ok(()) };
    std::env::set_current_dir(directory).map_err(|e| {
        let message = format!("cannot enter {directory}, where the plan was made: {e}; nothing was changed");
        CliError::new(Exit::Failed, message).hint("make the directory reachable again, then resume")
    })
}

/// A session that is over.
pub(super) struct Driven {
    /// What it left.
    pub(super) state: State,
    /// How the process ends that did that.
    pub(super) exit: Exit,
    /// Whether the summary could be printed: see `Exit::shown`.
    pub(super) printed: Result<(), CliError>,
}

/// Works on a run until it is over or must stop, and prints what is true then.
pub(super) async fn drive(
    context: &Context,
    global: &Global,
    provider: Arc<dyn Provider>,
    journal: Box<dyn Journal>,
    state: State,
    conduct: Conduct,
    session: &SessionArgs,
) -> Result<Driven, CliError> {
    let run = journal.run().to_owned();
    let err_style = style(std::io::stderr().is_terminal());
    let (mut observer, screen) = output::observer(context.mode, err_style, &run, &state);
    if let Some(drill) = &context.drill {
        observer = Box::new(Hearing { inner: observer, stage: Arc::clone(&drill.stage) });
    }
    let follower = tell::begin(context, &run, state.plan());
    let observer: Box<dyn engine::Observer> = match &follower {
        Some(follower) => Box::new(tell::Telling { shows: observer, nudge: follower.nudge() }),
        None => observer,
    };
    let (send, interrupt) = watch::channel(false);
    let terminated = Arc::new(AtomicBool::new(false));
    let signals = tokio::spawn(signals(
        run.clone(),
        Arc::clone(&context.ledger),
        send,
        Arc::clone(&terminated),
        screen.clone(),
    ));
    let operator = Arc::new(Person {
        confirmed: session.confirm.clone(),
        asks: can_ask(global),
        screen,
        lines: Mutex::default(),
    });
    let engine = Engine {
        provider,
        journal,
        clock: Arc::clone(&context.clock),
        sealer: Arc::new(context.sealing.sealer()?),
        operator,
        observer,
        interrupt,
    };
    let result = engine.run(state, conduct).await;
    signals.abort();
    let state = match result {
        Ok(state) => state,
        Err(e) => {
            tell::finish(&run, follower).await;
            // Without its secrets the run does not go on.
            let shut = matches!(e, EngineError::Safe(_));
            let error = CliError::from(e);
            let plain = global.json || shut;
            return Err(if plain { error } else { error.note(format!("to resume: stanch resume {run}")) });
        }
    };
    let now = context.clock.now().wall;
    let around = context.around(&run, &state, false).await?;
    let scripted = context.drill.as_ref().is_some_and(|drill| drill.scripted);
    let printed = if scripted {
        eprint!("{}", output::summary(err_style, &run, &state, around, now));
        Ok(())
    } else if global.json {
        // The last line behind the events: whoever reads lines reads it as one.
        print(&format!("{}\n", output::summary_json(&run, &state, around)))
    } else {
        print(&output::summary(style(std::io::stdout().is_terminal()), &run, &state, around, now))
    };
    if !global.json && matches!(state.stopped(), Some(Stop::Unknown { .. })) {
        eprintln!("see what stanch tried and how to check the outcome: stanch status {run}");
    }
    ci::after(context, &run).await;
    tokio::join!(tell::finish(&run, follower), async {
        if state.end().is_some() {
            trace::after(context, &run).await;
        }
    });
    let exit = Exit::of(&state, terminated.load(Ordering::Relaxed));
    Ok(Driven { state, exit, printed })
}

/// Shows what the drill itself puts on the record, too.
struct Hearing {
    inner: Box<dyn Observer>,
    stage: Arc<Stage>,
}

impl Observer for Hearing {
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State) {
        self.inner.recorded(at, events, state);
        self.hear(at, state);
    }

    fn tick(&mut self, at: Moment, state: &State) {
        self.hear(at, state);
        self.inner.tick(at, state);
    }
}

impl Hearing {
    /// Shows what the drill put on the record, but for what the facilitator noted.
    fn hear(&mut self, at: Moment, state: &State) {
        let mut said = self.stage.said();
        said.retain(|event| !is_note(event));
        if !said.is_empty() {
            self.inner.recorded(at, &said, state);
        }
    }
}

/// The first signal asks for a stop, the second stops. Both leave a run that can be resumed.
async fn signals(
    run: String,
    ledger: Arc<dyn Ledger>,
    interrupt: watch::Sender<bool>,
    terminated: Arc<AtomicBool>,
    screen: Option<Screen>,
) {
    let mut int = listen(SignalKind::interrupt());
    let mut term = listen(SignalKind::terminate());
    let mut hup = listen(SignalKind::hangup());
    let mut first = true;
    loop {
        let code = tokio::select! {
            () = next(&mut int) => Exit::Interrupted,
            () = next(&mut term) => Exit::Terminated,
            () = next(&mut hup) => Exit::Terminated,
        };
        terminated.store(code == Exit::Terminated, Ordering::Relaxed);
        let say = |text: String| match &screen {
            Some(screen) => screen.aside(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        };
        if first {
            first = false;
            let _ = interrupt.send(true);
            // Under a latch a resume is refused.
            let free = |latch| matches!(latch, Ok(None));
            let next = if free(ledger.latch(Some(&run)).await) && free(ledger.latch(None).await) {
                format!("To resume: stanch resume {run}")
            } else {
                format!("The halt is set. To see what to type next: stanch status {run}")
            };
            say(format!(
                "Stopping: stanch finishes the calls in progress and starts no new ones. Send the signal again to stop at once.\n\
                 {next}"
            ));
        } else {
            say(format!("Stopped at once. The record is safe. Resume: stanch resume {run}"));
            std::process::exit(i32::from(code.code()));
        }
    }
}

/// A signal to listen to. One that was ignored when this process began stays so, as `nohup` wants it.
fn listen(kind: SignalKind) -> Option<Signal> {
    if ignored().is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1) {
        return None;
    }
    signal(kind).ok()
}

/// The signals that this process ignores, a bit each from signal 1 on; `None` where the system does not say.
fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The person at the terminal, and what was confirmed on the command line.
struct Person {
    confirmed: Vec<String>,
    asks: bool,
    screen: Option<Screen>,
    /// What is typed, from the first question on. One reader for all of them: one of its own for each would
    /// outlive a question that is given up, and take the answer to the next.
    lines: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
}

#[async_trait]
impl Operator for Person {
    async fn ask(&self, name: &str, question: &str) -> Answer {
        if self.confirmed.iter().any(|c| c == name) {
            return Answer::Yes;
        }
        if !self.asks {
            return Answer::Nobody;
        }
        // One question at a time.
        let mut lines = self.lines.lock().await;
        let lines = lines.get_or_insert_with(typed);
        let _hidden = self.screen.clone().map(Hidden::new);
        // What was typed before the question is no answer to it.
        while lines.try_recv().is_ok() {}
        eprint!("{name}: {question} [y/N] ");
        match lines.recv().await {
            Some(answer) if is_yes(answer.trim()) => Answer::Yes,
            Some(_) => Answer::No,
            None => Answer::Nobody,
        }
    }
}

/// Reads lines for as long as there are any.
pub(super) fn typed() -> mpsc::UnboundedReceiver<String> {
    let (send, receive) = mpsc::unbounded_channel();
    // Nothing else can give up on a read of the terminal than the end of the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

/// The view is off the screen for as long as this lives, also when the question is given up.
struct Hidden(Screen);

impl Hidden {
    fn new(screen: Screen) -> Self {
        screen.hide();
        Self(screen)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.show();
    }
}
