//! Reports to the queue whether a run is alive and what it waits for: only the latest state, until the queue has
//! received it.

use std::sync::Arc;

use fairlane_common::queue::Reported;
use fairlane_common::{Queue, Token};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::claiming::leases::{Leases, Wanted};
use crate::time::backoff::Backoff;

/// The state to report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    up: bool,
    note: String,
}

/// Reports in a separate task, which ends with this value.
pub(crate) struct Reporter {
    word: watch::Sender<Word>,
    reporting: JoinSet<()>,
}

impl Reporter {
    pub(crate) fn start(queue: Queue, leases: Arc<Leases>, token: Token) -> Self {
        let (word, heard) = watch::channel(Word::default());
        let mut reporting = JoinSet::new();
        reporting.spawn(report_on(queue, leases, token, heard).in_current_span());
        Self { word, reporting }
    }

    /// The run is alive, so it no longer waits for anything.
    pub(crate) fn up(&self) {
        self.word.send_modify(|word| *word = Word { up: true, note: String::new() });
    }

    /// What the run waits for, or what people should know about it; empty if nothing.
    pub(crate) fn note(&self, note: String) {
        self.word.send_if_modified(|word| {
            let news = word.note != note;
            word.note = note;
            news
        });
    }

    /// Waits until the queue has received the last state: a short run may end before that.
    pub(crate) async fn finish(self) {
        let Self { word, mut reporting } = self;
        drop(word);
        if let Some(Err(error)) = reporting.join_next().await {
            tracing::error!(%error, "the task that reports the run's state failed");
        }
    }
}

async fn report_on(queue: Queue, leases: Arc<Leases>, token: Token, mut heard: watch::Receiver<Word>) {
    while heard.changed().await.is_ok() {
        let mut backoff = Backoff::new();
        loop {
            let word = heard.borrow_and_update().clone();
            match queue.report(&token, word.up, Some(word.note.as_str())).await {
                Ok(Reported::Taken { cancelling: true }) => {
                    leases.want(&token, Wanted::Cancelled);
                    break;
                }
                // If the token is stale, the next heartbeat finds out whether another worker has the build or
                // Redis was emptied.
                Ok(Reported::Taken { cancelling: false } | Reported::Stale) => break,
                Err(error) if error.is_transient() => backoff.pause().await,
                Err(error) => {
                    tracing::error!(%error, "could not report the run's state");
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_is_up_waits_for_nothing() {
        let (word, reporting) = (watch::Sender::new(Word::default()), JoinSet::new());
        let reporter = Reporter { word, reporting };
        reporter.note("being set up on node a".to_owned());
        reporter.up();
        assert_eq!(*reporter.word.borrow(), Word { up: true, note: String::new() });
        reporter.note("node a does not answer".to_owned());
        assert!(reporter.word.borrow().up);
    }
}
