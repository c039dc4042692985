//! The terminals of a tabletop drill: the facilitator's, and what participants need beside the ordinary commands.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::super::context::{Context, Drilled, words};
use super::super::drive::typed;
use super::super::{CliError, Exit, print};
use crate::clock::since;
use crate::drill::{Ask, Inject, Scenario};
use crate::journal::{LedgerError, Record};
use crate::output;
use crate::rotation::State;
use crate::text::sanitize_block;

/// How often the record is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Answer a question of the drill.
#[derive(Debug, Args)]
pub(super) struct AnswerArgs {
    /// The question: the name of its inject.
    inject: String,
    /// The answer: one of its choices.
    choice: String,
}

fn drilled(context: &Context) -> Result<&Drilled, CliError> {
    context.drill.as_ref().ok_or_else(|| {
        CliError::new(Exit::Usage, format!("{} is not a drill's state directory", context.ledger.place()))
            .hint("begin one: stanch drill start SCENARIO; then: export STANCH_STATE=DIR")
    })
}

pub(super) async fn answer(context: &Context, args: &AnswerArgs) -> Result<Exit, CliError> {
    let drill = drilled(context)?;
    let scenario = drill.stage.scenario();
    let asked = || scenario.injects.iter().filter(|inject| !inject.choices.is_empty());
    let Some(inject) = asked().find(|inject| inject.name == args.inject) else {
        let known: Vec<&str> = asked().map(|inject| inject.name.as_str()).collect();
        let message = "the drill asks no question of this name; nothing was recorded";
        return Err(CliError::new(Exit::Usage, message).hint(format!("questions: {}", known.join(", "))));
    };
    if !inject.choices.contains(&args.choice) {
        let message = "this is not one of the choices; nothing was recorded";
        return Err(
            CliError::new(Exit::Usage, message).hint(format!("choices: {}", inject.choices.join(" | ")))
        );
    }
    let run = run_of(context).await?;
    context.ledger.load(&run).await?;
    if !drill.stage.has_happened(&inject.name) {
        return Err(CliError::new(Exit::Usage, "this was not asked yet; nothing was recorded")
            .hint("see what happened: stanch audit show"));
    }
    if drill.stage.is_answered(&inject.name) {
        return Err(CliError::new(Exit::Usage, "this was answered already; the first answer counts"));
    }
    let ask =
        Ask::Answer { inject: inject.name.clone(), answer: args.choice.clone(), by: context.actor.clone() };
    leave(context, drill, &run, &ask).await?;
    eprintln!("answered `{}`: {}", inject.name, args.choice);
    Ok(Exit::Done)
}

/// The drill's run, which must not be over.
async fn run_of(context: &Context) -> Result<String, CliError> {
    match context.ledger.find(None).await {
        Err(LedgerError::NoOpenRun) => Err(CliError::new(
            Exit::Usage,
            "the drill has no open run: it has not begun, or is over; nothing was recorded",
        )
        .hint("see: stanch status")),
        found => Ok(found?),
    }
}

/// Leaves something for the record. Where no process works on the run, it is put there at once.
async fn leave(context: &Context, drill: &Drilled, run: &str, ask: &Ask) -> Result<(), CliError> {
    drill.asks.leave(ask).map_err(|e| {
        CliError::new(Exit::JournalUnwritable, format!("cannot leave this for the record: {e}"))
    })?;
    deliver(context, run).await
}

