//! A worker that cannot see its runs (its credentials have expired, or its host is cut off) leaves them to another
//! worker of the same place that can.

use std::sync::Arc;
use std::time::Duration;

use crate::claiming::leases::Wanted;
use crate::claiming::state::Worker;
use crate::executor::BLIND;
use crate::time::backoff::jittered;

/// How often to check whether another worker can see them.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Hands runs over when necessary, as long as it is polled.
pub(crate) async fn hand_over_on(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let is_blind = worker.executor.blind().is_some_and(|blind| blind >= worker.settings.lease);
        if is_blind && !worker.builds.is_empty() && another_sees(&worker).await {
            tracing::warn!(
                builds = worker.builds.len(),
                "this worker cannot see its pods: its builds are handed over to one that can"
            );
            worker.leases.want_all(Wanted::Drained);
        }
    }
}

async fn another_sees(worker: &Worker) -> bool {
    let workers = worker.queue.workers().await.unwrap_or_default();
    workers.iter().any(|other| {
        let blind = other.paused.as_ref().is_some_and(|why| why.starts_with(BLIND));
        other.id != worker.id && other.place == worker.place && !other.draining && !blind
    })
}
