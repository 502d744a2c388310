//! The heartbeat: it renews the leases, and brings word of what is wanted.

use std::sync::Arc;

use fairlane_common::limits::LEASE_MARGIN;
use fairlane_common::queue::{Beat, Renewal};
use tokio::time::Instant;

use crate::backoff::jittered;
use crate::boot_time::BootTime;
use crate::registry::Wanted;
use crate::runner::Worker;

/// Longest pause after a heartbeat that was not answered.
const RETRY_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// Renews for as long as it is polled. A task of its own: no build's work delays it.
pub(crate) async fn beat_on(worker: Arc<Worker>) {
    let mut away_since = None;
    loop {
        let began = Instant::now();
        let pause = match beat(&worker).await {
            Ok(()) => {
                if let Some(since) = away_since.take() {
                    let seconds = began.duration_since(since).as_secs();
                    tracing::info!(seconds, "Redis answers again");
                }
                worker.settings.heartbeat
            }
            Err(error) => {
                if away_since.is_none() {
                    tracing::warn!(%error, "a heartbeat was not answered");
                }
                away_since.get_or_insert(began);
                jittered(RETRY_MAX.min(worker.settings.heartbeat))
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(began + pause) => {}
            () = worker.beat_now.notified() => {}
        }
    }
}

/// One heartbeat.
pub(crate) async fn beat(worker: &Worker) -> fairlane_common::Result<()> {
    let settings = &worker.settings;
    let held = worker.registry.held();
    // Counted from before the call: an answer that comes late must not lengthen the lease.
    let began = BootTime::now();
    let beat = Beat {
        worker: worker.id.clone(),
        host: settings.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        place: worker.place.clone(),
        slots: settings.slots.get(),
        draining: worker.draining.is_cancelled(),
        paused: worker.executor.paused(),
        nodes: worker.executor.nodes(),
        lease: settings.lease,
        held,
    };
    let reply = worker.queue.renew(&beat).await?;
    let deadline = began.plus(settings.lease.saturating_sub(LEASE_MARGIN));
    for (token, renewal) in beat.held.iter().zip(&reply.renewals) {
        match renewal {
            Renewal::Kept => worker.registry.renewed(token, deadline),
            Renewal::Cancel => {
                worker.registry.renewed(token, deadline);
                worker.registry.want(token, Wanted::Cancelled);
            }
            Renewal::Unknown => worker.registry.lost(token),
            Renewal::Stale => worker.registry.want(token, Wanted::LetGo),
        }
    }
    worker.note_life(&reply.born);
    if reply.drain && !worker.draining.is_cancelled() {
        tracing::info!("an operator drains this worker");
        worker.draining.cancel();
    }
    if reply.orphans > 0 {
        worker.look_for_orphans();
    }
    if reply.startable {
        worker.wake.notify_one();
    }
    Ok(())
}
