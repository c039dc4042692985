//! The plan as a person reads it.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Action, Plan, Step, step};
use crate::domain::{ADOPTED, CheckVerdict, Observation, Period, Phase, Strategy};

/// How many steps of one kind are shown one by one.
const SHOWN: usize = 12;

/// The plan in words: the phases with their steps, what each can be undone by and until when, the
/// point of no return, the expected outage and exposure, and what nobody checked.
pub fn preview(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(plan, &mut out);
    // A saved plan may come from anybody, and what servers say stands in it too: neither steers the
    // terminal of whoever is asked to confirm it.
    crate::text::sanitize_block(&out)
}

fn write(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let strategy = plan.strategy.name();
    writeln!(out, "Plan {} for `{}` in {}", &plan.digest()[..12], plan.runbook.name, plan.environment)?;
    if let Some(summary) = &plan.runbook.summary {
        writeln!(out, "  {summary}")?;
    }
    let n = plan.credentials.len();
    writeln!(out, "  strategy {strategy}, {n} credential{}, {} steps", plural(n), plan.steps.len())?;
    if let Some(drill) = &plan.drill {
        writeln!(out, "  DRILL `{drill}`: practice. No server of {} is contacted.", plan.environment)?;
    }
    if let Some(policy) = &plan.policy {
        writeln!(out, "  policy revision {}, SHA-256 {}", policy.revision, &policy.sha256)?;
    }
    for waived in plan.waived() {
        writeln!(out, "  WAIVED {waived}")?;
    }
    if plan.sandbox {
        writeln!(out, "  The sandbox replaces every connection: stanch contacts nothing outside it.")?;
    }
    let last = plan.point_of_no_return().map(|s| s.phase);
    for waits in &plan.phases {
        let steps: Vec<&Step> = plan.steps.iter().filter(|s| s.phase == waits.phase).collect();
        let approved = plan.approvals.as_ref().is_some_and(|a| a.needs(waits.phase).next().is_some());
        let least = plan.least(waits);
        let timed = !least.get().is_zero();
        if steps.is_empty() && !timed && !waits.waits() && !approved {
            continue;
        }
        writeln!(out)?;
        if last == Some(waits.phase) {
            writeln!(out, "  ───────── point of no return: no rollback after the first ✗ below ─────────")?;
        }
        writeln!(out, "{}", waits.phase)?;
        for required in plan.approvals.iter().flat_map(|approvals| approvals.needs(waits.phase)) {
            writeln!(out, "  needs {}", required.words())?;
        }
        if waits.phase == Phase::Cutover {
            for freeze in plan.freezes() {
                let waits = if plan.waits_for_windows() { "not in" } else { "does not wait for the end of" };
                writeln!(out, "  {waits} the freeze {freeze}")?;
            }
            for windows in plan.windows() {
                let words: Vec<String> = windows.iter().map(ToString::to_string).collect();
                let waits = if plan.waits_for_windows() { "waits for" } else { "does not wait for" };
                writeln!(out, "  {waits} a deployment window: {}", words.join("; "))?;
            }
        }
        for step in steps.iter().take(SHOWN) {
            let undo = undo(plan, step);
            let line = format!("  {:<58} {undo}", describe(plan, step));
            writeln!(out, "{}", line.trim_end())?;
        }
        if steps.len() > SHOWN {
            writeln!(out, "  … and {} more", steps.len() - SHOWN)?;
        }
        if timed || waits.waits() {
            write!(out, "  wait")?;
            if timed {
                write!(out, " at least {least}")?;
            }
            if !waits.until.is_empty() {
                let gates: Vec<_> = waits.until.iter().map(|g| gate_words(plan, g)).collect();
                let and = if timed { " and" } else { "" };
                let (s, es) = if gates.len() == 1 { ("", "es") } else { ("s", "") };
                let gates = gates.join(" and ");
                write!(out, "{and} until gate{s} {gates} pass{es}; pause the run after {}", waits.at_most)?;
            }
            writeln!(out)?;
        }
    }
    writeln!(out)?;
    let (outage, exposure) = costs(plan);
    writeln!(out, "Expected outage    {outage}")?;
    writeln!(out, "Expected exposure  {exposure}")?;
    let lags = plan.lags();
    if !lags.get().is_zero() {
        let may = "verifiers may use what they read before for";
        writeln!(out, "Expected lag       {may} {lags}: stanch waits that long where it says `wait`")?;
    }
    writeln!(out, "Requests           about {}", requests(plan))?;
    let policy = match plan.strategy {
        Strategy::Overlap => "automatic, if a gate fails or a check refuses the new credential",
        Strategy::Contain => "never automatic: it would give the attacker a valid credential again",
        Strategy::Revoke => "none: a revoked credential stays dead",
    };
    writeln!(out, "Rollback           {policy}")?;
    let failed: Vec<_> = plan.checks.iter().filter(|c| c.verdict == CheckVerdict::Fail).collect();
    if !failed.is_empty() {
        writeln!(out, "\nstanch would refuse this run:")?;
        for check in failed {
            writeln!(out, "  ✗ {}: {}", check.name, check.detail)?;
            if let Some(hint) = &check.hint {
                writeln!(out, "    {hint}")?;
            }
        }
    }
    let caveats = caveats(plan);
    if !caveats.is_empty() {
        write!(out, "\n{caveats}")?;
    }
    Ok(())
}

