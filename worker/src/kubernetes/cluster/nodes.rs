//! What is known about the cluster's nodes: which can run builds, and on which a container engine for builds runs.
//! Without the right to list nodes, only nodes on which pods were seen count.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use super::Cluster;
use super::rights::Right;
use crate::kubernetes::pod::fit::obstacles;
use crate::kubernetes::pod::{self, Placement};
use crate::time::backoff::jittered;

/// How often nodes are listed: they change when the cluster is scaled.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// The same after a failure.
const RETRY: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Known {
    /// Nodes that can run builds.
    nodes: Vec<String>,
    /// Nodes with a container engine for builds.
    builders: Vec<String>,
}

/// The nodes of a cluster.
#[derive(Default)]
pub(crate) struct Nodes {
    known: Mutex<Known>,
    /// The right to list them.
    right: Right,
}

impl Nodes {
    pub(crate) fn count(&self) -> usize {
        self.known().nodes.len()
    }

    /// What decides where a pod is placed.
    pub(crate) fn placement(&self, avoid: Vec<String>) -> Placement {
        let known = self.known();
        Placement { builders: known.builders.clone(), nodes: known.nodes.clone(), avoid }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists the nodes again and again, as long as it is polled.
pub(crate) async fn look_on(cluster: &Cluster) {
    loop {
        let good = look(cluster).await;
        let next = Instant::now() + jittered(if good { LOOK_EVERY } else { RETRY });
        tokio::time::sleep_until(cluster.nodes.right.refused_until().unwrap_or(next)).await;
    }
}

async fn look(cluster: &Cluster) -> bool {
    if cluster.settings.sticky {
        match cluster.api.pods_of(&cluster.settings.builders).await {
            Ok(pods) => cluster.nodes.known().builders = nodes_of(&pods).into_iter().collect(),
            Err(error) => tracing::debug!(%error, "the pods of container engines cannot be listed"),
        }
    }
    match cluster.api.nodes().await {
        Ok(nodes) => {
            if cluster.nodes.right.given() {
                tracing::info!("this worker may list nodes again");
            }
            let build_pod = pod::sample(&cluster.settings);
            cluster.nodes.known().nodes = nodes
                .iter()
                .filter(|node| obstacles(&build_pod, node).is_empty())
                .filter_map(name_of)
                .collect();
            true
        }
        Err(error) if error.code() == 403 => {
            if cluster.nodes.right.refused().1 {
                tracing::warn!(
                    %error,
                    "this worker may not list nodes, so it counts only nodes where it has seen build pods; the ClusterRole in deploy/ grants that right"
                );
            }
            let mut known = cluster.nodes.known();
            let seen: Vec<Pod> = cluster.pods.there().iter().map(|pod| (**pod).clone()).collect();
            let mut nodes: BTreeSet<String> = known.nodes.drain(..).collect();
            nodes.extend(nodes_of(&seen));
            known.nodes = nodes.into_iter().collect();
            false
        }
        Err(error) => {
            tracing::debug!(%error, "the nodes cannot be listed");
            false
        }
    }
}

fn nodes_of(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect()
}

fn name_of(node: &Node) -> Option<String> {
    node.metadata.name.clone()
}
