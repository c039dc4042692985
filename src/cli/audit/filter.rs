//! Which records are meant.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::cli::{CliError, Exit, phase};
use crate::domain::{Period, Phase};
use crate::plan::Plan;
use crate::rotation::{Ended, Event, Found, State};

/// Select records. Each option narrows the selection; an option given several times, or with commas, matches
/// any of its values.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct FilterArgs {
    /// Select records of these phases.
    #[arg(long, value_name = "PHASE", value_delimiter = ',', value_parser = phase)]
    phase: Vec<Phase>,
    /// Select these steps: an id, or the start of one up to a slash, such as `cutover/payments-key`.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    step: Vec<String>,
    /// Select these types of events.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Event::TYPES))]
    types: Vec<String>,
    /// Select calls with this outcome, and what stanch found out about them later.
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    outcome: Vec<Outcome>,
    /// Select records about these credentials.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    credential: Vec<String>,
    /// Select records from this time on: a time such as 2026-11-24T01:02:03Z, or an age such as 15m.
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<When>,
    /// Select records up to this time: a time, or an age.
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<When>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    /// The call took effect.
    Succeeded,
    /// The call definitely changed nothing.
    Rejected,
    /// The outcome was unknown.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
enum When {
    At(Timestamp),
    Ago(Period),
}

/// Filters that fit one run.
pub(super) struct Filter<'a> {
    args: &'a FilterArgs,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl FilterArgs {
    /// The filters for a run with this plan.
    ///
    /// # Errors
    /// When the plan has no such step or credential.
    pub(super) fn of(&self, plan: &Plan, now: Timestamp) -> Result<Filter<'_>, CliError> {
        for wanted in &self.step {
            let ids = || plan.steps.iter().map(|s| s.id.as_str());
            if !ids().any(|id| begins(id, wanted)) {
                return Err(unknown("step", wanted, ids()));
            }
        }
        for wanted in &self.credential {
            let names = || plan.credentials.iter().map(|c| c.name.as_str());
            if !names().any(|name| name == wanted) {
                return Err(unknown("credential", wanted, names()));
            }
        }
        let moment = |when: &When| match when {
            When::At(moment) => *moment,
            // A period is at most ten years.
            When::Ago(period) => now.checked_sub(period.get()).unwrap_or(Timestamp::MIN),
        };
        Ok(Filter {
            args: self,
            since: self.since.as_ref().map(moment),
            until: self.until.as_ref().map(moment),
        })
    }
}

impl Filter<'_> {
    /// Whether an event is meant. `state` is that after it; there is none before the run was opened.
    pub(super) fn admits(&self, at: Timestamp, event: &Event, state: Option<&State>) -> bool {
        let args = self.args;
        let any = |n: usize, found: bool| n == 0 || found;
        self.since.is_none_or(|since| since <= at)
            && self.until.is_none_or(|until| at <= until)
            && any(args.types.len(), args.types.iter().any(|t| t == event.name()))
            && any(args.outcome.len(), outcome(event).is_some_and(|o| args.outcome.contains(&o)))
            && any(args.step.len(), event.step().is_some_and(|s| args.step.iter().any(|w| begins(s, w))))
            && any(args.phase.len(), phase_of(event, state).is_some_and(|p| args.phase.contains(&p)))
            && any(
                args.credential.len(),
                credential(event, state).is_some_and(|c| args.credential.iter().any(|w| w == c)),
            )
    }
}

fn outcome(event: &Event) -> Option<Outcome> {
    Some(match event {
        Event::Outcome { result: Ended::Succeeded, .. } => Outcome::Succeeded,
        Event::Outcome { result: Ended::Rejected, .. } => Outcome::Rejected,
        Event::Outcome { result: Ended::Unknown, .. } => Outcome::Unknown,
        Event::Settled { found: Found::Applied, .. } | Event::Resolved { applied: true, .. } => {
            Outcome::Succeeded
        }
        Event::Settled { found: Found::Absent, .. } | Event::Resolved { applied: false, .. } => {
            Outcome::Rejected
        }
        // It made something that nobody can use, need not be known, or could not be found out.
        Event::Settled { .. } => Outcome::Unknown,
        _ => return None,
    })
}

fn phase_of(event: &Event, state: Option<&State>) -> Option<Phase> {
    match event {
        Event::Entered { phase } | Event::Returned { phase } => Some(*phase),
        _ => state?.phase(),
    }
}

fn credential<'a>(event: &'a Event, state: Option<&'a State>) -> Option<&'a str> {
    if let Event::Adopted { credential, .. } = event {
        return Some(credential);
    }
    let state = state?;
    let action = &state.plan().steps[state.step(event.step()?)?].action;
    action.credential().map(|c| state.plan().credentials[c].name.as_str())
}

/// Whether a step's id is `wanted`, or begins with it up to a slash.
fn begins(id: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_suffix('/').unwrap_or(wanted);
    id.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn unknown<'a>(what: &str, wanted: &str, there: impl Iterator<Item = &'a str>) -> CliError {
    /// More would scroll the message away.
    const LISTED: usize = 30;
    let mut there: Vec<&str> = there.collect();
    let more = there.len().saturating_sub(LISTED);
    there.truncate(LISTED);
    let mut hint = format!("it has: {}", there.join(", "));
    if more > 0 {
        hint.push_str(&format!(", and {more} more"));
    }
    CliError::new(Exit::Usage, format!("the run does not have the {what} `{wanted}`")).hint(hint)
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(moment) = text.parse() {
        return Ok(When::At(moment));
    }
    let period = text.parse::<Period>().map(When::Ago);
    period
        .map_err(|_| "write a time such as 2026-11-24T01:02:03Z, or an age such as 90s, 15m, 2h or 7d".into())
}
