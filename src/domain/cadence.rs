//! How often a credential is rotated, as people write it: `90d`, `12w Europe/Berlin`, `0 9 1 * * Europe/Berlin`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDateTime, CronDateTime, Resolution, Weekday};
use jiff::civil::{Date, DateTime, date};
use jiff::{SignedDuration, ToSpan as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How often a credential is rotated, in the days of a time zone. Which zones there are depends on the machine,
/// so the zone is a name here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cadence {
    rule: Rule,
    zone: String,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// So many calendar days after the last rotation.
    Days(u16),
    /// At the next time of a cron expression.
    Cron(Box<croner::Cron>),
}

/// When a rotation is due, on the calendar and clock of the cadence's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// On this day.
    On(Date),
    /// At this time.
    At(DateTime),
}

/// The text is not a cadence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCadence {
    /// It has neither form.
    #[error("is not a cadence")]
    Form,
    /// No days, or more than ten years of them.
    #[error("is not a number of days from 1 to 3650")]
    Days,
    /// A cron expression without a time zone.
    #[error("does not name a time zone")]
    NoZone,
    /// What stands for the zone is not a name of one.
    #[error("does not end with the name of a time zone")]
    Zone,
    /// The cron expression cannot be read.
    #[error("is not a cron expression: {0}")]
    Cron(String),
    /// The cron expression has several times on one day.
    #[error("has several times on one day")]
    Often,
    /// The cron expression has no day that exists.
    #[error("never happens: no such day exists")]
    Never,
}

impl BadCadence {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Form => {
                "write days or weeks (90d, 12w), or a cron expression and its time zone (0 9 1 * * Europe/Berlin)"
            }
            Self::Days => "write the longest time between two rotations, such as 90d",
            Self::NoZone => "add the zone at its end: 0 9 1 * * Europe/Berlin",
            Self::Zone => "use a name of the IANA time zone database, such as Europe/Berlin or UTC",
            Self::Cron(_) => "write minute, hour, day of the month, month and day of the week: 0 9 1 * *",
            Self::Often => "write one minute and one hour: 0 9 1 * *",
            Self::Never => "use a day that exists; L is the last day of a month: 0 9 L * *",
        }
    }
}

/// The longest cadence, in days.
const MOST_DAYS: u16 = 3650;

impl Cadence {
    /// The name of its time zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// When the next rotation is due after one at `last`, a time in the cadence's zone. `None` past the end of the
    /// calendar.
    pub fn due(&self, last: DateTime) -> Option<Due> {
        match &self.rule {
            Rule::Days(days) => last.date().checked_add(i64::from(*days).days()).ok().map(Due::On),
            Rule::Cron(cron) => next(cron, last).map(Due::At),
        }
    }

    /// The most days between two rotations that keep to the cadence. Of a cron expression, the longest of its gaps
    /// in the 28 years after which the days of the week are on the same dates again.
    pub fn most_days(&self) -> i64 {
        let Rule::Cron(cron) = &self.rule else {
            let Rule::Days(days) = self.rule else { return 0 };
            return i64::from(days);
        };
        let (mut at, end) = (FIRST, date(2028, 1, 1).at(0, 0, 0, 0));
        let mut most = 0;
        while at < end {
            let Some(then) = next(cron, at) else { return i64::from(MOST_DAYS) };
            // Before the first time there is none to count from.
            if at != FIRST {
                most = most.max(days(at.date(), then.date()));
            }
            at = then;
        }
        most
    }
}

/// From when on a cron expression is tried: nothing depends on the year but leap days and days of the week.
const FIRST: DateTime = date(2000, 1, 1).at(0, 0, 0, 0);

/// How many days from one date to another.
pub fn days(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours() / 24
}

fn next(cron: &croner::Cron, after: DateTime) -> Option<DateTime> {
    cron.find_next_occurrence(&Wall(after), false).ok().map(|found| found.0)
}

impl FromStr for Cadence {
    type Err = BadCadence;

    fn from_str(text: &str) -> Result<Self, BadCadence> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (rule, zone) = match words[..] {
            [days] => (Rule::Days(read_days(days)?), "UTC"),
            [days, zone] => (Rule::Days(read_days(days)?), zone),
            [_, _, _, _, _] => return Err(BadCadence::NoZone),
            [.., zone] if words.len() == 6 => (Rule::Cron(Box::new(read_cron(&words[..5])?)), zone),
            _ => return Err(BadCadence::Form),
        };
        if !is_zone_name(zone) {
            return Err(BadCadence::Zone);
        }
        Ok(Self { rule, zone: zone.to_owned(), text: words.join(" ") })
    }
}

/// Whether a text can be the name of a time zone. Whether there is such a zone only the machine knows.
pub fn is_zone_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.len() <= 64 && text.chars().all(plain)
}

fn read_days(text: &str) -> Result<u16, BadCadence> {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(BadCadence::Form)?;
    let days_each = match unit {
        "d" => 1,
        "w" => 7,
        _ => return Err(BadCadence::Form),
    };
    if number.is_empty() || !number.bytes().all(|c| c.is_ascii_digit()) {
        return Err(BadCadence::Form);
    }
    let days = number.parse::<u16>().ok().and_then(|number| number.checked_mul(days_each));
    days.filter(|days| (1..=MOST_DAYS).contains(days)).ok_or(BadCadence::Days)
}

fn read_cron(fields: &[&str]) -> Result<croner::Cron, BadCadence> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(&fields.join(" ")).map_err(|error| BadCadence::Cron(error.to_string()))?;
    // A cadence is in days.
    if !fields[..2].iter().all(|field| field.bytes().all(|c| c.is_ascii_digit())) {
        return Err(BadCadence::Often);
    }
    next(&cron, FIRST).map(|_| cron).ok_or(BadCadence::Never)
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Cadence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cadence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format_args!("`{text}` {error}")))
    }
}

