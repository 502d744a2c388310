//! The clock that counts is Redis's. Only a queue that was opened for simulation accepts another time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A time span in milliseconds, as the queue stores it.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The clock that the scripts use.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// Redis's own clock.
    #[default]
    Redis,
    /// A time that tests and replays set, in Unix milliseconds. Scripts refuse it unless the queue
    /// was opened for simulation.
    Simulated(SimulatedClock),
}

impl Clock {
    /// What the scripts get as their first argument: empty for Redis's own time.
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::Redis => String::new(),
            Self::Simulated(clock) => clock.now_ms().to_string(),
        }
    }
}

/// A clock that only moves when it is set.
#[derive(Debug, Clone)]
pub struct SimulatedClock(Arc<AtomicU64>);

impl SimulatedClock {
    /// A clock set to `now_ms` (Unix milliseconds).
    pub fn new(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    /// The time it shows.
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it. Replays only go forward; tests of wrong clocks may go anywhere.
    pub fn set_ms(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves it forward.
    pub fn advance_ms(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}
