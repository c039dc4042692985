//! `stanch notify status`, and what `stanch status` says of messages.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::{CliError, Exit, Global, print, print_json, tell};
use crate::follow::notify::{Delivery, Entry, Outbox};
use crate::text::{counted, sanitize};

/// List the messages of a run, and whether each was sent.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run, or the start of its name. Default: all runs that have messages to send.
    run: Option<String>,
}

pub(super) async fn main(context: &Context, global: &Global, args: &StatusArgs) -> Result<Exit, CliError> {
    let runs = match &args.run {
        Some(run) => vec![context.ledger.find_any(Some(run)).await?],
        None => with_messages(context).await?,
    };
    // A mistake in the file is found before it matters.
    let configured = tell::channels(context, None)?;
    let mut all = Vec::new();
    let mut text = String::new();
    match &context.notify {
        Some(path) => {
            let _ = writeln!(text, "{}: {}", path.display(), counted(configured.all.len() as u64, "channel"));
        }
        None => text.push_str("there is no notify.yaml; write one: stanch notify init\n"),
    }
    for run in &runs {
        let known = super::channels(context, run).await?;
        let _ = writeln!(text, "{run}");
        for entry in Outbox::of(&context.outbox, run).entries()? {
            let gone = entry.is_open() && known.get(&entry.message.channel).is_none();
            let _ = writeln!(text, "  {}", line(&entry, gone));
            all.push(summary(run, &entry));
        }
    }
    if runs.is_empty() {
        text.push_str("every message was sent\n");
    }
    if global.json {
        print_json(&json!(all))?
    } else {
        print(&text)?
    }
    Ok(Exit::Done)
}

/// The runs of which something is to be sent, or was not taken: those that are open and have an outbox, and those
/// that have such an entry.
pub(super) async fn with_messages(context: &Context) -> Result<Vec<String>, CliError> {
    let mut runs = context.ledger.open_runs().await?;
    runs.retain(|run| Outbox::of(&context.outbox, run).is_begun());
    let known = context.ledger.runs().await?;
    for run in Outbox::runs(&context.outbox)? {
        if runs.contains(&run) || !known.contains(&run) {
            continue;
        }
        let outbox = Outbox::of(&context.outbox, &run);
        // A run whose process died right behind its last record has messages that no entry tells of.
        let told = |entry: &Entry| entry.message.kind.is_end();
        let entries = outbox.entries()?;
        if entries.iter().any(|entry| entry.delivery != Delivery::Sent) || !entries.iter().any(told) {
            runs.push(run);
        }
    }
    Ok(runs)
}

/// What `stanch status` says: only what is wrong.
pub(in crate::cli) fn wrong(context: &Context, run: &str) -> Result<Vec<Entry>, CliError> {
    let mut entries = Outbox::of(&context.outbox, run).entries()?;
    entries.retain(|entry| entry.delivery != Delivery::Sent && entry.error.is_some());
    Ok(entries)
}

/// The same, in words.
pub(in crate::cli) fn wrong_text(run: &str, entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = writeln!(text, "  {}", line(entry, false));
    }
    let refused = entries.iter().any(|entry| !entry.is_open());
    if refused {
        let _ = writeln!(text, "  fix the channel, then: stanch notify flush {run} --again");
    } else if !entries.is_empty() {
        let _ = writeln!(text, "  send them: stanch notify flush {run}");
    }
    text
}

/// As JSON.
pub(in crate::cli) fn summary(run: &str, entry: &Entry) -> serde_json::Value {
    json!({
        "run": run, "record": entry.message.seq, "channel": entry.message.channel, "kind": entry.message.kind,
        "audience": entry.message.audience, "delivery": entry.delivery, "tries": entry.tries,
        "repeat": entry.repeat, "error": entry.error, "hint": entry.hint, "sent_at": entry.sent_at,
        "sent_by": entry.by, "id": entry.message.short_id(),
    })
}

/// Says on standard error what was not taken.
pub(super) fn report_wrong(run: &str, outbox: &Outbox) -> Result<(), CliError> {
    for entry in outbox.entries()?.iter().filter(|entry| entry.delivery != Delivery::Sent) {
        eprintln!("{run}: {}", line(entry, false));
    }
    Ok(())
}

fn line(entry: &Entry, gone: bool) -> String {
    let what = format!("message `{}` to {}", entry.message.kind, entry.message.channel);
    let error = entry.error.as_deref().map(|error| format!(": {}", sanitize(error))).unwrap_or_default();
    let hint = entry.hint.as_deref().map(|hint| format!(" ({})", sanitize(hint))).unwrap_or_default();
    let tries = counted(u64::from(entry.tries), "attempt");
    match entry.delivery {
        _ if gone => format!("{what}: waits; there is no such channel now"),
        Delivery::Sent => {
            let repeat = if entry.repeat { "; it may have arrived twice" } else { "" };
            let when = entry.sent_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
            format!("{what}: sent{when}{repeat}")
        }
        Delivery::Waiting if entry.tries == 0 => format!("{what}: waits"),
        Delivery::Waiting | Delivery::Sending => format!("{what}: waits after {tries}{error}{hint}"),
        Delivery::Refused => format!("{what}: REFUSED{error}{hint}"),
        Delivery::InDoubt => format!("{what}: IN DOUBT, sent twice without a clear answer{error}{hint}"),
    }
}
