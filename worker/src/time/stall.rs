//! Whether this process stood still: stopped by a signal, paused with its machine, or left without
//! processor time.
//!
//! What runs beside it went on meanwhile and was not heard, so no patience with a run may count that
//! time. A suspended host needs no such care: its monotonic time stands still with it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the process shows that it goes on.
const TICK: Duration = Duration::from_millis(500);
/// Shortest time without a tick that counts: a busy machine is late by less.
const SHORTEST: Duration = Duration::from_secs(2);

/// How long this process has stood still, and until when. It is right from the first moment after a
/// standstill on, whichever task looks first.
#[derive(Debug)]
pub(crate) struct Standstill(Mutex<State>);

#[derive(Debug)]
struct State {
    ticked: Instant,
    stood: Duration,
    until: Option<Instant>,
}

impl State {
    /// Takes in what has passed since the last tick. Nothing else may count as one: a task that only
    /// looks says nothing of those that should run beside it.
    fn tick(&mut self, now: Instant) -> Option<Duration> {
        let stood = self.present(now);
        if let Some(stood) = stood {
            self.stood += stood;
            self.until = Some(now);
        }
        self.ticked = now;
        stood
    }

    /// How long it stands still already.
    fn present(&self, now: Instant) -> Option<Duration> {
        let late = now.saturating_duration_since(self.ticked).saturating_sub(TICK);
        (late >= SHORTEST).then_some(late)
    }
}

impl Default for Standstill {
    fn default() -> Self {
        Self(Mutex::new(State { ticked: Instant::now(), stood: Duration::ZERO, until: None }))
    }
}

impl Standstill {
    /// Ticks, for as long as it is polled.
    pub(crate) async fn watch(&self) {
        loop {
            self.tick();
            tokio::time::sleep(TICK).await;
        }
    }

    pub(crate) fn tick(&self) {
        // Told without the lock.
        let stood = self.state().tick(Instant::now());
        if let Some(stood) = stood {
            let stood = humantime::format_duration(Duration::from_secs(stood.as_secs()));
            tracing::warn!("this process stood still for {stood}; no build's time limit counts that");
        }
    }

    /// For how long it has stood still in its life.
    pub(crate) fn stood(&self, now: Instant) -> Duration {
        let state = self.state();
        state.stood + state.present(now).unwrap_or_default()
    }

    /// When the last standstill ended.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
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
    async fn a_standstill_is_known_before_and_after_its_first_tick() {
        let clock = Standstill::default();
        tokio::time::advance(Duration::from_secs(2)).await;
        let now = Instant::now();
        assert_eq!((clock.stood(now), clock.until(now)), (Duration::ZERO, None), "a busy machine");
        clock.tick();
        tokio::time::advance(TICK + Duration::from_mins(1)).await;
        let thawed = Instant::now();
        let known = (Duration::from_mins(1), Some(thawed));
        assert_eq!((clock.stood(thawed), clock.until(thawed)), known);
        clock.tick();
        assert_eq!((clock.stood(thawed), clock.until(thawed)), known);
        tokio::time::advance(Duration::from_secs(1)).await;
        let later = Instant::now();
        assert_eq!((clock.stood(later), clock.until(later)), known);
    }
}
