//! A number from a monitoring system, held against bounds.
//!
//! No data is never a pass: NaN once advanced a canary, and an empty vector crashed another's
//! analysis. What is not a number is *inconclusive*.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::{Check, ErrorKind, Judgement, Verdict};
use crate::provider::http::call::ASK_TIMEOUT;
use crate::provider::http::transport::Transport;
use crate::provider::http::{at_pointer, safe_url};
use crate::provider::streak::{Streak, told};
use crate::provider::{CallError, Gate};

/// Reads a number by JSON pointer.
#[derive(Debug)]
pub struct HttpGate {
    transport: Arc<Transport>,
    url: String,
    pointer: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
    streak: Streak,
}

impl HttpGate {
    /// Passes while the number at `pointer` stands within the bounds.
    pub fn new(
        transport: Arc<Transport>,
        url: String,
        pointer: String,
        at_most: Option<f64>,
        at_least: Option<f64>,
        failures: u32,
    ) -> Self {
        Self { transport, url, pointer, at_most, at_least, streak: Streak::new(failures) }
    }

    async fn look(&self) -> Result<Judgement, CallError> {
        let what = safe_url(&self.url);
        let request = http::Request::get(&self.url)
            .body(Vec::new())
            .map_err(|_| CallError::rejected(ErrorKind::Invalid, format!("{what} is not an address")))?;
        let reply = self.transport.send(request, Some(ASK_TIMEOUT)).await.map_err(CallError::read_only)?;
        if !reply.status.is_success() {
            let message = format!("{what} answered {}", reply.status.as_u16());
            return Err(CallError::rejected(ErrorKind::NoAnswer, message));
        }
        let value = at_pointer(&reply, &self.pointer);
        Ok(hold(value.as_ref(), &self.pointer, self.at_most, self.at_least))
    }
}

#[async_trait]
impl Gate for HttpGate {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        vec![told(name, self.look().await)]
    }

    async fn evaluate(&self) -> Judgement {
        match self.look().await {
            Ok(judgement) => self.streak.count(judgement),
            Err(error) => Judgement { verdict: Verdict::Error, detail: error.message },
        }
    }
}

/// Holds a value against bounds. Prometheus writes numbers as texts, so a text that is a finite
/// number is one; without a bound nothing is judged, and a bound that is no number is never kept.
fn hold(value: Option<&Value>, pointer: &str, at_most: Option<f64>, at_least: Option<f64>) -> Judgement {
    let unsure = |why: &str| Judgement {
        verdict: Verdict::Inconclusive,
        detail: format!("there is {why} at `{pointer}`"),
    };
    let number = match value {
        None => return unsure("nothing"),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let Some(number) = number.filter(|n| n.is_finite()) else { return unsure("no number") };
    judge(number, at_most, at_least)
}

/// Holds a number against bounds.
pub(in crate::kind) fn judge(number: f64, at_most: Option<f64>, at_least: Option<f64>) -> Judgement {
    let (verdict, detail) = match (at_most, at_least) {
        (None, None) => (Verdict::Inconclusive, format!("{number}, and no bound to hold it against")),
        (Some(most), _) if most.is_nan() || number > most => {
            (Verdict::Fail, format!("{number} is above {most}"))
        }
        (_, Some(least)) if least.is_nan() || number < least => {
            (Verdict::Fail, format!("{number} is below {least}"))
        }
        _ => (Verdict::Pass, format!("{number} is within bounds")),
    };
    Judgement { verdict, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_number_within_bounds_passes() {
        let verdict = |value: Value| hold(Some(&value), "/v", Some(0.05), None).verdict;
        assert_eq!(verdict(json!(0.05)), Verdict::Pass);
        assert_eq!(verdict(json!("0.01")), Verdict::Pass);
        assert_eq!(verdict(json!(0.06)), Verdict::Fail);
        assert_eq!(verdict(json!(-1)), Verdict::Pass);
        for nothing in [json!("NaN"), json!("inf"), json!(null), json!([]), json!({}), json!(""), json!(true)]
        {
            assert_eq!(verdict(nothing.clone()), Verdict::Inconclusive, "{nothing}");
        }
        assert_eq!(hold(None, "/v", Some(1.0), None).verdict, Verdict::Inconclusive);
        assert_eq!(hold(Some(&json!(1)), "/v", None, None).verdict, Verdict::Inconclusive);
        assert_eq!(hold(Some(&json!(1)), "/v", None, Some(2.0)).verdict, Verdict::Fail);
        assert_eq!(hold(Some(&json!(1)), "/v", Some(f64::NAN), None).verdict, Verdict::Fail);
    }

    #[test]
    fn a_row_of_failures_is_ended_by_a_pass_only() {
        let streak = Streak::new(2);
        let weigh = |verdict| streak.count(Judgement { verdict, detail: String::new() }).verdict;
        assert_eq!(weigh(Verdict::Fail), Verdict::Inconclusive);
        assert_eq!(weigh(Verdict::Pass), Verdict::Pass);
        assert_eq!(weigh(Verdict::Fail), Verdict::Inconclusive);
        assert_eq!(weigh(Verdict::Error), Verdict::Error);
        assert_eq!(weigh(Verdict::Fail), Verdict::Fail);
    }
}