/// Puts on the record what is due, unless a process works on the run: that does it then.
pub(super) async fn deliver(context: &Context, run: &str) -> Result<(), CliError> {
    if context.ledger.is_live(run).await? {
        return Ok(());
    }
    match context.ledger.resume(run, context.who(), context.clock.now()).await {
        Ok(_) | Err(LedgerError::Busy { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The facilitator's terminal.
pub(super) async fn facilitate(context: &Context) -> Result<Exit, CliError> {
    let drill = drilled(context)?;
    let scenario = drill.stage.scenario();
    print(&sanitize_block(&format!(
        "FACILITATOR of drill {}. Do not show this terminal to the participants.\n\n{}\n\nType: inject NAME | skip NAME | note TEXT | next | quit\n",
        scenario.name,
        scenario.background.trim_end()
    )))?;
    let (mut lines, mut heard) = (typed(), true);
    let mut shown = 0;
    let mut last = String::new();
    loop {
        let run = context.ledger.newest().await?;
        if let Some(run) = &run {
            shown = follow(context, drill, run, shown).await?;
            if drill.stage.has_due(context.clock.now().wall) {
                deliver(context, run).await?;
            }
        }
        let next = upcoming(scenario, drill, context.clock.now().wall);
        if next.0 != last {
            print(&next.1)?;
            last = next.0;
        }
        if let Some(run) = &run
            && drill.stage.has_ended()
        {
            // The end may have come after the last look.
            follow(context, drill, run, shown).await?;
            print("The run is over. Score it: stanch drill score\n")?;
            return Ok(Exit::Done);
        }
        tokio::select! {
            line = lines.recv(), if heard => match line {
                Some(line) if line.trim() == "quit" => return Ok(Exit::Done),
                Some(line) if line.trim() == "next" => print(&next.1)?,
                Some(line) => {
                    if let Err(error) = act(context, drill, run.as_deref(), line.trim()).await {
                        error.print(false);
                    }
                }
                // Without a terminal it goes on showing what happens.
                None => heard = false,
            },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Shows the records that are new, and returns how many there are.
async fn follow(context: &Context, drill: &Drilled, run: &str, shown: u64) -> Result<u64, CliError> {
    let mut state: Option<State> = None;
    let mut lines = String::new();
    let mut records = 0;
    let mut take = |record: Record| {
        let Record { envelope, event, .. } = record;
        records = envelope.seq + 1;
        if let crate::rotation::Event::Opened { plan, .. } = event {
            state = Some(State::new(std::sync::Arc::from(plan), envelope.wall));
            return;
        }
        let Some(state) = &mut state else { return };
        if state.apply(&event, envelope.wall).is_err() || envelope.seq < shown {
            return;
        }
        if let crate::rotation::Event::Injected { inject, .. } = &event {
            lines.push_str(&format!("{:.0} INJECT {inject} happened\n", envelope.wall));
        } else if let Some(line) = output::line(&event, state) {
            lines.push_str(&format!("{:.0} {} ({})\n", envelope.wall, line, envelope.actor));
        }
    };
    context.ledger.records(run, &mut take).await?;
    if records > shown {
        drill.ledger.recall(run).await?;
    }
    if !lines.is_empty() {
        print(&sanitize_block(&lines))?;
    }
    Ok(records.max(shown))
}

/// What comes next: a text that changes only when that does, and the same for the facilitator's eyes.
fn upcoming(scenario: &Scenario, drill: &Drilled, now: Timestamp) -> (String, String) {
    let open: Vec<&Inject> =
        scenario.injects.iter().filter(|inject| !drill.stage.is_over(&inject.name)).collect();
    let mut key = String::new();
    let mut text = String::from("\nNEXT\n");
    for inject in &open {
        let at = drill.stage.due_at(&inject.when, inject.after.map(|after| after.get()));
        let when = match at {
            Some(at) => format!("in {}s", since(at, now).as_secs()),
            None => {
                let after = inject.after.map(|after| format!("{after} after ")).unwrap_or_default();
                format!("waits for: {after}{}", inject.when.words())
            }
        };
        key.push_str(&format!("{} {};", inject.name, at.is_some()));
        text.push_str(&format!("  {:<22} {when}\n", inject.name));
        for (title, said) in
            [("they read", &inject.text), ("right move", &inject.right), ("notes", &inject.notes)]
        {
            if let Some(said) = said {
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                text.push_str(&format!("    {title:<12} {said}\n"));
            }
        }
    }
    if open.is_empty() {
        text.push_str("  nothing: every inject has happened or was skipped\n");
    }
    (key, sanitize_block(&text))
}

/// Does what the facilitator typed.
async fn act(context: &Context, drill: &Drilled, run: Option<&str>, line: &str) -> Result<(), CliError> {
    let (word, rest) = line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()));
    let by = context.actor.clone();
    let ask = match word {
        "" => return Ok(()),
        "inject" | "skip" if drill.stage.scenario().inject(rest).is_none() => {
            return Err(CliError::new(
                Exit::Usage,
                "the scenario has no inject of this name; nothing was recorded",
            ));
        }
        "inject" => Ask::Inject { inject: rest.to_owned(), by },
        "skip" => Ask::Skip { inject: rest.to_owned(), by },
        "note" => Ask::Note { text: words("note", rest)?, by },
        _ => {
            return Err(CliError::new(
                Exit::Usage,
                "this is not one of: inject NAME, skip NAME, note TEXT, next, quit",
            ));
        }
    };
    let Some(run) = run else {
        return Err(CliError::new(
            Exit::Usage,
            "the participants have not started a run yet; nothing was recorded",
        ));
    };
    leave(context, drill, run, &ask).await
}
