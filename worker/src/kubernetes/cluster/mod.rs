//! A cluster and a namespace in it, shared by all runs of a worker.

pub(crate) mod api;
pub(crate) mod api_error;
pub(crate) mod credentials;
pub(crate) mod gate;
pub(crate) mod nodes;
pub(crate) mod owner;
pub(crate) mod pods;
pub(crate) mod rights;
pub(crate) mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use fairlane_common::{Build, Queue};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::api::{Api, ApiError};
use self::gate::Gate;
use self::nodes::Nodes;
use self::pods::Pods;
use self::rights::{Refusals, Right};
use crate::kubernetes::client;
use crate::kubernetes::pod::{self, Owner, PodSettings};
use crate::settings::Settings;
use crate::time::backoff::Backoff;

/// How long to wait at startup for a cluster that does not answer: it may be starting, too.
const START_PATIENCE: Duration = Duration::from_mins(2);

/// What all runs share.
pub(super) struct Cluster {
    pub(super) api: Api,
    pub(super) pods: Pods,
    pub(super) gate: Gate,
    pub(super) queue: Queue,
    pub(super) settings: PodSettings,
    pub(super) nodes: Nodes,
    /// The connection, which also explains errors.
    way: Mutex<client::Cluster>,
    namespace: String,
    place: String,
    /// Notified when the credentials were renewed, so that whatever waits can try again.
    pub(super) news: Notify,
    /// Which pods and Secrets belong to this queue.
    owner: Mutex<Owner>,
    /// Selects the pods of this installation.
    pub(super) selector: String,
    /// How long the pods of ended builds are kept.
    pub(super) keep: Duration,
    /// Pods that runs of this worker use, and how many runs do.
    in_use: Arc<Mutex<HashMap<String, usize>>>,
    /// The right to list events.
    pub(super) events: Right,
    /// Whether the cluster denied this worker the right to patch pods.
    patch_denied: AtomicBool,
    refusals: Refusals,
}

/// Protects a pod from the janitor as long as this value exists.
pub(super) struct InUse {
    name: String,
    in_use: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_use.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                in_use.remove(&self.name);
            }
        }
    }
}

impl Cluster {
    pub(super) fn new(way: client::Cluster, settings: &Settings, queue: &Queue) -> Self {
        Self {
            api: Api::new(way.client.clone(), &way.namespace),
            pods: Pods::new(),
            gate: Gate::default(),
            queue: queue.clone(),
            settings: settings.pods.clone(),
            nodes: Nodes::default(),
            news: Notify::new(),
            owner: Mutex::new(Owner::new(&settings.pods.installation)),
            selector: pod::selector(&settings.pods),
            keep: settings.keep_pods,
            in_use: Arc::default(),
            events: Right::default(),
            refusals: Refusals::default(),
            patch_denied: AtomicBool::new(false),
            namespace: way.namespace.clone(),
            place: way.place(),
            way: Mutex::new(way),
        }
    }

