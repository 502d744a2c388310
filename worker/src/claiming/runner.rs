//! The worker: its slots, and the loop that fills them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fairlane_common::queue::{Claim, OrphanNews, UnreadableClaim, tend_logs_on};
use fairlane_common::{Duties, Queue};
use fairlane_http::Server;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::hint::Hint;
use super::leases::Wanted;
use super::probe::WorkerProbe;
use super::state::Worker;
use super::{blind, heartbeat, memory, pushes, refill, shutdown};
use crate::build;
use crate::executor::Executor;
use crate::kubernetes::KubernetesExecutor;
use crate::process::executor::ProcessExecutor;
use crate::settings::{ExecutorKind, Settings};
use crate::time::backoff::{Backoff, jittered};

/// How often to claim without a hint, in case hints are lost.
const POLL: Duration = Duration::from_secs(5);
/// How long to wait for the heartbeat of a worker that the queue does not know.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(200);
/// Shortest pause between two reaps.
const REAP_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Runs a worker until `shutdown`; then its builds get time to finish. `ready` is called once the queue counts its
/// slots.
///
/// # Errors
/// The settings do not work on this host (for example, the build command is missing), or Redis cannot be reached
/// at startup. Later failures are retried.
pub async fn run(
    settings: Settings,
    queue: Queue,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<()> {
    settings.check()?;
    let probe = settings.metrics_listen.map(Server::bind_probe).transpose();
    let probe = probe.context("--metrics-listen (FAIRLANE_METRICS_LISTEN): cannot listen on this address")?;
    let executor = executor(&settings, &queue).await?;
    let worker = Arc::new(Worker::new(settings, queue, executor, shutdown.child_token()));
    heartbeat::join(&worker).await.context("the worker cannot join the queue")?;
    // Must be known before the first claim.
    worker.queue.memory().await;
    tracing::info!(worker.id = %worker.id, slots = worker.settings.slots, "worker is ready");
    ready();

    let mut duties = duties(&worker);
    if let Some(probe) = probe {
        // Builds that end during a shutdown are still counted, so the probe only ends with the worker.
        let serving = probe.run_probe(Arc::new(WorkerProbe(Arc::clone(&worker))), CancellationToken::new());
        duties.spawn("serving metrics", serving);
    }
    let failed = tokio::select! {
        () = claim_on(&worker) => None,
        // Without one of them no lease is safe.
        failed = duties.failed() => Some(failed),
    };
    if let Some(failed) = &failed {
        tracing::error!(error = %failed, "a background task of the worker failed; shutting down");
    }
    worker.draining.cancel();
    shutdown::drain(&worker).await;
    // Ended before the worker deregisters: a late heartbeat would register it again.
    duties.ended(Duration::ZERO).await;
    shutdown::leave(&worker).await;
    if let Some(failed) = failed {
        return Err(failed.into());
    }
    Ok(())
}

/// Creates the executor that the settings name, and checks that it works.
async fn executor(settings: &Settings, queue: &Queue) -> Result<Arc<dyn Executor>> {
    Ok(match settings.executor {
        ExecutorKind::Process => Arc::new(ProcessExecutor::new(settings)?),
        ExecutorKind::Kubernetes => Arc::new(KubernetesExecutor::connect(settings, queue).await?),
    })
}

/// The background tasks of a worker.
fn duties(worker: &Arc<Worker>) -> Duties {
    let mut duties = Duties::default();
    let stalls = Arc::clone(&worker.stalls);
    duties.spawn("noticing stalls", async move { stalls.watch().await });
    duties.spawn("heartbeat", heartbeat::beat_on(Arc::clone(worker)));
    duties.spawn("hearing news", hear_news(Arc::clone(worker)));
    let asking = pushes::ask_on(Arc::clone(&worker.pushes), worker.queue.clone(), worker.id.clone());
    duties.spawn("asking to push", asking);
    duties.spawn("reaping", reap_on(worker.queue.clone()));
    duties.spawn("pruning logs", tend_logs_on(worker.queue.clone(), worker.settings.log_limits));
    duties.spawn("watching memory", memory::watch_on(Arc::clone(worker)));
    let executor = Arc::clone(&worker.executor);
    duties.spawn("tending the executor", async move { executor.tend().await });
    duties.spawn("looking for lost runs", refill::find_on(Arc::clone(worker)));
    duties.spawn("handing over unseen pods", blind::hand_over_on(Arc::clone(worker)));
    duties
}

/// Fills free slots until the worker shuts down. A claim in progress is not abandoned: builds that the queue has
/// already handed out would wait until their leases expire.
async fn claim_on(worker: &Arc<Worker>) {
    let mut changes = worker.leases.changes();
    let mut hint = Hint::new(worker.queue.clone());
    let mut token_unused = false;
    while !worker.draining.is_cancelled() {
        let no_memory = worker.queue.memory_pause().is_some();
        let free = if no_memory { 0 } else { worker.executor.may_start(worker.room()) };
        let orphans = worker.take_orphan_news();
        // If a worker without room has taken a token, it claims so that the script passes the token on. A worker
        // that cannot see its runs adopts none; heartbeats will report orphans again.
        if (free > 0 || orphans || token_unused) && worker.executor.blind().is_none() {
            claim(worker, free).await;
        }
        changes.mark_unchanged();
        let free = if worker.paused().is_some() { 0 } else { worker.room() };
        if free == 0 {
            // A worker that is full, or may start nothing, must not take hints from others.
            hint.stop();
        }
        token_unused = false;
        tokio::select! {
            () = hint.came(), if free > 0 => token_unused = true,
            () = worker.wake.notified() => {}
            () = worker.draining.cancelled() => {}
            _ = changes.changed() => {}
            // Not for a full worker: it cannot act on this, and a pause that has ended would wake it in a busy
            // loop.
            () = worker.executor.pause_changed(), if worker.room() > 0 => {}
            () = tokio::time::sleep(jittered(POLL)) => {}
        }
    }
}

/// Makes one claim, repeated until it is answered, and takes on its builds.
async fn claim(worker: &Arc<Worker>, free: usize) {
    let settings = &worker.settings;
    let claim = Claim {
        worker: worker.id.clone(),
        place: worker.place.clone(),
        free,
        lease: settings.lease,
        request: Uuid::new_v4(),
    };
    let mut backoff = Backoff::new();
    loop {
        // Counted from the call that is answered, because it renews the builds that an earlier call got.
        let deadline = worker.deadline();
        match worker.queue.claim(&claim).await {
            Ok(claims) => {
                if claims.drained {
                    // Recorded before the next heartbeat. Otherwise the worker would keep taking tokens and
                    // passing them on.
                    worker.note_drained(true);
                } else if claims.avoided {
                    worker.note_avoided(true);
                } else if claims.unknown {
                    worker.beat_now.notify_one();
                    tokio::time::sleep(UNKNOWN_PAUSE).await;
                }
                if claims.orphans > 0 && !claims.builds.is_empty() {
                    // This was only the worker's share. If it gets none, it waits for the next heartbeat.
                    worker.look_for_orphans();
                }
                set_aside(worker, &claims.unreadable).await;
                if free > 0 && claims.builds.iter().all(|claimed| claimed.adopted) {
                    worker.executor.unused();
                }
                for claimed in claims.builds {
                    build::take_on(worker, claimed, deadline);
                }
                return;
            }
            Err(_) if worker.draining.is_cancelled() => return,
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "a claim was not answered");
                backoff.pause().await;
            }
            Err(error) => {
                tracing::error!(%error, "a claim failed");
                return tokio::time::sleep(jittered(POLL)).await;
            }
        }
    }
}

