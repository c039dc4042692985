//! A secret of GitHub Actions, as it was found. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// A secret, as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) updated: Timestamp,
    /// Who may use the secret of an organization.
    pub(super) visibility: Option<String>,
    /// GitHub's clock.
    pub(super) date: Option<Timestamp>,
    /// What a classic token may do; of others GitHub does not say it.
    pub(super) scopes: Option<String>,
}

impl Found {
    pub(super) fn version(&self) -> String {
        self.updated.to_string()
    }

    /// For how long a write would still get the same version: GitHub tells seconds.
    pub(super) fn same_second(&self) -> Option<Duration> {
        let ahead = self.updated.duration_since(self.date?).as_secs();
        let waits = u64::try_from(ahead).ok().filter(|ahead| *ahead < 3)?;
        Some(Duration::from_secs(waits + 1))
    }
}
