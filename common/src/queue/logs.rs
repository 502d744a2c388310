//! The logs of ended builds: how much of Redis's memory they may use, and how long they are kept. Every
//! process that reaps also prunes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Queue;
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::invalid::Invalid;
use crate::library::{LOGS_DONE, LOGS_DUE, SHORTEN};
use crate::limits;
use crate::queue::memory::Memory;
use crate::queue::script::Args;

/// Pause between two checks of the logs; the queue limits how often they happen over all processes.
const PAUSE: Duration = Duration::from_secs(1);
/// Logs per call.
const BATCH: u32 = 50;
/// Calls in a row while there is more to do.
const BATCHES: u32 = 20;
/// Logs that a dry run looks at.
const DRY_RUN_MAX: u32 = 100_000;

/// How much of Redis's memory the logs of ended builds may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogBudget {
    /// A share of `maxmemory`, in percent.
    Percent(u8),
    /// This many bytes.
    Bytes(u64),
}

impl LogBudget {
    fn bytes(self, memory: Option<Memory>) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => memory
                .filter(|memory| memory.max > 0)
                .map(|memory| (memory.max / 100 * u64::from(percent)).saturating_mul(memory.nodes)),
        }
    }
}

impl FromStr for LogBudget {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(
                "log budget",
                format!("'{text}' is neither a share of maxmemory such as 50% nor a size such as 200MB"),
            )
        };
        match text.trim().strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            },
            None => parse_size(text).filter(|bytes| *bytes > 0).map(Self::Bytes).ok_or_else(bad),
        }
    }
}

impl fmt::Display for LogBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// Parses a size as people write it: 500KB, 200MB, 2 GB, 1048576.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].trim() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1024,
        "M" | "MB" | "MIB" => 1024 * 1024,
        "G" | "GB" | "GIB" => 1024 * 1024 * 1024,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

/// How long the log of an ended build is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKeep(pub Duration);

impl FromStr for LogKeep {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match humantime::parse_duration(text.trim()) {
            Ok(time) if !time.is_zero() && time <= limits::KEEP => Ok(Self(time)),
            _ => Err(Invalid::new(
                "log keep",
                format!(
                    "'{text}' is not a time of up to 24h, such as 6h (ended builds are forgotten after 24h)"
                ),
            )),
        }
    }
}

impl fmt::Display for LogKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

/// The limits on logs of ended builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// How much.
    pub budget: LogBudget,
    /// For how long.
    pub keep: LogKeep,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { budget: LogBudget::Percent(50), keep: LogKeep(limits::KEEP) }
    }
}

/// Which logs an operator wants removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prune {
    /// Those of builds that ended longer ago than this.
    pub older_than: Option<Duration>,
    /// The oldest, until all logs of ended builds take no more than these bytes.
    pub to_bytes: Option<u64>,
    /// Only reports what would be removed.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Logs that were removed or shortened.
    pub logs: u64,
    /// Bytes that they took.
    pub bytes: u64,
    /// Bytes that the logs of ended builds take now.
    pub left: u64,
    /// Whether there is more to remove; if so, send the request again.
    pub more: bool,
}

/// Logs to shorten or remove.
struct Due {
    bytes: u64,
    entries: Vec<(bool, String)>,
}

/// What to look for.
struct Look {
    max: Option<u64>,
    need: u64,
    age: Option<Duration>,
    most: u32,
    timed: bool,
}

impl Queue {
    /// Shortens and removes logs if the logs of ended builds use more than their budget, or if Redis is low
    /// on memory.
    pub async fn tend_logs(&self, limits: &LogLimits) -> Result<Pruned> {
        let memory = self.memory().await;
        let mut pruned = Pruned::default();
        let mut need = memory.map_or(0, |memory| memory.beyond(limits::MEMORY_PRUNE_PERCENT));
        for round in 0..BATCHES {
            let look = Look {
                max: limits.budget.bytes(memory),
                need,
                age: Some(limits.keep.0),
                most: BATCH,
                timed: round == 0,
            };
            let due = self.logs_due(&look).await?;
            let count = due.entries.len();
            let freed = self.make_room(&due).await?;
            (pruned.logs, pruned.bytes) = (pruned.logs + count as u64, pruned.bytes + freed);
            need = need.saturating_sub(freed);
            if count == 0 {
                break;
            }
        }
        Ok(pruned)
    }

    /// Removes logs of ended builds at an operator's request, a limited number per call.
    pub async fn prune_logs(&self, prune: &Prune, by: &str) -> Result<Pruned> {
        let most = if prune.dry_run { DRY_RUN_MAX } else { BATCH };
        let look = Look { max: prune.to_bytes, need: 0, age: prune.older_than, most, timed: false };
        let mut pruned = Pruned::default();
        for _ in 0..BATCHES {
            let due = self.logs_due(&look).await?;
            let count = due.entries.len();
            pruned.more = count > 0 && !prune.dry_run;
            let freed = if prune.dry_run {
                due.entries.iter().map(|(cut, entry)| freed_by(*cut, entry)).sum()
            } else {
                self.make_room(&due).await?
            };
            (pruned.logs, pruned.bytes) = (pruned.logs + count as u64, pruned.bytes + freed);
            pruned.left = due.bytes.saturating_sub(freed);
            if !pruned.more {
                break;
            }
        }
        if !prune.dry_run && pruned.logs > 0 {
            let detail = format!("{} bytes freed, {} left", pruned.bytes, pruned.left);
            let args = Args::new()
                .text("by", by)
                .text("what", format!("{} logs", pruned.logs))
                .text("detail", detail);
            self.call(&LOGS_DONE, args).await?;
        }
        Ok(pruned)
    }

