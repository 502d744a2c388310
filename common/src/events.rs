//! The events stream: every change of state, as a hint. The build's hash has the full state.

use std::time::Duration;

use futures::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink};

use crate::build::BuildState;
use crate::connection::Link;
use crate::dialer::Dialed;
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::queue::Queue;
use crate::repo::Lane;

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id in the stream.
    pub id: String,
    /// The build.
    pub build: BuildId,
    /// The build's lane.
    pub lane: Lane,
    /// The state that it went into.
    pub state: BuildState,
    /// The build's change counter after it.
    pub seq: u64,
}

/// Reads events as they arrive, on a dedicated connection.
pub struct EventReader {
    link: Link,
    key: String,
    last: String,
    connection: Option<Dialed>,
}

/// Longest blocking read on the server.
const BLOCK: Duration = Duration::from_secs(2);
/// Most events taken at once.
const BATCH: usize = 500;

impl EventReader {
    /// The events since the last call; waits up to 2 s for one, then returns an empty list. After an error,
    /// call it again: it reconnects and continues where it was. But the stream is capped, so also look at the
    /// builds themselves.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        let mut dedicated = match self.connection.take().filter(Dialed::is_current) {
            Some(dedicated) => dedicated,
            None => self.link.dedicated(&self.key).await?,
        };
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a wait for events");
        let late = |_| redis::RedisError::from(late());
        if self.last.is_empty() {
            let newest = newest(&mut dedicated.connection, &self.key);
            self.last = tokio::time::timeout(BLOCK, newest).await.map_err(late)??;
        }
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT").arg(BATCH).arg("BLOCK").arg(BLOCK.as_millis().to_string());
        cmd.arg("STREAMS").arg(&self.key).arg(&self.last);
        let answer = cmd.query_async::<Option<redis::streams::StreamReadReply>>(&mut dedicated.connection);
        let answer = tokio::time::timeout(BLOCK * 2, answer).await.map_err(late)??;
        self.connection = Some(dedicated);
        let mut events = Vec::new();
        for entry in answer.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            self.last.clone_from(&entry.id);
            if let Some(event) = event(&entry) {
                events.push(event);
            }
        }
        Ok(events)
    }
}

/// The id of the latest event, `0-0` before the first.
async fn newest(connection: &mut MultiplexedConnection, key: &str) -> redis::RedisResult<String> {
    let mut cmd = redis::cmd("XREVRANGE");
    cmd.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
    let newest: redis::streams::StreamRangeReply = cmd.query_async(connection).await?;
    Ok(newest.ids.first().map_or_else(|| "0-0".to_owned(), |entry| entry.id.clone()))
}

fn event(entry: &redis::streams::StreamId) -> Option<Event> {
    let text = |name: &str| entry.get::<String>(name);
    Some(Event {
        id: entry.id.clone(),
        build: text("build")?.parse().ok()?,
        lane: text("lane")?.parse().ok()?,
        state: text("state")?.parse().ok()?,
        seq: text("seq")?.parse().ok()?,
    })
}

/// Controls for which builds log hints arrive.
pub struct LogHints {
    sink: PubSubSink,
    queue: Queue,
}

impl LogHints {
    /// Hints of this build from now on.
    pub async fn add(&mut self, id: BuildId) -> Result<()> {
        self.sink.subscribe(self.queue.keys().log_channel(id)).await.map_err(Error::from)
    }

    /// No more hints of this build.
    pub async fn remove(&mut self, id: BuildId) -> Result<()> {
        self.sink.unsubscribe(self.queue.keys().log_channel(id)).await.map_err(Error::from)
    }
}

impl Queue {
    /// A reader of events from now on.
    pub fn events(&self) -> EventReader {
        EventReader {
            link: self.link().clone(),
            key: self.keys().events(),
            last: String::new(),
            connection: None,
        }
    }

    /// Hints that logs have grown, on one connection for any number of builds, until it breaks: the control
    /// that selects the builds, and the stream of builds whose logs grew.
    pub async fn log_hints(&self) -> Result<(LogHints, impl futures::Stream<Item = BuildId> + use<>)> {
        let (subscription, moved) = self.link().subscription().await?;
        let (sink, messages) = subscription.split();
        let hints = messages.take_until(moved).filter_map(|message| async move {
            let channel = message.get_channel_name();
            let id = channel.rsplit_once('{')?.1.strip_suffix('}')?;
            id.parse().ok()
        });
        Ok((LogHints { sink, queue: self.clone() }, hints))
    }
}
