//! The end of a run: the build ends, or goes back into line for another attempt.

use super::lease::{by_holder, token_words};
use super::{Blame, Queue};
use crate::build::{ALREADY_THERE, BuildState, FailureClass};
use crate::cause::FailureCause;
use crate::error::Result;
use crate::id::{NodeName, Token};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The image is made.
    Succeeded,
    /// The image was already in its registry, so there was no run.
    AlreadyThere,
    /// It failed.
    Failed {
        /// Decides whether it is tried again.
        class: FailureClass,
        /// What it failed of.
        cause: FailureCause,
        /// One sentence for people.
        reason: String,
        /// Whether the node that it ran on is to blame; if so, the build is retried on another one.
        blame: Blame,
    },
    /// It was stopped because somebody cancelled it.
    Cancelled,
}

/// What a worker tells the queue at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// How it ended.
    pub outcome: Outcome,
    /// The node that it ran on.
    pub node: Option<NodeName>,
    /// The last lines of the log, for those who were not watching.
    pub log_tail: Option<String>,
    /// The id of the last log entry; watchers get `end` after it.
    pub log_end: Option<String>,
    /// Bytes that the logs of all its runs take.
    pub log_bytes: Option<u64>,
    /// How many lines are missing from the log of this run because Redis refused them.
    pub log_missing: u64,
}

impl Finish {
    /// An end without a node and a log.
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, node: None, log_tail: None, log_end: None, log_bytes: None, log_missing: 0 }
    }
}

/// What became of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// It has ended.
    Ended(BuildState),
    /// It is tried again.
    Retried {
        /// Not before (Unix milliseconds).
        not_before: u64,
        /// The number of the next attempt.
        attempt: u32,
    },
    /// Another worker has the lease; nothing was changed.
    Stale,
    /// Redis has lost the build, or the claim on it: [`Queue::register`] the run, then report the end again.
    Unknown,
}

impl Queue {
    /// Reports the end of a run. Ends that arrive while others are in flight go to Redis in one call.
    pub async fn finish(&self, token: &Token, finish: &Finish) -> Result<Finished> {
        let (outcome, class, cause, reason, blame) = match &finish.outcome {
            Outcome::Succeeded => ("succeeded", "", "", "", &Blame::Nobody),
            Outcome::AlreadyThere => ("succeeded", "", "", ALREADY_THERE, &Blame::Nobody),
            Outcome::Cancelled => ("cancelled", "", "", "", &Blame::Nobody),
            Outcome::Failed { class, cause, reason, blame } => {
                ("failed", class.word(), cause.word(), reason.as_str(), blame)
            }
        };
        let (blame, alike) = blame.words();
        let item = token_words(token)
            .text("outcome", outcome)
            .text("class", class)
            .text("reason", reason)
            .maybe("node", finish.node.as_ref())
            .maybe("log_tail", finish.log_tail.as_ref())
            .maybe("log_end", finish.log_end.as_ref())
            // Random numbers in scripts are the same each time, so backoffs would synchronize.
            .show("random", fastrand::f64())
            .text("blame", blame)
            .text("alike", alike)
            .text("cause", cause)
            .maybe("log_bytes", finish.log_bytes.filter(|bytes| *bytes > 0))
            .maybe("log_missing", Some(finish.log_missing).filter(|lines| *lines > 0));
        let mut reply = self.finish_together(by_holder(token), item).await?;
        match reply.tag.as_str() {
            "ended" => Ok(Finished::Ended(reply.parse("state")?)),
            "retried" => Ok(Finished::Retried {
                not_before: reply.parse("not_before")?,
                attempt: reply.parse("attempt")?,
            }),
            "stale" => Ok(Finished::Stale),
            "unknown" => Ok(Finished::Unknown),
            _ => Err(reply.unknown()),
        }
    }
}
