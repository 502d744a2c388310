//! Calls of one operation that arrive together go to Redis as one, each as an item of its list. Each gets its own
//! answer: one that fails does not affect the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Queue;
use crate::error::{Error, Result};
use crate::library::{FINISH, Operation, REPORT, SUBMIT};
use crate::limits;
use crate::queue::script::{Args, Reply};

/// What waits to be sent, by operation.
#[derive(Debug)]
pub(super) struct Outbox {
    submits: Arc<Askers>,
    reports: Arc<Askers>,
    finishes: Arc<Askers>,
}

impl Default for Outbox {
    fn default() -> Self {
        let askers = |operation, most| Arc::new(Askers { operation, most, waiting: Mutex::default() });
        Self {
            submits: askers(&SUBMIT, limits::SUBMIT_BATCH),
            reports: askers(&REPORT, limits::REPORT_BATCH),
            finishes: askers(&FINISH, limits::FINISH_BATCH),
        }
    }
}

/// Calls of an operation that wait to be sent.
#[derive(Debug)]
struct Askers {
    operation: &'static Operation,
    /// Most items of one call.
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    askers: VecDeque<Asker>,
    /// Whether a task is sending them.
    is_sent: bool,
}

#[derive(Debug)]
struct Asker {
    /// The arguments that must be the same for all items of a call.
    common: Args,
    item: Args,
    answer: oneshot::Sender<Result<Reply>>,
}

impl Askers {
    /// Fails all waiting calls: their callers get an error that the process is stopping.
    fn give_up(&self) {
        let mut waiting = self.lock();
        waiting.is_sent = false;
        waiting.askers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call; returns whether the caller must start a task to send them.
    fn wait(&self, asker: Asker) -> bool {
        let mut waiting = self.lock();
        waiting.askers.push_back(asker);
        !std::mem::replace(&mut waiting.is_sent, true)
    }

    /// The next ones that go together; none ends the sending.
    fn next(&self) -> Vec<Asker> {
        let mut waiting = self.lock();
        let Some(first) = waiting.askers.front() else {
            waiting.is_sent = false;
            return Vec::new();
        };
        let same = waiting.askers.iter().take_while(|asker| asker.common == first.common);
        let count = same.take(self.most).count();
        waiting.askers.drain(..count).collect()
    }
}

/// The task that sends the calls. If it dies, no caller keeps waiting for it.
struct Sender {
    askers: Arc<Askers>,
    done: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.done {
            self.askers.give_up();
        }
    }
}

impl Queue {
    /// Requests builds. `common` is the same for all that go together.
    pub(super) async fn submit_together(&self, common: Args, item: Args) -> Result<Reply> {
        self.ask_together(&self.outbox().submits, common, item).await
    }

    /// Reports that a run is alive.
    pub(super) async fn report_together(&self, common: Args, item: Args) -> Result<Reply> {
        self.ask_together(&self.outbox().reports, common, item).await
    }

    /// Reports the end of a run.
    pub(super) async fn finish_together(&self, common: Args, item: Args) -> Result<Reply> {
        self.ask_together(&self.outbox().finishes, common, item).await
    }

    /// Calls an operation, together with others that arrive while a call of it is in flight.
    async fn ask_together(&self, askers: &Arc<Askers>, common: Args, item: Args) -> Result<Reply> {
        let (answer, answered) = oneshot::channel();
        if askers.wait(Asker { common, item, answer }) {
            let sender = Sender { askers: Arc::clone(askers), done: false };
            tokio::spawn(self.clone().send(sender));
        }
        answered.await.map_err(|_| Error::stopping())?
    }

    /// Sends all waiting calls, as many at once as allowed, until none is left.
    async fn send(self, mut sender: Sender) {
        loop {
            // Callers that just got an answer may want to send another call.
            tokio::task::yield_now().await;
            let mut askers = sender.askers.next().into_iter();
            let Some(first) = askers.next() else {
                sender.done = true;
                return;
            };
            let (mut args, mut answers) = (first.common.with(first.item), vec![first.answer]);
            for asker in askers {
                args = args.with(asker.item);
                answers.push(asker.answer);
            }
            let results = match self.call(sender.askers.operation, args).await {
                Ok(reply) => each(reply, answers.len()),
                Err(error) => vec![Err(error); answers.len()],
            };
            for (answer, result) in answers.into_iter().zip(results) {
                // A caller that stopped waiting does not need the answer.
                let _ = answer.send(result);
            }
        }
    }
}

/// The answers to `count` items. Any other reply answers all of them.
fn each(mut reply: Reply, count: usize) -> Vec<Result<Reply>> {
    if reply.tag != "each" {
        return vec![Ok(reply); count];
    }
    let mut answers = reply.answers("answers").unwrap_or_default().into_iter();
    let missing = || Err(reply.corrupt("an answer is missing"));
    (0..count).map(|_| answers.next().unwrap_or_else(missing).and_then(sound)).collect()
}

/// An answer, unless its item failed.
fn sound(mut answer: Reply) -> Result<Reply> {
    if answer.tag == "broken" {
        return Err(answer.get::<String>("error").map_or_else(|error| error, |why| answer.corrupt(why)));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(common: Args) -> (Asker, oneshot::Receiver<Result<Reply>>) {
        let (answer, answered) = oneshot::channel();
        (Asker { common, item: Args::new(), answer }, answered)
    }

    #[tokio::test]
    async fn a_sender_that_dies_leaves_nobody_waiting() {
        let askers = Outbox::default().submits;
        let (first, first_answered) = asker(Args::new());
        assert!(askers.wait(first), "somebody has to send it");
        let sender = Sender { askers: Arc::clone(&askers), done: false };
        let dies = tokio::spawn(async move {
            let _sender = sender;
            panic!("as it may be");
        });
        dies.await.unwrap_err();
        first_answered.await.unwrap_err();
        assert!(askers.wait(asker(Args::new()).0), "the next one is sent by somebody else");
    }

    #[test]
    fn only_the_same_go_together() {
        let askers = Outbox::default().finishes;
        for worker in ["a", "a", "b", "a"] {
            askers.wait(asker(Args::new().text("worker", worker)).0);
        }
        let batches = std::iter::from_fn(|| Some(askers.next().len()).filter(|count| *count > 0));
        assert_eq!(batches.collect::<Vec<_>>(), [2, 1, 1]);
    }
}
