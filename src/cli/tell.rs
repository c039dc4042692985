//! Messages about a run that a command works on. Whatever is wrong with them, the command goes on.

use std::io::IsTerminal as _;
use std::sync::Arc;

use super::Exit;
use super::context::{Context, style};
use super::error::CliError;
use crate::clock::Moment;
use crate::engine::Observer;
use crate::follow::notify::templates::TemplateError;
use crate::follow::notify::{
    Channels, ConfigError, Follower, NotifyError, Nudge, Outbox, OutboxError, Unsent, is_automatic,
};
use crate::plan::Plan;
use crate::rotation::{Event, State};
use crate::runbook::render;

/// The channels of a plan's run, those of `notify.yaml` included.
pub(super) fn channels(context: &Context, plan: Option<&Plan>) -> Result<Channels, ConfigError> {
    Channels::load(context.notify.as_deref(), plan)
}

/// Refuses to send anything from the state directory of a drill.
pub(super) fn refuse_in_drill(context: &Context) -> Result<(), CliError> {
    if context.drill.is_none() {
        return Ok(());
    }
    let message = "this state directory is a drill's: no message leaves it; nothing was sent";
    Err(CliError::new(Exit::Usage, message).hint("see what would be sent: stanch notify preview"))
}

/// Begins to follow a run, where a channel is to hear of it.
pub(super) fn begin(context: &Context, run: &str, plan: &Plan) -> Option<Follower> {
    // Nothing outside is reached from a drill.
    if context.drill.is_some() {
        return None;
    }
    let channels = match channels(context, Some(plan)) {
        Ok(channels) => channels,
        Err(error) => {
            let error = CliError::from(error);
            eprintln!("no messages are sent: {}", error.sentences());
            // What is fixed later is sent then, a drill's messages as well: a channel may want them.
            if let Err(error) = Outbox::of(&context.outbox, run).begin() {
                CliError::from(error).print(false);
            }
            return None;
        }
    };
    if !channels.all.iter().any(|channel| is_automatic(channel, plan.sandbox)) {
        return None;
    }
    let outbox = Outbox::of(&context.outbox, run);
    let started =
        Follower::start(Arc::clone(&context.ledger), run, outbox, channels, Arc::clone(&context.clock));
    match started {
        Ok(follower) => Some(follower),
        Err(error) => {
            later(run, &CliError::from(error));
            None
        }
    }
}

/// Tells of a run that this command closed, without following it.
pub(super) async fn after(context: &Context, run: &str, plan: &Plan) {
    finish(run, begin(context, run, plan)).await;
}

