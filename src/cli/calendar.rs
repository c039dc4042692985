//! `stanch calendar`: when each credential is due for its next rotation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::context::{Context, style};
use super::validate;
use super::write::{print, to_public_file};
use super::{CliError, Exit, Global};
use crate::calendar::{Entry, Evidence, Rotation, Rotations, Source as Calendared, Standing, to_icalendar};
use crate::engine::{self, Age};
use crate::plan::SANDBOX;
use crate::runbook::model::Runbook;
use crate::runbook::{Source, Template, check};
use crate::text::counted;

/// Where runbooks are looked for when none is named.
const RUNBOOKS: &str = "runbooks";

/// Show when each credential is due for its next rotation.
///
/// The cadence is that of the runbook. When a credential was last rotated is read from the records of the runs, and
/// with --ask also from its stores and issuers.
#[derive(Debug, Args)]
pub(super) struct CalendarArgs {
    /// The runbooks, or directories of them. Default: the directory `runbooks`.
    runbooks: Vec<PathBuf>,
    /// Show only this environment. Repeatable. Default: all but the sandbox.
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// Write this form. Default: by the file's ending, else a table.
    #[arg(long, value_name = "FORM")]
    form: Option<FormArg>,
    /// Write to this file, for every user to read.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ask the stores and issuers, too: when the value in use was written, and when it was issued. Changes nothing.
    #[arg(long)]
    ask: bool,
    /// Exit with 1 if a credential is overdue, or nothing shows when it was last rotated.
    #[arg(long)]
    fail_overdue: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    /// A table.
    Table,
    /// JSON.
    Json,
    /// iCalendar, for the calendars of people.
    Ical,
}

pub(super) async fn main(context: &Context, global: &Global, args: CalendarArgs) -> Result<Exit, CliError> {
    let mut bad = 0;
    let mut runbooks = Vec::new();
    for path in files(&args.runbooks)? {
        match template(&path) {
            Ok(template) => runbooks.push((path, template)),
            // One runbook that is wrong must not hide what is due in the others.
            Err(error) => {
                bad += 1;
                error.print(global.json);
            }
        }
    }
    let rotations = rotations(context).await?;
    let mut entries = Vec::new();
    let mut known = BTreeSet::new();
    let now = context.clock.now().wall;
    for (path, template) in &runbooks {
        for environment in template.environments() {
            let wanted = args.env.iter().any(|env| env == environment);
            known.insert(environment.to_owned());
            if wanted || (args.env.is_empty() && environment != SANDBOX) {
                let runbook = template.instantiate(environment)?;
                let mut lines = of_runbook(&runbook, environment, &rotations, path)?;
                if args.ask {
                    let provider = context.provider(&runbook, environment == SANDBOX)?;
                    let ages = engine::ages(&provider, &runbook).await;
                    lines.iter_mut().zip(ages).for_each(|(line, age)| add(line, age, &rotations));
                }
                entries.extend(lines.into_iter().map(|line| Entry::new(line, now)));
            }
        }
    }
    if let Some(unknown) = args.env.iter().find(|env| !known.contains(*env)) {
        let known: Vec<String> = known.into_iter().collect();
        return Err(CliError::new(Exit::Usage, format!("no runbook here has the environment `{unknown}`"))
            .hint(format!("pass --env with one of: {}", known.join(", "))));
    }
    entries.sort_by(|a, b| a.rank().cmp(&b.rank()));
    let ending = args.output.as_ref().and_then(|path| path.extension()?.to_str());
    let text = match (args.form, ending) {
        (Some(FormArg::Ical), _) | (None, Some("ics")) => {
            // A day is needed to be in a calendar.
            let undated = entries.iter().filter(|entry| entry.status == Standing::Unknown).count() as u64;
            if undated > 0 {
                let message = "not in the calendar, without evidence of a rotation";
                eprintln!("{message}: {}. See which: stanch calendar", counted(undated, "credential"));
            }
            to_icalendar(&entries, now)
        }
        (Some(FormArg::Json), _) | (None, Some("json")) => json(&entries),
        (None, _) if global.json => json(&entries),
        (Some(FormArg::Table) | None, _) => style(std::io::stdout().is_terminal()).plain(&table(&entries)),
    };
    match &args.output {
        Some(path) => to_public_file(path, |out| out.write_all(text.as_bytes()))?,
        None if entries.is_empty() && bad == 0 => eprintln!("no credential to show"),
        None => print(&text)?,
    }
    verdict(&entries, bad, args.fail_overdue)
}

/// How the command ends that showed these.
fn verdict(entries: &[Entry], bad: u64, fail_overdue: bool) -> Result<Exit, CliError> {
    let count = |standing| entries.iter().filter(|entry| entry.status == standing).count() as u64;
    if bad > 0 {
        let message = format!("{} not valid and left out", counted(bad, "runbook"));
        return Err(CliError::new(Exit::BadRunbook, message).hint("find every mistake: stanch validate FILE"));
    }
    let errors = count(Standing::Error);
    if errors > 0 {
        let message = format!("the last rotation of {} is in the future", counted(errors, "credential"));
        return Err(CliError::new(Exit::Failed, message)
            .hint("correct the clock of this machine, or of the machine that the evidence comes from"));
    }
    let (overdue, unknown) = (count(Standing::Overdue), count(Standing::Unknown));
    if fail_overdue && overdue + unknown > 0 {
        let message = format!(
            "{} overdue, and {} without evidence of a rotation",
            counted(overdue, "credential"),
            unknown
        );
        return Err(CliError::new(Exit::Failed, message)
            .hint("rotate them: stanch plan RUNBOOK --env ENV, then stanch run"));
    }
    Ok(Exit::Done)
}

