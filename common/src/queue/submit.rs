//! Requesting a build: a new one, a live one joined, or the outcome of one that just ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Queue;
use crate::build::{BuildSpec, BuildState};
use crate::error::{Error, Result};
use crate::id::{BuildId, DispatcherId};
use crate::library::SUBMIT;
use crate::limits;
use crate::queue::script::{Args, Reply};

/// A request for a build.
#[derive(Debug, Clone)]
pub struct Submit {
    /// The id that the build gets if it is a new one. A repeated call carries the same id.
    pub id: BuildId,
    /// What is asked for.
    pub spec: BuildSpec,
    /// Whether to ignore a remembered success or failure. A live build is joined in any case.
    pub force: bool,
    /// Who overrides a ban, for the audit: an operator who asked for it. `None`: bans apply.
    pub override_ban: Option<String>,
    /// The dispatcher that received the request. Each request counts as one person.
    pub dispatcher: Option<DispatcherId>,
}

/// A build that answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The build.
    pub id: BuildId,
    /// Its state.
    pub state: BuildState,
    /// Its attempt, as shown to people.
    pub attempt: u32,
    /// People behind it.
    pub people: u64,
    /// Its position in line, from 1; `None` once it has started.
    pub position: Option<u64>,
    /// How long it is expected to take, in milliseconds.
    pub expected_ms: u64,
}

/// The queue's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// A new build.
    New(Admitted),
    /// A live build of the same image, joined.
    Joined(Admitted),
    /// A build of the same image that ended so recently that its outcome still holds.
    Ended(Admitted),
    /// The image is being built from a different repository or ref.
    Conflict {
        /// That build.
        id: BuildId,
        /// Its repository.
        repo: String,
        /// Its ref.
        reference: String,
    },
    /// A rule bans the lane.
    Banned {
        /// The rule's pattern.
        pattern: String,
        /// The operator's message, or empty.
        message: String,
        /// When the ban ends, Unix milliseconds.
        until: Option<u64>,
    },
    /// Redis was emptied, and workers are registering their runs: ask again after this time.
    Refilling {
        /// How long that takes, in milliseconds.
        wait_ms: u64,
    },
    /// The queue, or the lane, holds as many builds as it may.
    Full {
        /// `queue` or `lane`.
        what: String,
        /// How many that is.
        max: u64,
    },
}

/// Requests that wait to be sent to Redis.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    askers: VecDeque<Asker>,
    /// Whether a task is sending them.
    is_sent: bool,
}

#[derive(Debug)]
struct Asker {
    dispatcher: Option<DispatcherId>,
    words: Args,
    answer: oneshot::Sender<Result<Submitted>>,
}

/// Requests that go to Redis in one call.
struct Together {
    dispatcher: Option<DispatcherId>,
    askers: Vec<Asker>,
}

impl Askers {
    /// Fails all waiting requests: their callers get an error that the process is stopping.
    fn give_up(&self) {
        let mut waiting = self.lock();
        waiting.is_sent = false;
        waiting.askers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request; returns whether the caller must start a task to send them.
    fn wait(&self, asker: Asker) -> bool {
        let mut waiting = self.lock();
        waiting.askers.push_back(asker);
        !std::mem::replace(&mut waiting.is_sent, true)
    }

    /// The next requests, of one dispatcher; `None` ends the sending.
    fn next(&self) -> Option<Together> {
        let mut waiting = self.lock();
        let Some(first) = waiting.askers.front() else {
            waiting.is_sent = false;
            return None;
        };
        let dispatcher = first.dispatcher.clone();
        let same = waiting.askers.iter().take_while(|asker| asker.dispatcher == dispatcher);
        let count = same.take(limits::SUBMIT_BATCH).count();
        Some(Together { dispatcher, askers: waiting.askers.drain(..count).collect() })
    }
}

/// The task that sends the requests. If it dies, no request keeps waiting for it.
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

impl Submit {
    /// The arguments of a request; the next request starts at the next `id`.
    fn words(&self) -> Args {
        Args::new()
            .show("id", self.id)
            .with(spec_words(&self.spec))
            .maybe("secrets", self.spec.secrets.as_ref())
            .flag("force", self.force)
            .maybe("override", self.override_ban.as_ref())
    }
}

impl Queue {
    /// Requests a build. Requests that arrive while others are in flight go to Redis in one call.
    pub async fn submit(&self, submit: &Submit) -> Result<Submitted> {
        let (answer, answered) = oneshot::channel();
        let asker = Asker { dispatcher: submit.dispatcher.clone(), words: submit.words(), answer };
        self.ask_together(asker);
        answered.await.map_err(|_| Error::stopping())?
    }

