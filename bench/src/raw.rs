//! Commands to Redis that the queue itself does not need: reading what work costs Redis, and turning off writes to
//! disk.

use anyhow::{Context, Result};
use fairlane_common::keys::Keys;
use fairlane_common::{Error, Link, RedisInfo};
use redis::{Cmd, FromRedisValue, cmd};

/// Keys removed in one round trip.
const WIPE_BATCH: usize = 1000;

/// Runs a command. Its error says whether Redis could be reached.
pub(crate) async fn ask<T: FromRedisValue>(link: &Link, command: &Cmd) -> Result<T> {
    let answer = link.run(command).await.map_err(Error::from)?;
    redis::from_redis_value(answer).context("a reply of Redis cannot be read")
}

/// Resources that Redis has used so far, as it reports.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RedisCost {
    /// CPU seconds of the server, user and system.
    pub(crate) cpu_seconds: f64,
    /// Bytes of data and buffers.
    pub(crate) memory_bytes: u64,
    /// Scripts and functions run.
    pub(crate) script_calls: u64,
    /// Microseconds spent in them.
    pub(crate) script_us: u64,
    /// Connections that are open.
    pub(crate) connections: u64,
}

impl RedisCost {
    /// Reads them from Redis.
    pub(crate) async fn of(link: &Link) -> Result<Self> {
        let info = info(link).await?;
        // Ours are functions, the yardsticks are scripts.
        let script = |name: &str| -> u64 {
            let lines = ["cmdstat_fcall", "cmdstat_evalsha"].into_iter().filter_map(|name| info.get(name));
            let stats = lines.flat_map(|line| line.split(','));
            let values = stats.filter_map(|part| part.split_once('=')).filter(|(key, _)| *key == name);
            values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
        };
        let seconds = |name: &str| info.get(name).and_then(|text| text.parse().ok()).unwrap_or(0.0_f64);
        Ok(Self {
            cpu_seconds: seconds("used_cpu_sys") + seconds("used_cpu_user"),
            memory_bytes: info.number("used_memory").unwrap_or(0),
            script_calls: script("calls"),
            script_us: script("usec"),
            connections: info.number("connected_clients").unwrap_or(0),
        })
    }
}

/// The release of this Redis.
pub(crate) async fn release(link: &Link) -> Result<String> {
    Ok(info(link).await?.get("redis_version").unwrap_or("unknown").to_owned())
}

/// All of Redis's `INFO`; Redis 6.2 does not take several sections.
async fn info(link: &Link) -> Result<RedisInfo> {
    let text: String = ask(link, cmd("INFO").arg("all")).await?;
    Ok(RedisInfo::of(&text, None))
}

/// Redis's time in Unix milliseconds.
pub(crate) async fn now_ms(link: &Link) -> Result<u64> {
    let (seconds, micros): (u64, u64) = ask(link, &cmd("TIME")).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Stops Redis from writing its data to disk, for measurements without it.
pub(crate) async fn keep_nothing_on_disk(link: &Link) -> Result<()> {
    for (setting, value) in [("appendonly", "no"), ("save", "")] {
        ask::<()>(link, cmd("CONFIG").arg("SET").arg(setting).arg(value)).await?;
    }
    Ok(())
}

/// Removes every key under a prefix, including logs.
pub(crate) async fn wipe(link: &Link, keys: &Keys) -> Result<()> {
    for pattern in keys.patterns() {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(WIPE_BATCH);
            let (next, found): (String, Vec<String>) = ask(link, &scan).await?;
            if !found.is_empty() {
                ask::<()>(link, cmd("UNLINK").arg(found)).await?;
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}
