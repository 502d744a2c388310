//! Runs as pods of a Kubernetes cluster.
//!
//! ```text
//!   watch ──► pods ──► run (one task a build) ──► its events, to the build's task
//!   (one)                 │  create, adopt, delete: each change under a lease that holds
//!   janitor ──────────────┘  logs: one stream a build, resumed by time and text
//! ```
//!
//! # Who may change a pod
//!
//! A pod outlives its worker. The holder of a build's lease writes its token on the pod as annotations. Every
//! change names the version of the pod that was read, and is only made while the lease holds. So a holder of an
//! older lease, however late it wakes up, changes nothing: its lease is over, its token is older, and the version
//! that it has read is gone.
//!
//! # The order of things
//!
//! 1. Builds are claimed while the gate is open. If the namespace refuses pods, the gate closes, and one build at
//!    a time tries whether that is over. Nothing is wrong with the builds, so none uses an attempt.
//! 2. The pods of other runs must be gone. Then the Secret is created, then the pod, which becomes the
//!    Secret's owner. A pod's name follows from installation, image and run: if the answer to a creation is
//!    lost, the name is taken, and the annotations say by whom.
//! 3. One watch shows all pods of the installation. Each run waits there for its own pod, reports what the pod
//!    waits for, and follows one log stream. The end of a stream proves nothing: the container's status says what
//!    has ended.
//! 4. The run ends with its pod's status. The pod stays for a minute, then any worker's janitor removes it.
//!
//! A worker that adopts a pod starts at step 3. It writes its token first, and rereads the log from shortly before
//! the last stored line.
//!
//! # What is read again before anything is deleted
//!
//! The janitor relies on what Redis and the cluster say at that moment, and names both uid and version in the
//! deletion. What belongs to another installation, to another queue, or to a run of this worker is left alone.

pub mod client;
mod cluster;
mod janitor;
pub mod pod;
mod run;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use fairlane_common::{Queue, WorkerId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::cluster::Cluster;
use self::run::{Begin, PodRun};
use crate::executor::{BLIND, Executor, FoundRun, Run, RunSpec};
use crate::kubernetes::pod::CONTAINER;
use crate::settings::Settings;

/// Runs builds as pods.
pub(crate) struct KubernetesExecutor {
    cluster: Arc<Cluster>,
}

impl KubernetesExecutor {
    /// Finds the cluster that the settings name.
    ///
    /// # Errors
    /// No cluster is configured, or it refuses the worker; the message says what to change. If the cluster just
    /// does not answer at the moment, this waits for it.
    pub(crate) async fn connect(settings: &Settings, queue: &Queue) -> Result<Self> {
        Ok(Self { cluster: Arc::new(Cluster::connect(settings, queue).await?) })
    }
}

#[async_trait]
impl Executor for KubernetesExecutor {
    fn place(&self, _: &WorkerId) -> String {
        self.cluster.place()
    }

    fn outlives(&self) -> bool {
        true
    }

    async fn start(&self, mut spec: RunSpec<'_>) -> Result<Box<dyn Run>> {
        let env = std::mem::take(&mut spec.env);
        Ok(Box::new(PodRun::begin(&self.cluster, &spec, Begin::Create(env))))
    }

    async fn attach(&self, spec: RunSpec<'_>) -> Result<Option<Box<dyn Run>>> {
        // The run itself finds out whether the pod exists, because the cluster may not answer at the moment.
        Ok(Some(Box::new(PodRun::begin(&self.cluster, &spec, Begin::Adopt))))
    }

    fn oldest_pending(&self) -> Option<Duration> {
        let pods = self.cluster.pods.there();
        let waits = pods.iter().filter_map(|pod| pod::pending_for(pod, Timestamp::now()));
        Some(waits.max().unwrap_or_default())
    }

    fn paused(&self) -> Option<String> {
        let blind = self.cluster.pods.away().borrow().clone();
        blind.map(|(_, why)| format!("{BLIND}{why}")).or_else(|| self.cluster.gate.reason())
    }

    fn blind(&self) -> Option<Duration> {
        self.cluster.pods.away().borrow().as_ref().map(|(since, _)| since.elapsed())
    }

    fn may_start(&self, free: usize) -> usize {
        self.cluster.gate.may_start(free)
    }

    fn unused(&self) {
        self.cluster.gate.unused();
    }

    async fn pause_changed(&self) {
        self.cluster.gate.changed().await;
    }

    fn nodes(&self) -> usize {
        self.cluster.nodes.count()
    }

    fn found(&self) -> Vec<FoundRun> {
        let there = self.cluster.pods.there();
        there.iter().filter_map(|pod| found(&self.cluster, pod)).collect()
    }

    async fn tend(&self) {
        tokio::join!(
            cluster::watch::watch_on(&self.cluster),
            janitor::clean_on(&self.cluster),
            janitor::sweep_secrets_on(&self.cluster),
            cluster::nodes::look_on(&self.cluster),
            cluster::owner::keep_on(&self.cluster),
            cluster::credentials::keep_on(&self.cluster),
        );
    }
}

/// A pod as a run that no task of this worker follows.
fn found(cluster: &Cluster, pod: &Pod) -> Option<FoundRun> {
    let meta = &pod.metadata;
    if meta.deletion_timestamp.is_some() || cluster.is_in_use(meta.name.as_deref()?) {
        return None;
    }
    let identity = cluster.identity(meta).ok()?;
    let ms = |time: &Time| u64::try_from(time.0.as_millisecond()).ok();
    let statuses = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
    let state =
        statuses.iter().find(|status| status.name == CONTAINER).and_then(|status| status.state.as_ref());
    let started = state.and_then(|state| {
        let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        running.or(state.terminated.as_ref().and_then(|end| end.started_at.as_ref())).and_then(ms)
    });
    Some(FoundRun {
        token: identity.token,
        number: identity.run,
        asked: identity.asked,
        claimed: meta.creation_timestamp.as_ref().and_then(ms).unwrap_or(identity.asked),
        started,
        spec: identity.spec,
        node: pod.spec.as_ref()?.node_name.clone(),
    })
}
