//! Runs that wait until they may push. The worker asks for all of them together, once a second, and at once when it
//! hears that a push has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_common::queue::{PushAnswer, PushAsk, PushLimits};
use fairlane_common::{Image, Queue, Token, WorkerId, registry};
use tokio::sync::{Notify, watch};

/// How often to ask.
const EVERY: Duration = Duration::from_secs(1);
/// Shortest pause between two calls.
const PAUSE: Duration = Duration::from_millis(100);

/// The runs of a worker that want to push.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    limits: PushLimits,
    next: u64,
    wishes: BTreeMap<u64, (PushAsk, watch::Sender<Option<PushAnswer>>)>,
}

/// A run's wish to push: the queue is asked about it until the run may, or until this is dropped.
#[derive(Debug)]
pub(crate) struct PushWish {
    pushes: Arc<Pushes>,
    number: u64,
    answers: watch::Receiver<Option<PushAnswer>>,
}

impl Pushes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the limits in force.
    pub(crate) fn note_limits(&self, limits: PushLimits) {
        self.state().limits = limits;
    }

    /// Whether pushes to this image's registry are limited.
    pub(crate) fn are_limited(&self, image: &Image) -> bool {
        self.state().limits.of(&registry::of_image(image.as_str())).is_some()
    }

    /// A push has ended: others may be next.
    pub(crate) fn heard(&self) {
        if !self.state().wishes.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Asks whether a run may push its image; `pushing` if it does already.
    pub(crate) fn ask(self: &Arc<Self>, token: Token, image: &Image, pushing: bool) -> PushWish {
        let ask = PushAsk { token, registry: registry::of_image(image.as_str()), pushing };
        let (answer, answers) = watch::channel(None);
        let number = {
            let mut state = self.state();
            state.next += 1;
            let number = state.next;
            state.wishes.insert(number, (ask, answer));
            number
        };
        self.changed.notify_one();
        PushWish { pushes: Arc::clone(self), number, answers }
    }

    fn asks(&self) -> Vec<(u64, PushAsk)> {
        self.state().wishes.iter().map(|(number, (ask, _))| (*number, ask.clone())).collect()
    }

    fn take_in(&self, number: u64, answer: PushAnswer) {
        let mut state = self.state();
        let Some((_, answers)) = state.wishes.get(&number) else { return };
        answers.send_replace(Some(answer));
        if answer == PushAnswer::Go {
            state.wishes.remove(&number);
        }
    }
}

impl PushWish {
    /// The next answer. Cancel-safe.
    pub(crate) async fn answer(&mut self) -> PushAnswer {
        // Closed after the last answer.
        while self.answers.changed().await.is_ok() {
            if let Some(answer) = *self.answers.borrow_and_update() {
                return answer;
            }
        }
        std::future::pending().await
    }
}

impl Drop for PushWish {
    fn drop(&mut self) {
        self.pushes.state().wishes.remove(&self.number);
    }
}

/// Asks as long as it is polled.
pub(crate) async fn ask_on(pushes: Arc<Pushes>, queue: Queue, worker: WorkerId) {
    loop {
        let (numbers, asks): (Vec<u64>, Vec<PushAsk>) = pushes.asks().into_iter().unzip();
        if asks.is_empty() {
            pushes.changed.notified().await;
            continue;
        }
        match queue.push(&worker, &asks).await {
            Ok(answers) => {
                numbers.into_iter().zip(answers).for_each(|(number, answer)| pushes.take_in(number, answer));
            }
            // The runs go on waiting.
            Err(error) => tracing::debug!(%error, "the queue did not say whether runs may push"),
        }
        tokio::time::sleep(PAUSE).await;
        let _ = tokio::time::timeout(EVERY, pushes.changed.notified()).await;
    }
}
