//! What the answers of an API say of a token: its id, its life, its times.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::calls::spec::{Inspect, Sign};
use crate::domain::Life;
use crate::kind::api::client::{Ask, at, unexpected};
use crate::provider::outcome::CallError;

/// Longer is no id.
const LONGEST_ID: usize = 256;

/// A token's id, a string or a number.
pub(super) fn id(document: &Value, pointer: &str, ask: &Ask) -> Result<String, CallError> {
    let found = match at(document, pointer, ask)? {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => return Err(unexpected(ask, pointer, "has something that is not an id")),
    };
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if found.is_empty()
        || found.len() > LONGEST_ID
        || found.contains(odd)
        || matches!(found.as_str(), "." | "..")
    {
        return Err(unexpected(ask, pointer, "has something that is not an id"));
    }
    Ok(found)
}

/// Whether a response has one of the values of a sign. What is not there at all is an error.
pub(super) fn shows(document: &Value, sign: &Sign, ask: &Ask) -> Result<bool, CallError> {
    Ok(sign.values().contains(at(document, &sign.at, ask)?))
}

/// What a success says of a token's life.
pub(super) fn life(document: &Value, inspect: &Inspect, ask: &Ask) -> Result<Life, CallError> {
    let signs = [
        (inspect.gone.as_ref(), Life::Gone),
        (inspect.disabled.as_ref(), Life::Disabled),
        (Some(&inspect.alive), Life::Active),
    ];
    for (sign, life) in signs {
        if let Some(sign) = sign
            && shows(document, sign, ask)?
        {
            return Ok(life);
        }
    }
    Err(unexpected(ask, &inspect.alive.at, "has neither the value of `alive` nor that of another state"))
}

/// A time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) at: Timestamp,
    /// Whether it is to the second, and not a day.
    pub(super) exact: bool,
}

/// The time at a pointer: RFC 3339, a date (its first minute, UTC), or seconds. `None` for `null`.
pub(super) fn time(document: &Value, pointer: &str, ask: &Ask) -> Result<Option<Time>, CallError> {
    let found = match at(document, pointer, ask)? {
        Value::Null => return Ok(None),
        Value::Number(number) => {
            number.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok()).map(exact)
        }
        Value::String(text) => text.parse::<Timestamp>().ok().map(exact).or_else(|| day(text)),
        _ => None,
    };
    found.map(Some).ok_or_else(|| unexpected(ask, pointer, "has something that is not a time"))
}

fn exact(at: Timestamp) -> Time {
    Time { at, exact: true }
}

fn day(text: &str) -> Option<Time> {
    // `2026-12-01T10:00` is a date with a time in no zone, and not a date.
    let date: Date = text.parse().ok().filter(|_| text.len() == "2026-12-01".len())?;
    Some(Time { at: format!("{date}T00:00:00Z").parse().ok()?, exact: false })
}

/// Whether a shortened form, as a list shows it, is this secret's: its beginning and its end, around dots or asterisks.
pub(super) fn is_short_for(shown: &str, secret: &str) -> bool {
    let Some((from, length)) = ["...", "…", "***"].iter().find_map(|gap| Some((shown.find(gap)?, gap.len())))
    else {
        return false;
    };
    let head = &shown[..from];
    let tail = shown[from + length..].trim_start_matches(['.', '*', '…']);
    // Fewer characters would be many keys'.
    !tail.is_empty()
        && head.len() + tail.len() >= 6
        && secret.len() > head.len() + tail.len()
        && secret.starts_with(head)
        && secret.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::HttpMethod;

    fn ask() -> Ask {
        Ask { method: HttpMethod::Get, path: "/t".into(), query: Vec::new(), body: None, changes: false }
    }

    #[test]
    fn a_time_is_a_floor_in_utc_and_what_is_none_is_an_error() {
        let seconds = |value: Value| {
            let found = time(&json!({ "t": value }), "/t", &ask());
            found.map(|time| time.map(|time| (time.at.as_second(), time.exact)))
        };
        let midnight = 1_796_083_200;
        assert_eq!(seconds(json!("2026-12-01")).ok(), Some(Some((midnight, false))));
        assert_eq!(seconds(json!("2026-12-01T01:00:00+01:00")).ok(), Some(Some((midnight, true))));
        assert_eq!(seconds(json!(midnight)).ok(), Some(Some((midnight, true))));
        assert_eq!(seconds(Value::Null).ok(), Some(None));
        for wrong in [json!("soon"), json!("2026-12-01T00:00"), json!(true), json!(1.5), json!("")] {
            let error = seconds(wrong.clone()).expect_err("not a time");
            assert!(error.message.contains("GET /t") && error.message.contains("`/t`"), "{wrong}: {error:?}");
        }
        let error = time(&json!({}), "/gone", &ask()).expect_err("nothing is there");
        assert!(error.message.contains("`/gone`") && !error.in_doubt, "{error:?}");
    }

    #[test]
    fn an_id_is_a_word_or_a_number() {
        let read = |value: Value| id(&json!({ "id": value }), "/id", &ask());
        assert_eq!(read(json!(42)).ok().as_deref(), Some("42"));
        assert_eq!(read(json!("key_a-1")).ok().as_deref(), Some("key_a-1"));
        for wrong in [
            json!(""),
            json!("a b"),
            json!("\u{1b}[1m"),
            json!(-1),
            json!(1.5),
            json!(".."),
            json!("x".repeat(257)),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_recognised_by_its_ends_only_where_they_say_enough() {
        let secret = "sk-admin-abcdefghijkl";
        for shown in ["sk-admin...jkl", "sk-admin…ijkl", "sk-admin*******kl"] {
            assert!(is_short_for(shown, secret), "{shown}");
        }
        for shown in ["sk-admin...xyz", "...jkl", "sk-admin...", "sk-admin-abcdefghijkl", "sk...l", ""] {
            assert!(!is_short_for(shown, secret), "{shown}");
        }
    }
}