    // Apart from `submit`, whose callers need not look into what it sets going.
    fn ask_together(&self, asker: Asker) {
        if self.askers().wait(asker) {
            let sender = Sender { askers: Arc::clone(self.askers()), done: false };
            tokio::spawn(self.clone().ask(sender));
        }
    }

    /// Sends all waiting requests, as many per call as allowed, until none is left.
    async fn ask(self, mut sender: Sender) {
        loop {
            // Callers that just got an answer may want to send another request.
            tokio::task::yield_now().await;
            let Some(together) = sender.askers.next() else {
                sender.done = true;
                return;
            };
            let (words, answers): (Vec<Args>, Vec<_>) =
                together.askers.into_iter().map(|asker| (asker.words, asker.answer)).unzip();
            let args = words
                .into_iter()
                .fold(Args::new().maybe("dispatcher", together.dispatcher.as_ref()), Args::with);
            let results = match self.call(&SUBMIT, args).await {
                Ok(reply) => submitted(reply, answers.len()),
                Err(error) => vec![Err(error); answers.len()],
            };
            for (answer, result) in answers.into_iter().zip(results) {
                // A caller that stopped waiting does not need the answer.
                let _ = answer.send(result);
            }
        }
    }
}

/// The results of `count` requests.
fn submitted(mut reply: Reply, count: usize) -> Vec<Result<Submitted>> {
    match reply.tag.as_str() {
        "refilling" => vec![reply.parse("left").map(|wait_ms| Submitted::Refilling { wait_ms }); count],
        "asked" => {
            let mut answers = reply.answers("answers").unwrap_or_default().into_iter();
            let missing = || Err(Error::Corrupt("submit: an answer is missing".to_owned()));
            (0..count).map(|_| answers.next().unwrap_or_else(missing).and_then(outcome)).collect()
        }
        _ => vec![Err(reply.unknown()); count],
    }
}

fn outcome(mut reply: Reply) -> Result<Submitted> {
    match reply.tag.as_str() {
        "new" => Ok(Submitted::New(admitted(&mut reply)?)),
        "joined" => Ok(Submitted::Joined(admitted(&mut reply)?)),
        "ended" => Ok(Submitted::Ended(admitted(&mut reply)?)),
        "conflict" => Ok(Submitted::Conflict {
            id: reply.parse("id")?,
            repo: reply.get("repo")?,
            reference: reply.get("ref")?,
        }),
        "banned" => Ok(Submitted::Banned {
            pattern: reply.get("rule")?,
            message: reply.get("message")?,
            until: reply.maybe("until")?,
        }),
        "full" => Ok(Submitted::Full { what: reply.get("what")?, max: reply.parse("max")? }),
        "broken" => Err(Error::Corrupt(reply.get("error")?)),
        _ => Err(reply.unknown()),
    }
}

fn admitted(reply: &mut Reply) -> Result<Admitted> {
    Ok(Admitted {
        id: reply.parse("id")?,
        state: reply.parse("state")?,
        attempt: reply.parse("attempt")?,
        people: reply.parse("people")?,
        position: reply.maybe("position")?,
        expected_ms: reply.parse("expected")?,
    })
}

/// A request as arguments: all of it as JSON, and the parts that the queue's operations read. The last three
/// are for processes of the previous release, which does not know `spec`.
pub(super) fn spec_words(spec: &BuildSpec) -> Args {
    Args::new()
        .text("spec", spec.to_json())
        .text("lane", spec.repo.lane().as_str())
        .text("image", spec.image.as_str())
        .text("repo", spec.repo.as_str())
        .text("ref", spec.reference.as_str())
        .text("args", json(&spec.args))
        .text("priority", spec.priority.word())
        .maybe("name", Some(&spec.name).filter(|name| !name.is_empty()))
        .maybe("push", spec.push.then_some("1"))
        .maybe("labels", (!spec.labels.is_empty()).then(|| json(&spec.labels)))
}

/// Lists and maps of text as JSON; writing them cannot fail.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_that_dies_leaves_nobody_waiting() {
        let askers = Arc::new(Askers::default());
        let asker = || {
            let (answer, answered) = oneshot::channel();
            (Asker { dispatcher: None, words: Args::new(), answer }, answered)
        };
        let (first, first_answered) = asker();
        assert!(askers.wait(first), "somebody has to send it");
        let sender = Sender { askers: Arc::clone(&askers), done: false };
        let dies = tokio::spawn(async move {
            let _sender = sender;
            panic!("as it may be");
        });
        dies.await.unwrap_err();
        first_answered.await.unwrap_err();
        assert!(askers.wait(asker().0), "the next one is sent by somebody else");
    }
}
