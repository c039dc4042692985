//! Lengths of time as people write them: `90s`, `15m`, `1h30m`, `7d`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time with a unit. A bare number is refused: nobody should have to guess whether
/// `15` means seconds or minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

/// The text is not a length of time.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a duration; write a number with a unit, such as 90s, 15m, 2h or 7d")]
pub struct BadPeriod(String);

/// Longer than any rotation; keeps arithmetic on moments far from its ends.
const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Period {
    /// The pattern of the accepted texts, as editors and the structural check use it. A runbook may
    /// also take a period from its environment.
    pub const PATTERN: &'static str = r"^(\d+(ms|s|m|h|d)(\d+(ms|s|m|h|d))*|\$\{env\..+\})$";

    /// A period of whole seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// A period of milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// As the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = BadPeriod;

    fn from_str(text: &str) -> Result<Self, BadPeriod> {
        let bad = || BadPeriod(text.to_owned());
        // jiff also takes ISO 8601, spaces, commas and words; one spelling is enough here.
        let plain = text.bytes().all(|c| c.is_ascii_digit() || b"msdh".contains(&c));
        if !plain || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(bad());
        }
        let span: Span = text.parse().map_err(|_| bad())?;
        let signed: SignedDuration =
            span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
        let duration = Duration::try_from(signed).map_err(|_| bad())?;
        if duration > MAX { Err(bad()) } else { Ok(Self(duration)) }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit, such as 90s, 15m, 1h30m or 7d.",
            "pattern": Self::PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_same_texts() {
        for text in ["0s", "250ms", "90s", "15m", "1h30m", "7d", "1d1h"] {
            let period: Period = text.parse().expect(text);
            let again: Period = period.to_string().parse().expect("own output");
            assert_eq!(period, again, "{text}");
        }
        assert_eq!("90s".parse::<Period>().expect("90s").to_string(), "1m30s");
        assert_eq!("7d".parse::<Period>().expect("7d").get(), Duration::from_secs(604_800));
    }

    #[test]
    fn refuses_what_is_ambiguous_or_absurd() {
        for text in ["", "15", "m", "-5m", "5 m", "PT5M", "1y", "5 minutes", "99999999d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
