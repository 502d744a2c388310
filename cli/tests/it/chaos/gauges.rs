//! Memory and open files of all processes that live long, measured once a second from outside.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A younger process is still filling its caches.
const AGE_MIN: Duration = Duration::from_secs(100);
/// How much more memory a process may have at the end of its life than after its first quarter: a twelfth, and what
/// an allocator keeps.
const GROWTH_MAX_KB: u64 = 8 * 1024;
const GROWTH_MAX_PART: u64 = 12;
/// The same for open files: streams come and go.
const FILES_MORE_MAX: u64 = 60;

/// One look at a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    at: Duration,
    pub(super) memory_kb: u64,
    pub(super) files: u64,
}

/// A life of a process, by its name and process id.
type Life = (String, u32);

/// All samples.
pub(super) struct Gauges {
    began: Instant,
    samples: Mutex<BTreeMap<Life, Vec<Sample>>>,
}

/// How a process used memory.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) name: String,
    pub(super) age: Duration,
    /// The medians of its second and of its last quarter.
    pub(super) early: Sample,
    pub(super) late: Sample,
    pub(super) most_kb: u64,
}

impl Use {
    fn of(name: &str, samples: &[Sample]) -> Option<Self> {
        let (first, last) = (samples.first()?, samples.last()?);
        let quarter = samples.len() / 4;
        let early = median(&samples[quarter..2 * quarter])?;
        let late = median(&samples[samples.len() - quarter..])?;
        let most_kb = samples.iter().map(|sample| sample.memory_kb).max()?;
        Some(Self { name: name.to_owned(), age: last.at.saturating_sub(first.at), early, late, most_kb })
    }

    /// Whether it is old enough to be judged.
    pub(super) fn is_judged(&self) -> bool {
        self.age >= AGE_MIN
    }

    /// What has grown, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let (early, late) = (&self.early, &self.late);
        let memory = early.memory_kb + early.memory_kb / GROWTH_MAX_PART + GROWTH_MAX_KB;
        if late.memory_kb > memory {
            return Some(format!(
                "{}: {} KB of memory, then {} KB",
                self.name, early.memory_kb, late.memory_kb
            ));
        }
        (late.files > early.files + FILES_MORE_MAX)
            .then(|| format!("{}: {} open files, then {}", self.name, early.files, late.files))
    }
}

fn median(samples: &[Sample]) -> Option<Sample> {
    let middle = |value: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(value).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    let (memory_kb, files) = (middle(|sample| sample.memory_kb)?, middle(|sample| sample.files)?);
    Some(Sample { at: samples.first()?.at, memory_kb, files })
}

impl Gauges {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), samples: Mutex::default() }
    }

    /// Looks at a process; one that is gone is left out.
    pub(super) fn look(&self, name: &str, pid: u32) {
        let Some((memory_kb, files)) = memory_of(pid).zip(files_of(pid)) else { return };
        let sample = Sample { at: self.began.elapsed(), memory_kb, files };
        self.samples.lock().unwrap().entry((name.to_owned(), pid)).or_default().push(sample);
    }

    /// The longest life of each process.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut longest: BTreeMap<String, Use> = BTreeMap::new();
        for ((name, _), samples) in self.samples.lock().unwrap().iter() {
            let Some(found) = Use::of(name, samples) else { continue };
            if longest.get(name).is_none_or(|known| known.age < found.age) {
                longest.insert(name.clone(), found);
            }
        }
        longest.into_values().collect()
    }
}

/// The memory of a process, in KB; `None` if it is gone.
fn memory_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many files a process has open.
fn files_of(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

#[test]
fn memory_and_files_that_grow_are_found() {
    let life = |memory: fn(u64) -> u64, files: fn(u64) -> u64| {
        let sample = |second| Sample {
            at: Duration::from_secs(second),
            memory_kb: memory(second),
            files: files(second),
        };
        let samples: Vec<Sample> = (0..400).map(sample).collect();
        Use::of("worker", &samples).unwrap()
    };
    // It fills its caches at first, and has a peak later.
    let flat = life(|s| 40_000 + 200 * s.min(60) + if s == 200 { 90_000 } else { 0 }, |s| 20 + s % 7);
    assert!(flat.is_judged() && flat.fault().is_none(), "{flat:?}");
    assert_eq!(flat.most_kb, 142_000);
    assert_eq!(
        life(|s| 40_000 + 80 * s, |_| 20).fault().unwrap(),
        "worker: 52000 KB of memory, then 68000 KB"
    );
    assert_eq!(life(|_| 40_000, |s| 20 + s).fault().unwrap(), "worker: 170 open files, then 370");
}
