//! `stanch runs`: all runs.

use serde_json::json;

use super::context::Context;
use super::{CliError, Exit, Global, print, print_json};
use crate::output;
use crate::rotation::Stop;

pub(super) async fn main(context: &Context, global: &Global) -> Result<Exit, CliError> {
    let all_halted = is_halted(context, None).await;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for run in context.ledger.runs().await? {
        let state = context.ledger.load(&run).await;
        // One run of which little can be read must not hide the others.
        let live = context.ledger.is_live(&run).await.unwrap_or(false);
        let mut next = String::new();
        let word = match &state {
            Err(e) => format!("unreadable: {e}"),
            Ok(state) => match (state.end(), state.stopped(), live) {
                (Some(end), _, _) => output::end_word(end).to_owned(),
                (None, _, true) => "running".into(),
                // What may be typed next depends on more than fits here; `status` is never refused.
                (None, stop, false) => {
                    let halted = all_halted || is_halted(context, Some(&run)).await;
                    // The sentence of a run that stopped for a halt says that one is set.
                    let latch = match (matches!(stop, Some(Stop::Halted)), halted) {
                        (true, true) | (false, false) => "",
                        (false, true) => "; halted",
                        (true, false) => "; it was cleared since",
                    };
                    next = format!("{latch}; next: stanch status {run}");
                    match stop {
                        Some(stop) => format!("open: {}", output::sentence(stop)),
                        None => "open: its process is gone".to_owned(),
                    }
                }
            },
        };
        let (environment, opened) = state
            .as_ref()
            .map(|s| (s.plan().environment.clone(), format!("{:.0}", s.opened())))
            .unwrap_or_default();
        rows.push(format!("{run:<48} {environment:<12} {opened:<21} {word}{next}"));
        list.push(
            json!({ "run": run, "environment": environment, "opened": opened, "state": word, "live": live }),
        );
    }
    if global.json {
        print_json(&json!(list))?;
    } else if rows.is_empty() {
        eprintln!("no runs in {}", context.ledger.place());
    } else {
        print(&rows.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// Whether a run, or all runs, are halted. A latch that cannot be read is taken as set, as a run takes it.
async fn is_halted(context: &Context, run: Option<&str>) -> bool {
    context.ledger.latch(run).await.map_or(true, |latch| latch.is_some())
}
