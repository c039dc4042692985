//! One credential on the calendar: when it was last rotated, when it is due, and where it stands today.

use std::cmp::Ordering;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};
use serde::Serialize;

use super::evidence::{Evidence, Source};
use crate::domain::{Cadence, Due, days};
use crate::text::{counted, sanitize};

/// How far another machine's clock may be ahead of ours: evidence of that little time ahead is of now.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A credential that is to be rotated.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The runbook that rotates it.
    pub runbook: String,
    /// The environment.
    pub environment: String,
    /// The credential.
    pub credential: String,
    /// Who answers for the runbook.
    pub owner: Option<String>,
    /// The run that is open for it.
    pub open: Option<String>,
    /// The cadence, and its zone's rules; `None` where the runbook has none.
    pub cadence: Option<(Cadence, TimeZone)>,
    /// Everything that says when it was last rotated.
    pub evidence: Vec<Evidence>,
    /// What was found beside the times, each a sentence.
    pub findings: Vec<String>,
}

/// Where a credential stands today, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Standing {
    /// The evidence cannot be true: a rotation in the future.
    Error,
    /// The day on which it was due is over.
    Overdue,
    /// There is no evidence that it was ever rotated.
    Unknown,
    /// It is due today.
    Due,
    /// It is due on a later day.
    Upcoming,
    /// Its runbook has no cadence.
    NoCadence,
}

/// A line of the calendar.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The runbook that rotates it.
    pub runbook: String,
    /// The environment.
    pub environment: String,
    /// The credential.
    pub credential: String,
    /// Who answers for the runbook.
    pub owner: Option<String>,
    /// The cadence, as the runbook has it.
    pub cadence: Option<String>,
    /// Where it stands today.
    pub status: Standing,
    /// When it is due, in the cadence's zone: midnight of the day, or the cron expression's time.
    pub due: Option<ZonedDateTime>,
    /// Whether the cadence names a time of the day, and not only the day.
    pub timed: bool,
    /// How many days are left; negative when it is overdue.
    pub days: Option<i64>,
    /// What counts as its last rotation.
    pub last: Option<Evidence>,
    /// Everything that says when it was last rotated.
    pub evidence: Vec<Evidence>,
    /// What is wrong or worth knowing, each a sentence.
    pub findings: Vec<String>,
}

impl Entry {
    /// The line of a credential as it is `now`. All days are those of the cadence's zone.
    pub fn new(rotation: Rotation, now: Timestamp) -> Self {
        let Rotation { runbook, environment, credential, owner, open, cadence, evidence, mut findings } =
            rotation;
        let last = counts(&evidence).cloned();
        let zone = cadence.as_ref().map_or(TimeZone::UTC, |(_, zone)| zone.clone());
        let future = evidence.iter().find(|evidence| evidence.at > now + SKEW);
        if let Some(Evidence { source, of, at }) = future {
            findings.insert(0, format!("the last rotation is in the future: {at:.0} ({source} {of})"));
        }
        findings.extend(disagreement(&evidence, &zone));
        findings.extend(open.map(|run| format!("run {run} is open: stanch status {run}")));
        let (mut due, mut timed) = (None, false);
        if let (Some((cadence, zone)), Some(last), None) = (&cadence, &last, future) {
            match cadence.due(last.at.to_zoned_datetime(zone.clone()).datetime()) {
                Some(Due::On(day)) => due = day.to_zoned_datetime(zone.clone()).ok(),
                // A time that the clock skips is moved on, one that it shows twice is the first of the two.
                Some(Due::At(at)) => (due, timed) = (at.to_zoned_datetime(zone.clone()).ok(), true),
                None => {}
            }
        }
        let today = now.to_zoned_datetime(zone).date();
        let left = due.as_ref().map(|due| days(today, due.date()));
        let status = match (&cadence, left) {
            _ if future.is_some() => Standing::Error,
            (None, _) => Standing::NoCadence,
            (Some(_), None) => Standing::Unknown,
            (Some(_), Some(left)) => match left.cmp(&0) {
                Ordering::Less => Standing::Overdue,
                Ordering::Equal => Standing::Due,
                Ordering::Greater => Standing::Upcoming,
            },
        };
        let cadence = cadence.map(|(cadence, _)| cadence.to_string());
        Self {
            runbook,
            environment,
            credential,
            owner: owner.map(|owner| sanitize(&owner)),
            cadence,
            status,
            due,
            timed,
            days: left,
            last,
            evidence,
            findings,
        }
    }

    /// Whether it is not known to have been rotated in time.
    pub fn is_late(&self) -> bool {
        matches!(self.status, Standing::Error | Standing::Overdue | Standing::Unknown)
    }

    /// When it is due, as people say it.
    pub fn when(&self) -> String {
        let left = self.days.unwrap_or_default();
        let days = || counted(left.unsigned_abs(), "day");
        match self.status {
            Standing::Overdue => format!("{} ago", days()),
            Standing::Due => "today".to_owned(),
            Standing::Upcoming => format!("in {}", days()),
            Standing::Unknown => "no evidence of a rotation".to_owned(),
            Standing::Error => "see below".to_owned(),
            Standing::NoCadence => "no cadence".to_owned(),
        }
    }

    /// By what to sort: the worst and the earliest first.
    pub fn rank(&self) -> impl Ord + use<'_> {
        (self.status, self.days, &self.runbook, &self.environment, &self.credential)
    }
}

/// The evidence that counts. The issuer knows how old the credential in use is. Else it is the older of what a run
/// did and of what a store says: a store is also written for other reasons, and a run's credential may have been
/// replaced by an older one since.
fn counts(evidence: &[Evidence]) -> Option<&Evidence> {
    let issuer = evidence.iter().filter(|evidence| evidence.source == Source::Issuer).max_by_key(|e| e.at);
    issuer.or_else(|| evidence.iter().min_by_key(|evidence| evidence.at))
}

/// Two pieces of evidence that are days apart: the credential was changed in another way than by a run.
fn disagreement(evidence: &[Evidence], zone: &TimeZone) -> Option<String> {
    let day = |evidence: &Evidence| evidence.at.to_zoned_datetime(zone.clone()).date();
    let (first, last) =
        (evidence.iter().min_by_key(|e| e.at)?, evidence.iter().max_by_key(|evidence| evidence.at)?);
    // A run that goes past midnight is no disagreement.
    (days(day(first), day(last)) > 1).then(|| {
        let said = |e: &Evidence| format!("{} {} says {}", e.source, e.of, day(e));
        format!("the evidence disagrees: {}, {}", said(first), said(last))
    })
}
