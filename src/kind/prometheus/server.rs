//! The instant query: <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::PrometheusGate;
use super::spec::Which;
use crate::clock::{Clock, since};
use crate::domain::{Check, ErrorKind, Judgement, Period, Verdict};
use crate::kind::http::judge;
use crate::kind::real::{GateServer, RealProvider};
use crate::provider::http::call::ASK_TIMEOUT;
use crate::provider::http::safe_url;
use crate::provider::http::transport::Transport;
use crate::provider::streak::{Streak, told};
use crate::provider::{CallError, Gate};
use crate::text::sanitize;

/// How far the server's clock may be ahead of ours.
const SKEW: Period = Period::seconds(30);

struct Query {
    spec: PrometheusGate,
    transport: Arc<Transport>,
    clock: Arc<dyn Clock>,
    streak: Streak,
}

impl GateServer for PrometheusGate {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Gate>, CallError> {
        Ok(Arc::new(Query {
            spec: self.clone(),
            transport: at.transport()?,
            clock: Arc::clone(&at.clock),
            streak: Streak::new(self.failures),
        }))
    }
}

/// The response, as far as it matters here.
#[derive(Deserialize)]
struct Response {
    status: String,
    error: Option<String>,
    data: Option<Data>,
    /// Given where a part of the data could not be read: the rest is then partial.
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", tag = "resultType", content = "result")]
enum Data {
    Vector(Vec<Series>),
    Scalar(Sample),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    value: Option<Sample>,
}

/// Seconds since 1970, and the value as a text.
#[derive(Deserialize)]
struct Sample(f64, String);

impl Query {
    async fn look(&self) -> Result<Judgement, CallError> {
        let base = self.spec.url.trim_end_matches('/');
        let query =
            percent_encoding::utf8_percent_encode(&self.spec.query, percent_encoding::NON_ALPHANUMERIC);
        let what = safe_url(base);
        let request = http::Request::get(format!("{base}/api/v1/query?query={query}"))
            .body(Vec::new())
            .map_err(|_| CallError::rejected(ErrorKind::Invalid, format!("{what} is not an address")))?;
        let reply = self.transport.send(request, Some(ASK_TIMEOUT)).await.map_err(CallError::read_only)?;
        let status = reply.status.as_u16();
        let no_answer = |text: String| CallError::rejected(ErrorKind::NoAnswer, text);
        // An error has a body of the same form: 400 for a query that is wrong, 422, 503.
        let response: Response = serde_json::from_slice(&reply.body)
            .map_err(|_| no_answer(format!("{what} answered {status}, and not as Prometheus does")))?;
        if !reply.status.is_success() || response.status != "success" {
            let why = sanitize(response.error.as_deref().unwrap_or("no reason given"));
            return Err(no_answer(format!("{what} answered {status}: {why}")));
        }
        Ok(weigh(&self.spec, response, self.clock.now().wall))
    }
}

/// Judges a response. What is not one finite, fresh number of whole data is inconclusive.
fn weigh(spec: &PrometheusGate, response: Response, now: Timestamp) -> Judgement {
    let unsure = |why: String| Judgement { verdict: Verdict::Inconclusive, detail: why };
    if let Some(warning) = response.warnings.first() {
        return unsure(format!("the data is partial: {}", sanitize(warning)));
    }
    let samples: Vec<Sample> = match response.data {
        Some(Data::Scalar(sample)) => vec![sample],
        Some(Data::Vector(series)) => {
            let length = series.len();
            let samples: Vec<Sample> = series.into_iter().filter_map(|series| series.value).collect();
            if samples.len() < length {
                return unsure("a series is a histogram, which has no single value".into());
            }
            samples
        }
        Some(Data::Matrix(_)) => {
            return unsure("the query gives ranges; write one that gives an instant vector".into());
        }
        Some(Data::String(_)) | None => return unsure("the query gives no number".into()),
    };
    let mut numbers = Vec::with_capacity(samples.len());
    for Sample(at, text) in &samples {
        let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) else {
            return unsure(format!("the value is {}", sanitize(text)));
        };
        let taken = Timestamp::from_millisecond((at * 1000.0) as i64).ok().filter(|_| at.is_finite());
        let Some(taken) = taken else { return unsure("the sample has no time".into()) };
        if since(now, taken) > spec.max_age.get() || since(taken, now) > SKEW.get() {
            return unsure(format!("the sample is of {taken:.0}, which is not within {}", spec.max_age));
        }
        numbers.push(number);
    }
    let number = match (numbers.as_slice(), spec.of) {
        ([], _) => return unsure("the query has no data".into()),
        ([number], _) => *number,
        (several, None) => {
            let message = format!("the query has {} series; aggregate them, or add `of: max`", several.len());
            return unsure(message);
        }
        (several, Some(Which::Max)) => several.iter().copied().fold(f64::MIN, f64::max),
        (several, Some(Which::Min)) => several.iter().copied().fold(f64::MAX, f64::min),
    };
    judge(number, spec.at_most, spec.at_least)
}

