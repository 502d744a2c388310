//! One run: a pod, from its creation or adoption to its end, driven by a separate task. The task learns everything
//! from the shared watch and follows one log stream.

mod clear;
mod create;
mod follow;
mod gate;
mod logs;
mod sync;
mod timestamped;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fairlane_common::{Build, Token};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use self::sync::Window;
use super::cluster::Cluster;
use super::cluster::InUse;
use super::cluster::api::{ApiError, CALL_TIMEOUT};
use super::cluster::pods::Seen;
use crate::executor::{Ended, Exit, Run, RunEvent, RunSpec, StopCause};
use crate::kubernetes::pod::{self, PodIdentity};
use crate::time::backoff::jittered;
use crate::time::boot_time::BootTime;

/// Events buffered for the build's task.
const EVENTS_MAX: usize = 128;
/// First pause after a call that failed.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// How long patching a pod may be refused although the cluster said that it is allowed: a starting API server
/// refuses everything until it has read the roles, and when a control plane is replaced, each of its servers does
/// so once. The pod's work so far is worth this wait.
const PATCH_PATIENCE: Duration = Duration::from_mins(3);
/// The same if the right was already missing when the worker started: that is unlikely to change.
const PATCH_PATIENCE_DENIED: Duration = Duration::from_secs(3);
/// How often to look for a pod that may be about to be created.
const COMING_EVERY: Duration = Duration::from_secs(2);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The orders for a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orders {
    pub(super) deadline: BootTime,
    pub(super) stop: Option<Duration>,
    pub(super) hand_over: bool,
    pub(super) open_gate: bool,
}

/// The last event of a run is returned as the error of whatever was in progress.
pub(super) type Step<T> = Result<T, RunEvent>;

/// A run as its build's task sees it.
pub(super) struct PodRun {
    events: mpsc::Receiver<RunEvent>,
    orders: watch::Sender<Orders>,
    _task: AbortOnDropHandle<()>,
}

/// How a run starts.
pub(super) enum Begin {
    /// Creates a pod, with these variables for its command.
    Create(std::collections::BTreeMap<String, String>),
    Adopt,
}

impl PodRun {
    pub(super) fn begin(cluster: &Arc<Cluster>, spec: &RunSpec<'_>, begin: Begin) -> Self {
        let (out, events) = mpsc::channel(EVENTS_MAX);
        let (orders, orders_out) = watch::channel(Orders {
            deadline: spec.deadline,
            stop: None,
            hand_over: false,
            open_gate: false,
        });
        let names = cluster.pod_names(spec.build, spec.build.attempt);
        let in_use = names.iter().map(|name| cluster.mark_in_use(name)).collect();
        let [name, _] = names;
        let driver = Driver {
            seen: cluster.pods.subscribe(&name),
            _in_use: in_use,
            cluster: Arc::clone(cluster),
            build: spec.build.clone(),
            token: spec.token.clone(),
            gated: spec.gated,
            avoided: spec.avoided.iter().map(ToString::to_string).collect(),
            name,
            orders: orders_out,
            out,
            note: String::new(),
            pause: PAUSE_FIRST,
            heeded: (None, false),
            patch_refused: None,
        };
        let window = Window::of_stored(&spec.stored);
        let task = tokio::spawn(driver.drive(begin, window).in_current_span());
        Self { events, orders, _task: AbortOnDropHandle::new(task) }
    }
}

#[async_trait]
impl Run for PodRun {
    async fn follow(&mut self) -> RunEvent {
        match self.events.recv().await {
            Some(event) => event,
            // Its task has panicked; the pod is unchanged.
            None => RunEvent::HandedOver,
        }
    }

    fn renewed(&mut self, deadline: BootTime) {
        self.orders.send_modify(|orders| orders.deadline = orders.deadline.max(deadline));
    }

    fn stop(&mut self, grace: Duration) {
        self.orders.send_modify(|orders| {
            orders.stop = Some(orders.stop.map_or(grace, |known| known.min(grace)));
        });
    }

    fn abandon(&mut self) {
        self.stop(Duration::ZERO);
    }

    fn open_gate(&mut self) {
        self.orders.send_modify(|orders| orders.open_gate = true);
    }

    fn hand_over(&mut self) {
        self.orders.send_modify(|orders| orders.hand_over = true);
    }
}

