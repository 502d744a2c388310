//! The yardstick: a bare queue to compare ours with.
//!
//! It shows the least that a queue costs: an enqueue of five commands, a take and an acknowledgement of four each,
//! without lanes, permits, joins, expiring leases or fencing.

use anyhow::Result;
use fairlane_common::Link;
use fairlane_common::keys::Keys;
use redis::{Cmd, Script, Value, cmd};

use crate::raw::ask;

/// What a bare queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    /// Puts a job into line: five commands.
    Enqueue,
    /// Takes the first job, with a lease: four commands.
    Take,
    /// Ends the job that has been leased the longest: four commands.
    Acknowledge,
}

impl Bare {
    const ALL: [Self; 3] = [Self::Enqueue, Self::Take, Self::Acknowledge];

    const fn code(self) -> &'static str {
        match self {
            Self::Enqueue => include_str!("../../lua/bare_enqueue.lua"),
            Self::Take => include_str!("../../lua/bare_take.lua"),
            Self::Acknowledge => include_str!("../../lua/bare_acknowledge.lua"),
        }
    }
}

/// A bare queue: scripts with as few commands as a queue needs.
#[derive(Debug, Clone)]
pub(super) struct BareQueue {
    link: Link,
    base: String,
    hashes: [String; Bare::ALL.len()],
}

impl BareQueue {
    /// A bare queue beside the queue of `keys`, in the same Redis and over the same connection.
    pub(super) async fn open(link: &Link, keys: &Keys) -> Result<Self> {
        for operation in Bare::ALL {
            ask::<()>(link, cmd("SCRIPT").arg("LOAD").arg(operation.code())).await?;
        }
        let hashes = Bare::ALL.map(|operation| Script::new(operation.code()).get_hash().to_owned());
        // With the hash tag of the queue's keys, so that they are removed together with those.
        let base = format!("{{{}}}:bare:", keys.prefix());
        Ok(Self { link: link.clone(), base, hashes })
    }

    /// The connection to its Redis.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The words of an operation's command, for another client to send. `number` is a score, an expiry or a time;
    /// `payload` is the content of a job.
    pub(super) fn words(&self, operation: Bare, number: u64, payload: &str) -> Vec<String> {
        let hash = &self.hashes[operation as usize];
        let mut words = vec!["EVALSHA".to_owned(), hash.clone(), "1".to_owned(), self.base.clone()];
        words.push(number.to_string());
        if operation == Bare::Enqueue {
            words.push(payload.to_owned());
        }
        words
    }

    async fn run(&self, operation: Bare, number: u64, payload: &str) -> Result<Value> {
        let words = self.words(operation, number, payload);
        let mut command = Cmd::new();
        for word in &words {
            command.arg(word);
        }
        ask(&self.link, &command).await
    }

    /// Puts a job into line.
    pub(super) async fn enqueue(&self, score: u64, payload: &str) -> Result<()> {
        self.run(Bare::Enqueue, score, payload).await.map(drop)
    }

    /// Takes the first job; returns whether there was one.
    pub(super) async fn take(&self, expiry: u64) -> Result<bool> {
        Ok(self.run(Bare::Take, expiry, "").await? != Value::Nil)
    }

    /// Ends the job that has been leased the longest; returns whether there was one.
    pub(super) async fn acknowledge(&self, at: u64) -> Result<bool> {
        Ok(self.run(Bare::Acknowledge, at, "").await? != Value::Nil)
    }
}
