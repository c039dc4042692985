//! The answer of a capacity drill, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::play::Played;
use super::{Answer, Setting, millis};
use crate::drill::Took;
use crate::output::clock;
use crate::text::{counted, sanitize};

/// One in so many requests refused, and the quota is what a phase waited for.
const NOTED: u64 = 20;

/// What a phase waited for most.
#[derive(Clone, Copy)]
enum Slowed<'a> {
    /// The quota of a connection.
    Quota(&'a str),
    /// What the runbook says that the phase waits.
    Runbook,
    /// Each request takes its time, and only so many are under way at once.
    Requests,
}

fn slowed<'a>(took: &'a Took, played: &Played) -> Slowed<'a> {
    let most = took.sent.iter().max_by_key(|(_, sent)| sent.refused);
    if let Some((connection, sent)) = most
        && sent.refused > 0
        && sent.refused * NOTED >= sent.requests
    {
        return Slowed::Quota(connection);
    }
    let wait = played.waits.iter().find(|(phase, _)| Some(*phase) == took.phase).map(|(_, wait)| *wait);
    match wait {
        Some(wait) if took.time >= wait && wait * 2 >= took.time && !wait.is_zero() => Slowed::Runbook,
        _ => Slowed::Requests,
    }
}

fn name(took: &Took) -> &'static str {
    took.phase.map_or("plan", |phase| phase.name())
}

pub(super) fn table(setting: &Setting, answers: &[Answer]) -> String {
    let thing = if setting.credentials == 1 { "credential" } else { "credentials" };
    let mut text = format!(
        "DRILL: {} {thing} of `{}` in {}, {} at once, {} each\n",
        setting.credentials,
        setting.runbook.name,
        setting.environment,
        counted(setting.runbook.limits.concurrency as u64, "request"),
        short(setting.latency),
    );
    let quotas: Vec<String> = setting.quotas.iter().map(|q| format!("{}={q}", q.connection)).collect();
    let quotas = if quotas.is_empty() { "none".to_owned() } else { quotas.join(", ") };
    let _ = writeln!(text, "Quotas: {quotas}. Practice: no server was contacted.");
    for answer in answers {
        strategy(&mut text, answer);
    }
    text.push_str(
        "\nNot counted: the time that people take to approve and to answer, deployment windows, and requests of real\nservers that the sandbox does not send.\n",
    );
    text
}

fn strategy(text: &mut String, answer: &Answer) {
    let played = &answer.played;
    let name_of = <&str>::from(answer.strategy).to_uppercase();
    let reached = |time: Option<Duration>| time.map_or("not reached".to_owned(), short);
    let _ = writeln!(
        text,
        "\n{name_of}: {} until the last old credential is refused or disabled, {} until it is revoked, {} in all",
        reached(played.contained),
        reached(played.revoked),
        short(played.total),
    );
    let _ = writeln!(text, "  {:<12}{:>12}  {:<32}  requests", "phase", "time", "slowed by");
    for took in &played.phases {
        let slowed = match slowed(took, played) {
            Slowed::Quota(connection) => format!("the quota of {connection}"),
            Slowed::Runbook => "the runbook: `at_least` or `every`".to_owned(),
            Slowed::Requests => "the requests themselves".to_owned(),
        };
        let sent: Vec<String> = took
            .sent
            .iter()
            .map(|(connection, sent)| match sent.refused {
                0 => format!("{connection} {}", sent.requests),
                refused => format!("{connection} {} ({refused} refused)", sent.requests),
            })
            .collect();
        let line = format!("  {:<12}{:>12}  {slowed:<32}  {}", name(took), short(took.time), sent.join(", "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if played.plans > 0 {
        let times = counted(u64::from(played.plans), "time");
        let _ = writeln!(
            text,
            "  `stanch plan` gave up {times}, because a server refused too much: it was typed again at once."
        );
    }
    if played.stops > 0 {
        let times = counted(u64::from(played.stops), "time");
        let _ = writeln!(
            text,
            "  The run stopped {times}, because a server refused one call too often: `stanch resume` was typed at once."
        );
    }
    if let Some(why) = &played.unfinished {
        let _ = writeln!(text, "  It does not end: {}", sanitize(why));
    }
    if !answer.instead.is_empty() {
        text.push_str("  Instead\n");
    }
    for (change, other) in &answer.instead {
        let comes = match &other.unfinished {
            Some(_) => "it does not end".to_owned(),
            None => format!("{} until it is revoked, {} in all", reached(other.revoked), short(other.total)),
        };
        let stops = match other.stops + other.plans {
            0 => String::new(),
            stops => format!(", typed again {}", counted(u64::from(stops), "time")),
        };
        let _ = writeln!(text, "    {change:<30}  {comes}{stops}");
    }
}

/// A time as people say it; parts of a second where it is shorter than ten.
fn short(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms}ms"),
        1000..10_000 => format!("{:.1}s", time.as_secs_f64()),
        _ => clock(time),
    }
}

pub(super) fn to_json(setting: &Setting, answers: &[Answer]) -> Value {
    let quotas = setting.quotas.iter().map(|quota| {
        json!({ "connection": quota.connection, "requests": quota.requests, "per_ms": millis(Some(quota.per)) })
    });
    json!({
        "drill": "capacity",
        "runbook": setting.runbook.name,
        "environment": setting.environment,
        "credentials": setting.credentials,
        "concurrency": setting.runbook.limits.concurrency,
        "latency_ms": millis(Some(setting.latency)),
        "quotas": quotas.collect::<Vec<_>>(),
        "strategies": answers.iter().map(strategy_json).collect::<Vec<_>>(),
    })
}

fn strategy_json(answer: &Answer) -> Value {
    let mut value = times(&answer.played);
    let phases = answer.played.phases.iter().map(|took| {
        let sent = took.sent.iter().map(|(connection, sent)| {
            (connection.clone(), json!({ "requests": sent.requests, "refused": sent.refused }))
        });
        let slowed = match slowed(took, &answer.played) {
            Slowed::Quota(connection) => json!({ "quota": connection }),
            Slowed::Runbook => json!("runbook"),
            Slowed::Requests => json!("requests"),
        };
        json!({
            "phase": name(took),
            "ms": millis(Some(took.time)),
            "slowed_by": slowed,
            "sent": sent.collect::<serde_json::Map<_, _>>(),
        })
    });
    let phases: Vec<Value> = phases.collect();
    let instead = answer.instead.iter().map(|(change, other)| {
        let mut value = times(other);
        value["change"] = json!(change);
        value
    });
    let instead: Vec<Value> = instead.collect();
    value["strategy"] = json!(<&str>::from(answer.strategy));
    value["phases"] = json!(phases);
    value["instead"] = json!(instead);
    value
}

fn times(played: &Played) -> Value {
    json!({
        "contained_ms": millis(played.contained),
        "revoked_ms": millis(played.revoked),
        "total_ms": millis(Some(played.total)),
        "plans_given_up": played.plans,
        "stops": played.stops,
        "unfinished": played.unfinished,
    })
}
