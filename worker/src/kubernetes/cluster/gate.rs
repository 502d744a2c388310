//! Whether pods may be started at present. If a cluster is full, or refuses pods because of its configuration,
//! that must not fail the queue's builds. Claiming pauses and shows the reason, and one build at a time tries
//! whether the problem is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::rights::FOR_A_MOMENT;
use crate::time::backoff::jittered;

/// First pause of claiming.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// Longest pause: once a cluster has room again, a build starts at most this much later.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// If this many builds in a row are refused, it is not their fault.
const REFUSED_MAX: u32 = 3;
/// How often the same trouble is logged: a full cluster refuses a pod every few seconds, for hours.
const LOGGED_EVERY: Duration = Duration::from_mins(10);

/// What keeps pods from being started.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    Full,
    Refused(String),
    Away,
}

impl Trouble {
    /// Whether somebody must do something about it.
    fn is_error(&self) -> bool {
        matches!(self, Self::Refused(reason) if !reason.starts_with(FOR_A_MOMENT))
    }
}

#[derive(Debug, Default)]
struct Shut {
    reason: String,
    /// Only a response from the API opens it.
    unreachable: bool,
    pause: Duration,
    until: Option<Instant>,
    /// Whether a build is trying.
    trying: bool,
    /// Whether there was no build to try with.
    idle: bool,
    /// Whether it was logged, so that its end is logged, too.
    logged: bool,
}

#[derive(Debug, Default)]
struct State {
    shut: Option<Shut>,
    refused: u32,
    /// What was logged last, and when.
    logged: Option<(Trouble, Instant)>,
    /// Whether pods of this queue were seen, which means that any other queue with the same installation came
    /// later.
    first: bool,
    /// The message about another queue with the same installation.
    strangers: Option<String>,
    /// Whether the other queue was there first: nothing is built until it is gone.
    second: bool,
}

