//! What GitHub Actions reads beside results: annotations, and the summary of a job.
//!
//! They say only what is on the record or in an error, both of which hold no secrets.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::Context;
use super::{CliError, Exit, report};
use crate::follow::report::{Report, short};
use crate::rotation::End;

/// As many as GitHub shows of a kind in a step. More would push out those of other programs.
const MOST: usize = 10;

/// The summary's file, where this process runs in GitHub Actions.
static ACTIONS: OnceLock<Option<PathBuf>> = OnceLock::new();
static TOLD: AtomicUsize = AtomicUsize::new(0);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
}

/// Looks once whether this process runs in GitHub Actions. Before that, nothing here says anything.
pub(super) fn start() {
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
        let _ = ACTIONS.set(summary.map(PathBuf::from));
    }
}

/// Prints an annotation. To standard error, which GitHub reads as well: standard output is for results.
pub(super) fn annotate(level: Level, title: &str, message: &str) {
    if ACTIONS.get().is_some() && TOLD.fetch_add(1, Ordering::Relaxed) < MOST {
        eprintln!("{}", annotation(level, title, message));
    }
}

fn annotation(level: Level, title: &str, message: &str) -> String {
    let word = match level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{word} title={title}::{}", data(message))
}

/// A text as GitHub's commands take it, so that it can neither end the command nor begin another one.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Annotates what is wrong with a run, and adds it to the job's summary. Changes nothing about how the command
/// ends.
pub(super) async fn after(context: &Context, run: &str) {
    let Some(summary) = ACTIONS.get() else { return };
    let report = match report::of(context, run, None).await {
        Ok(report) => report,
        Err(error) => {
            error.print(false);
            return error.annotate();
        }
    };
    for (level, message) in wrong(&report) {
        annotate(level, &format!("stanch: {run}"), &message);
    }
    let Some(path) = summary else { return };
    let opened = OpenOptions::new().append(true).create(true).open(path);
    if let Err(error) = opened.and_then(|mut file| file.write_all(short(&report).as_bytes())) {
        eprintln!(
            "cannot add the summary to {}: {error}; the command itself has taken effect",
            path.display()
        );
    }
}

/// What is wrong with a run, the worst first.
fn wrong(report: &Report) -> Vec<(Level, String)> {
    let failed = !report.failures.is_empty() || report.unsettled > 0;
    let level = match report.end {
        Some(End::Done) => None,
        // As it was asked for.
        Some(End::RolledBack) => Some(Level::Warning),
        Some(End::GateRolledBack | End::NotProved | End::Failed | End::Abandoned) => Some(Level::Error),
        // An open run is named below; that alone is how a run in stages goes.
        None => failed.then_some(Level::Error),
    };
    let end = level.zip(report.summary.first()).map(|(level, line)| (level, line.words.clone()));
    let failures = report.failures.iter();
    end.into_iter()
        .chain(failures.map(|failed| (Level::Error, format!("{}: {}", failed.step, failed.message))))
        .chain(report.follow_ups.iter().map(|words| (Level::Warning, words.clone())))
        .collect()
}

impl CliError {
    /// Annotates the error.
    pub(super) fn annotate(&self) {
        if self.exit != Exit::NotRead {
            annotate(Level::Error, "stanch", &self.sentences());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_become_a_command() {
        let text = annotation(Level::Error, "a: b, 100%", "x\n::set-output name=y::1\r50%");
        assert_eq!(text, "::error title=a%3A b%2C 100%25::x%0A::set-output name=y::1%0D50%25");
        assert_eq!(annotation(Level::Warning, "", ""), "::warning title=::");
    }
}
