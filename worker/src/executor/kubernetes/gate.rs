//! Whether pods may be started at present. A cluster that is full or that refuses pods for what
//! its operator set up must not use up the builds of the queue: claiming pauses, with the reason
//! shown, and one build at a time tries whether it is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::jittered;

/// First pause of claiming.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// Longest pause: how much later than a cluster that has room again a build may start.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many refused builds in a row are no fault of theirs.
const REFUSED_MAX: u32 = 3;

#[derive(Debug, Default)]
struct Shut {
    reason: String,
    /// Only an answer of the API opens it.
    unreachable: bool,
    pause: Duration,
    until: Option<Instant>,
    /// A build is trying.
    trying: bool,
}

#[derive(Debug, Default)]
struct State {
    shut: Option<Shut>,
    refused: u32,
}

/// The gate before new pods.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Gate {
    /// Why it is shut.
    pub(super) fn reason(&self) -> Option<String> {
        self.state().shut.as_ref().map(|shut| shut.reason.clone())
    }

    /// How many of `free` slots may be filled.
    pub(super) fn may_start(&self, free: usize) -> usize {
        let mut state = self.state();
        let Some(shut) = &mut state.shut else { return free };
        if shut.unreachable || free == 0 {
            return 0;
        }
        let Some(until) = shut.until else { return 0 };
        if until > Instant::now() {
            return 0;
        }
        // The next one only when this one was answered, or never came.
        shut.until = Some(Instant::now() + PAUSE_MAX);
        shut.trying = true;
        1
    }

    /// Waits until it may have opened.
    pub(super) async fn changed(&self) {
        let mut changed = self.changed.subscribe();
        let until = self.state().shut.as_ref().and_then(|shut| shut.until);
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = timer => {}
        }
    }

    /// The namespace's quota is used up.
    pub(super) fn full(&self, message: &str) {
        self.shut(format!("the cluster is full: {message}"), false);
    }

    /// The cluster refuses what its operator can change.
    pub(super) fn misconfigured(&self, reason: &str) {
        self.shut(reason.to_owned(), false);
    }

    /// The API does not answer.
    pub(super) fn unreachable(&self, reason: &str) {
        self.unseen(&format!("waiting for the cluster: {reason}"));
    }

    /// The pods cannot be watched. It may pass: an API server that starts refuses what it will allow.
    pub(super) fn unseen(&self, reason: &str) {
        let known = self.state().shut.is_some();
        if !known {
            self.shut(reason.to_owned(), true);
        }
    }

    /// The API answers, and the pods can be watched.
    pub(super) fn reachable(&self) {
        let mut state = self.state();
        if state.shut.as_ref().is_some_and(|shut| shut.unreachable) {
            state.shut = None;
            drop(state);
            self.changed.send_replace(());
        }
    }

    /// A pod was refused for what is in it: whether that is likely no fault of its build.
    pub(super) fn refused(&self) -> bool {
        let mut state = self.state();
        state.refused = state.refused.saturating_add(1);
        state.refused >= REFUSED_MAX
    }

    /// A pod was taken.
    pub(super) fn taken(&self) {
        let mut state = self.state();
        state.refused = 0;
        if let Some(shut) = state.shut.take() {
            drop(state);
            tracing::info!(reason = shut.reason, "the cluster takes pods again");
            self.changed.send_replace(());
        }
    }

    fn shut(&self, reason: String, unreachable: bool) {
        let mut state = self.state();
        let before = state.shut.take();
        // Builds that were claimed before the first refusal make the pause no longer.
        let longer = before.as_ref().is_some_and(|shut| shut.trying && !shut.unreachable);
        let pause = match &before {
            Some(shut) if longer => (shut.pause * 2).min(PAUSE_MAX),
            Some(shut) if !shut.unreachable => shut.pause,
            _ => PAUSE_FIRST,
        };
        if before.as_ref().is_none_or(|shut| shut.reason != reason) {
            tracing::error!(reason, "no build is claimed until the cluster takes pods");
        }
        let until = (!unreachable).then(|| Instant::now() + jittered(pause));
        state.shut = Some(Shut { reason, unreachable, pause, until, trying: false });
        drop(state);
        self.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_build_at_a_time_tries_a_full_cluster() {
        let gate = Gate::default();
        assert_eq!((gate.may_start(4), gate.reason()), (4, None));
        gate.full("exceeded quota");
        assert_eq!(
            (gate.may_start(4), gate.reason().as_deref()),
            (0, Some("the cluster is full: exceeded quota"))
        );
        let mut waited = Duration::ZERO;
        for _ in 0..12 {
            let began = Instant::now();
            gate.changed().await;
            waited = began.elapsed();
            assert_eq!(gate.may_start(4), 1);
            assert_eq!(gate.may_start(4), 0, "one at a time");
            gate.full("exceeded quota");
        }
        assert!(waited <= PAUSE_MAX && waited >= PAUSE_MAX / 2, "{waited:?}");
        gate.taken();
        assert_eq!((gate.may_start(4), gate.reason()), (4, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_answers_again_is_open_at_once() {
        let gate = Gate::default();
        gate.unreachable("timed out");
        assert_eq!(gate.may_start(1), 0);
        gate.reachable();
        assert_eq!(gate.may_start(1), 1);
        gate.full("x");
        gate.unreachable("timed out");
        gate.reachable();
        assert_eq!(gate.may_start(1), 0, "it may still be full");
    }

    #[test]
    fn refusals_in_a_row_are_no_builds_fault() {
        let gate = Gate::default();
        assert!(!gate.refused() && !gate.refused());
        gate.taken();
        assert!(!gate.refused() && !gate.refused() && gate.refused());
    }
}
