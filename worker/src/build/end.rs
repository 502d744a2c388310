//! The end of a build: the rest of its log is written, then the outcome is reported to the queue.

use std::sync::Arc;

use fairlane_common::queue::{Finish, Finished, GiveBack, Outcome};
use fairlane_common::{NodeName, Queue, Token};

use crate::build::judge::Verdict;
use crate::build::reporter::Reporter;
use crate::claiming::leases::Lease;
use crate::claiming::state::Worker;
use crate::log::pump::{Flushed, LogPump};
use crate::time::backoff::Backoff;

/// How many times the end of a build is reported to a Redis that refuses it.
const REFUSALS_MAX: u32 = 5;

/// A build whose run is gone.
pub(crate) struct EndedBuild {
    pub(crate) worker: Arc<Worker>,
    pub(crate) lease: Lease,
    pub(crate) verdict: Verdict,
    /// The number of its run.
    pub(crate) run: u32,
    /// The node that it ran on.
    pub(crate) node: Option<String>,
    pub(crate) log: Option<LogPump>,
    pub(crate) tail: Option<String>,
    /// Reports that the run was alive; a short run may end before the queue has received that.
    pub(crate) reporter: Option<Reporter>,
}

impl EndedBuild {
    /// Writes the rest of the log, and reports to the queue how the build ended, until the queue has accepted it.
    pub(crate) async fn settle(mut self) {
        if self.verdict == Verdict::LetGo {
            self.worker.counts.ended(&Verdict::LetGo);
            return self.lease.settle();
        }
        let log = self.log.take();
        let reporter = self.reporter.take();
        let last_words = async {
            let more_comes = self.verdict == Verdict::HandOver;
            let flush = async {
                match log {
                    Some(log) => Some(log.flush(more_comes).await),
                    None => None,
                }
            };
            let report = async {
                if let Some(reporter) = reporter {
                    reporter.finish().await;
                }
            };
            tokio::join!(flush, report).0
        };
        let flushed = tokio::select! {
            end = last_words => end,
            () = self.lease.let_go() => None,
        };
        let token = self.lease.token().clone();
        // A node whose name is invalid in Fairlane is never avoided, so it can be left out.
        let node = self.node.take().and_then(|node| node.parse().ok());
        let log = self.measured(flushed).await;
        let telling = tell_end(&self.worker.queue, &token, &self.verdict, node, self.tail.take(), log);
        tokio::select! {
            finished = telling => {
                self.worker.counts.ended(&self.verdict);
                if let Some(finished) = finished {
                    self.worker.counts.finished(&finished, self.lease.age());
                }
            }
            () = self.lease.let_go() => {
                tracing::info!("another worker has the lease: the run's end is not reported");
                self.worker.counts.ended(&Verdict::LetGo);
            }
        }
        self.lease.settle();
    }

    /// What the queue is told about the log. If its size cannot be read, the build ends without it.
    async fn measured(&self, flushed: Option<Flushed>) -> Log {
        let Some(Flushed { end, missing }) = flushed else { return Log::default() };
        let (queue, id) = (&self.worker.queue, self.lease.token().build);
        let bytes = match &self.verdict {
            Verdict::Finish(_) => queue.log_bytes(id, self.run).await.ok(),
            _ => None,
        };
        Log { end, missing, bytes }
    }
}

/// What the queue is told about a log.
#[derive(Default)]
struct Log {
    end: Option<String>,
    missing: u64,
    bytes: Option<u64>,
}

/// Tells the queue how it ended, until it has heard it. Returns what became of the build, where its run has ended.
async fn tell_end(
    queue: &Queue,
    token: &Token,
    verdict: &Verdict,
    node: Option<NodeName>,
    log_tail: Option<String>,
    log: Log,
) -> Option<Finished> {
    let mut backoff = Backoff::new();
    let mut refusals = 0;
    let call = match verdict {
        Verdict::Finish(outcome) => End::Finish(Finish {
            outcome: outcome.clone(),
            node,
            log_tail,
            log_end: log.end,
            log_bytes: log.bytes,
            log_missing: log.missing,
        }),
        Verdict::HandOver => End::GiveBack(GiveBack::Handover),
        Verdict::Lost(reason) => End::GiveBack(GiveBack::Lost { reason: reason.clone() }),
        Verdict::LetGo => return None,
    };
    loop {
        match call.tell(queue, token).await {
            Ok((said, finished)) => {
                tracing::info!("{said}");
                return finished;
            }
            Err(error) if error.is_transient() => {}
            Err(error) => {
                refusals += 1;
                tracing::error!(%error, "could not report the build's end");
                if refusals >= REFUSALS_MAX {
                    return None;
                }
            }
        }
        backoff.pause().await;
    }
}

enum End {
    Finish(Finish),
    GiveBack(GiveBack),
}

impl End {
    async fn tell(
        &self,
        queue: &Queue,
        token: &Token,
    ) -> fairlane_common::Result<(String, Option<Finished>)> {
        Ok(match self {
            Self::Finish(finish) => {
                let finished = queue.finish(token, finish).await?;
                (said(finish, &finished), Some(finished))
            }
            Self::GiveBack(how) => {
                let said = match (queue.give_back(token, how).await?, how) {
                    (Some(state), GiveBack::Lost { reason }) => format!("{state} again: {reason}"),
                    (Some(state), GiveBack::Handover) => format!("{state}: handed over"),
                    (None, _) => "another worker has the lease: nothing was changed".to_owned(),
                };
                (said, None)
            }
        })
    }
}

/// What became of a build, for the worker's log.
fn said(finish: &Finish, finished: &Finished) -> String {
    match finished {
        Finished::Ended(state) => match &finish.outcome {
            Outcome::Failed { class, reason, .. } => format!("{state} ({class}): {reason}"),
            _ => state.to_string(),
        },
        Finished::Retried { attempt, .. } => match &finish.outcome {
            Outcome::Failed { class, reason, .. } => {
                format!("retrying as attempt {attempt} ({class}): {reason}")
            }
            _ => format!("retrying as attempt {attempt}"),
        },
        Finished::Stale => "another worker has the lease: nothing was changed".to_owned(),
        Finished::Unknown => "Redis has lost the build: nothing was changed".to_owned(),
    }
}
