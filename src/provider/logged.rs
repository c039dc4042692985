//! The debug log's lines about what leaves this process.

use tracing::{Level, debug, enabled, info};

use crate::clock::{Clock as _, SystemClock};

/// A call in the debug log: that it began, and how it ended after how long. Costs nothing while there is no log.
#[derive(Debug)]
pub(crate) struct Logged(Option<(String, SystemClock)>);

impl Logged {
    /// Logs that a call begins. `what` names it without anything that could be secret.
    pub(crate) fn start(what: impl FnOnce() -> String) -> Self {
        Self(enabled!(Level::INFO).then(|| {
            let what = what();
            debug!("{what} …");
            (what, SystemClock::new())
        }))
    }

    /// Logs how it ended.
    pub(crate) fn end(&mut self, how: &str) {
        if let Some((what, clock)) = self.0.take() {
            info!("{what}: {how} in {} ms", clock.now().mono_ms);
        }
    }
}

/// A call whose future is dropped, at a time-out or a stop, is the one that a reader of the log looks for.
impl Drop for Logged {
    fn drop(&mut self) {
        self.end("given up");
    }
}
