//! Logs once that something fails, and once that it works again.

use fairlane_common::Error;

/// The state of one thing that is retried repeatedly.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    failures: u32,
}

impl Outage {
    /// `what` is the thing that fails or works: "the heartbeat".
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, failures: 0 }
    }

    /// It worked.
    pub(crate) fn over(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "{} works again", self.what);
        }
        self.failures = 0;
    }

    /// It failed; returns how many times in a row.
    pub(crate) fn failed(&mut self, error: &Error) -> u32 {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(error = %error, "{} failed; trying again until it works", self.what);
        } else {
            tracing::debug!(error = %error, failures = self.failures, "{} failed again", self.what);
        }
        self.failures
    }
}
