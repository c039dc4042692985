//! `stanch audit verify`: is the record what was written?

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::{CliError, Exit, Global, print, print_json};

pub(super) fn main(context: &Context, global: &Global, run: &str) -> Result<Exit, CliError> {
    let report = context.state.verify(run)?;
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
