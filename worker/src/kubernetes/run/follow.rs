//! Follows a run's pod to its end: what the shared watch shows, the orders for the run, and what follows from
//! both.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use tokio::sync::watch;
use tokio::time::Instant;

use super::logs::{LogFollower, Phase};
use super::sync::Window;
use super::{Driver, Step};
use crate::executor::{Ended, Exit, RunEvent, RunFailure, StopCause};
use crate::kubernetes::cluster::api::Version;
use crate::kubernetes::cluster::pods::Seen;
use crate::kubernetes::pod::{self, Hopeless, Observed};
use crate::time::backoff::jittered;

/// How long a pod may wait before its events are requested: most start sooner.
const EVENTS_FIRST: Duration = Duration::from_secs(5);
/// How often its events are requested after that.
const EVENTS_EVERY: Duration = Duration::from_secs(20);
/// How long a deleted pod may take beyond its grace period; if it takes longer, its node does not answer.
pub(super) const GONE_TIMEOUT: Duration = Duration::from_mins(1);
/// How often a pod that the watch no longer shows is read.
const UNSEEN_EVERY: Duration = Duration::from_secs(10);
/// Outages of the API that are shorter than this are not reported.
const AWAY_TOLD: Duration = Duration::from_secs(3);
/// How long the log's last lines may take after the pod's end. (The reader has its own, shorter limit.)
const LOG_TIMEOUT: Duration = Duration::from_secs(15);

/// The state of following one pod.
struct Following {
    pod: Arc<Pod>,
    events: Vec<Event>,
    events_at: Instant,
    phase: watch::Sender<Phase>,
    /// Why it may never start, and since when.
    hopeless: Option<(Hopeless, Instant)>,
    stopping: Option<Stopping>,
    /// Whether the pod exists although the watch does not show it.
    unseen: bool,
    /// Whether its node was checked and found silent.
    silent_node: bool,
    /// Whether it may push.
    gate_open: bool,
}

struct Stopping {
    grace: Duration,
    give_up: Instant,
    /// The failure, if that is why it is stopped.
    failure: Option<RunFailure>,
}

impl Driver {
    /// Follows the pod to the run's last event.
    pub(super) async fn follow_pod(&mut self, pod: Pod, window: Window) -> RunEvent {
        self.worked();
        let gate_open = pod::gate::is_open(&pod.metadata);
        if gate_open && self.out.send(RunEvent::GateOpen).await.is_err() {
            return RunEvent::HandedOver;
        }
        let (phase, phase_out) = watch::channel(Phase::Pending);
        let log = LogFollower::spawn(
            Arc::clone(&self.cluster),
            self.name.clone(),
            phase_out,
            self.out.clone(),
            window,
        );
        let mut following = Following {
            pod: Arc::new(pod),
            events: Vec::new(),
            events_at: Instant::now() + EVENTS_FIRST,
            phase,
            hopeless: None,
            stopping: None,
            unseen: false,
            silent_node: false,
            gate_open,
        };
        let last = loop {
            match self.step(&mut following).await {
                Ok(()) => {}
                Err(last) => break last,
            }
        };
        if let RunEvent::Exited(ended) = &last {
            let started = *following.phase.borrow() != Phase::Pending || pod::has_started(&following.pod);
            if !started && ended.exit.stopped.is_some() {
                // It was stopped on purpose, so it is clear why there is no log.
                return last;
            }
            following.phase.send_replace(match following.pod.metadata.deletion_timestamp {
                _ if !started => Phase::NeverStarted,
                Some(_) => Phase::Deleted,
                None => Phase::Ended,
            });
            if tokio::time::timeout(LOG_TIMEOUT, log).await.is_err() {
                tracing::warn!("the log's last lines did not arrive in time");
            }
        }
        last
    }

    /// Checks the pod once, does what needs to be done, and waits for changes.
    async fn step(&mut self, following: &mut Following) -> Step<()> {
        self.look(following).await?;
        let orders = self.heed();
        if orders.hand_over {
            return Err(RunEvent::HandedOver);
        }
        self.take_in(following).await?;
        if following.stopping.as_ref().is_some_and(|stopping| stopping.give_up <= Instant::now()) {
            tracing::error!(pod = self.name, "a deleted pod does not terminate; treating its node as lost");
            return Err(Self::ended(following, Exit::default(), None));
        }
        if let Some(grace) = orders.stop {
            self.stop_pod(following, grace, None).await?;
        }
        if orders.open_gate && !following.gate_open && orders.stop.is_none() {
            following.gate_open = self.let_push(Arc::clone(&following.pod)).await?;
        }
        self.tell_away().await?;
        self.wait_for_news(following).await;
        Ok(())
    }

