//! What a Redis says of itself: its release, what it does when memory runs out, what it keeps.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use fairlane_common::Link;

/// How long each answer may take.
const LIMIT: Duration = Duration::from_secs(4);

/// The answers of one Redis.
#[derive(Debug, Clone)]
pub(crate) struct RedisFacts {
    info: HashMap<String, String>,
    /// Its snapshot schedule; `None` where it may not be asked.
    save: Option<String>,
    /// The layout of the queue in it; `None` where there is no queue.
    pub(crate) schema: Option<String>,
}

impl RedisFacts {
    /// Asks the Redis that holds `schema_key`. Changes nothing in it.
    #[expect(clippy::default_trait_access, reason = "only common names the type of a command")]
    pub(crate) async fn ask(link: &Link, schema_key: &str) -> Result<Self> {
        let mut connection = link.dedicated(schema_key).await?;
        let mut info = Default::default();
        let mut config = Default::default();
        let mut schema = Default::default();
        // Never awaited, so nothing is sent: only common names the type of a command.
        drop((link.run(&info), link.run(&config), link.run(&schema)));
        info.arg("INFO");
        config.arg("CONFIG").arg("GET").arg("save");
        schema.arg("GET").arg(schema_key);
        let info: String = tokio::time::timeout(LIMIT, info.query_async(&mut connection))
            .await
            .context("INFO got no answer")??;
        let schema: Option<String> = tokio::time::timeout(LIMIT, schema.query_async(&mut connection))
            .await
            .context("GET got no answer")??;
        // Hosted Redis often refuses CONFIG; that is no fault of the queue's.
        let config: Result<Result<HashMap<String, String>, _>, _> =
            tokio::time::timeout(LIMIT, config.query_async(&mut connection)).await;
        let save = config.ok().and_then(Result::ok).and_then(|mut config| config.remove("save"));
        Ok(Self { info: fields(&info), save, schema })
    }

    /// A field of INFO.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    /// A numeric field of INFO.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Its release as (major, minor).
    pub(crate) fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.get("redis_version")?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// What it keeps over a restart.
    pub(crate) fn persistence(&self) -> Persistence {
        if self.get("aof_enabled") == Some("1") {
            return Persistence::AppendOnly;
        }
        match self.save.as_deref() {
            Some("") => Persistence::Nothing,
            Some(_) => Persistence::Snapshots,
            None => Persistence::Unknown,
        }
    }
}

/// What a Redis keeps over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Every change, but perhaps the last second.
    AppendOnly,
    /// What was there some minutes ago.
    Snapshots,
    /// Nothing.
    Nothing,
    /// It does not say.
    Unknown,
}

fn fields(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
impl RedisFacts {
    /// Facts as a test has them.
    pub(crate) fn of(info: &str, save: Option<&str>) -> Self {
        Self { info: fields(info), save: save.map(str::to_owned), schema: None }
    }
}