/// Waits a few seconds for what is still to be sent, and says what was not.
pub(super) async fn finish(run: &str, follower: Option<Follower>) {
    let Some(follower) = follower else { return };
    let finished = tokio::select! {
        finished = follower.finish() => finished,
        // What is not sent now is sent by `flush`.
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    match finished {
        Ok(Some(Unsent { open: 0, bad: 0 })) => {}
        Ok(unsent) => eprintln!("{}", unsent_text(run, unsent)),
        Err(error) => later(run, &CliError::from(error)),
    }
}

/// What was not sent, and what to type.
fn unsent_text(run: &str, unsent: Option<Unsent>) -> String {
    let messages = |n: usize| crate::text::counted(n as u64, "message");
    let count = match unsent {
        None => "not sent yet: some messages".to_owned(),
        Some(Unsent { open, bad: 0 }) => format!("not sent yet: {}", messages(open)),
        Some(Unsent { open: 0, bad }) => format!("refused or in doubt: {}", messages(bad)),
        Some(Unsent { open, bad }) => {
            format!("not sent yet: {}; refused or in doubt: {}", messages(open), messages(bad))
        }
    };
    let again = if unsent.is_some_and(|unsent| unsent.bad > 0) { " --again" } else { "" };
    format!(
        "{count}; the run is not affected. See why: stanch notify status {run}   send: stanch notify flush {run}{again}"
    )
}

fn later(run: &str, error: &CliError) {
    eprintln!(
        "messages were not sent: {}; the run is not affected. Send them: stanch notify flush {run}",
        error.sentences()
    );
}

/// Shows events, and tells the follower of those that something may be said about.
pub(super) struct Telling {
    /// What shows them.
    pub(super) shows: Box<dyn Observer>,
    /// What tells the follower.
    pub(super) nudge: Nudge,
}

impl Observer for Telling {
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State) {
        let is_told = |event: &Event| {
            matches!(
                event,
                Event::Entered { .. } | Event::Halted { .. } | Event::Stopped { .. } | Event::Closed { .. }
            )
        };
        if events.iter().any(is_told) {
            self.nudge.now();
        }
        self.shows.recorded(at, events, state);
    }

    fn tick(&mut self, at: Moment, state: &State) {
        self.shows.tick(at, state);
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let shown = |file, findings: &[_]| {
            let style = style(std::io::stderr().is_terminal());
            let width = usize::from(console::Term::stderr().size().1).max(40);
            eprint!("{}", render(findings, file, style.color, width));
        };
        match error {
            ConfigError::Unreadable(error) | ConfigError::Templates(TemplateError::Unreadable(error)) => {
                error.into()
            }
            ConfigError::Invalid { file, findings } => {
                shown(&file, &findings);
                CliError::new(Exit::BadRunbook, format!("{} is not valid; nothing was sent", file.name))
                    .hint("fix it, then: stanch notify flush")
            }
            ConfigError::Templates(TemplateError::Unusable(unusable)) => {
                shown(&unusable.source, &unusable.findings);
                let message =
                    format!("the templates in {} are not valid; nothing was sent", unusable.source.name);
                CliError::new(Exit::BadRunbook, message).hint("fix them, then: stanch notify flush")
            }
            ConfigError::Templates(error @ TemplateError::NoSuchLanguage(_)) => {
                CliError::new(Exit::BadRunbook, format!("{error}; nothing was sent"))
                    .hint("use `en` or `de`, or set `templates` to a directory that has it")
            }
            ConfigError::Templates(error @ TemplateError::NoDirectory(_)) => {
                CliError::new(Exit::BadRunbook, format!("{error}; nothing was sent")).hint(
                    "make it, or correct `templates:`; a relative path starts at the file that names it",
                )
            }
        }
    }
}

impl From<OutboxError> for CliError {
    fn from(error: OutboxError) -> Self {
        let (exit, hint) = match &error {
            OutboxError::Io { .. } => {
                (Exit::Failed, "check that it is yours, is writable and has free space")
            }
            OutboxError::Damaged { .. } => (
                Exit::Failed,
                "move the file away: the message is composed again, and may be sent a second time",
            ),
            OutboxError::Busy(_) => (Exit::Locked, "wait until that process has ended"),
        };
        Self::from_error(exit, &error).hint(hint)
    }
}

impl From<NotifyError> for CliError {
    fn from(error: NotifyError) -> Self {
        match error {
            NotifyError::Ledger(error) => error.into(),
            NotifyError::Outbox(error) => error.into(),
            NotifyError::Record { ref run, .. } => {
                let hint = format!("see where: stanch audit verify {run}");
                Self::from_error(Exit::JournalInvalid, &error).hint(hint)
            }
            NotifyError::Thread(_) => Self::from_error(Exit::Failed, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_counted_and_sent_again_with_again() {
        let said = |open, bad| unsent_text("r", Some(Unsent { open, bad }));
        assert!(said(2, 0).starts_with("not sent yet: 2 messages;") && !said(2, 0).contains("--again"));
        assert!(said(0, 1).starts_with("refused or in doubt: 1 message;"));
        assert!(said(1, 3).contains("not sent yet: 1 message; refused or in doubt: 3 messages;"));
        assert!(said(0, 1).ends_with("stanch notify flush r --again"));
        assert!(unsent_text("r", None).contains("some messages"));
    }
}
