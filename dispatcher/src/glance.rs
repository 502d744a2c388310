//! The queue's numbers and what is foreseen of it, looked at once a second at most, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::build::Build;
use fairlane_common::queue::{Outlook, Queue, Why};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the numbers hold. They tell people about places in line, which are estimates anyhow.
const HOLDS: Duration = Duration::from_secs(1);

/// How long it holds that Redis has no limit of memory.
const UNLIMITED_HOLDS: Duration = Duration::from_secs(30);
/// Of Redis's memory, in percent, beyond which no new builds are taken: what is left is for ending
/// those that are there.
const MEMORY_MAX: u64 = 85;

/// Shared numbers of the queue.
pub(crate) struct Glance {
    queue: Queue,
    latest: Mutex<Option<(Instant, Arc<Outlook>)>>,
    memory: Mutex<Option<(Instant, Memory)>>,
}

#[derive(Debug, Clone, Copy)]
struct Memory {
    used: u64,
    // 0: as much as the machine has.
    max: u64,
}

impl Glance {
    pub(crate) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, latest: Mutex::new(None), memory: Mutex::new(None) })
    }

    /// The queue as it was at most a second ago. Those who ask at once wait for one answer.
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

    /// Whether Redis's memory is so nearly used up that a request of `bytes` is not to be taken.
    /// Where Redis does not say, it is not: the request itself will hear of it.
    pub(crate) async fn is_memory_short(&self, bytes: usize) -> bool {
        let mut latest = self.memory.lock().await;
        let fresh = latest
            .filter(|(at, memory)| at.elapsed() < if memory.max == 0 { UNLIMITED_HOLDS } else { HOLDS });
        let mut memory = if let Some((_, memory)) = fresh {
            memory
        } else {
            let key = self.queue.keys().schema();
            let Ok(info) = self.queue.link().redis_info(&key).await else { return false };
            let number = |name| info.number(name).unwrap_or(0);
            Memory { used: number("used_memory"), max: number("maxmemory") }
        };
        // Until the next look, what comes in is counted here: twice its size, as Redis rounds up.
        memory.used = memory.used.saturating_add(2 * bytes as u64);
        let at = fresh.map_or_else(Instant::now, |(at, _)| at);
        *latest = Some((at, memory));
        memory.max > 0 && memory.used.saturating_mul(100) > memory.max.saturating_mul(MEMORY_MAX)
    }

    /// Why a build is where it is.
    pub(crate) async fn why(&self, build: &Build) -> fairlane_common::Result<Why> {
        let outlook = self.outlook().await?;
        self.queue.why_with(build, &outlook).await
    }
}
