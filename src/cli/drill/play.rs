//! `stanch drill run` and `stanch drill start`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, Parser as _};
use jiff::Timestamp;

use super::super::context::{Access, Context, ask, can_ask, is_yes, state_folder};
use super::super::pace::block_on_virtual;
use super::super::{Cli, CliError, Command, Exit, Global, abandon, halt, plan, print, print_json};
use super::super::{resolve, resume, rollback, run};
use super::check::{Playable, load};
use super::{answer_of, score, tabletop};
use crate::clock::{Clock, SystemClock, since};
use crate::drill::{Marker, Move};
use crate::text::{sanitize_block, shell_word};

/// How often the scripted operator looks at the record, in the drill's time.
const LOOKS: Duration = Duration::from_millis(50);
/// A drill that takes longer than this, in its own time, does not end.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Play a scenario with its scripted operator, and score it.
#[derive(Debug, Args)]
pub(super) struct PlayArgs {
    /// The scenario.
    scenario: PathBuf,
    /// Play it as fast as the work is done. Every wait passes in the drill's time only.
    #[arg(long, conflicts_with = "speed")]
    instant: bool,
    /// Play it so many times as fast as real time, such as 60x. Default: 1x.
    #[arg(long, value_name = "TIMES", value_parser = speed)]
    speed: Option<f64>,
    /// Start without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

/// Begin a drill for people.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// The scenario.
    scenario: PathBuf,
    /// Let the drill's time pass so many times as fast as real time, such as 60x. Default: 1x.
    #[arg(long, value_name = "TIMES", value_parser = speed)]
    speed: Option<f64>,
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|times| (0.01..=100_000.0).contains(times))
        .ok_or_else(|| "write a number from 0.01 to 100000, such as 60x".to_owned())
}

/// Begins a drill: its state directory, and what makes it one.
fn begin(global: &Global, playable: &Playable, speed: Option<f64>) -> Result<(PathBuf, Marker), CliError> {
    let now = SystemClock::new().now().wall;
    let parent = state_folder(global)?.join("drills");
    let parent = std::path::absolute(&parent).unwrap_or(parent);
    let salt: u16 = rand::random();
    let name = format!("{}-{}-{salt:04x}", playable.scenario.name, now.strftime("%Y%m%d-%H%M%S"));
    let folder = parent.join(name);
    let marker = Marker::new(playable.source.text.clone(), playable.runbook.clone(), now, speed);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.and_then(|()| marker.write(&folder)).map_err(|e| {
        let message = format!("cannot make the drill's state directory {}: {e}", folder.display());
        CliError::new(Exit::Failed, message).hint("pass --state DIR")
    })?;
    Ok((folder, marker))
}

/// What everybody is told at the start.
fn briefing(playable: &Playable) -> String {
    let scenario = &playable.scenario;
    let mut text = format!(
        "DRILL {}: {}\nEverything here is practice: no server is contacted, no message leaves this machine.\n\n{}\n\nObjectives\n",
        scenario.name,
        scenario.summary,
        scenario.background.trim_end()
    );
    for objective in &scenario.objectives {
        text.push_str(&format!("  - {}\n", objective.text));
    }
    sanitize_block(&text)
}

pub(super) fn start(global: &Global, args: &StartArgs) -> Result<Exit, CliError> {
    let playable = load(global, &args.scenario)?;
    let (folder, marker) = begin(global, &playable, Some(args.speed.unwrap_or(1.0)))?;
    let state = shell_word(&folder.display().to_string());
    let runbook = shell_word(&marker.runbook.display().to_string());
    let environment = shell_word(&playable.scenario.environment);
    if global.json {
        print_json(&serde_json::json!({
            "drill": playable.scenario.name,
            "state": folder,
            "runbook": marker.runbook,
            "environment": playable.scenario.environment,
            "begun": marker.begun,
        }))?;
        return Ok(Exit::Done);
    }
    print(&format!(
        "{}\nIn every terminal\n  export STANCH_STATE={state}\n\nThe facilitator\n  stanch drill facilitate\n\nThe participants, with the ordinary commands\n  stanch plan {runbook} --env {environment}\n  stanch run {runbook} --env {environment}\n  stanch status\n\nAt the end\n  stanch drill score\n",
        briefing(&playable)
    ))?;
    Ok(Exit::Done)
}

pub(super) fn run(global: &Global, args: PlayArgs) -> Result<Exit, CliError> {
    let playable = load(global, &args.scenario)?;
    confirm(global, &args, &playable)?;
    let speed = if args.instant { None } else { Some(args.speed.unwrap_or(1.0)) };
    let (folder, marker) = begin(global, &playable, speed)?;
    let played = Global { state: Some(folder.clone()), json: false, ..global.clone() };
    let moves = playable.scenario.operator.clone();
    block_on_virtual(speed, false, async move {
        let context = Rc::new(open(&played, &folder, marker)?);
        let over = play(&context, &played, moves, &playable).await;
        let scored = score::newest(&context).await;
        // What went wrong first is what counts.
        over?;
        let shown = score::show(global, &context, scored?).await;
        if !global.json {
            let folder = folder.display().to_string();
            eprintln!("its record: export STANCH_STATE={}", shell_word(&folder));
        }
        shown
    })?
}

