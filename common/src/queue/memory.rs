//! How much of its memory Redis uses, and the consequences: first logs are shortened, then no build starts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;
use crate::queue::Queue;
use crate::redis_info::RedisInfo;

/// How long a reading of Redis's memory is used.
const HOLDS: Duration = Duration::from_secs(1);
/// How long a reading is used if nobody asks for a new one.
const STALE: Duration = Duration::from_secs(10);
/// How long a refusal counts if Redis does not report its memory.
const REFUSAL_HOLDS: Duration = Duration::from_secs(5);

/// The memory of Redis; of a Cluster that of its fullest node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in use.
    pub used: u64,
    /// The limit, `maxmemory`; 0 for none.
    pub max: u64,
    /// How many nodes share the data.
    pub nodes: u64,
}

impl Memory {
    /// The share of the limit that is in use, in percent; 0 without a limit.
    pub fn percent(self) -> u64 {
        self.used.saturating_mul(100).checked_div(self.max).unwrap_or(0)
    }

    /// How many bytes more than this share of the limit are in use, over all nodes.
    pub(crate) fn beyond(self, percent: u64) -> u64 {
        if self.max == 0 {
            return 0;
        }
        self.used.saturating_sub(self.max / 100 * percent).saturating_mul(self.nodes)
    }

    fn of(info: &RedisInfo) -> Self {
        let number = |name| info.number(name).unwrap_or(0);
        // Buffers of replicas and of the append-only file do not count against the limit.
        let used = number("used_memory").saturating_sub(number("mem_not_counted_for_evict"));
        Self { used, max: number("maxmemory"), nodes: 1 }
    }
}

/// The latest memory reading, shared by all clones of a queue's handle.
#[derive(Debug, Default)]
pub(crate) struct Gauge(Mutex<Reading>);

#[derive(Debug, Default, Clone, Copy)]
struct Reading {
    latest: Option<(Instant, Memory)>,
    refused: Option<Instant>,
}

impl Gauge {
    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, within: Duration) -> Option<Memory> {
        self.reading().latest.filter(|(at, _)| at.elapsed() < within).map(|(_, memory)| memory)
    }

    /// Records that Redis has refused something for lack of memory.
    pub(crate) fn refused(&self) {
        self.reading().refused = Some(Instant::now());
    }

    /// Why no build should start; `None` if builds may start.
    fn pause(&self) -> Option<String> {
        match self.fresh(STALE) {
            Some(memory) if memory.percent() >= limits::MEMORY_PAUSE_PERCENT => Some(format!(
                "Redis's memory is used up ({} % of {} MB): no build starts until some is free; raise maxmemory, \
                 or see `fairlane logs prune`",
                memory.percent(),
                memory.max / 1_000_000,
            )),
            Some(_) => None,
            None => self.reading().refused.filter(|at| at.elapsed() < REFUSAL_HOLDS).map(|_| {
                "Redis's memory is used up: no build starts until some is free; raise maxmemory".to_owned()
            }),
        }
    }
}

impl Queue {
    /// How much of its memory Redis uses, at most a second old; `None` if Redis does not report it.
    pub async fn memory(&self) -> Option<Memory> {
        if let Some(memory) = self.gauge().fresh(HOLDS) {
            return Some(memory);
        }
        let infos = self.link().info_of_nodes("memory").await.ok()?;
        let nodes = infos.iter().map(Memory::of).filter(|memory| memory.used > 0);
        let mut fullest = nodes.max_by_key(|memory| (memory.percent(), memory.used))?;
        fullest.nodes = infos.len() as u64;
        self.gauge().reading().latest = Some((Instant::now(), fullest));
        Some(fullest)
    }

    /// Why no build should start for lack of memory, according to the latest reading.
    pub fn memory_pause(&self) -> Option<String> {
        self.gauge().pause()
    }

    /// Bytes of the head and of the tail that logs of running builds may have at present.
    pub(crate) fn log_bounds(&self) -> (usize, usize) {
        let short = |memory: Memory| memory.percent() >= limits::MEMORY_PRUNE_PERCENT;
        if self.gauge().fresh(STALE).is_some_and(short) {
            (limits::LOG_SHORT_BYTES / 2, limits::LOG_SHORT_BYTES / 2)
        } else {
            (limits::LOG_HEAD_BYTES, limits::LOG_TAIL_BYTES)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_how_full_redis_is() {
        let gauge = Gauge::default();
        let set = |used, max| {
            gauge.reading().latest = Some((Instant::now(), Memory { used, max, nodes: 1 }));
            gauge.pause()
        };
        assert_eq!(set(94_000_000, 100_000_000), None);
        assert!(set(96_000_000, 100_000_000).unwrap().contains("(96 % of 100 MB)"));
        assert_eq!(set(96_000_000, 0), None, "no limit");
        gauge.reading().latest = None;
        assert_eq!(gauge.pause(), None);
        gauge.refused();
        assert!(gauge.pause().unwrap().contains("used up"), "it does not say how much");
    }

    #[test]
    fn what_does_not_count_against_the_limit_is_left_out() {
        let of = |text: &str| Memory::of(&RedisInfo::of(text, None));
        let memory = of("used_memory:900\r\nmem_not_counted_for_evict:100\r\nmaxmemory:1000\r\n");
        assert_eq!((memory.percent(), memory.beyond(70)), (80, 100));
        assert_eq!(of("used_memory:900\r\nmaxmemory:0\r\n").beyond(1), 0);
    }
}
