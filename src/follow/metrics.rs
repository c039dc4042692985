//! All runs as metrics, for a dashboard and for alerts.
//!
//! Everything is a gauge: it is counted from the runs that are kept, and those may become fewer, which a counter
//! may not. Labels are the runbook and the environment, never a run, a credential or a host: the number of series
//! stays small, and a metrics server learns no names. Runs of the sandbox are there too: they alone have the
//! environment `sandbox`, so that an alert leaves them out by that label.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use strum::IntoEnumIterator as _;

use super::report::Report;
use crate::rotation::End;

/// What all runs amount to.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    groups: BTreeMap<(String, String), Group>,
    unreadable: u32,
}

/// The runs of one runbook in one environment.
#[derive(Debug, Clone, Default)]
struct Group {
    ended: BTreeMap<String, u32>,
    open: u32,
    oldest: Option<Timestamp>,
    unknown: usize,
    done: Option<Done>,
}

/// The run that was done last.
#[derive(Debug, Clone)]
struct Done {
    at: Timestamp,
    took_ms: u64,
    clocks: BTreeMap<&'static str, u64>,
    /// When the last credential reached each milestone; absent where one of them did not.
    reached: BTreeMap<&'static str, u64>,
}

/// How a run ended, as the value of a label.
fn label(end: End) -> String {
    end.to_string().replace('-', "_")
}

/// A metric with one series a group: its name, its help, and its value.
type Row = (&'static str, &'static str, fn(&Group) -> Option<f64>);

const ROWS: [Row; 11] = [
    ("stanch_open_runs", "Runs that have not ended", |group| Some(f64::from(group.open))),
    ("stanch_open_run_start_timestamp_seconds", "When the oldest open run began", |group| {
        group.oldest.map(seconds_of)
    }),
    ("stanch_unknown_outcomes", "Steps of open runs whose outcome is unknown", |group| {
        Some(group.unknown as f64)
    }),
    ("stanch_last_done_timestamp_seconds", "When a run was last done, with proof", |group| {
        group.done.as_ref().map(|done| seconds_of(done.at))
    }),
    ("stanch_run_duration_seconds", "How long the last done run took", |group| {
        group.done.as_ref().map(|done| seconds(done.took_ms))
    }),
    (
        "stanch_run_exposure_seconds",
        "How long the old credential could be used in the last done run",
        |group| group.clock("exposure"),
    ),
    (
        "stanch_run_outage_seconds",
        "How long consumers could read no valid credential in the last done run",
        |group| group.clock("outage"),
    ),
    (
        "stanch_time_to_contain_seconds",
        "Time until every old credential was disabled or revoked in the last done run",
        |group| group.reached("contained"),
    ),
    (
        "stanch_time_to_replace_seconds",
        "Time until every store handed out the new credential in the last done run",
        |group| group.reached("replaced"),
    ),
    (
        "stanch_time_to_revoke_seconds",
        "Time until every old credential was revoked in the last done run",
        |group| group.reached("revoked"),
    ),
    (
        "stanch_time_to_proof_seconds",
        "Time until every old credential was proved dead in the last done run",
        |group| group.reached("proved"),
    ),
];

impl Metrics {
    /// Counts a run.
    pub fn take(&mut self, report: &Report) {
        let key = (report.runbook.clone(), report.environment.clone());
        let group = self.groups.entry(key).or_default();
        // Each has a series from the first run on, so that an alert sees the step from 0 to 1.
        for end in End::iter() {
            group.ended.entry(label(end)).or_default();
        }
        match report.end {
            None => {
                group.open += 1;
                group.unknown += report.unsettled;
                group.oldest = [group.oldest, Some(report.opened)].into_iter().flatten().min();
            }
            Some(end) => {
                *group.ended.entry(label(end)).or_default() += 1;
                let done = (end == End::Done).then(|| Done::of(report)).flatten();
                if done.as_ref().map(|d| d.at) > group.done.as_ref().map(|d| d.at) {
                    group.done = done;
                }
            }
        }
    }

    /// Counts a run whose record is not valid.
    pub fn take_unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// The metrics as text: Prometheus' text format and OpenMetrics at once, which for gauges are the same. Equal
    /// runs give equal text.
    pub fn write(&self, now: Timestamp) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Written { metrics: self.clone(), now }));
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("writing into a string does not fail");
        out
    }
}

impl Group {
    fn clock(&self, name: &str) -> Option<f64> {
        self.done.as_ref()?.clocks.get(name).copied().map(seconds)
    }

    fn reached(&self, name: &str) -> Option<f64> {
        self.done.as_ref()?.reached.get(name).copied().map(seconds)
    }
}

impl Done {
    fn of(report: &Report) -> Option<Self> {
        let clocks = report.clocks.iter().filter_map(|clock| Some((clock.name, clock.span?.ms)));
        let mut reached: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for milestone in report.credentials.iter().flat_map(|credential| &credential.milestones) {
            let at = milestone.span.map(|span| span.ms);
            let latest = reached.entry(milestone.name).or_insert(at);
            *latest = latest.zip(at).map(|(a, b)| a.max(b));
        }
        Some(Self {
            at: report.read.last?,
            took_ms: report.took_ms,
            clocks: clocks.collect(),
            reached: reached.into_iter().filter_map(|(name, at)| Some((name, at?))).collect(),
        })
    }
}

/// The metrics, and when they are written.
#[derive(Debug)]
struct Written {
    metrics: Metrics,
    now: Timestamp,
}

impl Collector for Written {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let single = [
            ("stanch_metrics_timestamp_seconds", "When this was written", seconds_of(self.now)),
            (
                "stanch_unreadable_runs",
                "Runs whose record is not valid; they are counted nowhere else",
                f64::from(self.metrics.unreadable),
            ),
        ];
        for (name, help, value) in single {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let mut family = encoder.encode_descriptor(
            "stanch_runs",
            "Runs that have ended, by how",
            None,
            MetricType::Gauge,
        )?;
        for ((runbook, environment), group) in &self.metrics.groups {
            for (end, count) in &group.ended {
                let labels =
                    [("runbook", runbook.as_str()), ("environment", environment), ("end", end.as_str())];
                ConstGauge::new(f64::from(*count)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in ROWS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((runbook, environment), group) in &self.metrics.groups {
                let Some(value) = value(group) else { continue };
                let labels = [("runbook", runbook.as_str()), ("environment", environment)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn seconds_of(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
