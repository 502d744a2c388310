//! Rights that the cluster refuses. A starting API server briefly refuses what it will allow later, so a right
//! only counts as missing if the refusal lasts, and it is tried again and again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::time::backoff::jittered;

/// How long a refusal has to last before it counts: a starting API server reads the roles within seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How a refusal is explained before that.
pub(crate) const FOR_A_MOMENT: &str =
    "the cluster refuses this worker; a cluster that is just starting does so briefly";
/// How often a missing right is tried again: one call a minute is cheap.
const AGAIN: Duration = Duration::from_mins(1);
/// A refusal that was not repeated for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(5);

#[derive(Debug, Default)]
struct State {
    /// Since when it has been refused without a break.
    since: Option<Instant>,
    /// When to try again.
    until: Option<Instant>,
    /// Whether it was logged as missing.
    said: bool,
}

/// An optional right.
#[derive(Debug, Default)]
pub(crate) struct Right(Mutex<State>);

impl Right {
    /// Until when there is no point in trying.
    pub(crate) fn refused_until(&self) -> Option<Instant> {
        self.state().until.filter(|until| *until > Instant::now())
    }

    /// It was refused. Returns when to try again, and whether to log it as missing now.
    pub(crate) fn refused(&self) -> (Instant, bool) {
        let (mut state, now) = (self.state(), Instant::now());
        let lasts = now - *state.since.get_or_insert(now) >= PATIENCE;
        let until = now + if lasts { jittered(AGAIN) } else { PATIENCE };
        state.until = Some(until);
        (until, lasts && !std::mem::replace(&mut state.said, true))
    }

    /// It was granted. Returns whether it had been logged as missing.
    pub(crate) fn given(&self) -> bool {
        std::mem::take(&mut *self.state()).said
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Per right, when it was first refused and when last.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<String, (Instant, Instant)>>);

impl Refusals {
    /// Whether the refusal of `what` has lasted too long to be explained by a starting API server.
    pub(crate) fn lasts(&self, what: &str) -> bool {
        let (mut known, now) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        known.retain(|_, (_, last)| now - *last < FORGOTTEN);
        let (first, last) = known.entry(what.to_owned()).or_insert((now, now));
        *last = now;
        now - *first >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_right_is_missing_only_where_its_refusal_lasts() {
        let right = Right::default();
        assert_eq!(right.refused_until(), None);
        let (until, missing) = right.refused();
        assert!(!missing, "an API server may be starting");
        assert_eq!(right.refused_until(), Some(until));
        tokio::time::sleep_until(until).await;
        assert_eq!(right.refused_until(), None, "it may be asked again");
        assert!(!right.given() && !right.refused().1, "one that passed leaves nothing behind");
        tokio::time::sleep(PATIENCE).await;
        assert!(right.refused().1, "said once");
        assert!(!right.refused().1);
        assert!(right.given(), "and once that it is there");
        assert!(!right.given());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_was_not_repeated_is_over() {
        let refusals = Refusals::default();
        assert!(!refusals.lasts("create pods"));
        tokio::time::sleep(PATIENCE).await;
        assert!(refusals.lasts("create pods") && !refusals.lasts("list pods"));
        tokio::time::sleep(FORGOTTEN).await;
        assert!(!refusals.lasts("create pods"));
    }
}
