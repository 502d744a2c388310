//! Whether Redis writes what it is told to disk, as it says itself.

use redis::Value;

use super::Queue;
use super::inspect::first;
use crate::error::{Error, Result};
use crate::redis_info::RedisInfo;

/// What Redis says about its append-only file; of a Cluster, of its worst node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durability {
    /// Whether it has one.
    pub append_only: bool,
    /// Whether the latest write to it, and its latest rewrite, succeeded. True without one.
    pub writes: bool,
}

impl Durability {
    fn of(info: &str) -> Option<Self> {
        let info = RedisInfo::of(info, None);
        let ok = |name| info.get(name).is_none_or(|status| status == "ok");
        Some(Self {
            append_only: info.number("aof_enabled")? == 1,
            writes: ok("aof_last_write_status") && ok("aof_last_bgrewrite_status"),
        })
    }
}

impl Queue {
    /// What Redis says about its append-only file; `None` if it does not say.
    pub async fn durability(&self) -> Result<Option<Durability>> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg("persistence");
        let nodes: Vec<String> = match self.link().run(&cmd).await? {
            // A Cluster answers for each of its nodes.
            Value::Map(nodes) => {
                nodes.into_iter().filter_map(|(_, info)| redis::from_redis_value(info).ok()).collect()
            }
            one => vec![redis::from_redis_value(one).map_err(Error::reply)?],
        };
        Ok(nodes.iter().filter_map(|info| Durability::of(info)).reduce(|a, b| Durability {
            append_only: a.append_only && b.append_only,
            writes: a.writes && b.writes,
        }))
    }

    /// Since when the oldest orphan has waited for a worker, Unix milliseconds.
    pub async fn oldest_orphan(&self) -> Result<Option<u64>> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANGE").arg(self.keys().orphans()).arg(0).arg(0).arg("WITHSCORES");
        let oldest: Vec<(String, f64)> = first(self.link().bulk(&pipe).await?)?;
        Ok(oldest.first().map(|(_, since)| super::inspect::whole(*since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_only_file_can_be_off_or_fail() {
        let of = |text: &str| Durability::of(text).map(|found| (found.append_only, found.writes));
        let good = "aof_enabled:1\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n";
        assert_eq!(of(good), Some((true, true)));
        let fails = good.replace("write_status:ok", "write_status:err");
        assert_eq!(of(&fails), Some((true, false)));
        assert_eq!(of("aof_enabled:0\r\n"), Some((false, true)));
        assert_eq!(of("loading:0\r\n"), None);
    }
}
