//! `stanch status`: what is true of a run now.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use super::context::{Context, style};
use super::doubt::{self, Doubt};
use super::{CliError, Exit, Global, print, print_json};
use crate::output;
use crate::plan::ADOPTED;
use crate::rotation::{State, Status};

/// Shows what is true of a run now, and what to type next.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run, or the beginning of its name; without one, the only open run, else the last one.
    run: Option<String>,
    /// Shows it again each second, until the run is over or nobody works on it.
    #[arg(long, short = 'w')]
    watch: bool,
}

pub(super) fn main(global: &Global, args: &StatusArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let run = context.state.find_any(args.run.as_deref())?;
    loop {
        let live = context.state.is_live(&run);
        let (state, _) = context.state.load(&run)?;
        let doubts = doubt::doubts(&context, &run, &state, live)?;
        if global.json {
            let mut summary = output::summary_json(&run, &state, context.around(&run, live)?);
            summary["unknown"] = serde_json::to_value(&doubts).unwrap_or_default();
            print_json(&summary)?;
        } else {
            if args.watch && std::io::stdout().is_terminal() {
                let _ = console::Term::stdout().clear_screen();
            }
            print(&text(&context, &run, &state, live, &doubts)?)?;
        }
        if !args.watch || state.end().is_some() || !live {
            return Ok(Exit::Done);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn text(
    context: &Context,
    run: &str,
    state: &State,
    live: bool,
    doubts: &[Doubt],
) -> Result<String, CliError> {
    let style = style(std::io::stdout().is_terminal());
    let now = context.clock.now().wall;
    let around = context.around(run, live)?;
    let mut text = output::summary(style, run, state, around, now);
    if state.end().is_none() {
        let phase = state.phase().map_or_else(|| "not begun".to_owned(), |p| p.to_string());
        let who = if live { "a process is working on it" } else { "no process is working on it" };
        text.push_str(&format!("  phase {phase}; {who}\n"));
        if let Some(halted) = state.halted() {
            text.push_str(&format!("  halted by {halted}\n"));
        }
        for (gate, (verdict, detail)) in state.judged() {
            let verdict = format!("{verdict:?}").to_lowercase();
            // The counts of adoption go on after the verdict that they led to: the summary has them.
            let detail = if gate == ADOPTED { String::new() } else { format!(" ({detail})") };
            text.push_str(&format!("  gate {gate}: {verdict}{detail}\n"));
        }
        let resumes = around.lets_resume(state);
        for doubt in doubts {
            text.push_str(&doubt.text(run, live, resumes));
        }
        let waiting: Vec<_> = (0..state.plan().steps.len())
            .filter(|s| matches!(state.status(*s), Status::Started { .. } | Status::Orphaned { .. }))
            .filter(|s| doubts.iter().all(|d| d.step != state.plan().steps[*s].id))
            .map(|s| format!("{} ({})", state.plan().steps[s].id, state.status(s).word()))
            .take(10)
            .collect();
        if !waiting.is_empty() {
            text.push_str(&format!("  under way: {}\n", waiting.join(", ")));
        }
    }
    Ok(style.plain(&text))
}
