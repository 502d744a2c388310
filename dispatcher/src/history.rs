//! The past of the queue, read from Redis once for all requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::Queue;
use fairlane_common::clock::millis;
use fairlane_common::queue::{KEPT, Sample, Since, Usage};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long samples are reused.
const HOLDS: Duration = Duration::from_secs(5);
/// How long the use of lanes is reused. Computing it means reading every record.
const USAGE_HOLDS: Duration = Duration::from_mins(1);
/// Most start times for which the use of lanes is kept.
const USAGES: usize = 8;

/// The samples and the use of lanes, shared by all requests.
pub(crate) struct HistoryCache {
    queue: Queue,
    samples: Mutex<Known>,
    usage: Mutex<HashMap<u64, (Instant, Arc<Usage>)>>,
}

/// The samples read so far; only newer ones are read again.
#[derive(Default)]
struct Known {
    read: Option<(Instant, u64)>,
    born: String,
    samples: Arc<Vec<Sample>>,
}

impl HistoryCache {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue, samples: Mutex::default(), usage: Mutex::default() }
    }

    /// Redis's clock (Unix milliseconds) and all samples, oldest first.
    pub(crate) async fn samples(&self) -> fairlane_common::Result<(u64, Arc<Vec<Sample>>)> {
        let mut known = self.samples.lock().await;
        if let Some((at, now)) = known.read
            && at.elapsed() < HOLDS
        {
            return Ok((now + millis(at.elapsed()), Arc::clone(&known.samples)));
        }
        let latest = known.samples.last().map_or(0, |sample| sample.at);
        let mut new = self.queue.samples(latest).await?;
        // Redis was emptied, or its clock was set back.
        if new.born != known.born || latest > new.now {
            known.samples = Arc::default();
            if latest > 0 {
                new = self.queue.samples(0).await?;
            }
        }
        let all = Arc::make_mut(&mut known.samples);
        all.extend(new.samples);
        all.retain(|sample| sample.at + millis(KEPT) >= new.now);
        known.born = new.born;
        known.read = Some((Instant::now(), new.now));
        Ok((new.now, Arc::clone(&known.samples)))
    }

    /// What the builds that ended since `since_ms` (Unix milliseconds) used, by lane.
    pub(crate) async fn usage(&self, since_ms: u64) -> fairlane_common::Result<Arc<Usage>> {
        let mut known = self.usage.lock().await;
        known.retain(|_, (at, _)| at.elapsed() < USAGE_HOLDS);
        if let Some((_, usage)) = known.get(&since_ms) {
            return Ok(Arc::clone(usage));
        }
        let usage = Arc::new(self.queue.usage(Since::At(since_ms)).await?);
        if known.len() < USAGES {
            known.insert(since_ms, (Instant::now(), Arc::clone(&usage)));
        }
        Ok(usage)
    }
}
