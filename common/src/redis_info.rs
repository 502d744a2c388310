//! What Redis reports about itself: version, behavior when memory runs out, persistence.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;

use crate::connection::Link;
use crate::error::{Error, Result};
use crate::keys::Keys;

/// The oldest Redis version with all commands of the operations. Functions came with 7.0.
pub const VERSION_MIN: (u32, u32) = (6, 2);
/// The value for `hash-max-listpack-value` (`hash-max-ziplist-value` in Redis 6.2) with which a build takes half the
/// memory of Redis's default, 64: it is kept compact unless it has a longer value. Larger values make each access slower.
pub const PACKED_BYTES: u64 = 512;
/// How long each answer may take.
const LIMIT: Duration = Duration::from_secs(4);

/// What Redis keeps across a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Every change, except perhaps those of the last second.
    AppendOnly,
    /// The state from some minutes ago.
    Snapshots,
    /// Nothing.
    Nothing,
    /// It does not say.
    Unknown,
}

/// The answers of one Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisInfo {
    fields: HashMap<String, String>,
    /// Its snapshot schedule; `None` if reading it is not allowed.
    save: Option<String>,
    /// Up to which length of values it keeps hashes compact; `None` if reading it is not allowed.
    packed: Option<u64>,
}

impl RedisInfo {
    /// Facts from the text of `INFO` and the setting `save`.
    pub fn of(info: &str, save: Option<&str>) -> Self {
        let pairs = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        let fields = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { fields, save: save.map(str::to_owned), packed: None }
    }

    /// The same, with the setting `hash-max-listpack-value`.
    #[must_use]
    pub fn with_packed(self, packed: Option<u64>) -> Self {
        Self { packed, ..self }
    }

    /// Up to which length of values it keeps hashes compact; `None` if reading that is not allowed.
    pub fn packed(&self) -> Option<u64> {
        self.packed
    }

    /// A field of `INFO`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A numeric field of `INFO`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Its release as (major, minor).
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.get("redis_version")?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// What it keeps across a restart.
    pub fn persistence(&self) -> Persistence {
        if self.get("aof_enabled") == Some("1") {
            return Persistence::AppendOnly;
        }
        match self.save.as_deref() {
            Some("") => Persistence::Nothing,
            Some(_) => Persistence::Snapshots,
            None => Persistence::Unknown,
        }
    }

    /// Settings that could lose builds, as sentences that say what to do.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.get("maxmemory_policy") {
            None | Some("noeviction") => {}
            Some(policy) => warnings.push(format!(
                "Redis may evict builds when its memory is full: set maxmemory-policy to noeviction (it is {policy})"
            )),
        }
        match self.persistence() {
            Persistence::AppendOnly | Persistence::Unknown => {}
            Persistence::Snapshots => warnings.push(
                "Redis keeps only snapshots: a restart loses minutes of the queue; set appendonly yes"
                    .to_owned(),
            ),
            Persistence::Nothing => {
                warnings.push("Redis loses everything on a restart: set appendonly yes".to_owned());
            }
        }
        warnings
    }

    /// Whether this Redis can hold a queue at all.
    ///
    /// # Errors
    /// [`Error::Setting`] for a release that is too old.
    pub fn check_version(&self) -> Result<()> {
        match self.version() {
            Some(found) if found < VERSION_MIN => Err(Error::Setting(format!(
                "Redis {}.{} is too old: Fairlane needs {}.{} or later",
                found.0, found.1, VERSION_MIN.0, VERSION_MIN.1
            ))),
            _ => Ok(()),
        }
    }
}

impl Link {
    /// The layout of the queue under these keys, `None` if there is none. Unlike opening the queue, this does
    /// not create it.
    pub async fn schema(&self, keys: &Keys) -> Result<Option<String>> {
        let mut get = redis::cmd("GET");
        get.arg(keys.schema());
        redis::from_redis_value(self.run(&get).await?).map_err(Error::reply)
    }

    /// A section of `INFO`, from each node of a Cluster.
    pub(crate) async fn info_of_nodes(&self, section: &str) -> Result<Vec<RedisInfo>> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg(section);
        let texts: Vec<String> = match self.run(&cmd).await? {
            Value::Map(nodes) => {
                nodes.into_iter().filter_map(|(_, info)| redis::from_redis_value(info).ok()).collect()
            }
            one => vec![redis::from_redis_value(one).map_err(Error::reply)?],
        };
        Ok(texts.iter().map(|text| RedisInfo::of(text, None)).collect())
    }

    /// Asks the Redis that holds `key` about itself. Changes nothing in it.
    pub async fn redis_info(&self, key: &str) -> Result<RedisInfo> {
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "INFO got no answer");
        let mut connection = self.dedicated(key).await?.connection;
        let info: String = tokio::time::timeout(LIMIT, redis::cmd("INFO").query_async(&mut connection))
            .await
            .map_err(|_| redis::RedisError::from(late()))??;
        // Hosted Redis services often refuse CONFIG; that is not the queue's problem.
        let save = setting(&mut connection, "save").await;
        // Later versions know this name of 6.2, too.
        let packed = setting(&mut connection, "hash-max-ziplist-value").await;
        let packed = packed.and_then(|packed| packed.parse().ok());
        Ok(RedisInfo::of(&info, save.as_deref()).with_packed(packed))
    }
}

/// A setting; `None` if it cannot be read.
async fn setting(connection: &mut redis::aio::MultiplexedConnection, name: &str) -> Option<String> {
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg(name);
    let settings = config.query_async::<HashMap<String, String>>(connection);
    tokio::time::timeout(LIMIT, settings).await.ok()?.ok()?.remove(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loses_builds_is_said() {
        let good =
            RedisInfo::of("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n", None);
        assert!(good.warnings().is_empty() && good.check_version().is_ok());
        let bad =
            RedisInfo::of("redis_version:6.0.16\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0", Some(""));
        assert!(bad.check_version().unwrap_err().to_string().contains("6.0 is too old"));
        assert_eq!(bad.warnings().len(), 2);
        assert!(bad.warnings()[0].contains("allkeys-lru"));
    }
}
