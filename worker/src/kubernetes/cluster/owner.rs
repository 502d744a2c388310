//! Whose the pods and Secrets are. Two queues, each with a Redis of its own, may have been given the same
//! installation in one namespace: each leaves the other's alone, and the second to come builds nothing until
//! it has a name of its own.

use std::time::Duration;

use anyhow::Result;
use fairlane_common::Queue;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::Cluster;
use crate::kubernetes::pod::{self, PodIdentity};
use crate::time::backoff::{Backoff, jittered};

/// How often it is looked whether the queue still has its identity, and whether there are pods of another one.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a queue without an identity is given one by nobody who finds pods of another one: whoever knew it puts it back
/// within [`LOOK_EVERY`], once Redis is there again.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a queue without an identity is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long Redis is asked at start.
const START_PATIENCE: Duration = Duration::from_mins(2);

impl Cluster {
    /// The identity of a pod of one's own.
    ///
    /// # Errors
    /// It is not one's own, or its identity cannot be read; the sentence says which.
    pub(crate) fn identity(&self, meta: &ObjectMeta) -> Result<PodIdentity> {
        self.owner().check_meta(meta)?;
        pod::identity(meta)
    }

    /// Finds out which queue this is, before anything is made or changed. `there`: the pods of the installation.
    pub(crate) async fn settle_owner(&self, there: &[Pod]) -> Result<()> {
        let (give_up, mut none_since) = (Instant::now() + START_PATIENCE, None);
        let mut backoff = Backoff::new();
        let has_strangers = there.iter().any(|pod| self.owner().stranger(&pod.metadata).is_some());
        let queue = loop {
            match self.queue.identity().await {
                Ok(Some(queue)) => break Some(queue),
                // Its Redis may have been lost: who knew it will say so.
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

    /// Refuses to build beside another queue that was there first, and says so if one comes later.
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

/// Gives the queue an identity. A Redis that takes none is not worth refusing to build for.
async fn given(queue: &Queue) -> Option<String> {
    let mine = &uuid::Uuid::new_v4().simple().to_string()[..12];
    match queue.identify(mine).await {
        Ok(queue) => Some(queue),
        Err(error) => {
            tracing::warn!(%error, "pods carry no label of their queue: Redis keeps no identity of it");
            None
        }
    }
}

/// Sees to it that the queue keeps its identity, and looks for pods of another one, for as long as it is polled.
pub(crate) async fn keep_on(cluster: &Cluster) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let known = cluster.owner().queue().map(str::to_owned);
        let found = match (cluster.queue.identity().await, &known) {
            // A Redis that lost all it had.
            (Ok(None), Some(known)) => cluster.queue.identify(known).await.map(Some),
            (found, _) => found,
        };
        match found {
            Ok(Some(queue)) if known.as_ref() != Some(&queue) => {
                tracing::warn!(
                    queue,
                    "the queue has another identity now; pods marked with the old one remain its own"
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
