//! `stanch trace`: a run as a trace, for OpenTelemetry.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::oneshot;

use super::context::Context;
use super::write::{print, print_json, to_file};
use super::{CliError, Exit, Global};
use crate::follow::trace::{Collector, Fold, SendError, Trace};
use crate::journal::Ledger;
use crate::text::counted;

/// Write a run as a trace for OpenTelemetry, or send it.
///
/// The run is a trace; each phase, and each attempt at a step, is a span. The trace is made from the record alone and
/// has the same ids each time. A process that ends a run sends the trace itself, if OTEL_EXPORTER_OTLP_ENDPOINT or
/// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set.
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    run: Option<String>,
    /// Write to this file.
    #[arg(short, long, value_name = "FILE", conflicts_with = "send")]
    output: Option<PathBuf>,
    /// Send it to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names.
    #[arg(long)]
    send: bool,
}

pub(super) async fn main(context: &Context, global: &Global, args: TraceArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    let trace = of(&*context.ledger, &run).await?;
    if args.send {
        return send(context, global, &trace).await;
    }
    let about = collector().ok().flatten();
    let text = about.map_or_else(|| trace.to_json(&[]), |collector| collector.body(&trace));
    match &args.output {
        Some(path) => to_file(path, |out| out.write_all(text.as_bytes()))?,
        None => print(&text)?,
    }
    if !trace.over {
        let unended = counted(trace.unended as u64, "span");
        eprintln!("run {run} is open: {unended} not ended yet, and left out; the run itself is one of them");
    }
    Ok(Exit::Done)
}

async fn send(context: &Context, global: &Global, trace: &Trace) -> Result<Exit, CliError> {
    if context.drill.is_some() {
        let message = "this state directory is a drill's: no trace leaves it; nothing was sent";
        return Err(CliError::new(Exit::Usage, message).hint("write it to a file: stanch trace -o FILE"));
    }
    if !trace.over {
        let message = format!("run {} is open, so its trace is not complete; nothing was sent", trace.run);
        return Err(CliError::new(Exit::Usage, message)
            .hint(format!("see what has ended: stanch trace {}", trace.run)));
    }
    if let Some(name) = Collector::turned_off(&variable) {
        let message = format!("{name} turns the sending of traces off; nothing was sent");
        return Err(CliError::new(Exit::Usage, message)
            .hint(format!("to send this one: env -u {name} stanch trace {} --send", trace.run)));
    }
    let Some(collector) = collector()? else {
        let message = "no collector is set; nothing was sent";
        return Err(CliError::new(Exit::Usage, message)
            .hint("set OTEL_EXPORTER_OTLP_ENDPOINT, such as http://localhost:4318"));
    };
    if let Some(warning) = collector.send(trace).await? {
        eprintln!("warning: {warning}");
    }
    if global.json {
        print_json(&json!({ "run": trace.run, "spans": trace.spans() }))?;
    } else {
        print(&format!("sent {} of {}", counted(trace.spans() as u64, "span"), trace.run))?;
    }
    Ok(Exit::Done)
}

/// Sends the trace of a run that this process ended, where a collector is set. Whatever is wrong with that, the
/// command goes on, and later by no more than the collector's deadline.
pub(super) async fn after(context: &Context, run: &str) {
    // Nothing outside is reached from a drill.
    if context.drill.is_some() {
        return;
    }
    let collector = match collector() {
        Ok(None) => return,
        Ok(Some(collector)) => collector,
        Err(error) => return later(run, &error.to_string()),
    };
    let place = collector.place();
    let (deadline, ledger, name) = (collector.deadline(), Arc::clone(&context.ledger), run.to_owned());
    let (end, ended) = oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let sent = runtime.block_on(async {
            let trace = of(&*ledger, &name).await.map_err(|error| error.sentences())?;
            // Whoever called may not want this trace kept.
            if !trace.over || !trace.sampled {
                return Ok(None);
            }
            collector.send(&trace).await.map_err(|error| error.to_string())
        });
        runtime.shutdown_background();
        // The command may have stopped waiting.
        let _ = end.send(sent);
    };
    // On a thread of its own: a long record takes time to read, too.
    if std::thread::Builder::new().name("trace".to_owned()).spawn(work).is_err() {
        return later(run, "cannot start a thread");
    }
    let late = || Err(format!("{place} did not answer in time"));
    let sent = tokio::select! {
        sent = tokio::time::timeout(deadline + Duration::from_millis(100), ended) => {
            sent.ok().and_then(Result::ok).unwrap_or_else(late)
        }
        _ = tokio::signal::ctrl_c() => late(),
    };
    match sent {
        Ok(None) => {}
        Ok(Some(warning)) => eprintln!("the trace was sent: {warning}"),
        Err(why) => later(run, &why),
    }
}

fn later(run: &str, why: &str) {
    eprintln!("the trace was not sent: {why}; the run is not affected. Send it: stanch trace {run} --send");
}

fn collector() -> Result<Option<Collector>, SendError> {
    Collector::of(&variable)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The trace of a run.
async fn of(ledger: &dyn Ledger, run: &str) -> Result<Trace, CliError> {
    let mut fold = Fold::default();
    let mut wrong = None;
    let mut take = |record| {
        if let Err(error) = fold.take(record) {
            wrong.get_or_insert(error);
        }
    };
    let read = ledger.records(run, &mut take).await?;
    let fault = read.fault.map(|fault| fault.to_string()).or(wrong.map(|error| error.to_string()));
    if let Some(fault) = fault {
        let message = format!("the record of {run} is not valid, so no trace can be made of it: {fault}");
        return Err(CliError::new(Exit::JournalInvalid, message)
            .hint(format!("see where: stanch audit verify {run}")));
    }
    fold.finish().ok_or_else(|| CliError::new(Exit::JournalInvalid, format!("{run} has no records")))
}

impl From<SendError> for CliError {
    fn from(error: SendError) -> Self {
        let (exit, hint) = match &error {
            SendError::Setting { .. } => (Exit::Usage, "correct the variable, then send it again"),
            SendError::TooLarge(_) => (Exit::Failed, "write it to a file: stanch trace RUN -o FILE"),
            SendError::Call(error) => {
                let hint = error.hint.as_deref().unwrap_or("see that the collector takes OTLP over HTTP");
                return Self::from_error(Exit::Unreachable, error).hint(hint);
            }
            SendError::Unclear { .. } => {
                (Exit::Failed, "see that the address is a collector's, and that its path is right")
            }
            SendError::Partial { .. } => (Exit::Failed, "see the collector's own log"),
        };
        Self::from_error(exit, &error).hint(hint)
    }
}