/// Drives a run.
pub(super) struct Driver {
    pub(super) cluster: Arc<Cluster>,
    pub(super) build: Build,
    pub(super) token: Token,
    /// Whether the run waits before it pushes.
    pub(super) gated: bool,
    /// Nodes that all builds avoid.
    pub(super) avoided: Vec<String>,
    pub(super) name: String,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) seen: watch::Receiver<Seen>,
    /// Protects the pod from the janitor.
    _in_use: Vec<InUse>,
    pub(super) out: mpsc::Sender<RunEvent>,
    /// The note that was last sent.
    note: String,
    pause: Duration,
    /// The stop and hand-over orders that were last acted on.
    heeded: (Option<Duration>, bool),
    /// Since when patching the pod has been refused.
    patch_refused: Option<Instant>,
}

impl Driver {
    async fn drive(mut self, begin: Begin, window: Window) {
        let last = match Box::pin(self.begin(begin)).await {
            Ok(pod) => self.follow_pod(pod, window).await,
            Err(last) => last,
        };
        // Fails only if nobody receives it any more.
        let _ = self.out.send(last).await;
    }

    async fn begin(&mut self, begin: Begin) -> Step<Pod> {
        match begin {
            Begin::Create(env) => Box::pin(self.create(env)).await,
            Begin::Adopt => self.adopt().await,
        }
    }

    /// Takes over the pod of a run that another worker started.
    async fn adopt(&mut self) -> Step<Pod> {
        let began = Instant::now();
        loop {
            self.may_change(true).await?;
            match self.find().await {
                Ok(Some(pod)) => {
                    if let Some(pod) = self.annotate(pod).await? {
                        // The worker that created the pod may have died before it made the pod its Secret's owner.
                        if let Ok(PodIdentity { secret: Some(secret), .. }) = pod::identity(&pod.metadata) {
                            self.own_secret(&secret, &pod).await;
                        }
                        return Ok(pod);
                    }
                }
                // The cluster may be about to create the pod that the earlier holder requested just before it
                // died.
                Ok(None)
                    if self.build.started.is_none()
                        && began.elapsed() < CALL_TIMEOUT
                        && self.orders.borrow().stop.is_none() =>
                {
                    self.say("looking for the pod that its earlier worker may have created").await?;
                    self.wait(COMING_EVERY).await;
                }
                Ok(None) => return Err(RunEvent::Lost("its pod is gone".to_owned())),
                Err(error) => self.failed(&error).await?,
            }
        }
    }

