//! What benchmarks need of Redis: what its work costs, and a bare queue to hold ours against.
//!
//! The bare queue is what a queue costs at the least: an enqueue of five commands, a take and an
//! acknowledgement of four each, with no lanes, permits, joins, leases that end or fencing.

use redis::{Cmd, Script};

use crate::connection::Link;
use crate::error::{Error, Result};
use crate::keys::Keys;

/// Keys removed in one round trip.
const WIPE_BATCH: usize = 1000;

/// What a Redis has used so far, as it says itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedisCost {
    /// Processor seconds of the server, its own and the kernel's for it.
    pub cpu_seconds: f64,
    /// Bytes of data and buffers.
    pub memory_bytes: u64,
    /// Scripts and functions run.
    pub script_calls: u64,
    /// Microseconds spent in them.
    pub script_us: u64,
    /// Connections that are open.
    pub connections: u64,
}

impl Link {
    /// What this Redis has used so far.
    pub async fn redis_cost(&self) -> Result<RedisCost> {
        let mut info = redis::cmd("INFO");
        info.arg("cpu").arg("memory").arg("clients").arg("commandstats");
        let text: String = redis::from_redis_value(self.run(&info).await?).map_err(Error::reply)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default()
        };
        // Ours are functions, the yardsticks are scripts.
        let script = |name: &str| -> u64 {
            let stats =
                ["cmdstat_fcall", "cmdstat_evalsha"].map(field).into_iter().flat_map(|line| line.split(','));
            let values = stats.filter_map(|part| part.split_once('=')).filter(|(key, _)| *key == name);
            values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
        };
        let seconds = |name: &str| field(name).parse().unwrap_or(0.0_f64);
        Ok(RedisCost {
            cpu_seconds: seconds("used_cpu_sys") + seconds("used_cpu_user"),
            memory_bytes: field("used_memory").parse().unwrap_or(0),
            script_calls: script("calls"),
            script_us: script("usec"),
            connections: field("connected_clients").parse().unwrap_or(0),
        })
    }

    /// The release of this Redis.
    pub async fn redis_release(&self) -> Result<String> {
        let text: String = redis::from_redis_value(self.run(redis::cmd("INFO").arg("server")).await?)
            .map_err(Error::reply)?;
        let release = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(release.unwrap_or("unknown").to_owned())
    }

    /// Stops Redis from writing its data to disk, for measurements that are not to include that.
    pub async fn keep_nothing_on_disk(&self) -> Result<()> {
        for (setting, value) in [("appendonly", "no"), ("save", "")] {
            self.run(redis::cmd("CONFIG").arg("SET").arg(setting).arg(value)).await?;
        }
        Ok(())
    }

    /// Removes every key under a prefix, logs too.
    pub async fn wipe(&self, keys: &Keys) -> Result<()> {
        for pattern in keys.patterns() {
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(WIPE_BATCH);
                let (next, found): (String, Vec<String>) =
                    redis::from_redis_value(self.run(&scan).await?).map_err(Error::reply)?;
                if !found.is_empty() {
                    self.run(redis::cmd("UNLINK").arg(found)).await?;
                }
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What a bare queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// Puts a job into line: five commands.
    Enqueue,
    /// Takes the first job under a lease: four commands.
    Take,
    /// Ends the job that has been leased the longest: four commands.
    Acknowledge,
}

impl Bare {
    const ALL: [Self; 3] = [Self::Enqueue, Self::Take, Self::Acknowledge];

    const fn code(self) -> &'static str {
        match self {
            Self::Enqueue => include_str!("../lua/bare_enqueue.lua"),
            Self::Take => include_str!("../lua/bare_take.lua"),
            Self::Acknowledge => include_str!("../lua/bare_acknowledge.lua"),
        }
    }
}

/// A bare queue: scripts of as few commands as a queue can do with.
#[derive(Debug, Clone)]
pub struct BareQueue {
    link: Link,
    base: String,
    hashes: [String; Bare::ALL.len()],
}

impl BareQueue {
    /// A bare queue beside the queue of `keys`, in the same Redis and over the same connection.
    pub async fn open(link: &Link, keys: &Keys) -> Result<Self> {
        for operation in Bare::ALL {
            link.run(redis::cmd("SCRIPT").arg("LOAD").arg(operation.code())).await?;
        }
        let hashes = Bare::ALL.map(|operation| Script::new(operation.code()).get_hash().to_owned());
        Ok(Self { link: link.clone(), base: keys.bare(), hashes })
    }

    /// The words of the command that does it, for whoever else is to send it: `number` is a score,
    /// an expiry or a time, `payload` what a job carries.
    pub fn words(&self, operation: Bare, number: u64, payload: &str) -> Vec<String> {
        let hash = &self.hashes[operation as usize];
        let mut words = vec!["EVALSHA".to_owned(), hash.clone(), "1".to_owned(), self.base.clone()];
        words.push(number.to_string());
        if operation == Bare::Enqueue {
            words.push(payload.to_owned());
        }
        words
    }

    async fn run(&self, operation: Bare, number: u64, payload: &str) -> Result<redis::Value> {
        let words = self.words(operation, number, payload);
        let mut cmd = Cmd::new();
        for word in &words {
            cmd.arg(word);
        }
        Ok(self.link.run(&cmd).await?)
    }

    /// Puts a job into line.
    pub async fn enqueue(&self, score: u64, payload: &str) -> Result<()> {
        self.run(Bare::Enqueue, score, payload).await.map(drop)
    }

    /// Takes the first job; whether there was one.
    pub async fn take(&self, expiry: u64) -> Result<bool> {
        Ok(self.run(Bare::Take, expiry, "").await? != redis::Value::Nil)
    }

    /// Ends the job that has been leased the longest; whether there was one.
    pub async fn acknowledge(&self, at: u64) -> Result<bool> {
        Ok(self.run(Bare::Acknowledge, at, "").await? != redis::Value::Nil)
    }
}
