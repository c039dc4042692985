//! The score: a fold over a drill's signed record. Whoever has the record comes to the same score.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::lint::check;
use super::model::{Expectation, Inject, Scenario};
use super::story::{Happened, Happening, Story};
use crate::clock::{add, since};
use crate::follow::report;
use crate::journal::Record;
use crate::rotation::{End, Event, IllegalTransition};
use crate::runbook::Source;

/// The version of the score's form.
const FORMAT: u32 = 1;

/// Takes the records of a drill's run, in their order, and scores it.
#[derive(Default)]
pub struct Fold {
    report: report::Fold,
    story: Story,
    scenario: Option<String>,
}

/// What a drill came to.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// The version of this form.
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// SHA-256 of the scenario's text, in hex: only scores of one text are the same drill.
    pub scenario_sha256: String,
    /// The run.
    pub run: String,
    /// When the drill began.
    pub begun: Timestamp,
    /// How the run ended; `None` while it is open.
    pub end: Option<End>,
    /// How many objectives and decisions count, and how many of them were met.
    pub points: (usize, usize),
    /// What the participants should have reached.
    pub objectives: Vec<Judged>,
    /// What they should have done about each inject.
    pub decisions: Vec<Judged>,
    /// How long things took, in milliseconds from the start of the drill; `None` where they were not reached.
    pub times: Vec<(&'static str, Option<u64>)>,
    /// What went another way than the scenario says.
    pub deviations: Vec<String>,
    /// How many records this was read from.
    pub records: u64,
}

/// An expectation, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// The inject that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// It, in words.
    pub text: String,
    /// Whether it was met.
    pub verdict: Verdict,
    /// The record that decides, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// How long after what it is measured from, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Why not, where it was missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
}

/// Whether an expectation was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Verdict {
    /// The record shows it.
    Met,
    /// It does not.
    Missed,
    /// The facilitator skipped its inject: it does not count.
    Skipped,
}

impl Fold {
    /// Takes the next record.
    ///
    /// # Errors
    /// When it does not fit those before it.
    pub fn take(&mut self, record: Record) -> Result<(), IllegalTransition> {
        let Record { envelope, event, .. } = &record;
        if let Event::Drill { scenario, .. } = event {
            self.scenario = Some(scenario.clone());
        }
        if let Event::Opened { plan, .. } = event {
            let plan = std::sync::Arc::new((**plan).clone());
            self.story.open(plan, envelope.wall, &envelope.actor);
        } else {
            self.story.written(envelope.seq, &envelope.actor);
            self.story.take(envelope.wall, event);
        }
        self.report.take(record)
    }

    /// The score; `None` where the records are not a drill's.
    pub fn finish(self) -> Option<Score> {
        let Self { report, story, scenario } = self;
        let text = scenario?;
        let scenario = check(&Source { name: "scenario".into(), text: text.clone() }).scenario?;
        let report = report.finish()?;
        let (begun, opened) = (story.begun?, story.opened?);
        let start = Happened { at: opened, record: 0, who: String::new(), what: Happening::Turned };
        let objectives: Vec<Judged> =
            scenario.objectives.iter().map(|wanted| judge(&story, wanted, &start)).collect();
        let decisions: Vec<Judged> =
            scenario.injects.iter().flat_map(|inject| decided(&story, inject)).collect();
        let all = || objectives.iter().chain(&decisions);
        let counted = all().filter(|judged| judged.verdict != Verdict::Skipped).count();
        let met = all().filter(|judged| judged.verdict == Verdict::Met).count();
        let before = millis(begun, opened);
        let reached = |name: &str| {
            let of = |credential: &report::Credential| {
                let milestone = credential.milestones.iter().find(|milestone| milestone.name == name)?;
                milestone.span.map(|span| span.start_ms + span.ms + before)
            };
            let all: Option<Vec<u64>> = report.credentials.iter().map(of).collect();
            all?.into_iter().max()
        };
        let done = decisions.iter().filter(|judged| judged.verdict == Verdict::Met);
        let times = vec![
            ("detect", Some(before)),
            ("contain", reached("contained")),
            ("replace", reached("replaced")),
            ("revoke", reached("revoked")),
            ("prove", reached("proved")),
            ("decide", done.filter_map(|judged| judged.after_ms).max()),
        ];
        let deviations = deviations(&scenario, &story);
        Some(Score {
            format: FORMAT,
            scenario: scenario.name.clone(),
            scenario_sha256: hex::encode(Sha256::digest(text.as_bytes())),
            run: report.run,
            begun,
            end: report.end,
            points: (met, counted),
            objectives,
            decisions,
            times,
            deviations,
            records: report.read.records,
        })
    }
}

fn millis(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(since(to, from).as_millis()).unwrap_or(u64::MAX)
}

fn decided(story: &Story, inject: &Inject) -> Vec<Judged> {
    let skipped = story.is_over(&inject.name);
    let judged = |wanted: &Expectation| {
        let judged = match story.injected(&inject.name) {
            Some(from) => judge(story, wanted, from),
            None if skipped => plain(wanted, Verdict::Skipped, None),
            None => plain(wanted, Verdict::Missed, Some("the inject did not happen")),
        };
        Judged { inject: Some(inject.name.clone()), ..judged }
    };
    inject.expect.iter().map(judged).collect()
}

