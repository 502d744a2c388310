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
    /// Scripts run.
    pub script_calls: u64,
    /// Microseconds spent in scripts.
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
        let script = |name: &str| -> u64 {
            let stats = field("cmdstat_evalsha").split(',');
            let value = stats.filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name);
            value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
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

/// A bare queue: scripts of as few commands as a queue can do with.
#[derive(Debug, Clone)]
pub struct BareQueue {
    link: Link,
    base: String,
    enqueue: Script,
    take: Script,
    acknowledge: Script,
}

impl BareQueue {
    /// A bare queue beside the queue of `keys`, in the same Redis and over the same connection.
    pub async fn open(link: &Link, keys: &Keys) -> Result<Self> {
        let bare = Self {
            link: link.clone(),
            base: keys.bare(),
            enqueue: Script::new(include_str!("../lua/bare_enqueue.lua")),
            take: Script::new(include_str!("../lua/bare_take.lua")),
            acknowledge: Script::new(include_str!("../lua/bare_acknowledge.lua")),
        };
        for code in [
            include_str!("../lua/bare_enqueue.lua"),
            include_str!("../lua/bare_take.lua"),
            include_str!("../lua/bare_acknowledge.lua"),
        ] {
            link.run(redis::cmd("SCRIPT").arg("LOAD").arg(code)).await?;
        }
        Ok(bare)
    }

    fn call(&self, script: &Script) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(1).arg(&self.base);
        cmd
    }

    /// Puts a job into line.
    pub async fn enqueue(&self, score: u64, payload: &str) -> Result<()> {
        self.link.run(self.call(&self.enqueue).arg(score).arg(payload)).await?;
        Ok(())
    }

    /// Takes the first job, if there is one.
    pub async fn take(&self, expiry: u64) -> Result<Option<String>> {
        let value = self.link.run(self.call(&self.take).arg(expiry)).await?;
        let taken: Option<(String, Vec<String>)> = redis::from_redis_value(value).map_err(Error::reply)?;
        Ok(taken.map(|(id, _)| id))
    }

    /// Ends a job.
    pub async fn acknowledge(&self, id: &str, at: u64) -> Result<()> {
        self.link.run(self.call(&self.acknowledge).arg(id).arg(at)).await?;
        Ok(())
    }
}
