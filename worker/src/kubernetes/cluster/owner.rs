//! Which queue owns the pods and Secrets. Two queues, each with its own Redis, may have been given the same
//! installation in one namespace by mistake. Each leaves the other's objects alone, and the one that came second
//! builds nothing until it gets a different name.

use std::time::Duration;

use anyhow::Result;
use fairlane_common::Queue;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::Cluster;
use crate::kubernetes::pod::{self, PodIdentity};
use crate::time::backoff::{Backoff, jittered};

/// How often to check whether the queue still has its identity, and whether there are pods of another queue.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// If a queue has no identity but there are pods of another queue, no new identity is created for this long: once
/// Redis is back, a worker that knew the identity restores it within [`LOOK_EVERY`].
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the identity is read meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for Redis at startup.
const START_PATIENCE: Duration = Duration::from_mins(2);

impl Cluster {
    /// The identity of a pod, if this queue owns it.
    ///
    /// # Errors
    /// The queue does not own it, or its identity cannot be read; the message says which.
    pub(crate) fn identity(&self, meta: &ObjectMeta) -> Result<PodIdentity> {
        self.owner().check_meta(meta)?;
        pod::identity(meta)
    }

    /// Finds out which queue this is, before anything is created or changed. `there` are the installation's pods.
    pub(crate) async fn settle_owner(&self, there: &[Pod]) -> Result<()> {
        let (give_up, mut none_since) = (Instant::now() + START_PATIENCE, None);
        let mut backoff = Backoff::new();
        let has_strangers = there.iter().any(|pod| self.owner().stranger(&pod.metadata).is_some());
        let queue = loop {
            match self.queue.identity().await {
                Ok(Some(queue)) => break Some(queue),
                // Redis may have lost its data; a worker that knew the identity will restore it.
                Ok(None)
                    if has_strangers && none_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(None) => break given(&self.queue).await,
                Err(error) if error.is_transient() && Instant::now() < give_up => {
                    tracing::debug!(%error, "the queue's identity cannot be read yet");
                    backoff.pause().await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        if let Some(queue) = queue {
            self.owner().set_queue(&queue);
        }
        self.look_for_strangers(there.iter());
        Ok(())
    }

    /// Refuses to build if another queue with the same installation was there first, and logs it if one comes
    /// later.
    fn look_for_strangers<'a>(&self, there: impl Iterator<Item = &'a Pod> + Clone) {
        let owner = self.owner().clone();
        if there.clone().any(|pod| owner.check_meta(&pod.metadata).is_ok()) {
            self.gate.first();
        }
        let stranger = there
            .filter_map(|pod| Some((owner.stranger(&pod.metadata)?, pod.metadata.name.as_deref()?)))
            .min_by_key(|(_, name)| (*name).to_owned());
        let words = stranger.map(|(queue, name)| {
            format!(
                "another queue, with another Redis, has pods in the namespace {} under the same installation '{}', \
                 such as {name}: give one of the two another name with --installation \
                 (FAIRLANE_INSTALLATION). If that queue is gone for good, delete its pods: kubectl delete pods -l \
                 fairlane/queue={queue}",
                self.namespace(),
                self.settings.installation,
            )
        });
        self.gate.strangers(words);
    }
}

/// Gives the queue an identity. If Redis accepts none, builds run without it.
async fn given(queue: &Queue) -> Option<String> {
    let mine = &uuid::Uuid::new_v4().simple().to_string()[..12];
    match queue.identify(mine).await {
        Ok(queue) => Some(queue),
        Err(error) => {
            tracing::warn!(%error, "Redis does not store the queue's identity, so pods carry no queue label");
            None
        }
    }
}

/// Restores the queue's identity if it is lost, and looks for pods of another queue, as long as it is polled.
pub(crate) async fn keep_on(cluster: &Cluster) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let known = cluster.owner().queue().map(str::to_owned);
        let found = match (cluster.queue.identity().await, &known) {
            // Redis has lost everything.
            (Ok(None), Some(known)) => cluster.queue.identify(known).await.map(Some),
            (found, _) => found,
        };
        match found {
            Ok(Some(queue)) if known.as_ref() != Some(&queue) => {
                tracing::warn!(
                    queue,
                    "the queue's identity has changed; pods with the old one still belong to it"
                );
                cluster.owner().set_queue(&queue);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the queue's identity cannot be read"),
        }
        let there = cluster.pods.there();
        cluster.look_for_strangers(there.iter().map(|pod| &**pod));
    }
}
