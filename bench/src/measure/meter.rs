//! Measures time, CPU seconds of Redis and of this process, and how long each operation took.

use std::time::{Duration, Instant};

use anyhow::Result;
use fairlane_common::Link;
use futures::{StreamExt, TryStreamExt};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::raw::RedisCost;

/// What some operations cost.
#[derive(Debug, Default)]
pub(super) struct Sample {
    operations: u32,
    wall: Duration,
    redis_cpu: f64,
    own_cpu: f64,
    memory: u64,
    took: Vec<Duration>,
    /// The median and the 99th percentile in milliseconds, as another program reports them for each turn.
    told: Vec<(f64, f64)>,
}

impl Sample {
    /// Runs `work` and measures its cost. `work` returns how long each of its operations took.
    pub(super) async fn of(link: &Link, work: impl Future<Output = Result<Vec<Duration>>>) -> Result<Self> {
        let before = RedisCost::of(link).await?;
        let (own, begun) = (own_cpu(), Instant::now());
        let took = work.await?;
        let (wall, own) = (begun.elapsed(), own_cpu() - own);
        let after = RedisCost::of(link).await?;
        Ok(Self {
            operations: u32::try_from(took.len())?,
            wall,
            redis_cpu: after.cpu_seconds - before.cpu_seconds,
            own_cpu: own,
            memory: after.memory_bytes,
            took,
            told: Vec::new(),
        })
    }

    /// Measures what `count` operations of another program cost Redis. `work` runs the program and returns what it
    /// reports: the median and the 99th percentile of its requests, in milliseconds.
    pub(super) async fn of_program(
        link: &Link,
        count: u32,
        work: impl Future<Output = Result<(f64, f64)>>,
    ) -> Result<Self> {
        let before = RedisCost::of(link).await?;
        let begun = Instant::now();
        let told = work.await?;
        let wall = begun.elapsed();
        let after = RedisCost::of(link).await?;
        Ok(Self {
            operations: count,
            wall,
            redis_cpu: after.cpu_seconds - before.cpu_seconds,
            memory: after.memory_bytes,
            told: vec![told],
            ..Self::default()
        })
    }

    /// The median and the 99th percentile of the operations, in milliseconds.
    fn quantiles(&self) -> (f64, f64) {
        if self.told.is_empty() {
            return (quantile(&self.took, 0.5), quantile(&self.took, 0.99));
        }
        let (p50, p99): (Vec<f64>, Vec<f64>) = self.told.iter().copied().unzip();
        (median(&p50), median(&p99))
    }

    /// Operations per CPU second of Redis.
    pub(super) fn per_redis_cpu(&self) -> f64 {
        f64::from(self.operations) / self.redis_cpu.max(1e-9)
    }

    /// Operations per second.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.operations) / self.wall.as_secs_f64().max(1e-9)
    }

    /// Adds another turn.
    pub(super) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.wall += other.wall;
        self.redis_cpu += other.redis_cpu;
        self.own_cpu += other.own_cpu;
        self.memory = other.memory;
        self.took.extend(other.took);
        self.told.extend(other.told);
    }

    /// Its figures.
    pub(super) fn facts(&self) -> Value {
        let (p50, p99) = self.quantiles();
        json!({
            "operations": self.operations,
            "seconds": round(self.wall.as_secs_f64()),
            "rate": self.rate().round(),
            "p50_ms": round(p50),
            "p99_ms": round(p99),
            "redis_cpu_seconds": round(self.redis_cpu),
            // What another program used is unknown.
            "own_cpu_seconds": self.told.is_empty().then(|| round(self.own_cpu)),
            "per_redis_cpu_second": self.per_redis_cpu().round(),
            "redis_memory_bytes": self.memory,
        })
    }
}

/// Our queue and the yardstick, turn by turn.
#[derive(Debug, Default)]
pub(super) struct Pair {
    ours: Sample,
    bare: Sample,
    ratios: Vec<f64>,
}

impl Pair {
    /// Adds a turn of each.
    pub(super) fn add(&mut self, ours: Sample, bare: Sample) {
        self.ratios.push(ours.per_redis_cpu() / bare.per_redis_cpu());
        self.ours.add(ours);
        self.bare.add(bare);
    }

    /// Our operations per CPU second of Redis, relative to the yardstick's (1): the median over the turns.
    pub(super) fn ratio(&self) -> f64 {
        median(&self.ratios)
    }

    /// Both, and their ratio; `by` says which client sent the yardstick's requests.
    pub(super) fn facts(&self, name: &str, by: &str) -> Value {
        let ratios: Vec<f64> = self.ratios.iter().copied().map(round).collect();
        json!({
            "bench": name,
            "ours": self.ours.facts(),
            "yardstick": self.bare.facts(),
            "yardstick_by": by,
            "ratio_per_redis_cpu_second": round(self.ratio()),
            "ratios": ratios,
        })
    }

    /// Both, as a line for people.
    pub(super) fn line(&self, name: &str) -> String {
        let one = |sample: &Sample| {
            let (p50, p99) = sample.quantiles();
            format!(
                "{:.0} per second, p50 {p50:.2} ms, p99 {p99:.2} ms, {:.0} per CPU second of Redis",
                sample.rate(),
                sample.per_redis_cpu()
            )
        };
        format!(
            "{name}: {}; bare queue: {}; ratio {:.0} %",
            one(&self.ours),
            one(&self.bare),
            self.ratio() * 100.0
        )
    }
}

/// Runs `work` for each of `numbers`, a limited number at a time; returns how long each took.
pub(super) async fn at_once<F: Future<Output = Result<()>>>(
    numbers: std::ops::Range<u32>,
    at_a_time: u32,
    work: impl Fn(u32) -> F,
) -> Result<Vec<Duration>> {
    futures::stream::iter(numbers)
        .map(|i| {
            let work = work(i);
            async move {
                let begun = Instant::now();
                work.await?;
                anyhow::Ok(begun.elapsed())
            }
        })
        .buffer_unordered(at_a_time as usize)
        .try_collect()
        .await
}

/// Average duration of a script between two readings, in microseconds.
pub(super) fn script_us(before: &RedisCost, after: &RedisCost) -> f64 {
    let calls = after.script_calls.saturating_sub(before.script_calls).max(1);
    as_f64(after.script_us.saturating_sub(before.script_us)) / as_f64(calls)
}

/// CPU seconds that this process has used.
pub(super) fn own_cpu() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    as_f64(u64::try_from(used.tv_sec).unwrap_or(0)) + as_f64(u64::try_from(used.tv_nsec).unwrap_or(0)) / 1e9
}

/// The time, in milliseconds, below which this share of the times lies.
pub(super) fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a list")]
    let at = (part * as_f64(sorted.len().saturating_sub(1) as u64)).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// The median of some numbers.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Three decimal places are more than enough.
pub(super) fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Counts are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}