    /// Brings `following.pod` up to date.
    async fn look(&mut self, following: &mut Following) -> Step<()> {
        let seen = self.seen.borrow_and_update().clone();
        let uid = following.pod.metadata.uid.clone();
        match seen {
            Seen::There(pod) if pod.metadata.uid == uid => {
                following.pod = pod;
                following.unseen = false;
            }
            // Until the watch has caught up with its creation.
            Seen::Never => {}
            // A changed label looks the same as a deletion; only reading the pod shows which it is.
            Seen::There(_) | Seen::Gone(_) => {
                if let Seen::Gone(Some(last)) = &seen
                    && last.metadata.uid == uid
                {
                    following.pod = Arc::clone(last);
                }
                match self.cluster.api.pod(&self.name).await {
                    Ok(Some(pod)) if pod.metadata.uid == uid => {
                        following.pod = Arc::new(pod);
                        following.unseen = true;
                    }
                    Ok(_) => return Err(Self::gone(following)),
                    Err(error) => self.failed(&error).await?,
                }
            }
        }
        let identity = self.cluster.identity(&following.pod.metadata);
        if identity.is_ok_and(|identity| identity.token.epoch > self.token.epoch) {
            return Err(RunEvent::Taken);
        }
        Ok(())
    }

    /// The end of a pod that is gone.
    fn gone(following: &Following) -> RunEvent {
        if let Observed::Ended { exit, failure } = pod::observe(&following.pod, &following.events) {
            return Self::ended(following, exit, failure.map(failed));
        }
        Self::ended(following, Exit::default(), Some(failed(pod::gone(&following.pod))))
    }

    fn ended(following: &Following, mut exit: Exit, mut failure: Option<RunFailure>) -> RunEvent {
        if let Some(stopping) = &following.stopping {
            exit.stopped = Some(StopCause::Ordered);
            failure.clone_from(&stopping.failure);
            if failure.is_some() {
                exit.stopped = None;
            }
        }
        let last_words = pod::last_words(&following.pod).map(str::to_owned);
        let kept_by = following.hopeless.as_ref().map(|(hopeless, _)| hopeless.failure.cause.cause());
        RunEvent::Exited(Ended { exit, failure, node: node_of(&following.pod), kept_by, last_words })
    }

    /// Acts on the pod's status.
    async fn take_in(&mut self, following: &mut Following) -> Step<()> {
        match pod::observe_on(&following.pod, &following.events, following.silent_node) {
            Observed::Pending(waiting) => {
                self.ask_events(following).await;
                if self.cluster.pods.away().borrow().is_none() {
                    self.say(&waiting.note).await?;
                }
                let since = match &following.hopeless {
                    Some((known, since)) if known.failure.cause == waiting.hopeless.failure.cause => *since,
                    _ => Instant::now(),
                };
                let over = waiting.hopeless.patience.is_some_and(|patience| since.elapsed() >= patience);
                let failure = waiting.hopeless.failure.clone();
                following.hopeless = Some((waiting.hopeless, since));
                if over && following.stopping.is_none() && following.pod.metadata.deletion_timestamp.is_some()
                {
                    // Nothing finishes its deletion. The next run waits until the pod can be presumed dead.
                    return Err(Self::ended(following, Exit::default(), Some(failed(failure))));
                }
                if over && following.stopping.is_none() {
                    self.stop_pod(following, Duration::ZERO, Some(failed(failure))).await?;
                }
            }
            Observed::Running { note } => {
                let first = following.phase.send_if_modified(|phase| {
                    let first = *phase == Phase::Pending;
                    let is_deleted = following.pod.metadata.deletion_timestamp.is_some();
                    *phase = if is_deleted { Phase::Ending } else { Phase::Running };
                    first
                });
                if first {
                    self.out
                        .send(RunEvent::Up(pod::start_delay(&following.pod)))
                        .await
                        .map_err(|_| RunEvent::HandedOver)?;
                }
                if self.cluster.pods.away().borrow().is_none() {
                    self.say(note.as_deref().unwrap_or_default()).await?;
                }
            }
            Observed::Ended { exit, failure } => {
                return Err(Self::ended(following, exit, failure.map(failed)));
            }
        }
        Ok(())
    }

