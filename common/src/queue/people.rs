//! How many people wait for which build, as counted by each dispatcher; also its heartbeat.

use redis::Value;

use super::Queue;
use crate::error::{Error, Result};
use crate::id::{BuildId, DispatcherId};
use crate::library::{LEAVE, PEOPLE};
use crate::limits;
use crate::queue::script::Args;

/// Most counts written in one call.
const BATCH: usize = 100;

/// A dispatcher's heartbeat with the counts that changed.
#[derive(Debug, Clone)]
pub struct DispatcherBeat {
    /// Who.
    pub dispatcher: DispatcherId,
    /// Absolute counts: how many people now watch that build through this dispatcher; 0 if nobody does.
    pub counts: Vec<(BuildId, u64)>,
}

/// What a dispatcher learns from its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatcherBeatReply {
    /// Whether the queue had forgotten this dispatcher and its people: if so, send all counts again.
    pub forgotten: bool,
    /// Which life of Redis this is.
    pub born: String,
    /// Whether Redis was emptied and runs are still being registered: counts for builds not yet known were
    /// skipped; send them again afterwards.
    pub refilling: bool,
}

impl Queue {
    /// Reports that the dispatcher is alive, and writes the counts that changed.
    pub async fn beat_dispatcher(&self, beat: &DispatcherBeat) -> Result<DispatcherBeatReply> {
        let mut batches: Vec<&[(BuildId, u64)]> = beat.counts.chunks(BATCH).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        let mut answer = DispatcherBeatReply { forgotten: false, born: String::new(), refilling: false };
        for batch in batches {
            let mut args = Args::new()
                .text("dispatcher", beat.dispatcher.as_str())
                .show("ttl", limits::DISPATCHER_TTL.as_millis());
            for (id, count) in batch {
                args = args.show("id", id).show("count", count);
            }
            let mut reply = self.call(&PEOPLE, args).await?;
            if reply.tag != "counted" {
                return Err(reply.unknown());
            }
            answer.forgotten |= reply.flag("forgotten")?;
            answer.born = reply.get("born")?;
            answer.refilling = reply.flag("refilling")?;
        }
        self.note_life(&answer.born).await?;
        Ok(answer)
    }

    /// The builds that the queue has recorded as watched through a dispatcher.
    pub async fn watched(&self, dispatcher: &DispatcherId) -> Result<Vec<BuildId>> {
        let key = self.keys().watched(dispatcher);
        let (mut watched, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("SSCAN").arg(&key).arg(&cursor).arg("COUNT").arg(BATCH);
            let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
            let (next, page): (String, Vec<String>) =
                redis::from_redis_value(answer).map_err(Error::reply)?;
            watched.extend(page.iter().filter_map(|id| id.parse::<BuildId>().ok()));
            if next == "0" {
                return Ok(watched);
            }
            cursor = next;
        }
    }

    /// Leaves the queue: the dispatcher's people are forgotten at once, not when its heartbeat expires.
    pub async fn leave_dispatcher(&self, dispatcher: &DispatcherId) -> Result<()> {
        self.call(&LEAVE, Args::new().text("kind", "dispatcher").text("id", dispatcher.as_str()))
            .await
            .map(drop)
    }
}
