//! The debug log: what was sent where, how it was answered, and how long that took. Never a header, a body,
//! an argument or a credential: what is logged is a method, an address without its query, a status.
//!
//! Decoration: whatever is wrong with it is said, and the command goes on without it. A halt must not be
//! refused for want of a log.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::Global;

/// The variable that sets the level where no `-v` does.
const LEVEL: &str = "STANCH_LOG";
/// How many lines may wait for a slow reader; those that come then are lost. The run never waits.
const WAITING: usize = 4096;
/// How long the end of the program waits for lines that are still to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The way to the thread that writes.
static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(String),
    /// Everything before it is to be written; then this is answered.
    Written(SyncSender<()>),
}

/// Starts the log where `-v`, `--log-file` or `STANCH_LOG` ask for one.
pub(super) fn start(global: &Global) {
    let level = level(global);
    if level == LevelFilter::OFF {
        return;
    }
    let mut sink: Box<dyn Write + Send> = match global.log_file.as_deref().map(open) {
        None => Box::new(std::io::stderr()),
        Some(Ok(file)) => Box::new(file),
        Some(Err(why)) => {
            let path = global.log_file.as_deref().unwrap_or(Path::new("")).display();
            eprintln!("warning: stanch goes on without a log file, because it cannot use {path}: {why}");
            return;
        }
    };
    let (send, lines) = sync_channel(WAITING);
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        for message in lines {
            let _ = match message {
                Message::Line(line) => sink.write_all(line.as_bytes()).and_then(|()| sink.flush()).ok(),
                Message::Written(asks) => asks.send(()).ok(),
            };
        }
    });
    if writer.is_err() {
        eprintln!("warning: stanch goes on without a log, because it cannot start a thread for it");
        return;
    }
    let _ = WRITER.set(send);
    let lines =
        tracing_subscriber::fmt::layer().compact().with_target(false).with_ansi(false).with_writer(Sink);
    // Libraries log headers and bodies; only what this program says itself is wanted.
    let own = Targets::new().with_target("stanch", level);
    // A second log in one process, as in a test, is not started.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(own).with(lines));
}

/// Waits for the last lines, but not for a reader that does not read.
pub(super) fn finish() {
    let (done, written) = sync_channel(1);
    if let Some(writer) = WRITER.get()
        && writer.try_send(Message::Written(done)).is_ok()
    {
        let _ = written.recv_timeout(LAST_LINES);
    }
}

/// Whether log lines would be drawn over by a live view.
pub(super) fn is_on_terminal(global: &Global) -> bool {
    global.log_file.is_none() && level(global) != LevelFilter::OFF && std::io::stderr().is_terminal()
}

fn level(global: &Global) -> LevelFilter {
    let variable = std::env::var(LEVEL).unwrap_or_default();
    // A file that is named is wanted.
    let flags = global.verbose.max(u8::from(global.log_file.is_some() && variable.is_empty()));
    level_of(flags, &variable)
}

fn level_of(flags: u8, variable: &str) -> LevelFilter {
    match (flags, variable.to_ascii_lowercase().as_str()) {
        (0, "" | "off" | "error" | "warn" | "0" | "false") => LevelFilter::OFF,
        (2.., _) | (0, "debug" | "trace") => LevelFilter::DEBUG,
        // A word that is not a level asks for a log all the same.
        (0 | 1, _) => LevelFilter::INFO,
    }
}

/// Opens a log file to append to, for this user alone.
fn open(path: &Path) -> Result<File, String> {
    use rustix::fs::OFlags;
    // A link may lead into a file of somebody else's, and a pipe without a reader would be waited for.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path);
    let file = file.map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err("it is not a regular file".to_owned());
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
    Ok(file)
}

/// Where lines go: to a thread that writes them.
struct Sink;

impl MakeWriter<'_> for Sink {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line
    }
}

/// One line, which comes in one piece.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let line_of = || Message::Line(scrubbed(&String::from_utf8_lossy(line)));
        let _ = WRITER.get().map(|writer| writer.try_send(line_of()));
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
        for (flags, variable, level) in [
            (0, "", LevelFilter::OFF),
            (0, "OFF", LevelFilter::OFF),
            (0, "Debug", LevelFilter::DEBUG),
            (0, "trace", LevelFilter::DEBUG),
            (0, "1", LevelFilter::INFO),
            (1, "debug", LevelFilter::INFO),
            (3, "off", LevelFilter::DEBUG),
        ] {
            assert_eq!(level_of(flags, variable), level, "{flags} {variable}");
        }
    }

    #[test]
    fn a_log_file_is_regular_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).expect("there").permissions().mode() & 0o777;
        File::create(at("log"))
            .expect("made")
            .set_permissions(std::fs::Permissions::from_mode(0o644))
            .expect("set");
        for _ in 0..2 {
            writeln!(open(&at("log")).expect("opened"), "x").expect("written");
        }
        assert_eq!(
            (mode("log"), std::fs::read_to_string(at("log")).expect("read").as_str()),
            (0o600, "x\nx\n")
        );
        std::os::unix::fs::symlink(at("log"), at("link")).expect("linked");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).expect("made");
        for name in ["link", "pipe", "none/log", "."] {
            assert!(open(&at(name)).is_err(), "{name}");
        }
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