/// What a plan did not check, or what is worth knowing before it is run, in lines for people. Empty where there
/// is nothing of the sort.
pub fn caveats(plan: &Plan) -> String {
    if plan.unchecked.is_empty() {
        return String::new();
    }
    let mut lines = vec!["Not checked, or worth knowing:".to_owned()];
    lines.extend(plan.unchecked.iter().take(SHOWN * 2).map(|gap| format!("  - {gap}")));
    if plan.unchecked.len() > SHOWN * 2 {
        lines.push(format!("  - … and {} more", plan.unchecked.len() - SHOWN * 2));
    }
    crate::text::sanitize_block(&(lines.join("\n") + "\n"))
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn gate_words<'a>(plan: &'a Plan, gate: &'a str) -> String {
    if gate != ADOPTED {
        return gate.to_owned();
    }
    let consumers: usize = plan.runbook.credentials.values().map(|c| step::attesting(c).count()).sum();
    format!("{gate} ({consumers} consumer{})", plural(consumers))
}

/// How many steps that cannot be undone are named one by one where somebody signs a plan.
const NAMED: usize = 20;

/// The steps of a plan that cannot be undone, in words, as whoever approves it is shown them.
pub(crate) fn irreversible(plan: &Plan) -> Vec<String> {
    let steps = || plan.steps.iter().filter(|step| step.irreversible);
    let more = steps().count().saturating_sub(NAMED);
    let mut lines: Vec<String> = steps().take(NAMED).map(|step| describe(plan, step)).collect();
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    lines.into_iter().map(|line| line.chars().map(crate::text::printable).collect()).collect()
}

