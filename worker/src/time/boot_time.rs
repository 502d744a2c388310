//! The clock by which this host measures leases.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Longest single sleep: the runtime's timers stand still while the host is suspended, so a deadline is checked
/// this soon after it wakes up.
const SLICE: Duration = Duration::from_millis(500);

/// A moment in the host's boot time: monotonic, and including time in which the host was suspended. All processes
/// of a host share it, so a deadline can be passed on unchanged, however late it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    /// The current moment.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    /// The moment that is `later` after this one.
    #[must_use]
    pub(crate) fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// How long until then; zero if it has passed.
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// Whether it has passed.
    pub(crate) fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Waits until then.
    pub(crate) async fn reached(self) {
        while !self.has_passed() {
            tokio::time::sleep(self.remaining().min(SLICE)).await;
        }
    }
}
