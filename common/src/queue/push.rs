//! Pushing images: how many runs may push to one registry at once.

use std::collections::BTreeMap;

use super::Queue;
use crate::error::Result;
use crate::id::{Token, WorkerId};
use crate::library::PUSH;
use crate::limits;
use crate::queue::script::{Args, Reply};

/// How many runs may push at once to a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushLimits {
    /// For registries without a limit of their own; `None`: unlimited.
    pub usual: Option<u32>,
    /// Those of single registries.
    pub own: BTreeMap<String, u32>,
}

/// A run that wants to push, or does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushAsk {
    /// Its lease.
    pub token: Token,
    /// The registry (see [`crate::registry`]).
    pub registry: String,
    /// Whether it pushes already, without having waited: it is counted whatever the limit is.
    pub pushing: bool,
}

/// Whether a run may push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushAnswer {
    /// It may; it is counted until it ends.
    Go,
    /// Not yet: ask again.
    Wait {
        /// How many push to the registry.
        pushing: u64,
        /// How many wait before it.
        ahead: u64,
    },
    /// Another worker has the lease, or the build has ended.
    Stale,
}

impl PushLimits {
    /// The limit of a registry; `None`: unlimited.
    pub fn of(&self, registry: &str) -> Option<u32> {
        self.own.get(registry).copied().or(self.usual)
    }

    /// The values `push_limit` and `push_limits` of an answer.
    pub(crate) fn of_reply(reply: &mut Reply) -> Result<Self> {
        let own: Option<String> = reply.maybe("push_limits")?;
        // Whatever cannot be read here limits nothing in push.lua either.
        let own = own.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(Self { usual: reply.maybe("push_limit")?, own })
    }
}

impl Queue {
    /// Asks whether runs of `worker` may push: one answer for each. The permits are released when the runs end.
    pub async fn push(&self, worker: &WorkerId, asks: &[PushAsk]) -> Result<Vec<PushAnswer>> {
        let mut answers = Vec::with_capacity(asks.len());
        for batch in asks.chunks(limits::RENEW_BATCH) {
            let args = batch.iter().fold(Args::new().text("worker", worker.as_str()), |args, ask| {
                args.show("id", ask.token.build)
                    .show("epoch", ask.token.epoch)
                    .text("registry", &ask.registry)
                    .flag("pushing", ask.pushing)
            });
            for answer in self.call(&PUSH, args).await?.answers("answers")? {
                answers.push(answer_of(answer?)?);
            }
        }
        if answers.len() == asks.len() {
            return Ok(answers);
        }
        Err(crate::Error::Corrupt("push: it does not answer for each build".to_owned()))
    }
}

fn answer_of(mut reply: Reply) -> Result<PushAnswer> {
    Ok(match reply.tag.as_str() {
        "go" => PushAnswer::Go,
        "wait" => PushAnswer::Wait { pushing: reply.parse("pushing")?, ahead: reply.parse("ahead")? },
        "stale" => PushAnswer::Stale,
        _ => return Err(reply.unknown()),
    })
}
