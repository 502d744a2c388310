//! Redis's memory: while it is used up, no build is claimed, and the worker says so.

use std::sync::Arc;
use std::time::Duration;

use crate::claiming::state::Worker;

/// How often it is checked.
const LOOK: Duration = Duration::from_secs(1);

/// Checks Redis's memory as long as it is polled.
pub(crate) async fn watch_on(worker: Arc<Worker>) {
    let mut was_paused = false;
    loop {
        worker.queue.memory().await;
        let pause = worker.queue.memory_pause();
        if pause.is_some() != was_paused {
            was_paused = pause.is_some();
            if let Some(reason) = pause {
                tracing::warn!(reason, "claiming is paused: Redis has no memory left");
            } else {
                tracing::info!("Redis has memory again: this worker claims builds again");
            }
            worker.wake.notify_one();
            worker.beat_now.notify_one();
        }
        tokio::time::sleep(LOOK).await;
    }
}
