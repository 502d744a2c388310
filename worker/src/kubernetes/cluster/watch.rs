//! The shared watch: lists once, then follows by resource version; lists again if the server no longer knows that
//! version.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::core::WatchEvent;
use tokio::time::Instant;

use super::Cluster;
use super::api::ApiError;
use crate::time::backoff::jittered;

/// First pause after a failure.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Longest pause: once the API is back, a worker resumes at most this much later.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// If nothing arrives on a watch for this long, the pods are listed again. Bookmarks come once a minute, so the
/// server has vanished silently, or never had that version (its store was restored from a backup).
const IDLE: Duration = Duration::from_secs(100);
/// A watch that lasted this long was not a failure.
const GOOD: Duration = Duration::from_secs(5);
/// Longest event: etcd accepts 1.5 MiB, and its JSON is somewhat longer.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a watch ended.
enum Over {
    /// Its time was up, or its connection ended: continue from the same version.
    Ended,
    /// The version is too old or unknown: list again.
    Expired,
    Failed(ApiError),
}

/// Watches as long as it is polled.
pub(crate) async fn watch_on(cluster: &Cluster) {
    let mut pause = PAUSE_FIRST;
    loop {
        let mut version = match cluster.api.list_pods(&cluster.selector).await {
            Ok((pods, version)) => {
                tracing::debug!(pods = pods.len(), version, "listed the build pods");
                cluster.pods.replace(pods);
                note_back(cluster);
                version
            }
            Err(error) => {
                failed(cluster, &error, &mut pause).await;
                continue;
            }
        };
        loop {
            let began = Instant::now();
            let over = follow(cluster, &mut version).await;
            if began.elapsed() >= GOOD {
                pause = PAUSE_FIRST;
            }
            match over {
                Over::Ended if began.elapsed() >= GOOD => {}
                Over::Ended => tokio::time::sleep(next_pause(&mut pause)).await,
                Over::Expired => {
                    tracing::debug!("the watch of the build pods has expired; listing the pods again");
                    tokio::time::sleep(next_pause(&mut pause)).await;
                    break;
                }
                Over::Failed(error) => {
                    let refused = !error.passes();
                    failed(cluster, &error, &mut pause).await;
                    if refused {
                        break;
                    }
                }
            }
        }
    }
}

async fn failed(cluster: &Cluster, error: &ApiError, pause: &mut Duration) {
    let text = error.to_string();
    match error {
        ApiError::Refused(_) => {
            let reason = cluster.explain(error);
            cluster.gate.unseen(&reason);
            cluster.pods.note_refused(&reason);
        }
        ApiError::Away(_) => {
            cluster.pods.note_away(&text);
            cluster.gate.unreachable(&text);
        }
        ApiError::Busy(..) => {}
    }
    tracing::debug!(error = text, "the build pods cannot be watched");
    tokio::select! {
        () = tokio::time::sleep(next_pause(pause).max(error.wait())) => {}
        () = cluster.news.notified() => {}
    }
}

fn note_back(cluster: &Cluster) {
    cluster.gate.reachable();
    if let Some(since) = cluster.pods.note_back() {
        tracing::info!(seconds = since.elapsed().as_secs(), "the Kubernetes API answers again");
    }
}

fn next_pause(pause: &mut Duration) -> Duration {
    let now = jittered(*pause);
    *pause = (*pause * 2).min(PAUSE_MAX);
    now
}

async fn follow(cluster: &Cluster, version: &mut String) -> Over {
    let stream = match cluster.api.watch_pods(&cluster.selector, version).await {
        Ok(stream) => stream,
        Err(ApiError::Refused(refusal)) if refusal.code == 410 => return Over::Expired,
        Err(error) => return Over::Failed(error),
    };
    note_back(cluster);
    let mut refused = cluster.api.refused();
    let mut stream = std::pin::pin!(stream);
    let mut buffer = Vec::new();
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(IDLE, stream.next()) => next,
            // A stream outlives the credentials that it was opened with, but what it shows can no longer be acted
            // on.
            _ = refused.changed() => return Over::Expired,
        };
        match next {
            Ok(Some(Ok(bytes))) => buffer.extend(bytes),
            Ok(Some(Err(error))) => {
                tracing::debug!(error, "the watch of the build pods was cut");
                return Over::Ended;
            }
            Ok(None) => return Over::Ended,
            Err(_) => return Over::Expired,
        }
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            if let Some(over) = take(cluster, version, &line) {
                return over;
            }
        }
        if buffer.len() > EVENT_BYTES_MAX {
            tracing::warn!("an event of the watch is too long");
            return Over::Expired;
        }
    }
}

/// Handles one event.
fn take(cluster: &Cluster, version: &mut String, line: &[u8]) -> Option<Over> {
    let event: WatchEvent<Pod> = match serde_json::from_slice(line) {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "an event of the watch cannot be read");
            return Some(Over::Expired);
        }
    };
    let mut at = |pod: &Pod| {
        if let Some(resource) = &pod.metadata.resource_version {
            version.clone_from(resource);
        }
    };
    match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
            at(&pod);
            cluster.pods.put(pod);
        }
        WatchEvent::Deleted(pod) => {
            at(&pod);
            cluster.pods.remove(pod);
        }
        WatchEvent::Bookmark(mark) => *version = mark.metadata.resource_version,
        WatchEvent::Error(status) if status.code == 410 => return Some(Over::Expired),
        WatchEvent::Error(status) => {
            tracing::warn!(message = status.message, "the watch of the build pods ended with an error");
            return Some(Over::Expired);
        }
    }
    None
}
