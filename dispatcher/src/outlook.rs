//! The queue's numbers and forecast, computed at most once a second for all requests.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::build::Build;
use fairlane_common::limits;
use fairlane_common::queue::memory::Memory;
use fairlane_common::queue::{Outlook, Queue, Why};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the numbers are reused. They give people positions in line, which are estimates anyway.
const HOLDS: Duration = Duration::from_secs(1);

/// Numbers of the queue that all requests share.
pub(crate) struct OutlookCache {
    queue: Queue,
    latest: Mutex<Option<(Instant, Arc<Outlook>)>>,
    /// The latest reading of Redis's memory, and the bytes taken since then.
    taken: Mutex<(Option<Memory>, u64)>,
}

impl OutlookCache {
    pub(crate) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, latest: Mutex::new(None), taken: Mutex::default() })
    }

    /// The queue as it was at most a second ago. Concurrent callers share one answer.
    pub(crate) async fn outlook(&self) -> fairlane_common::Result<Arc<Outlook>> {
        let mut latest = self.latest.lock().await;
        if let Some((at, outlook)) = &*latest
            && at.elapsed() < HOLDS
        {
            return Ok(Arc::clone(outlook));
        }
        let outlook = Arc::new(self.queue.outlook().await?);
        *latest = Some((Instant::now(), Arc::clone(&outlook)));
        Ok(outlook)
    }

    /// Whether Redis's memory is so full that a request of `bytes` should be refused. If Redis does not
    /// report its memory, this is false, and the request itself may fail.
    pub(crate) async fn is_memory_short(&self, bytes: usize) -> bool {
        let Some(memory) = self.queue.memory().await else { return false };
        let mut taken = self.taken.lock().await;
        if taken.0 != Some(memory) {
            *taken = (Some(memory), 0);
        }
        // Until the next reading, twice the size of each request is added here, because Redis rounds up.
        taken.1 += 2 * bytes as u64;
        let used = memory.used.saturating_add(taken.1);
        Memory { used, ..memory }.percent() >= limits::MEMORY_FULL_PERCENT
    }

    /// Why a build is in its state.
    pub(crate) async fn why(&self, build: &Build) -> fairlane_common::Result<Why> {
        let outlook = self.outlook().await?;
        self.queue.why_with(build, &outlook).await
    }
}
