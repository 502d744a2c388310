//! Pods of a Kubernetes cluster. So far it only looks: it cannot build yet.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

/// Marks the pods of builds.
const LABELS: &str = "component=fairlane-build";
/// How long the API may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most pods counted.
const PODS_MAX: u32 = 500;

/// Why this executor cannot be used: the cluster cannot be reached, or, once it was, that building
/// in it is still to come.
pub(super) async fn look() -> Error {
    match tokio::time::timeout(TIMEOUT, count_pods()).await {
        Ok(Ok(count)) => {
            anyhow!(
                "the cluster answers ({count} build pods), but the kubernetes executor cannot build yet; use --executor process"
            )
        }
        Ok(Err(error)) => error,
        Err(_) => anyhow!("the Kubernetes API did not answer within {} s", TIMEOUT.as_secs()),
    }
}

async fn count_pods() -> Result<usize> {
    let client = kube::Client::try_default().await.context("no way to a Kubernetes cluster is configured")?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let list = pods.list(&ListParams::default().labels(LABELS).limit(PODS_MAX)).await;
    Ok(list.context("the build pods cannot be listed")?.items.len())
}
