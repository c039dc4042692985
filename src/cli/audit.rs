//! `stanch audit`: reads and checks a run's record.

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::{CliError, Exit, Global, print, print_json};
use crate::journal::Record;
use crate::output;
use crate::rotation::{Event, State};

/// Reads and checks a run's record.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Shows the record, one line an event.
    Show {
        /// The run, or the beginning of its name; without one, the only open run, else the last one.
        run: Option<String>,
    },
    /// Finds every byte that was changed, removed, moved or added, up to the last checkpoint.
    Verify {
        /// The run, or the beginning of its name; without one, the only open run, else the last one.
        run: Option<String>,
    },
}

pub(super) fn main(global: &Global, args: AuditArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    match args.command {
        AuditCommand::Show { run } => show(&context, global, &context.state.find_any(run.as_deref())?),
        AuditCommand::Verify { run } => verify(&context, global, &context.state.find_any(run.as_deref())?),
    }
}

fn show(context: &Context, global: &Global, run: &str) -> Result<Exit, CliError> {
    let mut state: Option<State> = None;
    let report = context.state.audit(run, |record| {
        let Record { envelope, event } = record;
        if global.json {
            if let Ok(text) = serde_json::to_string(&json!({ "seq": envelope.seq, "at": envelope.wall, "actor": envelope.actor, "host": envelope.host, "event": event })) {
                print(&text);
            }
            return;
        }
        let who = format!("{:>5} {:.0} {}@{}", envelope.seq, envelope.wall, envelope.actor, envelope.host);
        match (&mut state, event) {
            (none, Event::Opened { plan, reason }) => {
                let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
                print(&format!("{who} opened with plan {}{reason}", &envelope.plan[..12]));
                *none = Some(State::new(std::sync::Arc::from(plan), envelope.wall));
            }
            (Some(state), event) => {
                let _ = state.apply(&event, envelope.wall);
                let words = output::line(&event, state).unwrap_or_else(|| quiet(&event));
                print(&format!("{who} {words}"));
            }
            (None, _) => {}
        }
    })?;
    match report.fault {
        None => Ok(Exit::Done),
        Some(fault) => {
            Err(CliError::new(Exit::JournalInvalid, format!("the record is not good from here on: {fault}")))
        }
    }
}

/// The events that the displays leave out.
fn quiet(event: &Event) -> String {
    match event {
        Event::Intent { step, op, attempt, .. } => {
            format!("intent: {op:?} {step}, try {attempt}").to_lowercase()
        }
        Event::Checkpoint { .. } => "checkpoint".into(),
        Event::Heartbeat {} => "still waiting".into(),
        _ => String::new(),
    }
}

fn verify(context: &Context, global: &Global, run: &str) -> Result<Exit, CliError> {
    let report = context.state.audit(run, drop)?;
    let path = context.state.journal_path(run);
    let (exit, words) = if let Some(fault) = &report.fault {
        (Exit::JournalInvalid, format!("NOT GOOD: {}: {fault}", path.display()))
    } else if report.unanchored() > 0 || report.torn > 0 {
        let torn = if report.torn > 0 {
            format!(", and {} bytes of a torn line", report.torn)
        } else {
            String::new()
        };
        let words = format!(
            "UNANCHORED: {} records are good; no signature covers the last {}{torn}. A run that was killed leaves this; resuming it signs them",
            report.records,
            report.unanchored()
        );
        (Exit::Unanchored, words)
    } else {
        (
            Exit::Done,
            format!("OK: {} records, {} checkpoints, all signed", report.records, report.checkpoints),
        )
    };
    if global.json {
        print_json(&json!({
            "run": run,
            "records": report.records,
            "checkpoints": report.checkpoints,
            "unanchored": report.unanchored(),
            "torn_bytes": report.torn,
            "fault": report.fault.map(|f| json!({ "line": f.line, "what": f.what })),
            "exit": exit.code(),
        }));
    } else {
        print(&words);
    }
    Ok(exit)
}
