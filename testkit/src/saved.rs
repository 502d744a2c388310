//! The contents of a Redis at one moment, to go back to.

use redis::RedisResult;

use crate::RedisServer;

/// The contents of a Redis at one moment.
#[derive(Debug)]
pub struct Saved(Vec<(String, Vec<u8>)>);

impl RedisServer {
    /// Saves its contents, for [`Self::restore`].
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn save(&self) -> RedisResult<Saved> {
        let mut connection = self.connect().await;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await?;
        let mut saved = vec![];
        for key in keys {
            let dump: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await?;
            saved.extend(dump.map(|dump| (key, dump)));
        }
        Ok(Saved(saved))
    }

    /// Does what a failover does to a replica that lacks what was written since `saved`.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn restore(&self, saved: &Saved) -> RedisResult<()> {
        let mut all = redis::pipe();
        all.atomic().cmd("FLUSHALL");
        for (key, dump) in &saved.0 {
            all.cmd("RESTORE").arg(key).arg(0).arg(dump);
        }
        all.query_async(&mut self.connect().await).await
    }
}
