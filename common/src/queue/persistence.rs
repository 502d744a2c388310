//! Whether Redis writes its changes to disk, according to its own report.

use super::Queue;
use crate::error::Result;
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
    fn of(info: &RedisInfo) -> Option<Self> {
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
        let nodes = self.link().info_of_nodes("persistence").await?;
        Ok(nodes.iter().filter_map(Durability::of).reduce(|a, b| Durability {
            append_only: a.append_only && b.append_only,
            writes: a.writes && b.writes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_only_file_can_be_off_or_fail() {
        let of = |text: &str| {
            Durability::of(&RedisInfo::of(text, None)).map(|found| (found.append_only, found.writes))
        };
        let good = "aof_enabled:1\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n";
        assert_eq!(of(good), Some((true, true)));
        let fails = good.replace("write_status:ok", "write_status:err");
        assert_eq!(of(&fails), Some((true, false)));
        assert_eq!(of("aof_enabled:0\r\n"), Some((false, true)));
        assert_eq!(of("loading:0\r\n"), None);
    }
}
