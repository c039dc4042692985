//! The deployment windows of a plan, as the engine and the displays need them.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::context::{Context, words};
use super::{CliError, Exit};
use crate::calendar::Windows;
use crate::domain::{Opening, Window};
use crate::plan::Plan;
use crate::rotation::{Event, State};
use crate::runbook::{Finding, Template};

/// Going on outside of the deployment windows.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct NowArgs {
    /// Begin cutover now, outside of the deployment windows. Requires --reason; every summary and report shows it.
    #[arg(long)]
    pub(super) now: bool,
}

impl NowArgs {
    /// The event, where a person wants to go on at once. `state` is the run's, where it has begun.
    pub(super) fn event(
        &self,
        context: &Context,
        reason: Option<&str>,
        plan: &Plan,
        state: Option<&State>,
    ) -> Result<Option<Event>, CliError> {
        if !self.now {
            return Ok(None);
        }
        let reason = words("--reason", reason.unwrap_or_default())?;
        if reason.is_empty() {
            return Err(CliError::new(Exit::Usage, "--now requires a reason; nothing was changed")
                .hint("pass --reason TEXT"));
        }
        if !plan.waits_for_windows() {
            return Err(CliError::new(
                Exit::Usage,
                "--now does not apply: cutover of this plan waits for no deployment window; nothing was changed",
            )
            .hint("leave the option out"));
        }
        if state.is_some_and(|state| !state.may_hurry()) {
            return Err(CliError::new(
                Exit::Usage,
                "--now does not apply: cutover does not lie ahead of this run; nothing was changed",
            )
            .hint("leave the option out"));
        }
        Ok(Some(Event::WindowOverridden { by: context.signature(), reason }))
    }
}

/// The windows that cutover of a plan waits for; none where it does not wait.
pub(super) fn of(plan: &Plan) -> Result<Windows, CliError> {
    if !plan.waits_for_windows() {
        return Ok(Windows::default());
    }
    Windows::new(plan.windows(), plan.freezes(), |name| {
        TimeZone::get(name).map_err(|_| {
            let message =
                format!("this machine has no time zone `{name}`, in which a deployment window is given");
            CliError::new(Exit::Failed, format!("{message}; nothing was changed"))
                .hint("install the system's time zone database (package tzdata)")
        })
    })
}

/// Says in a state when cutover may begin, for those who look at it.
pub(super) fn foresee(state: &mut State, now: Timestamp) {
    match of(state.plan()) {
        Ok(windows) => state.foresee(windows.next(now)),
        Err(error) => eprintln!("{}", error.sentences()),
    }
}

/// Whether a window never opens again. Without the rules of its zone, that is not known.
pub(super) fn is_past(window: &Window, now: Timestamp) -> bool {
    let windows = Windows::new([std::slice::from_ref(window)], &[], TimeZone::get);
    windows.is_ok_and(|windows| windows.next(now) == Opening::Never)
}

/// The findings on windows that never open again in these environments.
pub(super) fn past<'a>(
    template: &Template,
    environments: impl IntoIterator<Item = &'a str>,
    waits: bool,
    now: Timestamp,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for environment in environments {
        for finding in template.past_windows(environment, &|window| is_past(window, now), waits) {
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
    }
    found
}

/// When cutover of a plan can begin, as a line behind its preview.
pub(super) fn line(plan: &Plan, now: Timestamp) -> Result<Option<String>, CliError> {
    Ok(match of(plan)?.next(now) {
        _ if !plan.waits_for_windows() => None,
        Opening::Now => Some("Deployment window  open now".into()),
        Opening::At(at) => Some(format!("Deployment window  the next one opens at {at:.0}")),
        Opening::Never => {
            Some("Deployment window  none opens any more: run it with --now --reason TEXT".into())
        }
    })
}
