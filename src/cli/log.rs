//! The debug log: what was sent where, how it was answered, and how long that took. Never a header, a body,
//! an argument or a credential: what is logged is a method, an address without its query, a status.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{CliError, Exit, Global};

/// The variable that sets the level where no `-v` does.
const LEVEL: &str = "STANCH_LOG";

/// Starts the log where `-v` or `STANCH_LOG` ask for one.
///
/// # Errors
/// When the level is unknown or the file cannot be opened.
pub(super) fn start(global: &Global) -> Result<(), CliError> {
    let level = level(global.verbose, std::env::var(LEVEL).ok().as_deref())?;
    if level == LevelFilter::OFF {
        return Ok(());
    }
    let sink: Box<dyn Write + Send> = match &global.log_file {
        None => Box::new(std::io::stderr()),
        Some(path) => Box::new(open(path)?),
    };
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_target(false)
        .with_ansi(false)
        .with_writer(Sink(Mutex::new(sink)));
    // Libraries log headers and bodies; only what this program says itself is wanted.
    let own = Targets::new().with_target("stanch", level);
    // A second log in one process, as in a test, is not started.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(own).with(lines));
    Ok(())
}

/// Whether log lines would be drawn over by a live view.
pub(super) fn is_on_terminal(global: &Global) -> bool {
    let asked = level(global.verbose, std::env::var(LEVEL).ok().as_deref());
    global.log_file.is_none()
        && asked.is_ok_and(|level| level != LevelFilter::OFF)
        && std::io::stderr().is_terminal()
}

fn level(flags: u8, variable: Option<&str>) -> Result<LevelFilter, CliError> {
    match (flags, variable.unwrap_or_default()) {
        (0, "" | "off") => Ok(LevelFilter::OFF),
        (1, _) | (0, "info") => Ok(LevelFilter::INFO),
        (2.., _) | (0, "debug") => Ok(LevelFilter::DEBUG),
        (0, other) => {
            let message =
                format!("`{LEVEL}` is `{}`, which is not a log level", crate::text::sanitize(other));
            Err(CliError::new(Exit::Usage, message)
                .hint(format!("set {LEVEL} to `off`, `info` or `debug`, or pass -v or -vv")))
        }
    }
}

/// Opens a log file to append to, for this user alone.
fn open(path: &Path) -> Result<File, CliError> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|error| {
        CliError::new(Exit::Usage, format!("cannot open the log file {}: {error}", path.display()))
            .hint("pass a path that you can write to, or leave out --log-file to log to standard error")
    })
}

/// Where lines go. Decoration: a line that cannot be written is lost, and nothing else is.
struct Sink(Mutex<Box<dyn Write + Send>>);

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One line, which comes in one piece.
struct Line<'a>(&'a Sink);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = scrubbed(&String::from_utf8_lossy(line));
        if let Ok(mut sink) = self.0.0.lock() {
            let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The line without what steers a terminal; one that holds what looks like a secret is not shown at all. No
/// line should: this is for an address of a runbook's that has one in its path.
fn scrubbed(line: &str) -> String {
    let text: String = line.trim_end_matches('\n').chars().map(crate::text::printable).collect();
    if crate::runbook::holds_secret(&text) { "[redacted]\n".to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_variable() {
        let of = |flags, variable| level(flags, variable).ok();
        assert_eq!(of(0, None), Some(LevelFilter::OFF));
        assert_eq!(of(0, Some("debug")), Some(LevelFilter::DEBUG));
        assert_eq!(of(1, Some("debug")), Some(LevelFilter::INFO));
        assert_eq!(of(3, None), Some(LevelFilter::DEBUG));
        assert_eq!(of(0, Some("loud")), None);
    }

    #[test]
    fn a_line_with_a_secret_is_not_shown() {
        assert_eq!(
            scrubbed("GET http://h/v1/sys/health: 200 in 3 ms\n"),
            "GET http://h/v1/sys/health: 200 in 3 ms\n"
        );
        assert_eq!(scrubbed("POST https://h/hvs.CAESIJq3Zx0000Yk2b8wWm5sQ9rT: 200\n"), "[redacted]\n");
        assert_eq!(scrubbed("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\n");
    }
}