/// The files that the arguments name.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let default = [PathBuf::from(RUNBOOKS)];
    if named.is_empty() && !default[0].is_dir() {
        let message = format!("no runbook is named, and there is no directory `{RUNBOOKS}` here");
        return Err(CliError::new(Exit::Usage, message).hint("name them: stanch calendar FILE…"));
    }
    let mut files = Vec::new();
    for path in if named.is_empty() { &default[..] } else { named } {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error| CliError::new(Exit::Usage, format!("cannot list {}: {error}", path.display()));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let yaml = file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
            inside.extend((yaml && file.is_file()).then_some(file));
        }
        if inside.is_empty() {
            let message = format!("there is no YAML file in {}", path.display());
            return Err(CliError::new(Exit::Usage, message).hint("name the runbooks: stanch calendar FILE…"));
        }
        inside.sort();
        files.extend(inside);
    }
    // A file that is named twice, or once by itself and once with its directory, is one runbook.
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    Ok(files)
}

fn template(path: &Path) -> Result<Template, CliError> {
    let source = Source::read(path)?;
    let checked = check(&source);
    checked.runbook.ok_or_else(|| validate::report(&source, &checked.findings, false))
}

/// What the records of all runs say.
async fn rotations(context: &Context) -> Result<Rotations, CliError> {
    let mut rotations = Rotations::default();
    for run in context.ledger.runs().await? {
        match context.ledger.load(&run).await {
            Ok(state) => rotations.take(&run, &state),
            // What it did counts for nothing, and that is said.
            Err(error) => {
                eprintln!("not counted: {run}");
                CliError::from(error).print(false);
            }
        }
    }
    Ok(rotations)
}

fn of_runbook(
    runbook: &Runbook,
    environment: &str,
    rotations: &Rotations,
    path: &Path,
) -> Result<Vec<Rotation>, CliError> {
    let cadence = match &runbook.cadence {
        Some(cadence) => Some((cadence.clone(), zone(cadence.zone(), path)?)),
        None => None,
    };
    let rotation = |credential: &String| Rotation {
        runbook: runbook.name.clone(),
        environment: environment.to_owned(),
        credential: credential.clone(),
        owner: runbook.owner.clone(),
        open: rotations.open(&runbook.name, environment).map(str::to_owned),
        cadence: cadence.clone(),
        evidence: rotations
            .last(&runbook.name, environment, credential)
            .map(|(evidence, _)| evidence.clone())
            .into_iter()
            .collect(),
        findings: Vec::new(),
    };
    Ok(runbook.credentials.keys().map(rotation).collect())
}

/// What stores and issuers say is evidence, too.
fn add(line: &mut Rotation, age: Age, rotations: &Rotations) {
    let evidence = |source, (of, at)| Evidence { source, of, at };
    let issued = age.issued.as_ref().map(|(handle, _)| handle.clone());
    line.evidence.extend(age.written.into_iter().map(|found| evidence(Calendared::Store, found)));
    line.evidence.extend(age.issued.map(|found| evidence(Calendared::Issuer, found)));
    let last = rotations.last(&line.runbook, &line.environment, &line.credential);
    if let (Some((run, Some(ours))), Some(handle)) = (last, issued)
        && *ours != handle
    {
        line.findings.push(format!("the credential in use is {handle}; run {} issued {ours}", run.of));
    }
    line.findings.extend(age.unseen);
}

/// A zone's rules, from the system's database.
pub(super) fn zone(name: &str, path: &Path) -> Result<TimeZone, CliError> {
    TimeZone::get(name).map_err(|_| {
        let message = format!("{}: this machine has no time zone `{name}`", path.display());
        CliError::new(Exit::Failed, message)
            .hint("install the system's time zone database (package tzdata), or correct the name")
    })
}

fn json(entries: &[Entry]) -> String {
    let mut text = serde_json::to_string_pretty(entries).unwrap_or_default();
    text.push('\n');
    text
}

fn table(entries: &[Entry]) -> String {
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            let due = entry.due.as_ref().map(|due| {
                let form = if entry.timed { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d" };
                format!("{} {}", due.strftime(form), due.time_zone().iana_name().unwrap_or_default())
            });
            let last = entry.last.as_ref().map(|last| {
                let zone = entry.due.as_ref().map_or(TimeZone::UTC, |due| due.time_zone().clone());
                format!("last {} ({} {})", last.at.to_zoned_datetime(zone).date(), last.source, last.of)
            });
            [
                entry.status.to_string().replace('-', " ").to_uppercase(),
                due.unwrap_or_else(|| "-".to_owned()),
                entry.when(),
                entry.credential.clone(),
                format!("{} in {}", entry.runbook, entry.environment),
                last.unwrap_or_default(),
            ]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut out = String::new();
    for (entry, row) in entries.iter().zip(&rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", line.trim_end());
        for finding in &entry.findings {
            let _ = writeln!(out, "  {finding}");
        }
    }
    out
}