/// The gate that new pods have to pass.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Gate {
    /// Why it is closed.
    pub(crate) fn reason(&self) -> Option<String> {
        let state = self.state();
        let strangers = state.strangers.clone().filter(|_| state.second);
        strangers.or_else(|| state.shut.as_ref().map(|shut| shut.reason.clone()))
    }

    /// How many of `free` slots may be filled.
    pub(crate) fn may_start(&self, free: usize) -> usize {
        let mut state = self.state();
        if state.second {
            return 0;
        }
        let Some(shut) = &mut state.shut else { return free };
        if shut.unreachable || free == 0 {
            return 0;
        }
        if !shut.idle && shut.until.is_none_or(|until| until > Instant::now()) {
            return 0;
        }
        // The next build may try once this one got a response, or never came.
        shut.until = Some(Instant::now() + PAUSE_MAX);
        (shut.trying, shut.idle) = (true, false);
        1
    }

    /// There was no build to start: the next one may try at once. Wakes nobody.
    pub(crate) fn unused(&self) {
        if let Some(shut) = self.state().shut.as_mut().filter(|shut| shut.trying) {
            (shut.until, shut.trying, shut.idle) = (None, false, true);
        }
    }

    /// Waits until it may have opened.
    pub(crate) async fn changed(&self) {
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

    /// Records that there are pods of this queue.
    pub(crate) fn first(&self) {
        self.state().first = true;
    }

    /// Records the message about pods of another queue with the same installation; `None` if there are none.
    pub(crate) fn strangers(&self, words: Option<String>) {
        let mut state = self.state();
        let (second, news) = (words.is_some() && !state.first, words.is_some() && state.strangers.is_none());
        let changed = second != state.second;
        state.second = second;
        state.strangers.clone_from(&words);
        drop(state);
        match words {
            Some(reason) if news && second => tracing::error!(reason, "claiming is paused"),
            Some(reason) if news => tracing::error!(reason, "two queues share one installation"),
            _ => {}
        }
        if changed {
            self.changed.send_replace(());
        }
    }

    /// The namespace's quota is used up.
    pub(crate) fn full(&self, message: &str) {
        self.shut(format!("the cluster is full: {message}"), Trouble::Full, false);
    }

    /// The cluster refuses pods because of something that its operator can change.
    pub(crate) fn misconfigured(&self, reason: &str) {
        self.shut(reason.to_owned(), Trouble::Refused(reason.to_owned()), false);
    }

    /// The API does not answer.
    pub(crate) fn unreachable(&self, reason: &str) {
        self.close(&format!("waiting for the cluster: {reason}"), Trouble::Away);
    }

    /// The pods cannot be watched. This may pass: a starting API server refuses what it will allow later.
    pub(crate) fn unseen(&self, reason: &str) {
        self.close(reason, Trouble::Refused(reason.to_owned()));
    }

    /// Closes it until the API answers.
    fn close(&self, reason: &str, trouble: Trouble) {
        let known = self.state().shut.as_ref().is_some_and(|shut| !shut.unreachable || shut.reason == reason);
        if !known {
            self.shut(reason.to_owned(), trouble, true);
        }
    }

    /// The API answers, and the pods can be watched.
    pub(crate) fn reachable(&self) {
        let mut state = self.state();
        if state.shut.as_ref().is_some_and(|shut| shut.unreachable) {
            state.shut = None;
            drop(state);
            self.changed.send_replace(());
        }
    }

    /// A pod was refused because of its contents. Returns whether that is probably not its build's fault.
    pub(crate) fn refused(&self) -> bool {
        let mut state = self.state();
        state.refused = state.refused.saturating_add(1);
        state.refused >= REFUSED_MAX
    }

    /// A pod was accepted.
    pub(crate) fn taken(&self) {
        let mut state = self.state();
        state.refused = 0;
        if let Some(shut) = state.shut.take() {
            drop(state);
            if shut.logged {
                tracing::info!(reason = shut.reason, "the cluster accepts pods again");
            }
            self.changed.send_replace(());
        }
    }

    fn shut(&self, reason: String, trouble: Trouble, unreachable: bool) {
        let mut state = self.state();
        let before = state.shut.take();
        // Builds that were claimed before the first refusal do not lengthen the pause.
        let longer = before.as_ref().is_some_and(|shut| shut.trying && !shut.unreachable);
        let pause = match &before {
            Some(shut) if longer => (shut.pause * 2).min(PAUSE_MAX),
            Some(shut) if !shut.unreachable => shut.pause,
            _ => PAUSE_FIRST,
        };
        let known = |(known, at): &(Trouble, Instant)| *known == trouble && at.elapsed() < LOGGED_EVERY;
        let news = !state.logged.as_ref().is_some_and(known);
        if news {
            if trouble.is_error() {
                tracing::error!(reason, "claiming is paused until the cluster accepts pods");
            } else {
                tracing::warn!(reason, "claiming is paused until the cluster accepts pods");
            }
            state.logged = Some((trouble, Instant::now()));
        }
        let logged = news || before.is_some_and(|shut| shut.logged);
        let until = (!unreachable).then(|| Instant::now() + jittered(pause));
        state.shut = Some(Shut { reason, unreachable, pause, until, trying: false, idle: false, logged });
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
    fn the_second_of_two_queues_builds_nothing_until_the_first_has_gone() {
        let (first, second) = (Gate::default(), Gate::default());
        first.first();
        for gate in [&first, &second] {
            gate.strangers(Some("set --installation".to_owned()));
        }
        assert_eq!((first.may_start(2), first.reason()), (2, None));
        assert_eq!((second.may_start(2), second.reason().as_deref()), (0, Some("set --installation")));
        second.strangers(None);
        assert_eq!((second.may_start(2), second.reason()), (2, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_without_a_build_is_not_spent() {
        let gate = Gate::default();
        gate.full("exceeded quota");
        gate.changed().await;
        assert_eq!(gate.may_start(4), 1);
        gate.unused();
        let woken = tokio::time::timeout(PAUSE_MAX * 2, gate.changed()).await;
        assert!(woken.is_err(), "nobody is woken for it");
        for _ in 0..2 {
            assert_eq!(gate.may_start(4), 1, "the next build may try at once");
            assert_eq!(gate.may_start(4), 0, "one at a time");
            gate.unused();
        }
        gate.taken();
        gate.unused();
        assert_eq!(gate.may_start(4), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_trouble_is_logged_seldom() {
        let gate = Gate::default();
        let logged = |gate: &Gate| gate.state().logged.clone().map(|(_, at)| at).unwrap();
        gate.full("exceeded quota: b, used: pods=3");
        let first = logged(&gate);
        for used in [4, 3, 4] {
            tokio::time::advance(Duration::from_mins(1)).await;
            gate.full(&format!("exceeded quota: b, used: pods={used}"));
            assert_eq!(logged(&gate), first);
            gate.taken();
        }
        gate.misconfigured("no rights");
        assert!(logged(&gate) > first, "another one is said at once");
        let second = logged(&gate);
        tokio::time::advance(LOGGED_EVERY).await;
        gate.misconfigured("no rights");
        assert!(logged(&gate) > second, "and once more when it lasts");
    }

    #[test]
    fn refusals_in_a_row_are_no_builds_fault() {
        let gate = Gate::default();
        assert!(!gate.refused() && !gate.refused());
        gate.taken();
        assert!(!gate.refused() && !gate.refused() && gate.refused());
    }
}
