//! What all that is retried has in common: it logs once that something fails, and once that it works again; and
//! processes do not do it in lockstep.

use std::time::Duration;

use fairlane_common::Error;

/// Longest pause while Redis is away.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Whether one thing that is retried repeatedly works.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    failures: u32,
}

impl Outage {
    /// `what` is the thing that may fail, such as "the heartbeat".
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, failures: 0 }
    }

    /// Notes a success.
    pub(crate) fn over(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "{} works again", self.what);
        }
        self.failures = 0;
    }

    /// Notes a failure; returns how many there were in a row.
    pub(crate) fn failed(&mut self, error: &Error) -> u32 {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(error = %error, "{} failed; trying again until it works", self.what);
        } else {
            tracing::debug!(error = %error, failures = self.failures, "{} failed again", self.what);
        }
        self.failures
    }

    /// Notes a failure; returns how long to wait until the next try: `first`, then twice as long each time.
    pub(crate) fn backoff(&mut self, error: &Error, first: Duration) -> Duration {
        let failures = self.failed(error).min(4);
        (first * 2u32.pow(failures - 1)).min(BACKOFF_MAX)
    }
}

/// `pause`, up to a quarter shorter or longer.
pub(crate) fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}
