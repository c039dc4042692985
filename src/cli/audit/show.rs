//! `stanch audit show`: the record, one line an event.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::filter::{Filter, FilterArgs};
use super::words;
use crate::cli::context::Context;
use crate::cli::{CliError, Exit, Global, print};
use crate::journal::{Envelope, Record};
use crate::rotation::{Event, State};
use crate::text::printable;

/// Show the record, one line per event.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    run: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(super) async fn main(context: &Context, global: &Global, args: &ShowArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    let now = context.clock.now().wall;
    let mut filter: Option<Result<Filter<'_>, CliError>> = None;
    let mut state: Option<State> = None;
    let mut shown = 0_u64;
    let mut printed = Ok(());
    let mut show = |record: Record| {
        let (envelope, event) = (record.envelope, record.event);
        if let Event::Opened { plan, .. } = &event {
            filter = Some(args.filter.of(plan, now));
        } else if let Some(state) = &mut state {
            // What does not make sense is still shown.
            let _ = state.apply(&event, envelope.wall);
        }
        let Some(Ok(filter)) = &filter else { return };
        if filter.admits(envelope.wall, &event, state.as_ref()) {
            shown += 1;
            let line =
                if global.json { json(&envelope, &event) } else { text(&envelope, &event, state.as_ref()) };
            // What could not be written once is not tried again.
            if printed.is_ok() {
                printed = print(&line);
            }
        }
        if let Event::Opened { plan, .. } = event {
            state = Some(State::new(Arc::from(plan), envelope.wall));
        }
    };
    let report = context.ledger.records(&run, &mut show).await?;
    if let Some(Err(error)) = filter {
        return Err(error);
    }
    if let Some(fault) = report.fault {
        let message = format!("the record is not valid from here on: {fault}");
        return Err(CliError::new(Exit::JournalInvalid, message));
    }
    if shown == 0 {
        eprintln!("none of the {} records matches", report.records);
    }
    Exit::Done.shown(printed)
}

fn text(envelope: &Envelope, event: &Event, state: Option<&State>) -> String {
    let words = match (event, state) {
        (Event::Opened { reason, .. }, _) => {
            let plan = envelope.plan.get(..12).unwrap_or(&envelope.plan);
            let reason = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            format!("opened with plan {plan}{reason}")
        }
        (event, Some(state)) => words(event, state),
        (_, None) => String::new(),
    };
    let line =
        format!("{:>5} {:.0} {}@{} {words}", envelope.seq, envelope.wall, envelope.actor, envelope.host);
    line.chars().map(printable).collect()
}

/// As one line of JSON. What a terminal could take for more than text is escaped.
fn json(envelope: &Envelope, event: &Event) -> String {
    let value = json!({
        "seq": envelope.seq, "at": envelope.wall, "actor": envelope.actor, "host": envelope.host, "event": event,
    });
    let mut line = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() && c != '\u{7f}' || printable(c) == c {
            line.push(c);
        } else {
            // All of them stand below U+10000, and only inside of texts.
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        }
    }
    line
}
