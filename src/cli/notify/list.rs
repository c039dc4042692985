//! `stanch notify status`, and what `stanch status` says of messages.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::{CliError, Exit, Global, print, print_json, tell};
use crate::follow::notify::{Delivery, Entry, Outbox, OutboxError, missing};
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
    let mut shown = false;
    for run in &runs {
        let known = super::channels(context, run).await?;
        let outbox = Outbox::of(&context.outbox, run);
        let (entries, bad) = outbox.readable()?;
        let missing = match context.drill {
            None if outbox.is_begun() => missing(&*context.ledger, run, &outbox, &known).await?,
            _ => 0,
        };
        if args.run.is_none() && entries.is_empty() && bad.is_empty() && missing == 0 {
            continue;
        }
        shown = true;
        let _ = writeln!(text, "{run}");
        for entry in &entries {
            let gone = entry.is_open() && known.get(&entry.message.channel).is_none();
            let _ = writeln!(text, "  {}", line(entry, gone));
            all.push(summary(run, entry));
        }
        for error in bad {
            let _ = writeln!(text, "  {}", damage(&error));
            all.push(damage_json(run, &error));
        }
        if missing > 0 {
            let count = counted(missing as u64, "message");
            let _ = writeln!(text, "  {count} not composed yet; send: stanch notify flush {run}");
            all.push(json!({ "run": run, "not_composed": missing }));
        }
    }
    if args.run.is_none() && !shown {
        text.push_str(match any_sent(context)? {
            true => "every message was sent\n",
            false => "no message is to be sent, and none was\n",
        });
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
        let (entries, bad) = outbox.readable()?;
        let unsent = |entry: &Entry| entry.delivery != Delivery::Sent;
        if !bad.is_empty() || entries.iter().any(unsent) || !entries.iter().any(told) {
            runs.push(run);
        }
    }
    Ok(runs)
}

/// Whether any message of any run was sent.
fn any_sent(context: &Context) -> Result<bool, CliError> {
    for run in Outbox::runs(&context.outbox)? {
        let (entries, _) = Outbox::of(&context.outbox, &run).readable()?;
        if entries.iter().any(|entry| entry.delivery == Delivery::Sent) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What `stanch status` says: only what is wrong. A damaged outbox hides nothing of the run.
fn wrong(context: &Context, run: &str) -> (Vec<Entry>, Vec<OutboxError>) {
    match Outbox::of(&context.outbox, run).readable() {
        Ok((mut entries, bad)) => {
            entries.retain(|entry| entry.delivery != Delivery::Sent && entry.error.is_some());
            (entries, bad)
        }
        Err(error) => (Vec::new(), vec![error]),
    }
}

/// The same, as JSON.
pub(in crate::cli) fn wrong_json(context: &Context, run: &str) -> Vec<serde_json::Value> {
    let (entries, bad) = wrong(context, run);
    let entries = entries.iter().map(|entry| summary(run, entry));
    entries.chain(bad.iter().map(|error| damage_json(run, error))).collect()
}

/// The same, in words.
pub(in crate::cli) fn wrong_text(context: &Context, run: &str) -> String {
    let mut text = String::new();
    let (entries, bad) = wrong(context, run);
    for entry in &entries {
        let _ = writeln!(text, "  {}", line(entry, false));
    }
    for error in &bad {
        let _ = writeln!(text, "  {}", damage(error));
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
fn summary(run: &str, entry: &Entry) -> serde_json::Value {
    json!({
        "run": run, "record": entry.message.seq, "channel": entry.message.channel, "kind": entry.message.kind,
        "audience": entry.message.audience, "delivery": entry.delivery, "tries": entry.tries,
        "repeat": entry.repeat, "error": entry.error, "hint": entry.hint, "sent_at": entry.sent_at,
        "sent_by": entry.by, "id": entry.message.short_id(),
    })
}

/// What is wrong with the outbox itself.
fn damage(error: &OutboxError) -> String {
    let why = CliError::from_error(Exit::Failed, error).sentences().replace('\n', "; ");
    let next = match error {
        OutboxError::Damaged { .. } => "; move the file away, and the message is composed again",
        OutboxError::Io { .. } | OutboxError::Busy(_) => "",
    };
    format!("WARNING: messages may not be sent: {}{next}", sanitize(&why))
}

fn damage_json(run: &str, error: &OutboxError) -> serde_json::Value {
    json!({ "run": run, "error": damage(error) })
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
        Delivery::Waiting | Delivery::Sending => {
            let asked = entry.retry_at.map(|at| format!("; the channel wants none before {at:.0}"));
            format!("{what}: waits after {tries}{error}{hint}{}", asked.unwrap_or_default())
        }
        Delivery::Refused => format!("{what}: REFUSED{error}{hint}"),
        Delivery::InDoubt => format!("{what}: IN DOUBT, sent twice without a clear answer{error}{hint}"),
    }
}