/// One step in words.
pub(crate) fn describe(plan: &Plan, step: &Step) -> String {
    let name = |c: usize| plan.credentials[c].name.as_str();
    let store = |c: usize, s: usize| plan.credential(c).1.stores[s].target();
    match &step.action {
        Action::Connection { connection } => format!("check connection {connection}"),
        Action::Permission { credential } if plan.strategy == Strategy::Revoke => {
            format!("check that stanch does not use {} itself", name(*credential))
        }
        Action::Permission { credential } => format!("check that {} can be rotated", name(*credential)),
        Action::Capture { credential, store: s } => {
            let reads = plan.credentials[*credential].reads(*s);
            let what = if reads { "read and seal" } else { "see the version of" };
            format!("{what} {}", store(*credential, *s))
        }
        Action::Baseline { credential, probe, rejects } => {
            let list = if *rejects { " of `rejects`" } else { "" };
            let place = probe.map_or("its issuer".into(), |p| format!("check {}{list}", p + 1));
            format!("confirm that {place} accepts the old {}", name(*credential))
        }
        Action::Issue { credential } if plan.credentials[*credential].issuer.replaces() => {
            format!("issue a new {}, which replaces the old one at its issuer", name(*credential))
        }
        Action::Issue { credential } => format!("issue a new {}", name(*credential)),
        Action::Inspect { credential } => format!("compare the new {} with its scope", name(*credential)),
        Action::Stage { credential, store: s } => format!("stage in {}", store(*credential, *s)),
        Action::Accept { credential, probe } => {
            format!("confirm that {} accepts the new {}", at(*probe), name(*credential))
        }
        Action::Promote { credential, store: s } => format!("make current in {}", store(*credential, *s)),
        Action::Reload { credential, consumer } => {
            let consumer = &plan.credential(*credential).1.consumers[*consumer];
            match consumer.reload {
                Some(_) => format!("tell {} to reload", consumer.name),
                None => format!("leave {} to reread its store", consumer.name),
            }
        }
        Action::Disable { credential } => format!("disable the old {}", name(*credential)),
        Action::Revoke { credential } => {
            let old = if plan.strategy == Strategy::Revoke { "" } else { "the old " };
            format!("revoke {old}{} and everything issued from it", name(*credential))
        }
        Action::Destroy { credential, store: s } => {
            format!("destroy the old version in {}", store(*credential, *s))
        }
        Action::Reject { credential, .. } if plan.credential(*credential).1.stores.is_empty() => {
            let old = if plan.strategy == Strategy::Revoke { "" } else { "the old " };
            format!("confirm that its issuer no longer knows {old}{}", name(*credential))
        }
        Action::Reject { credential, probe } => {
            format!("confirm that {} rejects the old {}", at(*probe), name(*credential))
        }
        Action::Sweep { credential } => {
            format!("look for a second new {} created by a repeated request", name(*credential))
        }
        Action::Own { name } => {
            let delivers = plan.runbook.phases.own_step(name).and_then(|step| step.credential.as_ref());
            let delivers = delivers.map(|credential| format!(" with the new {credential}"));
            format!("custom step {name}{}", delivers.unwrap_or_default())
        }
    }
}

/// What takes one step back, in words.
#[cfg(feature = "tool")]
pub(crate) fn describe_undo(plan: &Plan, step: &Step) -> String {
    match &step.action {
        Action::Issue { credential } => {
            let planned = &plan.credentials[*credential];
            match planned.issuer.replaces() {
                true => format!("set the old {} again at its issuer", planned.name),
                false => format!("revoke the new {}", planned.name),
            }
        }
        Action::Stage { credential, store } => {
            format!("retire the staged version in {}", plan.credential(*credential).1.stores[*store].target())
        }
        Action::Promote { credential, store } => {
            let (planned, credential) = plan.credential(*credential);
            format!("make the old {} current in {}", planned.name, credential.stores[*store].target())
        }
        Action::Disable { credential } => format!("enable the old {}", plan.credentials[*credential].name),
        // The same again, or by the step's own `undo:`.
        Action::Reload { .. } | Action::Own { .. } => describe(plan, step),
        // Nothing takes these back.
        Action::Connection { .. }
        | Action::Permission { .. }
        | Action::Capture { .. }
        | Action::Baseline { .. }
        | Action::Inspect { .. }
        | Action::Accept { .. }
        | Action::Revoke { .. }
        | Action::Destroy { .. }
        | Action::Reject { .. }
        | Action::Sweep { .. } => describe(plan, step),
    }
}

fn at(probe: Option<usize>) -> String {
    match probe {
        None => "its issuer".into(),
        Some(p) => format!("check {}", p + 1),
    }
}

fn undo(plan: &Plan, step: &Step) -> String {
    let how = match &step.action {
        _ if !step.is_effect() => return String::new(),
        _ if step.irreversible => return "✗ cannot be undone".into(),
        Action::Issue { credential } if plan.credentials[*credential].issuer.replaces() => {
            "set the old one again"
        }
        Action::Issue { .. } => "revoke it",
        Action::Stage { .. } => "retire the version",
        Action::Promote { credential, store }
            if plan.credentials[*credential].stores[*store].traits.stages =>
        {
            "swap the labels back"
        }
        Action::Promote { .. } => "write the old value back",
        Action::Reload { .. } => "reload again, wait for the old credential",
        Action::Disable { .. } => "enable it again",
        Action::Own { .. } => "its own undo",
        Action::Sweep { .. } => return String::new(),
        Action::Connection { .. }
        | Action::Permission { .. }
        | Action::Capture { .. }
        | Action::Baseline { .. }
        | Action::Inspect { .. }
        | Action::Accept { .. }
        | Action::Revoke { .. }
        | Action::Destroy { .. }
        | Action::Reject { .. } => "nothing to undo",
    };
    let doubt = match step.class {
        Some(Observation::Opaque) => "; a lost response needs `stanch resolve`",
        _ => "",
    };
    format!("↶ {how}{doubt}")
}

