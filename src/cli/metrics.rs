//! `stanch metrics`: all runs as metrics, for the textfile collector of Prometheus' node exporter.

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::write::{print, to_public_file};
use super::{CliError, Exit, report};
use crate::follow::metrics::Metrics;

/// Write metrics of all runs, in Prometheus' text format.
#[derive(Debug, Args)]
pub(super) struct MetricsArgs {
    /// Write to this file, at once, for every user to read. The textfile collector reads names that end in .prom.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn main(context: &Context, args: MetricsArgs) -> Result<Exit, CliError> {
    let mut metrics = Metrics::default();
    for run in context.ledger.runs().await? {
        match report::of(context, &run, None).await {
            Ok(report) => metrics.take(&report),
            // One bad run must not hide the others: its metric is what alerts.
            Err(error) => {
                metrics.take_unreadable();
                eprintln!("not counted: {run}");
                error.print(false);
            }
        }
    }
    let text = metrics.write(context.clock.now().wall);
    match args.output {
        Some(path) => to_public_file(&path, |out| out.write_all(text.as_bytes()))?,
        None => print(&text)?,
    }
    Ok(Exit::Done)
}