    /// The pod of this run, under any name that it may have.
    async fn find(&mut self) -> Result<Option<Pod>, ApiError> {
        let run = self.build.attempt;
        for name in self.cluster.pod_names(&self.build, run) {
            let Some(pod) = self.cluster.api.pod(&name).await? else { continue };
            match self.cluster.identity(&pod.metadata) {
                Ok(identity) if identity.run == run => {
                    if name != self.name {
                        self.seen = self.cluster.pods.subscribe(&name);
                        self.name = name;
                    }
                    return Ok(Some(pod));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(pod = name, "left a foreign pod alone: {error:#}"),
            }
        }
        Ok(None)
    }

    /// Writes this holder's token on the pod; `None` if the pod has changed in the meantime and must be read
    /// again.
    pub(super) async fn annotate(&mut self, pod: Pod) -> Step<Option<Pod>> {
        let identity = match self.cluster.identity(&pod.metadata) {
            Ok(identity) if identity.run == self.build.attempt => identity,
            Ok(_) => return Err(RunEvent::Lost("its pod is gone".to_owned())),
            Err(error) => return Err(self.in_the_way(&error)),
        };
        if identity.token == self.token {
            return Ok(Some(pod));
        }
        if identity.token.epoch > self.token.epoch {
            return Err(RunEvent::Taken);
        }
        let patch = pod::token_patch(&self.token, &pod.metadata);
        match self.cluster.api.patch_pod(&self.name, patch).await {
            Ok(pod) => {
                tracing::info!(pod = self.name, from = %identity.token.worker, "adopted the pod");
                Ok(Some(pod))
            }
            // A different uid gives 422, a different version 409.
            Err(error) if matches!(error.code(), 404 | 409 | 422) => Ok(None),
            Err(error) if error.code() == 403 => self.may_not_patch(&error).await.map(|()| None),
            Err(error) => self.failed(&error).await.map(|()| None),
        }
    }

    /// Without the right to patch a pod, nobody can take it over, so it is deleted and its build starts again. But
    /// a refusal may pass while the pod goes on, so patching is retried for a while first.
    async fn may_not_patch(&mut self, error: &ApiError) -> Step<()> {
        let since = *self.patch_refused.get_or_insert_with(Instant::now);
        if !self.cluster.may_patch() && since.elapsed() >= PATCH_PATIENCE_DENIED {
            // The right may have been granted in the meantime.
            self.cluster.check_right_to_patch().await;
        }
        let allowed = self.cluster.may_patch();
        let patience = if allowed { PATCH_PATIENCE } else { PATCH_PATIENCE_DENIED };
        if since.elapsed() < patience {
            if allowed {
                let why = self.cluster.explain(error);
                self.say(&format!("waiting to take over its pod; the cluster still refuses: {why}")).await?;
            }
            let wait = jittered(self.pause);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.wait(wait).await;
            return Ok(());
        }
        tracing::warn!(
            %error,
            pod = self.name,
            "this worker lacks the right to patch pods, so it cannot adopt this one: the pod is deleted and its build starts again. The Role in deploy/ grants that right"
        );
        self.patch_refused = None;
        let (name, epoch) = (self.name.clone(), self.token.epoch);
        Box::pin(self.clear(&name, |identity| identity.token.epoch < epoch)).await
    }

    /// The current orders; new ones cut [`Self::wait`] short.
    pub(super) fn heed(&mut self) -> Orders {
        let orders = *self.orders.borrow_and_update();
        self.heeded = (orders.stop, orders.hand_over);
        orders
    }

    /// Waits until something may be changed in the cluster: only while the lease holds, and not against the
    /// orders. `made`: whether there is, or may be, a pod.
    pub(super) async fn may_change(&mut self, made: bool) -> Step<()> {
        loop {
            let orders = self.heed();
            if orders.hand_over {
                let lost = RunEvent::Lost("its worker gave it up before its pod was created".to_owned());
                return Err(if made { RunEvent::HandedOver } else { lost });
            }
            if orders.stop.is_some() && !made {
                let exit = Exit { stopped: Some(StopCause::Ordered), ..Exit::default() };
                return Err(RunEvent::Exited(Ended { exit, ..Ended::default() }));
            }
            if !orders.deadline.has_passed() {
                return Ok(());
            }
            tracing::debug!("the lease has to be renewed before the pod may be touched");
            if self.orders.changed().await.is_err() {
                return Err(RunEvent::HandedOver);
            }
        }
    }

    /// Waits until the lease has expired, including renewals.
    pub(super) async fn lease_over(&self) {
        loop {
            let deadline = self.orders.borrow().deadline;
            deadline.reached().await;
            if self.orders.borrow().deadline <= deadline {
                return;
            }
        }
    }

    /// After a failed call: says what the run waits for, and pauses.
    pub(super) async fn failed(&mut self, error: &ApiError) -> Step<()> {
        if !error.passes() {
            let reason = self.cluster.explain(error);
            self.cluster.gate.misconfigured(&reason);
            self.say(&reason).await?;
        } else if self.pause > PAUSE_FIRST {
            self.say(&format!("waiting for the cluster: {error}")).await?;
        }
        tracing::debug!(%error, "a call to the cluster failed");
        let wait = jittered(self.pause).max(error.wait());
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.wait(wait).await;
        Ok(())
    }

    /// Waits for this long, or until a new order to stop or hand over. Renewals do not cut it short: they come
    /// every few seconds, and an overloaded server asks for longer pauses.
    pub(super) async fn wait(&mut self, time: Duration) {
        let heeded = self.heeded;
        let news = self.orders.wait_for(|orders| (orders.stop, orders.hand_over) != heeded);
        // Closed if nobody wants the run any more; its task is then about to end.
        let news = async {
            if news.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = news => {}
        }
    }

    pub(super) fn worked(&mut self) {
        self.pause = PAUSE_FIRST;
    }

    /// Reports what the run waits for, if that has changed.
    pub(super) async fn say(&mut self, note: &str) -> Step<()> {
        if self.note == note {
            return Ok(());
        }
        note.clone_into(&mut self.note);
        self.out.send(RunEvent::Note(note.to_owned())).await.map_err(|_| RunEvent::HandedOver)
    }
}
