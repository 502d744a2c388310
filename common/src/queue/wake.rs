//! Waiting for a hint that there is work. A lost hint delays a build but never loses one.

use std::time::Duration;

use super::Queue;
use crate::connection::Link;
use crate::dialer::Dialed;
use crate::error::{Error, Result};
use crate::id::{BuildId, WorkerId};
use futures::StreamExt;

/// Longest blocking read on the server. The connection is checked at least this often.
const BLOCK_MAX: Duration = Duration::from_secs(2);
/// How much longer than the block an answer may take before the connection is given up.
const GRACE: Duration = Duration::from_secs(3);

/// Waits for wake-up tokens on a dedicated connection.
#[derive(Debug)]
pub struct Waiter {
    link: Link,
    key: String,
    // Moved out during a wait: a wait that is dropped also drops its connection, so that no abandoned BLPOP
    // takes a token.
    connection: Option<Dialed>,
}

impl Waiter {
    /// Waits for a token, at most `limit` (and at most 2 s): whether one came.
    pub async fn wait(&mut self, limit: Duration) -> Result<bool> {
        let mut dedicated = match self.connection.take().filter(Dialed::is_current) {
            Some(dedicated) => dedicated,
            None => self.link.dedicated(&self.key).await?,
        };
        let block = limit.min(BLOCK_MAX).max(Duration::from_millis(10));
        let mut cmd = redis::cmd("BLPOP");
        cmd.arg(&self.key).arg(block.as_secs_f64());
        let answer = cmd.query_async::<Option<(String, String)>>(&mut dedicated.connection);
        let Ok(answer) = tokio::time::timeout(block + GRACE, answer).await else {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a wake-up wait");
            return Err(Error::from(redis::RedisError::from(late)));
        };
        let token = answer?;
        self.connection = Some(dedicated);
        Ok(token.is_some())
    }
}

/// What is announced to every worker, full ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrphanNews {
    /// There may be orphans to adopt, of this place if one is named.
    Orphans(Option<String>),
    /// That worker must stop the run of this build.
    Cancel(WorkerId, BuildId),
    /// A push to this registry has ended, and builds wait to push to it.
    Push(String),
}

impl Queue {
    /// A waiter for wake-up tokens.
    pub fn waiter(&self) -> Waiter {
        Waiter { link: self.link().clone(), key: self.keys().wake(), connection: None }
    }

    /// The news for workers, until the connection breaks or leads to a former primary.
    pub async fn orphan_news(&self) -> Result<impl futures::Stream<Item = OrphanNews> + use<>> {
        let (mut subscription, moved) = self.link().subscription().await?;
        subscription.subscribe(self.keys().orphans_channel()).await?;
        Ok(subscription.into_on_message().take_until(moved).filter_map(|message| async move {
            let text = message.get_payload::<String>().ok()?;
            let mut words = text.split(' ');
            match words.next()? {
                "cancel" => {
                    Some(OrphanNews::Cancel(words.next()?.parse().ok()?, words.next()?.parse().ok()?))
                }
                "push" => Some(OrphanNews::Push(words.next()?.to_owned())),
                // An older release names no place.
                _ => Some(OrphanNews::Orphans(text.split_once(' ').map(|(_, place)| place.to_owned()))),
            }
        }))
    }
}
