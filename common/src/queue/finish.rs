//! The end of a run: the build ends, or goes back into line for another attempt.

use super::Queue;
use crate::build::{BuildState, FailureClass};
use crate::error::Result;
use crate::id::Token;
use crate::script::{Args, FINISH};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The image is made.
    Succeeded,
    /// It failed.
    Failed {
        /// Decides whether it is tried again.
        class: FailureClass,
        /// One sentence for people.
        reason: String,
        /// The node to avoid when it is tried again.
        node: Option<String>,
    },
    /// It was stopped because somebody asked for that.
    Cancelled,
}

/// What a worker tells the queue at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// How it ended.
    pub outcome: Outcome,
    /// The last lines of the log, for those who were not watching.
    pub log_tail: Option<String>,
    /// The id of the last log entry: `end` is told to watchers after it.
    pub log_end: Option<String>,
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
        /// The number of the next run.
        attempt: u32,
    },
    /// The lease was another's: nothing was changed.
    Stale,
}

impl Queue {
    /// Reports the end of a run.
    pub async fn finish(&self, token: &Token, finish: &Finish) -> Result<Finished> {
        let (outcome, class, reason, node) = match &finish.outcome {
            Outcome::Succeeded => ("succeeded", "", "", None),
            Outcome::Cancelled => ("cancelled", "", "", None),
            Outcome::Failed { class, reason, node } => {
                ("failed", class.word(), reason.as_str(), node.as_ref())
            }
        };
        let args = Args::new()
            .show(token.build)
            .show(token.epoch)
            .text(token.worker.as_str())
            .text(outcome)
            .text(class)
            .text(reason)
            .maybe(node)
            .maybe(finish.log_tail.as_ref())
            .maybe(finish.log_end.as_ref())
            // Scripts' own random numbers are the same each time: backoffs would come in step.
            .show(fastrand::f64());
        let mut reply = self.call(&FINISH, args).await?;
        match reply.tag.as_str() {
            "ended" => Ok(Finished::Ended(reply.parse()?)),
            "retried" => Ok(Finished::Retried { not_before: reply.parse()?, attempt: reply.parse()? }),
            "stale" => Ok(Finished::Stale),
            _ => Err(reply.unknown()),
        }
    }
}
