//! `stanch drill capacity`: how long many credentials take under the quotas of their servers.

mod play;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use self::play::{Played, play};
use super::super::plan::environment;
use super::super::validate;
use super::super::{CliError, Exit, Global, StrategyArg, print, print_json};
use crate::domain::{Period, Strategy};
use crate::drill::Quota;
use crate::runbook::model::Runbook;
use crate::runbook::{Source, check};

/// Answer how long many credentials would take under the quotas of their servers. Plays the runbook in the sandbox, in
/// the drill's own time. Contacts no server.
#[derive(Debug, Args)]
pub(super) struct CapacityArgs {
    /// The runbook.
    runbook: PathBuf,
    /// The environment of the runbook.
    #[arg(long)]
    env: Option<String>,
    /// How many credentials: those of the runbook, over and over.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000))]
    credentials: u32,
    /// How many requests a connection's server takes: CONNECTION=NUMBER/UNIT, such as vault=50/s; the units are s, m
    /// and h. It refuses what is more. Repeatable. Without it, a server takes everything.
    #[arg(long, value_name = "QUOTA")]
    quota: Vec<Quota>,
    /// How long each request takes.
    #[arg(long, value_name = "TIME", default_value = "50ms")]
    latency: Period,
    /// How many calls may be under way at once, in place of the runbook's `limits.concurrency`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Play only this strategy. Default: both.
    #[arg(long, value_enum)]
    strategy: Option<StrategyArg>,
    /// Do not play it again with other quotas and limits to find what would make it shorter.
    #[arg(long)]
    no_advice: bool,
}

/// What is played.
#[derive(Debug, Clone)]
struct Setting {
    /// The runbook, many times over, is made from this one.
    runbook: Runbook,
    environment: String,
    sha256: String,
    credentials: usize,
    quotas: Vec<Quota>,
    latency: Duration,
    global: Global,
}

/// What a strategy comes to.
struct Answer {
    strategy: Strategy,
    played: Played,
    /// What it comes to with something else changed.
    instead: Vec<(String, Played)>,
}

pub(super) fn main(global: &Global, args: &CapacityArgs) -> Result<Exit, CliError> {
    let setting = setting(global, args)?;
    let strategies = match args.strategy {
        Some(strategy) => vec![strategy.into()],
        None => vec![Strategy::Overlap, Strategy::Contain],
    };
    let mut answers = Vec::new();
    for strategy in strategies {
        let mut setting = setting.clone();
        setting.runbook.strategy = strategy;
        let played = play(&setting)?;
        let instead = if args.no_advice { Vec::new() } else { instead(&setting, &played)? };
        answers.push(Answer { strategy, played, instead });
    }
    let ended = answers.iter().all(|answer| answer.played.unfinished.is_none());
    let exit = if ended { Exit::Done } else { Exit::Failed };
    let printed = if global.json {
        print_json(&show::to_json(&setting, &answers))
    } else {
        print(&show::table(&setting, &answers))
    };
    exit.shown(printed)
}

/// What is to be played, checked.
fn setting(global: &Global, args: &CapacityArgs) -> Result<Setting, CliError> {
    let source = Source::read(&args.runbook)?;
    let checked = check(&source);
    let errors = checked.errors();
    let Some(template) = checked.runbook.filter(|_| errors == 0) else {
        return Err(validate::report(&source, &checked.findings, global.json));
    };
    let environment = environment(&template, args.env.as_deref())?.to_owned();
    let mut runbook = template.instantiate(&environment)?;
    if let Some(concurrency) = args.concurrency {
        runbook.limits.concurrency = usize::from(concurrency);
    }
    for (at, quota) in args.quota.iter().enumerate() {
        let said = format!("--quota {}={quota}", quota.connection);
        if !runbook.connections.contains_key(&quota.connection) {
            let names: Vec<&str> = runbook.connections.keys().map(String::as_str).collect();
            let hint = if names.is_empty() {
                "its credentials are reached without a connection: leave --quota out".to_owned()
            } else {
                format!("its connections: {}", names.join(", "))
            };
            let message = format!("{said}: {} has no connection `{}`", source.name, quota.connection);
            return Err(CliError::new(Exit::Usage, message).hint(hint));
        }
        if args.quota[..at].iter().any(|other| other.connection == quota.connection) {
            let message = format!("{said}: this connection has a quota already");
            return Err(CliError::new(Exit::Usage, message).hint("name each connection once"));
        }
    }
    Ok(Setting {
        runbook,
        environment,
        sha256: template.sha256().to_owned(),
        credentials: args.credentials as usize,
        quotas: args.quota.clone(),
        latency: args.latency.get(),
        global: global.clone(),
    })
}

/// What it comes to with a quota of twice the size, where one refused requests, and with more or fewer calls at once.
fn instead(setting: &Setting, played: &Played) -> Result<Vec<(String, Played)>, CliError> {
    let mut instead = Vec::new();
    let refused = |quota: &Quota| played.sent_to(&quota.connection).refused > 0;
    for (at, quota) in setting.quotas.iter().enumerate().filter(|(_, quota)| refused(quota)) {
        let mut other = setting.clone();
        other.quotas[at].requests = quota.requests.saturating_mul(2);
        let change = format!("quota {}={}", quota.connection, other.quotas[at]);
        instead.push((change, play(&other)?));
    }
    let at_once = |concurrency: usize| {
        let mut other = setting.clone();
        other.runbook.limits.concurrency = concurrency;
        Ok::<_, CliError>((format!("limits.concurrency {concurrency}"), play(&other)?))
    };
    let now = setting.runbook.limits.concurrency;
    if !setting.quotas.iter().any(refused) {
        // More calls at once do not help a server that refuses them.
        if now * 2 <= 1024 {
            instead.push(at_once(now * 2)?);
        }
        return Ok(instead);
    }
    // Fewer and fewer, until a person has nothing to type again.
    let mut concurrency = now / 2;
    while concurrency >= 1 {
        let (change, other) = at_once(concurrency)?;
        let is_smooth = other.unfinished.is_none() && other.stops + other.plans == 0;
        if is_smooth || concurrency == 1 {
            instead.push((change, other));
            break;
        }
        concurrency /= 2;
    }
    Ok(instead)
}

fn millis(time: Option<Duration>) -> serde_json::Value {
    time.map_or(serde_json::Value::Null, |time| json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}
