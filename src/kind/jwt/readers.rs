//! The addresses that verifiers read the set from.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use super::jwks::Jwks;
use crate::domain::{ErrorKind, Period};
use crate::provider::CallError;
use crate::provider::http::call::ASK_TIMEOUT;
use crate::provider::http::safe_url;
use crate::provider::http::transport::Transport;

/// The addresses, and how long verifiers may use what they read there.
#[derive(Debug)]
pub(super) struct Readers {
    pub(super) transport: Arc<Transport>,
    pub(super) urls: Vec<String>,
    pub(super) cache: Period,
}

impl Readers {
    /// What is served at each address, with its name for people.
    ///
    /// # Errors
    /// When an address does not serve a set, or lets verifiers use it for longer than they are waited for.
    pub(super) async fn served(&self) -> Result<Vec<(String, Jwks)>, CallError> {
        let mut all = Vec::new();
        for url in &self.urls {
            let shown = safe_url(url);
            all.push((shown.clone(), self.fetch(url, &shown).await?));
        }
        Ok(all)
    }

    async fn fetch(&self, url: &str, shown: &str) -> Result<Jwks, CallError> {
        let request = http::Request::get(url).body(Vec::new()).map_err(|_| {
            CallError::rejected(ErrorKind::Invalid, format!("{shown} (under `jwks`) is not an address"))
        })?;
        let reply = self.transport.send(request, Some(ASK_TIMEOUT)).await.map_err(CallError::read_only)?;
        if reply.status.as_u16() != 200 {
            let message = format!("{shown} answered {} in place of a JWKS", reply.status.as_u16());
            let error = CallError::rejected(ErrorKind::NoAnswer, message);
            return Err(CallError { retry_after: reply.retry_after(), ..error });
        }
        let lasts = lasts(&reply.headers);
        if lasts > self.cache.get() {
            let lasts = Period::seconds(lasts.as_secs());
            let message = format!(
                "{shown} lets verifiers use its answer for {lasts} (Cache-Control), longer than `cache` ({})",
                self.cache
            );
            return Err(CallError::rejected(ErrorKind::Invalid, message)
                .hint(format!("set `cache: {lasts}` or more in the runbook, then make a new plan")));
        }
        let text = String::from_utf8_lossy(&reply.body);
        Jwks::read(&text).map_err(|error| {
            let message = format!("{shown}: {}", error.message);
            CallError { message, kind: ErrorKind::NoAnswer, ..error }
        })
    }
}

/// How long an answer may be used (RFC 9111, section 5.2.2; RFC 5861 for the time in which a stale one may).
fn lasts(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let (mut fresh, mut stale) = (0, 0);
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, seconds) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds: u64 = match seconds.trim().trim_matches('"') {
            // A number of any length (section 1.2.2).
            digits if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().unwrap_or(u64::from(u32::MAX))
            }
            _ => 0,
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" | "s-maxage" => fresh = seconds.max(fresh),
            "stale-while-revalidate" => stale = seconds.max(stale),
            _ => {}
        }
    }
    Duration::from_secs(fresh.saturating_add(stale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_an_answer_may_be_used_counts() {
        for (value, seconds) in [
            ("max-age=300", 300),
            ("public, MAX-AGE=\"60\", s-maxage=3600", 3600),
            ("max-age=60, stale-while-revalidate=30", 90),
            ("no-store", 0),
            ("max-age=x", 0),
            ("max-age=99999999999999999999999", u64::from(u32::MAX)),
        ] {
            let headers = [(CACHE_CONTROL, value.parse().expect("a value"))].into_iter().collect();
            assert_eq!(lasts(&headers), Duration::from_secs(seconds), "{value}");
        }
    }
}