/// The expected outage and exposure, in words.
pub(crate) fn costs(plan: &Plan) -> (String, String) {
    let (outage, exposure, ends) = until_killed(plan);
    let lags = plan.lags();
    match ends && !lags.get().is_zero() {
        true => (outage, format!("{exposure}; verifiers may accept it for {lags} after that")),
        false => (outage, exposure),
    }
}

/// What it costs where everybody refuses the old credential as soon as its issuer does, and whether it then does.
fn until_killed(plan: &Plan) -> (String, String, bool) {
    let waiting = |phases: &[Phase]| -> Duration {
        plan.phases.iter().filter(|p| phases.contains(&p.phase)).map(|p| plan.least(p).get()).sum()
    };
    let words = |d: Duration| Period::millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)).to_string();
    let mut killed = vec![false; plan.credentials.len()];
    for step in &plan.steps {
        match step.action {
            Action::Disable { credential } | Action::Revoke { credential } => killed[credential] = true,
            Action::Issue { credential } => {
                killed[credential] |= plan.credentials[credential].issuer.replaces()
            }
            _ => {}
        }
    }
    // What its issuer does not know is exposed no longer, whatever this plan does.
    let exposed: Vec<_> = plan.credentials.iter().filter(|planned| planned.waived.is_none()).collect();
    let living = plan.credentials.iter().zip(killed).filter(|(p, killed)| !killed && p.waived.is_none());
    let living: Vec<&str> = living.map(|(planned, _)| planned.name.as_str()).collect();
    let none = exposed.is_empty().then(|| {
        "not counted: the issuer does not know the old credential, and stanch revokes nothing".to_owned()
    });
    let unbounded = (!living.is_empty()).then(|| {
        let (shown, more) = (living.len().min(SHOWN), living.len().saturating_sub(SHOWN));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "unlimited: no step of this plan disables or revokes the old {}{more}",
            living[..shown].join(", ")
        )
    });
    let ends = none.is_none() && unbounded.is_none();
    match plan.strategy {
        Strategy::Overlap => {
            let before = [Phase::Prepare, Phase::Distribute, Phase::Verify, Phase::Cutover, Phase::Overlap];
            let disabled = exposed.iter().filter(|c| c.issuer.disables).count();
            let usable = waiting(&before);
            let late = usable + waiting(&[Phase::Sunset]);
            let exposure = if let Some(words) = none.or(unbounded) {
                words
            } else if disabled == exposed.len() {
                format!("the old credential stays usable for {} plus the time its gates take", words(usable))
            } else {
                format!(
                    "the old credential stays usable for {} plus the time its gates take ({} of {} can be disabled before revocation)",
                    words(late),
                    disabled,
                    exposed.len()
                )
            };
            (
                "none: the old and the new credential are both valid until every consumer has moved".into(),
                exposure,
                ends,
            )
        }
        Strategy::Revoke => (
            "for programs that still use these credentials, until they get others: stanch replaces none"
                .into(),
            none.or(unbounded).unwrap_or_else(|| "stanch revokes them at once".into()),
            ends,
        ),
        Strategy::Contain => (
            format!(
                "from the kill to cutover: servers refuse consumers for {} plus the time the steps take",
                words(waiting(&[Phase::Sunset, Phase::Distribute, Phase::Verify]))
            ),
            none.or(unbounded).unwrap_or_else(|| {
                "stanch kills the old credential as soon as the new one is issued, or after 2s".into()
            }),
            ends,
        ),
    }
}

/// Roughly how many requests the plan will send, without waits' polling.
fn requests(plan: &Plan) -> usize {
    plan.steps
        .iter()
        .map(|s| match s.action {
            Action::Own { .. } | Action::Reload { .. } => 1,
            Action::Accept { .. } | Action::Reject { .. } => {
                plan.phase(s.phase).map_or(1, |p| p.times as usize)
            }
            Action::Capture { .. } | Action::Promote { .. } => 3,
            _ => 2,
        })
        .sum()
}
