//! Registers runs that Redis has lost: a worker's own from its memory, others from their annotations.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::queue::{Claimed, GiveBack, Registered, Registration};
use fairlane_common::{Build, BuildId, Token};
use tokio::time::Instant;

use crate::build::take_on;
use crate::claiming::state::Worker;
use crate::executor::FoundRun;
use crate::time::backoff::{Backoff, jittered};
use crate::time::boot_time::BootTime;

/// How often to look for runs that the queue does not know. An emptied Redis is noticed at once; a failover that
/// lost the last second is not.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Time of the first search: by then, the watch has listed the runs.
const LOOK_FIRST: Duration = Duration::from_secs(1);
/// Longest pause before another attempt for a run whose holder may still register it.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Builds read in one round trip.
const BATCH: usize = 200;

/// Registers a run of this worker, until the queue has answered.
pub(crate) async fn register(worker: &Worker, build: &Build, token: &Token) -> Registered {
    let registration = Registration {
        token: token.clone(),
        worker: worker.id.clone(),
        place: worker.place.clone(),
        lease: worker.settings.lease,
        spec: build.spec.clone(),
        attempt: build.attempt,
        asked: build.asked,
        claimed: build.claimed.unwrap_or(build.asked),
        started: build.started,
        node: None,
    };
    let mut backoff = Backoff::new();
    loop {
        match worker.queue.register(&registration).await {
            Ok(Registered::Wait(wait)) => tokio::time::sleep(wait.min(WAIT_MAX)).await,
            Ok(registered) => return registered,
            Err(error) if error.is_transient() => backoff.pause().await,
            Err(error) => {
                tracing::error!(%error, "the queue refused to register a run that Redis had lost");
                return Registered::Stale;
            }
        }
    }
}

/// Works on the build that has taken over a run of this worker. If the run cannot be handed over, it is stopped
/// together with the build that it was started for, and the other build starts from scratch.
pub(crate) async fn take_over(worker: &Arc<Worker>, claimed: Claimed, outlives: bool) {
    if outlives {
        // It is unknown how much of the lease is left, so it is renewed before anything else.
        return take_on(worker, claimed, BootTime::now());
    }
    let reason = "its run was started for a build that Redis has since lost".to_owned();
    if let Err(error) = worker.queue.give_back(&claimed.token, &GiveBack::Lost { reason }).await {
        // Its lease will expire by itself.
        tracing::warn!(%error, "a build could not be given back");
    }
}

/// Looks for runs that the queue does not know, as long as it is polled.
pub(crate) async fn find_on(worker: Arc<Worker>) {
    let mut next = Instant::now() + LOOK_FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = worker.refill.notified() => {}
        }
        let idle = worker.draining.is_cancelled() || worker.executor.blind().is_some();
        let pause = if idle { None } else { find(&worker).await };
        next = Instant::now() + pause.unwrap_or_else(|| jittered(LOOK_EVERY));
    }
}

/// One search; returns how soon another one is needed, if at all.
async fn find(worker: &Arc<Worker>) -> Option<Duration> {
    let mut again = None;
    let found: Vec<FoundRun> = worker.executor.found();
    for batch in found.chunks(BATCH) {
        let ids: Vec<BuildId> = batch.iter().map(|run| run.token.build).collect();
        let Ok(loaded) = worker.queue.load(&ids).await else { return Some(LOOK_FIRST) };
        for run in batch {
            if loaded.unreadable.iter().any(|bad| bad.id == run.token.build) {
                continue;
            }
            let known = loaded.builds.iter().find(|build| build.id == run.token.build);
            // If Redis knows a lease that is at least as new, nothing is lost.
            let lost = known.is_none_or(|build| !build.state.is_ended() && build.epoch < run.token.epoch);
            if lost && !worker.leases.has(run.token.build) && !worker.draining.is_cancelled() {
                let wait = register_found(worker, run).await;
                again = again.into_iter().chain(wait).min();
            }
        }
    }
    again
}

async fn register_found(worker: &Arc<Worker>, run: &FoundRun) -> Option<Duration> {
    let registration = Registration {
        token: run.token.clone(),
        worker: worker.id.clone(),
        place: worker.place.clone(),
        lease: worker.settings.lease,
        spec: run.spec.clone(),
        attempt: run.number,
        asked: run.asked,
        claimed: run.claimed,
        started: run.started,
        node: run.node.as_ref().and_then(|node| node.parse().ok()),
    };
    let deadline = worker.deadline();
    match worker.queue.register(&registration).await {
        Ok(Registered::Leased(claimed)) => {
            tracing::info!(build.id = %run.token.build, "found a run that Redis had lost");
            take_on(worker, *claimed, deadline);
            None
        }
        Ok(Registered::Wait(wait)) => Some(wait.min(WAIT_MAX)),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "a run that Redis had lost could not be registered");
            Some(LOOK_FIRST)
        }
    }
}
