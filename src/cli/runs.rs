//! `stanch runs`: all runs.

use serde_json::json;

use super::context::Context;
use super::{CliError, Exit, Global, print, print_json};

pub(super) async fn main(context: &Context, global: &Global) -> Result<Exit, CliError> {
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for run in context.ledger.runs().await? {
        let state = context.ledger.load(&run).await;
        let live = context.ledger.is_live(&run).await?;
        let word = match &state {
            Err(e) => format!("unreadable: {e}"),
            Ok(state) => match (state.end(), state.stopped(), live) {
                (Some(end), _, _) => crate::output::end_word(end).to_owned(),
                (None, _, true) => "running".into(),
                (None, Some(stop), false) => format!("open: {}", crate::output::sentence(stop)),
                (None, None, false) => "open: its process is gone; to resume: stanch resume".into(),
            },
        };
        let (environment, opened) = state
            .as_ref()
            .map(|s| (s.plan().environment.clone(), format!("{:.0}", s.opened())))
            .unwrap_or_default();
        rows.push(format!("{run:<48} {environment:<12} {opened:<21} {word}"));
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
