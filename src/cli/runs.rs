//! `stanch runs`: all runs.

use serde_json::json;

use super::context::Context;
use super::{CliError, Exit, Global, print, print_json};
use crate::output;
use crate::rotation::Stop;

pub(super) fn main(global: &Global) -> Result<Exit, CliError> {
    let context = Context::read(global)?;
    // One that cannot be read is taken as set, as a run takes it.
    let is_set = |run: Option<&str>| context.state.latch(run).map_or(true, |latch| latch.is_some());
    let all_halted = is_set(None);
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for run in context.state.runs()? {
        let summary = context.state.summary(&run);
        let mut next = String::new();
        let word = match &summary.state {
            Err(e) => format!("unreadable: {e}"),
            Ok(state) => match (state.end(), state.stopped(), summary.live) {
                (Some(end), _, _) => output::end_word(end).to_owned(),
                (None, _, true) => "running".into(),
                // What may be typed next depends on more than fits here; `status` is never refused.
                (None, stop, false) => {
                    let halted = all_halted || is_set(Some(&run));
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
        let (environment, opened) = summary
            .state
            .as_ref()
            .map(|s| (s.plan().environment.clone(), format!("{:.0}", s.opened())))
            .unwrap_or_default();
        rows.push(format!("{run:<48} {environment:<12} {opened:<21} {word}{next}"));
        list.push(json!({ "run": run, "environment": environment, "opened": opened, "state": word, "live": summary.live }));
    }
    if global.json {
        print_json(&json!(list))?;
    } else if rows.is_empty() {
        eprintln!("no runs in {}", context.state.root().display());
    } else {
        print(&rows.join("\n"))?;
    }
    Ok(Exit::Done)
}