/// The context of a drill whose time is the runtime's own.
fn open(global: &Global, folder: &Path, marker: Marker) -> Result<Context, CliError> {
    let mut context = Context::unstaged(global, Access::Writes)?;
    context.clock = std::sync::Arc::new(crate::clock::VirtualClock::starting(marker.begun));
    let mut context = context.on_stage(marker, folder, Access::Writes)?;
    if let Some(drill) = &mut context.drill {
        drill.scripted = true;
    }
    if global.json {
        context.mode = crate::output::Mode::Quiet;
    }
    Ok(context)
}

fn confirm(global: &Global, args: &PlayArgs, playable: &Playable) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    if !can_ask(global) {
        let message = "cannot ask for confirmation (no terminal); nothing was changed";
        return Err(CliError::new(Exit::Usage, message).hint("pass --yes"));
    }
    eprint!("{}", briefing(playable));
    match ask("\nPlay this drill with its scripted operator? [y/N]") {
        Some(answer) if is_yes(&answer) => Ok(()),
        _ => Err(CliError::new(Exit::Failed, "not confirmed; nothing was changed")),
    }
}

/// Plays a scenario: begins the run, and types what the scripted operator types, when it is due.
async fn play(
    context: &Rc<Context>,
    global: &Global,
    moves: Vec<Move>,
    playable: &Playable,
) -> Result<(), CliError> {
    let runbook = playable.runbook.display().to_string();
    let first = ["run", &runbook, "--env", &playable.scenario.environment, "--yes"];
    let confirms = playable.scenario.confirms.iter().flat_map(|name| ["--confirm", name]);
    let first: Vec<String> = first.into_iter().chain(confirms).map(str::to_owned).collect();
    let mut typed = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    let (context, global) = (Rc::clone(context), global.clone());
    local
        .run_until(async move {
            let start = context.clock.now().wall;
            typed.spawn_local(types(Rc::clone(&context), global.clone(), first));
            let mut moves: Vec<Option<Move>> = moves.into_iter().map(Some).collect();
            loop {
                let now = context.clock.now().wall;
                let mut waits = false;
                for slot in &mut moves {
                    match slot.as_ref().and_then(|next| due(&context, next)) {
                        Some(at) if at <= now => {
                            let Some(next) = slot.take() else { continue };
                            typed.spawn_local(types(Rc::clone(&context), global.clone(), split(&next.types)));
                        }
                        Some(_) => waits = true,
                        None => {}
                    }
                }
                while let Some(done) = typed.try_join_next() {
                    done.map_err(|e| CliError::new(Exit::Failed, format!("the drill crashed: {e}")))??;
                }
                // While no process works on the run, time passes all the same.
                if typed.is_empty()
                    && let Some(drill) = &context.drill
                {
                    let has_due = drill.stage.has_due(now);
                    if has_due && let Some(run) = context.ledger.newest().await? {
                        tabletop::deliver(&context, &run).await?;
                    }
                    // A move may wait for what was just recorded.
                    if !has_due && !waits && !drill.stage.has_pending() {
                        return Ok(());
                    }
                }
                if since(now, start) > LONGEST {
                    let message = "the drill did not end within a day of its own time";
                    return Err(CliError::new(Exit::Failed, message)
                        .hint("let the scenario's operator resume, roll back or abandon the run"));
                }
                context.clock.sleep(LOOKS).await;
            }
        })
        .await
}

/// When a move is typed; `None` while its event has not come.
fn due(context: &Context, next: &Move) -> Option<Timestamp> {
    let drill = context.drill.as_ref()?;
    drill.stage.due_at(&next.when, next.after.map(|after| after.get()))
}

/// Types a command, as a person would in another terminal. How it ends is on the record; only a command that is none
/// ends the drill.
async fn types(context: Rc<Context>, global: Global, words: Vec<String>) -> Result<(), CliError> {
    let line = words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    eprintln!("$ stanch {line}");
    let cli = Cli::try_parse_from(std::iter::once("stanch".to_owned()).chain(words)).map_err(|e| {
        let why = e.to_string();
        let message =
            format!("the scripted operator typed `{line}`: {}", why.lines().next().unwrap_or_default());
        CliError::new(Exit::BadRunbook, message)
    })?;
    let context = &*context;
    let ended = match cli.command {
        Command::Run(args) => {
            let input = plan::Input::load(&args.file, &args.choice, &global, false)?;
            run::begin(context, &global, input, None, &args).await
        }
        Command::Resume(args) => resume::main(context, &global, &args).await,
        Command::Rollback(args) => rollback::main(context, &global, args).await,
        Command::Halt(args) => halt::main(context, &args).await,
        Command::Resolve(args) => resolve::main(context, &global, args).await,
        Command::Abandon(args) => abandon::main(context, &global, &args).await,
        Command::Drill(args) => match answer_of(&args) {
            Some(answer) => tabletop::answer(context, answer).await,
            None => Err(CliError::new(Exit::Usage, format!("`{line}` is not a move"))),
        },
        _ => Err(CliError::new(Exit::Usage, format!("`{line}` is not a move"))),
    };
    if let Err(error) = ended {
        error.print(false);
    }
    Ok(())
}

/// A command line in words, as a shell splits it: by spaces, outside of quotes.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => (quote, any) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_line_is_split_as_a_shell_does() {
        assert_eq!(split("halt --reason 'too early,  wait'"), ["halt", "--reason", "too early,  wait"]);
        assert_eq!(split("  resume  "), ["resume"]);
        assert_eq!(split("a \"\" b"), ["a", "", "b"]);
    }
}
