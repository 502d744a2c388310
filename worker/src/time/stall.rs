//! Detects whether this process was suspended: stopped by a signal, paused with its machine, or without CPU time.
//!
//! Runs go on meanwhile, unseen, so that time counts toward no limit of a run. A suspended host does not count:
//! its monotonic clock stops, too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the process ticks.
const TICK: Duration = Duration::from_millis(500);
/// Shortest time without a tick that counts; on a busy machine, ticks are late by less.
const SHORTEST: Duration = Duration::from_secs(2);

/// How long this process was suspended, and until when. Correct from the first moment after a suspension,
/// whichever task looks first.
#[derive(Debug)]
pub(crate) struct Stalls(Mutex<State>);

#[derive(Debug)]
struct State {
    ticked: Instant,
    stalled: Duration,
    until: Option<Instant>,
}

impl State {
    /// Records the time since the last tick. Nothing else counts as a tick: that one task reads this does not mean
    /// that the others run.
    fn tick(&mut self, now: Instant) -> Option<Duration> {
        let stalled = self.present(now);
        if let Some(stalled) = stalled {
            self.stalled += stalled;
            self.until = Some(now);
        }
        self.ticked = now;
        stalled
    }

    /// How long the current suspension has lasted.
    fn present(&self, now: Instant) -> Option<Duration> {
        let late = now.saturating_duration_since(self.ticked).saturating_sub(TICK);
        (late >= SHORTEST).then_some(late)
    }
}

impl Default for Stalls {
    fn default() -> Self {
        Self(Mutex::new(State { ticked: Instant::now(), stalled: Duration::ZERO, until: None }))
    }
}

impl Stalls {
    /// Ticks as long as it is polled.
    pub(crate) async fn watch(&self) {
        loop {
            self.tick();
            tokio::time::sleep(TICK).await;
        }
    }

    pub(crate) fn tick(&self) {
        // Logged without holding the lock.
        let stalled = self.state().tick(Instant::now());
        if let Some(stalled) = stalled {
            let stalled = humantime::format_duration(Duration::from_secs(stalled.as_secs()));
            tracing::warn!("this process was suspended for {stalled}; time limits of builds exclude that");
        }
    }

    /// How long it has been suspended in total.
    pub(crate) fn total(&self, now: Instant) -> Duration {
        let state = self.state();
        state.stalled + state.present(now).unwrap_or_default()
    }

    /// When the last suspension ended.
    pub(crate) fn last_end(&self, now: Instant) -> Option<Instant> {
        let state = self.state();
        state.present(now).map(|_| now).or(state.until)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_known_before_and_after_its_first_tick() {
        let clock = Stalls::default();
        tokio::time::advance(Duration::from_secs(2)).await;
        let now = Instant::now();
        assert_eq!((clock.total(now), clock.last_end(now)), (Duration::ZERO, None), "a busy machine");
        clock.tick();
        tokio::time::advance(TICK + Duration::from_mins(1)).await;
        let thawed = Instant::now();
        let known = (Duration::from_mins(1), Some(thawed));
        assert_eq!((clock.total(thawed), clock.last_end(thawed)), known);
        clock.tick();
        assert_eq!((clock.total(thawed), clock.last_end(thawed)), known);
        tokio::time::advance(Duration::from_secs(1)).await;
        let later = Instant::now();
        assert_eq!((clock.total(later), clock.last_end(later)), known);
    }
}