#[async_trait]
impl Gate for Query {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn weighed(spec: Value, response: Value) -> Judgement {
        let mut gate = json!({ "url": "http://p", "query": "q", "at_most": 0.05 });
        for (name, value) in spec.as_object().expect("fields") {
            gate[name] = value.clone();
        }
        let spec: PrometheusGate = serde_json::from_value(gate).expect("a gate");
        let response: Response = serde_json::from_value(response).expect("a response");
        weigh(&spec, response, "2026-11-27T12:00:00Z".parse().expect("a time"))
    }

    fn vector(values: &[(f64, &str)]) -> Value {
        let series: Vec<Value> =
            values.iter().map(|(at, v)| json!({ "metric": {}, "value": [at, v] })).collect();
        json!({ "status": "success", "data": { "resultType": "vector", "result": series } })
    }

    #[test]
    fn only_one_finite_fresh_number_within_bounds_passes() {
        let now = 1_795_780_800.0;
        assert_eq!(weighed(json!({}), vector(&[(now, "0.01")])).verdict, Verdict::Pass);
        assert_eq!(weighed(json!({}), vector(&[(now - 59.0, "0.05")])).verdict, Verdict::Pass);
        assert_eq!(weighed(json!({}), vector(&[(now, "0.06")])).verdict, Verdict::Fail);
        let scalar = json!({ "status": "success", "data": { "resultType": "scalar", "result": [now, "0"] } });
        assert_eq!(weighed(json!({}), scalar).verdict, Verdict::Pass);
        let mut partial = vector(&[(now, "0.01")]);
        partial["warnings"] = json!(["one store did not answer"]);
        let range = json!({ "status": "success", "data": { "resultType": "matrix", "result": [] } });
        let histogram = json!({ "status": "success",
            "data": { "resultType": "vector", "result": [{ "metric": {}, "histogram": [now, {}] }] } });
        for (what, response) in [
            ("empty", vector(&[])),
            ("NaN", vector(&[(now, "NaN")])),
            ("infinite", vector(&[(now, "+Inf")])),
            ("old", vector(&[(now - 61.0, "0.01")])),
            ("of the future", vector(&[(now + 31.0, "0.01")])),
            ("several", vector(&[(now, "0.01"), (now, "0.02")])),
            ("partial", partial),
            ("a range", range),
            ("a histogram", histogram),
        ] {
            assert_eq!(weighed(json!({}), response).verdict, Verdict::Inconclusive, "{what}");
        }
    }

    #[test]
    fn of_several_series_the_worst_counts() {
        let now = 1_795_780_800.0;
        let both = || vector(&[(now, "0.01"), (now, "0.2")]);
        assert_eq!(weighed(json!({ "of": "max" }), both()).verdict, Verdict::Fail);
        assert_eq!(weighed(json!({ "of": "min" }), both()).verdict, Verdict::Pass);
        let nan = vector(&[(now, "0.01"), (now, "NaN")]);
        assert_eq!(weighed(json!({ "of": "max" }), nan).verdict, Verdict::Inconclusive);
    }
}
