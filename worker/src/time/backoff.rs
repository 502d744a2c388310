//! Pauses between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// Well below a lease, so that a worker notices that Redis is back while leases can still be renewed.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double up to 2 s, with jitter so that workers do not retry in step.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(jittered(self.0)).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

/// Between half of `time` and all of it.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fastrand::f64() / 2.0)
}