    /// The connection, with the latest credentials.
    pub(super) fn way(&self) -> client::Cluster {
        self.way.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses another connection to the same cluster.
    pub(super) fn set_way(&self, way: client::Cluster) {
        self.api.set_client(way.client.clone());
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
        self.news.notify_one();
    }

    pub(super) async fn connect(settings: &Settings, queue: &Queue) -> Result<Self> {
        let pods = &settings.pods;
        let way = client::Cluster::find(pods.namespace.as_deref(), pods.cluster.as_deref()).await?;
        let cluster = Self::new(way, settings, queue);
        cluster.check().await?;
        let (way, place) = (cluster.way(), cluster.place());
        tracing::info!(url = way.url(), place, "builds run as pods");
        Ok(cluster)
    }

    /// Checks that the cluster accepts this worker, and warns if other workers build elsewhere. Waits for a
    /// cluster that does not answer.
    async fn check(&self) -> Result<()> {
        let began = Instant::now();
        let give_up = began + START_PATIENCE;
        let mut backoff = Backoff::new();
        let there = loop {
            match self.api.list_pods(&self.selector).await {
                Ok((there, _)) => break there,
                Err(error) if error.passes() && Instant::now() < give_up => {
                    tracing::warn!(%error, url = self.way().url(), "waiting for the cluster");
                    backoff.pause().await;
                }
                // It may be starting and not have read the roles yet.
                Err(error) if error.code() == 403 && began.elapsed() < rights::PATIENCE => {
                    tracing::debug!(%error, "the cluster does not let this worker in yet");
                    backoff.pause().await;
                }
                Err(error) => bail!("{}", self.explain(&error)),
            }
        };
        self.settle_owner(&there).await?;
        self.check_right_to_patch().await;
        // Only a hint for people; skipped if Redis is away.
        let (way, workers) = (self.way(), self.queue.workers().await.unwrap_or_default());
        if let Some((id, why)) =
            workers.iter().find_map(|other| Some((&other.id, way.stranger(&other.place)?)))
        {
            tracing::warn!(worker = %id, why, "this worker cannot take over the builds of another worker");
        }
        Ok(())
    }

    pub(super) fn owner(&self) -> MutexGuard<'_, Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings for new pods.
    pub(super) fn pod_settings(&self) -> PodSettings {
        PodSettings { queue: self.owner().queue().map(str::to_owned), ..self.settings.clone() }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The names that the pod of a build's run may have.
    pub(super) fn pod_names(&self, build: &Build, run: u32) -> [String; 2] {
        pod::pod_names(build, run, &self.settings.installation)
    }

    /// The place of its runs.
    pub(super) fn place(&self) -> String {
        self.place.clone()
    }

    pub(super) fn mark_in_use(&self, name: &str) -> InUse {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        *in_use.entry(name.to_owned()).or_default() += 1;
        InUse { name: name.to_owned(), in_use: Arc::clone(&self.in_use) }
    }

    /// Whether a run of this worker uses that pod.
    pub(super) fn is_in_use(&self, name: &str) -> bool {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Whether this worker may patch pods, as far as is known.
    pub(super) fn may_patch(&self) -> bool {
        !self.patch_denied.load(Ordering::Relaxed)
    }

    /// Checks the right that adoption needs. Called once the cluster has answered a list, so that a refusal is
    /// reliable.
    pub(super) async fn check_right_to_patch(&self) {
        let denied = !self.api.may("patch", "pods").await.unwrap_or(true);
        if denied && !self.patch_denied.swap(denied, Ordering::Relaxed) {
            tracing::warn!(
                "this worker lacks the right to patch pods, so it cannot adopt the pods of a dead worker: their builds start again. The Role in deploy/ grants that right"
            );
        }
        self.patch_denied.store(denied, Ordering::Relaxed);
    }

    /// What an operator has to change after a refusal.
    pub(super) fn explain(&self, error: &ApiError) -> String {
        let namespace = &self.namespace;
        let ApiError::Refused(refusal) = error else { return error.to_string() };
        let message = refusal.message.trim();
        if refusal.causes.iter().any(|cause| cause == "NamespaceTerminating") {
            return format!("the namespace {namespace} is being deleted: name another one with --namespace");
        }
        match refusal.code {
            401 => {
                let status = kube::core::Status { code: 401, ..kube::core::Status::default() };
                self.way().explain(&kube::Error::Api(status.boxed()))
            }
            403 if message.contains("violates PodSecurity") => format!(
                "the namespace {namespace} does not admit build pods: label it pod-security.kubernetes.io/enforce=privileged, or change the pod template ({message})"
            ),
            403 if message.contains(" cannot ") => {
                let what = message.split(" cannot ").nth(1).unwrap_or_default();
                if self.refusals.lasts(what) {
                    format!("this worker's account lacks a right: give it the Role in deploy/ ({message})")
                } else {
                    format!("{} ({message})", rights::FOR_A_MOMENT)
                }
            }
            403 if message.contains("service account") || message.contains("serviceaccount") => {
                format!(
                    "the build pods' service account cannot be used: correct it in the pod template ({message})"
                )
            }
            403 => format!(
                "the cluster refuses build pods: correct the pod template or the namespace's limits ({message})"
            ),
            404 => format!(
                "the namespace {namespace} does not exist: create it, or name another one with --namespace ({message})"
            ),
            _ => format!(
                "the cluster refuses the build pod: correct the pod template or the worker's options ({message})"
            ),
        }
    }
}
