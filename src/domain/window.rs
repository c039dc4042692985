//! Deployment windows, as people write them: `days: [mon, tue]`, `from: 09:00`, `to: 16:00`, in a time zone.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time on certain days in which consumers may be moved to the new credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it opens; every day when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Weekday>>,
    /// When it opens, such as `09:00`.
    pub from: TimeOfDay,
    /// When it closes, such as `16:00`: on the next day, where that is not later than `from`.
    pub to: TimeOfDay,
    /// The IANA time zone of its days and times, such as `Europe/Berlin`.
    pub zone: String,
    /// The first day on which it opens, such as `2026-12-01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Day>,
    /// The last day on which it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Day>,
}

/// Days on which no window opens, such as those around the end of the year.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// The first day.
    pub first: Day,
    /// The last day.
    pub last: Day,
    /// The IANA time zone of these days, such as `Europe/Berlin`.
    pub zone: String,
    /// Why.
    pub reason: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    /// All of them, from Monday on.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The day of the week of a date.
    pub fn of(date: Date) -> Self {
        let at = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        Self::ALL[at % Self::ALL.len()]
    }

    /// As runbooks have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

/// A time of the day from 00:00 to 24:00, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

/// The minutes of a day.
const DAY: u16 = 24 * 60;

impl TimeOfDay {
    /// The time on a clock; `None` at the end of the day.
    pub fn clock(self) -> Option<Time> {
        let two = |n: u16| i8::try_from(n).ok();
        (self.0 < DAY).then(|| Time::new(two(self.0 / 60)?, two(self.0 % 60)?, 0, 0).ok()).flatten()
    }
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub Date);

/// The text is not a time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a time of the day; write hours and minutes, such as 09:00")]
pub struct BadTime;

/// The text is not a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a day of the calendar; write year, month and day, such as 2026-12-24")]
pub struct BadDay;

impl FromStr for TimeOfDay {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let (hours, minutes) = text.split_once(':').ok_or(BadTime)?;
        let two = |text: &str| {
            let plain = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
            plain.then(|| text.parse::<u16>().ok()).flatten().ok_or(BadTime)
        };
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        let at = hours * 60 + minutes;
        if minutes < 60 && at <= DAY { Ok(Self(at)) } else { Err(BadTime) }
    }
}

impl FromStr for Day {
    type Err = BadDay;

    fn from_str(text: &str) -> Result<Self, BadDay> {
        // jiff also takes times, zones and years of another length.
        let plain = text.len() == 10 && text.bytes().all(|c| c.is_ascii_digit() || c == b'-');
        if plain { text.parse().map(Self).map_err(|_| BadDay) } else { Err(BadDay) }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// In words for people: `mon, tue 09:00-16:00 Europe/Berlin`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { days, from, to, zone, first, last } = self;
        match days {
            None => f.write_str("every day")?,
            Some(days) => {
                let names: Vec<&str> = days.iter().map(|day| day.name()).collect();
                f.write_str(&names.join(", "))?;
            }
        }
        let next = if to <= from { " (next day)" } else { "" };
        write!(f, " {from}-{to}{next} {zone}")?;
        match (first, last) {
            (None, None) => Ok(()),
            (Some(first), None) => write!(f, ", from {first} on"),
            (None, Some(last)) => write!(f, ", until {last}"),
            (Some(first), Some(last)) => write!(f, ", from {first} to {last}"),
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, zone, reason } = self;
        write!(f, "{first} to {last} {zone} ({reason})")
    }
}

/// When cutover may begin, as far as deployment windows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// Now.
    #[default]
    Now,
    /// Not before this moment.
    At(Timestamp),
    /// At no moment to come: every window is over.
    Never,
}

/// A type whose text is its `Display`, and is read by its `FromStr`.
macro_rules! as_text {
    ($type:ident, $what:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(|error| serde::de::Error::custom(format_args!("`{text}` {error}")))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $what })
            }
        }
    };
}

as_text!(TimeOfDay, "Hours and minutes, such as 09:00; 24:00 is the end of the day.");
as_text!(Day, "Year, month and day, such as 2026-12-24.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_is_hours_and_minutes() {
        for good in ["00:00", "09:05", "23:59", "24:00"] {
            assert_eq!(good.parse::<TimeOfDay>().expect(good).to_string(), good);
        }
        for bad in
            ["", "9:00", "09:60", "24:01", "25:00", "09", "09:00:00", "-1:00", "09:0x", "+9:00", "é9:00"]
        {
            assert_eq!(bad.parse::<TimeOfDay>(), Err(BadTime), "{bad}");
        }
        let clock = |text: &str| text.parse::<TimeOfDay>().expect(text).clock();
        assert_eq!(clock("09:05"), Time::new(9, 5, 0, 0).ok());
        assert_eq!(clock("24:00"), None);
    }

    #[test]
    fn a_day_exists() {
        assert_eq!("2028-02-29".parse::<Day>().expect("a leap day").to_string(), "2028-02-29");
        for bad in
            ["2026-02-29", "2026-13-01", "26-01-01", "2026-1-1", "2026-01-01T00:00", "+02026-01-01", ""]
        {
            assert_eq!(bad.parse::<Day>(), Err(BadDay), "{bad}");
        }
    }

    #[test]
    fn a_window_is_read_and_said_in_words() {
        let read = |text: &str| serde_json::from_str::<Window>(text).expect(text);
        let day = r#"{"days":["mon","fri"],"from":"09:00","to":"16:00","zone":"Europe/Berlin"}"#;
        assert_eq!(read(day).to_string(), "mon, fri 09:00-16:00 Europe/Berlin");
        assert_eq!(serde_json::to_string(&read(day)).expect("JSON"), day);
        let night = r#"{"from":"22:00","to":"04:00","zone":"UTC","first":"2026-12-01","last":"2026-12-05"}"#;
        assert_eq!(
            read(night).to_string(),
            "every day 22:00-04:00 (next day) UTC, from 2026-12-01 to 2026-12-05"
        );
        assert_eq!(Weekday::of(jiff::civil::date(2026, 11, 29)), Weekday::Sun);
        assert_eq!(Weekday::of(jiff::civil::date(2026, 11, 30)), Weekday::Mon);
    }
}
