//! Runs as pods of a Kubernetes cluster.
//!
//! ```text
//!   watch ──► Pods ──► run (one task a build) ──► its events, to the build's task
//!   (one)                 │  create, adopt, delete: each change under a lease that holds
//!   janitor ──────────────┘  logs: one stream a build, resumed by time and text
//! ```
//!
//! A pod outlives its worker. Whoever holds a build's lease writes its token on the pod; every
//! change names the read that it presupposes, so that a holder of an older lease changes nothing.

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
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::cluster::Cluster;
use self::run::{Begin, PodRun};
use crate::executor::{BLIND, Executor, FoundRun, Run, RunSpec};
use crate::kubernetes::pod::CONTAINER;
use crate::settings::Settings;

/// Makes pods.
pub(crate) struct KubernetesExecutor {
    cluster: Arc<Cluster>,
}

impl KubernetesExecutor {
    /// Finds the cluster that the settings name.
    ///
    /// # Errors
    /// There is no way to a cluster, or it refuses the worker; the sentence says what to change. One
    /// that only does not answer at the moment is waited for.
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
        // Whether there is one the run itself says: the cluster may not answer at the moment.
        Ok(Some(Box::new(PodRun::begin(&self.cluster, &spec, Begin::Adopt))))
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

/// A pod as a run that nobody here sees to.
fn found(cluster: &Cluster, pod: &Pod) -> Option<FoundRun> {
    let meta = &pod.metadata;
    if meta.deletion_timestamp.is_some() || cluster.is_held(meta.name.as_deref()?) {
        return None;
    }
    let marks = cluster.identity(meta).ok()?;
    let ms = |time: &Time| u64::try_from(time.0.as_millisecond()).ok();
    let statuses = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
    let state =
        statuses.iter().find(|status| status.name == CONTAINER).and_then(|status| status.state.as_ref());
    let started = state.and_then(|state| {
        let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        running.or(state.terminated.as_ref().and_then(|end| end.started_at.as_ref())).and_then(ms)
    });
    Some(FoundRun {
        token: marks.token,
        attempt: marks.attempt,
        asked: marks.asked,
        claimed: meta.creation_timestamp.as_ref().and_then(ms).unwrap_or(marks.asked),
        started,
        spec: marks.spec,
        node: pod.spec.as_ref()?.node_name.clone(),
    })
}
