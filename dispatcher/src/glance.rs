//! The queue's numbers, looked at once a second at most, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::build::Build;
use fairlane_common::queue::inspect::Snapshot;
use fairlane_common::queue::{Queue, Why};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the numbers hold. They tell people about places in line, which are estimates anyhow.
const HOLDS: Duration = Duration::from_secs(1);

/// Shared numbers of the queue.
pub(crate) struct Glance {
    queue: Queue,
    latest: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Glance {
    pub(crate) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, latest: Mutex::new(None) })
    }

    /// The numbers, at most a second old. Those who ask at once wait for one answer.
    pub(crate) async fn snapshot(&self) -> fairlane_common::Result<Arc<Snapshot>> {
        let mut latest = self.latest.lock().await;
        if let Some((at, snapshot)) = &*latest
            && at.elapsed() < HOLDS
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(self.queue.snapshot().await?);
        *latest = Some((Instant::now(), Arc::clone(&snapshot)));
        Ok(snapshot)
    }

    /// Why a build is where it is.
    pub(crate) async fn why(&self, build: &Build) -> fairlane_common::Result<Why> {
        let snapshot = self.snapshot().await?;
        self.queue.why_with(build, &snapshot).await
    }
}