    /// Bytes that the logs of a build use, over all its runs.
    pub async fn log_bytes(&self, id: BuildId, runs: u32) -> Result<u64> {
        let mut pipe = redis::pipe();
        for run in 1..=runs {
            pipe.cmd("HMGET").arg(self.keys().log_meta(id, run)).arg("head_bytes").arg("tail_bytes");
        }
        let mut sum = 0;
        for answer in self.link().bulk(&pipe).await? {
            let (head, tail): (Option<u64>, Option<u64>) =
                redis::from_redis_value(answer).map_err(Error::reply)?;
            sum += head.unwrap_or(0) + tail.unwrap_or(0);
        }
        Ok(sum)
    }

    async fn logs_due(&self, look: &Look) -> Result<Due> {
        let args = Args::new()
            .maybe("max", look.max)
            .show("need", look.need)
            .maybe("age", look.age.map(|age| age.as_millis()))
            .show("cut", limits::LOG_SHORT_BYTES)
            .show("most", look.most)
            .flag("timed", look.timed);
        let mut reply = self.call(&LOGS_DUE, args).await?;
        let items = reply.items("entries")?.into_iter();
        let entries = items.map(|mut item| Ok((item.get::<String>("act")? == "cut", item.get("entry")?)));
        Ok(Due { bytes: reply.parse("bytes")?, entries: entries.collect::<Result<_>>()? })
    }

    /// Shortens and removes logs; how many bytes that freed.
    async fn make_room(&self, due: &Due) -> Result<u64> {
        if due.entries.is_empty() {
            return Ok(0);
        }
        let mut args = Args::new();
        for (cut, entry) in &due.entries {
            let Some((id, run, _)) = parts(entry) else {
                args = args.text("entry", entry);
                continue;
            };
            let left = if *cut { Some(self.shorten_log(id, run).await?) } else { None };
            self.remove_runs(id, if *cut { run.saturating_sub(1) } else { run }).await?;
            args = args.text("entry", entry).maybe("left", left);
        }
        self.call(&LOGS_DONE, args)
            .await?
            .parse::<i64>("freed")
            .map(|freed| u64::try_from(freed).unwrap_or(0))
    }

    async fn shorten_log(&self, id: BuildId, run: u32) -> Result<u64> {
        let keys = self.keys().whole_log(id, run);
        let half = limits::LOG_SHORT_BYTES / 2;
        self.call_log(&SHORTEN, &keys, &Args::new().show("first", half).show("last", half))
            .await?
            .parse("bytes")
    }

    async fn remove_runs(&self, id: BuildId, runs: u32) -> Result<()> {
        for run in 1..=runs {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(&self.keys().whole_log(id, run));
            self.link().run(&unlink).await?;
        }
        Ok(())
    }
}

/// Keeps pruning logs for as long as it is polled.
pub async fn tend_logs_on(queue: Queue, limits: LogLimits) {
    loop {
        tokio::time::sleep(PAUSE.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        match queue.tend_logs(&limits).await {
            Ok(pruned) if pruned.bytes > 0 => tracing::info!(
                logs = pruned.logs,
                bytes = pruned.bytes,
                "made room in Redis: logs of ended builds were shortened or removed"
            ),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "could not prune the logs of ended builds"),
        }
    }
}

/// The build, the number of its latest run, and the bytes of an entry of the index.
fn parts(entry: &str) -> Option<(BuildId, u32, u64)> {
    let mut words = entry.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn freed_by(cut: bool, entry: &str) -> u64 {
    let bytes = parts(entry).map_or(0, |(_, _, bytes)| bytes);
    if cut { bytes.saturating_sub(limits::LOG_SHORT_BYTES as u64) } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_and_times_read_as_people_write_them() {
        assert_eq!("50%".parse(), Ok(LogBudget::Percent(50)));
        assert_eq!("200MB".parse(), Ok(LogBudget::Bytes(200 << 20)));
        assert_eq!("2 gb".parse(), Ok(LogBudget::Bytes(2 << 30)));
        for bad in ["", "0", "0%", "101%", "lots", "5 apples", "-1MB"] {
            assert!(bad.parse::<LogBudget>().unwrap_err().to_string().contains("such as 50%"), "{bad}");
        }
        assert_eq!("6h".parse(), Ok(LogKeep(Duration::from_hours(6))));
        for bad in ["0s", "25h", "soon"] {
            assert!(bad.parse::<LogKeep>().unwrap_err().to_string().contains("up to 24h"), "{bad}");
        }
    }

    #[test]
    fn a_share_needs_a_limit() {
        let memory = |max, nodes| Some(Memory { used: 1, max, nodes });
        assert_eq!(LogBudget::Percent(50).bytes(memory(1000, 3)), Some(1500));
        assert_eq!(LogBudget::Percent(50).bytes(memory(0, 1)), None);
        assert_eq!(LogBudget::Bytes(7).bytes(None), Some(7));
    }
}