    /// Reads the events of a pod that does not start.
    async fn ask_events(&mut self, following: &mut Following) {
        if following.events_at > Instant::now() {
            return;
        }
        following.events_at = Instant::now() + jittered(EVENTS_EVERY);
        self.look_at_node(following).await;
        if let Some(again) = self.cluster.events.refused_until() {
            following.events_at = again;
            return;
        }
        match self.cluster.api.events_of(&following.pod).await {
            Ok(events) => {
                following.events = events;
                if self.cluster.events.given() {
                    tracing::info!("this worker may list events again");
                }
            }
            Err(error) if error.code() == 403 => {
                let (again, missing) = self.cluster.events.refused();
                following.events_at = again;
                if missing {
                    tracing::warn!(
                        %error,
                        "this worker may not list events, so people cannot see why a pod waits for a mount or an image; the Role in deploy/ grants that right"
                    );
                }
            }
            Err(error) => tracing::debug!(%error, "the pod's events cannot be read"),
        }
    }

    /// Checks the node of a pod that does not start. Without the right to list nodes, only the pod's own
    /// conditions are used.
    async fn look_at_node(&mut self, following: &mut Following) {
        let Some(node) = node_of(&following.pod) else { return };
        match self.cluster.api.node(&node).await {
            Ok(found) => following.silent_node = found.is_none_or(|node| pod::fit::is_silent(&node)),
            Err(error) => tracing::debug!(%error, node, "the pod's node cannot be read"),
        }
    }

    /// Deletes the pod, but only in the version that was read, and only if it carries this holder's token.
    async fn stop_pod(
        &mut self,
        following: &mut Following,
        grace: Duration,
        failure: Option<RunFailure>,
    ) -> Step<()> {
        if following.stopping.as_ref().is_some_and(|stopping| stopping.grace <= grace) {
            return Ok(());
        }
        loop {
            self.may_change(true).await?;
            let pod = match self.cluster.api.pod(&self.name).await {
                Ok(Some(pod)) if pod.metadata.uid == following.pod.metadata.uid => pod,
                Ok(_) => {
                    note_stopping(following, grace, failure);
                    return Err(Self::gone(following));
                }
                Err(error) => {
                    self.failed(&error).await?;
                    continue;
                }
            };
            match self.cluster.identity(&pod.metadata) {
                Ok(identity) if identity.token == self.token => {}
                _ => return Err(RunEvent::Taken),
            }
            // A pod that ended before it was stopped has ended by itself.
            if following.stopping.is_none()
                && let Observed::Ended { exit, failure } = pod::observe(&pod, &following.events)
            {
                following.pod = Arc::new(pod);
                return Err(Self::ended(following, exit, failure.map(failed)));
            }
            let seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX).max(1);
            match self.cluster.api.delete_pod(&self.name, &Version::of(&pod), Some(seconds)).await {
                Ok(()) => {
                    tracing::info!(pod = self.name, seconds, "deleted the pod");
                    self.worked();
                    note_stopping(following, grace, failure);
                    return Ok(());
                }
                Err(error) if error.code() == 409 => {}
                Err(error) => self.failed(&error).await?,
            }
        }
    }

    async fn tell_away(&mut self) -> Step<()> {
        let away = self.cluster.pods.away().borrow().clone();
        match away {
            Some((since, why)) if since.elapsed() >= AWAY_TOLD => {
                self.say(&format!("waiting for the cluster: {why}")).await
            }
            _ => Ok(()),
        }
    }

    async fn wait_for_news(&mut self, following: &Following) {
        let mut timers = Vec::new();
        // Only times that the next step acts on: any other time in the past would wake this up in a busy loop.
        if *following.phase.borrow() == Phase::Pending {
            timers.push(following.events_at);
            if let Some((hopeless, since)) = &following.hopeless
                && following.stopping.is_none()
            {
                timers.extend(hopeless.patience.map(|patience| *since + patience));
            }
        }
        timers.extend(following.stopping.as_ref().map(|stopping| stopping.give_up));
        if following.unseen {
            timers.push(Instant::now() + UNSEEN_EVERY);
        }
        let mut away = self.cluster.pods.away();
        if let Some((since, _)) = &*away.borrow_and_update()
            && since.elapsed() < AWAY_TOLD
        {
            timers.push(*since + AWAY_TOLD);
        }
        let timer = async {
            match timers.into_iter().min() {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.seen.changed() => {}
            _ = self.orders.changed() => {}
            _ = away.changed() => {}
            () = timer => {}
        }
    }
}

fn note_stopping(following: &mut Following, grace: Duration, failure: Option<RunFailure>) {
    let failure = following.stopping.take().map_or(failure, |stopping| stopping.failure);
    following.stopping = Some(Stopping { grace, give_up: Instant::now() + grace + GONE_TIMEOUT, failure });
}

fn failed(failure: pod::Failure) -> RunFailure {
    let (class, cause, blame) = (failure.class(), failure.cause.cause(), failure.blame());
    RunFailure { class, cause, reason: failure.reason, blame }
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
}