/// Gives back builds that this release cannot read. If that fails, their leases expire by themselves.
async fn set_aside(worker: &Worker, unreadable: &[UnreadableClaim]) {
    for claim in unreadable {
        tracing::error!(build.id = claim.id, why = claim.why, "cannot read a build; it is set aside");
        if let Err(error) = worker.queue.set_aside(&worker.id, claim).await {
            tracing::warn!(%error, build.id = claim.id, "could not give back a build");
        }
    }
}

/// Listens for orphans and for builds that must be stopped, as long as it is polled.
async fn hear_news(worker: Arc<Worker>) {
    let mut backoff = Backoff::new();
    loop {
        match worker.queue.orphan_news().await {
            Ok(news) => {
                backoff.reset();
                let mut news = std::pin::pin!(news);
                while let Some(news) = news.next().await {
                    match news {
                        OrphanNews::Orphans(place) => {
                            if place.is_none_or(|place| place == worker.place) {
                                worker.look_for_orphans();
                            }
                        }
                        OrphanNews::Cancel(id, build) if id == worker.id => {
                            worker.leases.want_build(build, Wanted::Cancelled);
                        }
                        OrphanNews::Cancel(..) => {}
                        OrphanNews::Push(_) => worker.pushes.heard(),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no news from Redis"),
        }
        backoff.pause().await;
    }
}

/// Reaps what is due in the queue, as any process may, as long as it is polled.
async fn reap_on(queue: Queue) {
    let mut backoff = Backoff::new();
    loop {
        match queue.reap().await {
            Ok(reaped) => {
                backoff.reset();
                if reaped.orphaned + reaped.lost > 0 {
                    tracing::info!(orphaned = reaped.orphaned, lost = reaped.lost, "leases expired");
                }
                tokio::time::sleep(jittered(reaped.sleep).max(REAP_PAUSE_MIN)).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a reap was not answered");
                backoff.pause().await;
            }
        }
    }
}
