//! The shutdown of a worker: no new claims, its runs get time to finish, then it deregisters.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::claiming::leases::Wanted;
use crate::claiming::state::Worker;

/// How long it may take until the ends of killed runs are reported to the queue. If Redis is away, their leases
/// expire.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long handing over may take. If Redis or the cluster is away, the runs are adopted when their leases expire.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long deregistering may take; without it, the worker's heartbeat expires by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits for the builds, and kills those that take too long.
pub(crate) async fn drain(worker: &Arc<Worker>) {
    let builds = &worker.builds;
    builds.close();
    // Makes the queue stop counting the slots of this worker.
    worker.beat_now.notify_one();
    if worker.executor.outlives() {
        return hand_over(worker).await;
    }
    let timeout = worker.settings.drain_timeout;
    if !builds.is_empty() {
        tracing::info!(
            builds = builds.len(),
            seconds = timeout.as_secs(),
            "shutting down: waiting for running builds to finish"
        );
    }
    if tokio::time::timeout(timeout, builds.wait()).await.is_err() {
        tracing::warn!(
            builds = builds.len(),
            "shutting down: killing the builds that still run; they go back to the queue"
        );
        worker.leases.want_all(Wanted::Drained);
        if tokio::time::timeout(SETTLE_TIMEOUT, builds.wait()).await.is_err() {
            tracing::error!(
                builds = builds.len(),
                "could not report all builds to the queue; their leases will expire"
            );
        }
    }
}

/// Hands the runs over to other workers.
async fn hand_over(worker: &Arc<Worker>) {
    let builds = &worker.builds;
    if !builds.is_empty() {
        tracing::info!(builds = builds.len(), "shutting down: builds are handed over");
    }
    worker.leases.want_all(Wanted::Drained);
    if tokio::time::timeout(HAND_OVER_TIMEOUT, builds.wait()).await.is_err() {
        tracing::warn!(
            builds = builds.len(),
            "could not hand over all builds; other workers adopt them when their leases expire"
        );
    }
}

/// Deregisters this worker.
pub(crate) async fn leave(worker: &Worker) {
    match tokio::time::timeout(LEAVE_TIMEOUT, worker.queue.leave(&worker.id)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "could not deregister this worker"),
        Err(_) => tracing::warn!("could not deregister this worker in time"),
    }
}

/// A token that the first SIGTERM or SIGINT cancels. A second signal ends the process at once, and the supervisors
/// then kill the runs.
///
/// # Errors
/// The signals cannot be caught.
pub fn shutdown_on_signals() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        // If signals can no longer be received, shut down.
        let _guard = shutdown.clone().drop_guard();
        for last in [false, true] {
            let code = tokio::select! {
                _ = terminate.recv() => 128 + 15,
                _ = interrupt.recv() => 128 + 2,
            };
            if last {
                std::process::exit(code);
            }
            // Before anything else, whatever happens to this task.
            shutdown.cancel();
            tracing::info!("shutting down; send the signal again to exit immediately");
        }
    });
    Ok(token)
}