fn plain(wanted: &Expectation, verdict: Verdict, why: Option<&'static str>) -> Judged {
    let text = wanted.text.clone();
    Judged { inject: None, text, verdict, record: None, after_ms: None, who: None, why }
}

/// Judges what should, or should not, be on the record after another record.
fn judge(story: &Story, wanted: &Expectation, from: &Happened) -> Judged {
    let Some(condition) = wanted.did.as_ref().or(wanted.never.as_ref()) else {
        return plain(wanted, Verdict::Missed, Some("nothing is expected"));
    };
    let found = story.first(condition, from.record + 1);
    let limit = wanted.within.map(|within| add(from.at, within.get()));
    let stop = wanted.before.as_ref().and_then(|before| story.first(before, from.record + 1));
    let late = |found: &Happened| limit.is_some_and(|limit| found.at > limit);
    let behind = |found: &Happened| stop.is_some_and(|stop| found.record >= stop.record);
    let counts = found.filter(|found| !late(found) && !behind(found));
    let why = match (wanted.did.is_some(), found) {
        (true, None) => Some("the record does not show it"),
        (true, Some(found)) if late(found) => Some("too late"),
        (true, Some(found)) if behind(found) => Some("not before what it had to precede"),
        (false, Some(_)) if counts.is_some() => Some("the record shows it"),
        _ => None,
    };
    let shown = if wanted.did.is_some() { found } else { counts };
    Judged {
        record: shown.map(|found| found.record),
        after_ms: shown.map(|found| millis(from.at, found.at)),
        who: shown.map(|found| found.who.clone()),
        ..plain(wanted, if why.is_none() { Verdict::Met } else { Verdict::Missed }, why)
    }
}

fn deviations(scenario: &Scenario, story: &Story) -> Vec<String> {
    let mut found = Vec::new();
    for happened in &story.happened {
        match &happened.what {
            Happening::Injected { name, by: Some(by) } => {
                found.push(format!("{by} let `{name}` happen by hand (record {})", happened.record));
            }
            Happening::Skipped { name, by } => {
                found.push(format!("{by} skipped `{name}` (record {})", happened.record));
            }
            _ => {}
        }
    }
    for inject in &scenario.injects {
        if !story.is_over(&inject.name) {
            found.push(format!("`{}` did not happen: its event did not come", inject.name));
        } else if !inject.choices.is_empty()
            && story.injected(&inject.name).is_some()
            && !story.answered(&inject.name)
        {
            found.push(format!("`{}` was not answered", inject.name));
        }
    }
    found
}

impl Score {
    /// Whether everything that counts was met.
    pub fn is_full(&self) -> bool {
        self.points.0 == self.points.1
    }

    /// The score as a person reads it. `earlier` are those of the same scenario, oldest first.
    pub fn render(&self, earlier: &[Score]) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, earlier);
        crate::text::sanitize_block(&out)
    }

    fn write(&self, out: &mut String, earlier: &[Score]) -> std::fmt::Result {
        let (met, of) = self.points;
        writeln!(out, "DRILL {}: {met} of {of} met", self.scenario)?;
        writeln!(out, "  run {} ({} records)", self.run, self.records)?;
        if self.end.is_none() {
            writeln!(out, "  The run is open: what has not happened yet counts as missed so far.")?;
        }
        for (title, list) in [("Objectives", &self.objectives), ("Decisions", &self.decisions)] {
            if list.is_empty() {
                continue;
            }
            writeln!(out, "\n{title}")?;
            for judged in list {
                judged.write(out)?;
            }
        }
        writeln!(out, "\nTimes, from the start of the drill")?;
        for (name, ms) in &self.times {
            let from = if *name == "decide" { " (the slowest decision, from its inject)" } else { "" };
            writeln!(out, "  {name:<8} {}{from}", words(*ms))?;
        }
        if !self.deviations.is_empty() {
            writeln!(out, "\nDeviations")?;
            for deviation in &self.deviations {
                writeln!(out, "  {deviation}")?;
            }
        }
        if !earlier.is_empty() {
            writeln!(out, "\nTrend")?;
            for score in earlier.iter().chain([self]) {
                let same = score.scenario_sha256 == self.scenario_sha256;
                let other = if same { "" } else { "  (another text of the scenario)" };
                let time = |name| score.times.iter().find(|(n, _)| *n == name).and_then(|(_, ms)| *ms);
                writeln!(
                    out,
                    "  {:.0}  {} of {}  contain {}  prove {}{other}",
                    score.begun,
                    score.points.0,
                    score.points.1,
                    words(time("contain")),
                    words(time("prove"))
                )?;
            }
        }
        Ok(())
    }
}

impl Judged {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let verdict: &str = self.verdict.into();
        let inject = self.inject.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        write!(out, "  {verdict:<8} {inject}{}", self.text)?;
        let mut more = Vec::new();
        more.extend(self.why.map(str::to_owned));
        more.extend(self.after_ms.map(|ms| format!("after {}", words(Some(ms)))));
        more.extend(self.who.as_ref().map(|who| format!("by {who}")));
        more.extend(self.record.map(|record| format!("record {record}")));
        if !more.is_empty() {
            write!(out, " ({})", more.join(", "))?;
        }
        writeln!(out)
    }
}

/// A time in words.
fn words(ms: Option<u64>) -> String {
    let Some(ms) = ms else { return "not reached".into() };
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
    }
}