impl JsonSchema for Cadence {
    fn schema_name() -> Cow<'static, str> {
        "Cadence".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Days or weeks between two rotations, such as 90d or 12w, or a cron expression; then a time zone.",
        })
    }
}

/// A time on a wall, for `croner`. It knows no zone: what becomes of a time that a zone's clock skips or shows
/// twice is decided where the zone is known.
#[derive(Clone)]
struct Wall(DateTime);

impl CronDateTime for Wall {
    fn to_civil(&self) -> CivilDateTime {
        let Self(at) = self;
        let two = |n: i8| u32::from(n.unsigned_abs());
        let civil = CivilDateTime::from_ymd_hms_opt(
            i32::from(at.year()),
            two(at.month()),
            two(at.day()),
            two(at.hour()),
            two(at.minute()),
            two(at.second()),
        );
        civil.expect("a date of one calendar is one of the other")
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(u32::from(self.0.weekday().to_sunday_zero_offset().unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let small = |n: u32| i8::try_from(n).map_err(|_| CronError::InvalidTime);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (small(civil.month())?, small(civil.day())?);
        let (hour, minute, second) = (small(civil.hour())?, small(civil.minute())?, small(civil.second())?);
        let at = DateTime::new(year, month, day, hour, minute, second, 0);
        at.map(|at| Resolution::Single(Self(at))).map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Cadence {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn due(text: &str, last: &str) -> String {
        match read(text).due(last.parse().expect("a time")).expect("a day") {
            Due::On(day) => day.to_string(),
            Due::At(at) => at.to_string(),
        }
    }

    #[test]
    fn days_are_days_of_the_calendar() {
        assert_eq!(due("90d", "2026-01-31T23:59:59"), "2026-05-01");
        assert_eq!(due("1d", "2028-02-28T00:00:00"), "2028-02-29");
        assert_eq!(due("1d", "2026-02-28T00:00:00"), "2026-03-01");
        assert_eq!(due("366d", "2027-03-01T12:00:00"), "2028-03-01");
        assert_eq!(due("52w Europe/Berlin", "2026-12-31T12:00:00"), "2027-12-30");
    }

    #[test]
    fn a_cron_expression_knows_long_and_short_months() {
        assert_eq!(due("0 9 31 * * UTC", "2026-01-31T09:00:00"), "2026-03-31T09:00:00");
        assert_eq!(due("0 9 L * * UTC", "2026-01-31T09:00:00"), "2026-02-28T09:00:00");
        assert_eq!(due("0 9 29 2 * UTC", "2026-01-31T09:00:00"), "2028-02-29T09:00:00");
        assert_eq!(due("30 2 1 1,4,7,10 * Europe/Berlin", "2026-11-27T10:00:00"), "2027-01-01T02:30:00");
        assert_eq!(due("0 9 * * MON#1 UTC", "2026-11-27T10:00:00"), "2026-12-07T09:00:00");
        // Not the moment itself, and not one that is only part of a second away.
        assert_eq!(due("0 9 1 * * UTC", "2026-12-01T09:00:00"), "2027-01-01T09:00:00");
        assert_eq!(due("0 9 1 * * UTC", "2026-12-01T08:59:59.5"), "2026-12-01T09:00:00");
    }

    #[test]
    fn the_longest_time_between_two_rotations() {
        for (text, most) in [
            ("90d", 90),
            ("2w UTC", 14),
            ("0 9 1 * * UTC", 31),
            ("0 9 31 * * UTC", 61),
            ("0 9 * * 1 UTC", 7),
            ("0 9 1 1,7 * UTC", 184),
            ("0 9 1 1 * UTC", 366),
        ] {
            assert_eq!(read(text).most_days(), most, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_cadence_says_why() {
        let bad = |text: &str| text.parse::<Cadence>().expect_err(text);
        for text in ["0d", "00d", "3651d", "99999999999d", "600w"] {
            assert_eq!(bad(text), BadCadence::Days, "{text}");
        }
        for text in ["", "90", "d", "-1d", "1.5d", "90 d UTC", "3mo", "90m", "1h", "a b c d", "é", "1é"] {
            assert_eq!(bad(text), BadCadence::Form, "{text}");
        }
        assert_eq!(bad("0 9 1 * *"), BadCadence::NoZone);
        for text in ["90d ../etc", "90d /UTC", "0 9 1 * * 5", "90d Europe/Bärlin"] {
            assert_eq!(bad(text), BadCadence::Zone, "{text}");
        }
        for text in ["* * * * * UTC", "*/5 9 * * * UTC", "0 9,17 * * * UTC", "0 9-17 1 * * UTC"] {
            assert_eq!(bad(text), BadCadence::Often, "{text}");
        }
        for text in ["0 9 30 2 * UTC", "0 9 31 4,6 * UTC"] {
            assert_eq!(bad(text), BadCadence::Never, "{text}");
        }
        assert!(matches!(bad("0 25 1 * * UTC"), BadCadence::Cron(_)));
    }

    #[test]
    fn writes_what_it_read() {
        for text in ["90d", "12w Europe/Berlin", "0 9 L * * America/Argentina/Buenos_Aires"] {
            let json = serde_json::to_string(&read(text)).expect("JSON");
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Cadence>(&json).expect("own text"), read(text));
        }
        assert_eq!(read("  90d   UTC ").to_string(), "90d UTC");
    }
}
