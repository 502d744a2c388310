//! How far a run is with pushing its image, and whether it may.

use std::sync::Arc;

use fairlane_common::queue::{PushAnswer, many};
use fairlane_common::{Image, Token, registry};

use crate::claiming::pushes::{PushWish, Pushes};
use crate::log::lines::Phase;

/// How far a run is with its push.
pub(crate) struct Pushing {
    pushes: Arc<Pushes>,
    token: Token,
    image: Image,
    state: State,
}

enum State {
    /// It has not come to it, or no limit is known.
    Before,
    /// It is built and waits.
    Waits(PushWish),
    /// It may push, or does; the queue may still have to count it.
    Pushes(Option<PushWish>),
}

/// What the queue says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The run may push.
    Go,
    /// It has to wait; in words for people.
    Wait(String),
}

impl Pushing {
    pub(crate) fn new(pushes: Arc<Pushes>, token: Token, image: Image) -> Self {
        Self { pushes, token, image, state: State::Before }
    }

    /// It wrote a line of this phase.
    pub(crate) fn heard(&mut self, phase: Option<Phase>) {
        match (phase, &self.state) {
            // A line of the repository may have looked like a push.
            (Some(Phase::WaitingToPush), State::Before | State::Pushes(_)) => self.waits(),
            (Some(Phase::Pushing), State::Before) if self.pushes.are_limited(&self.image) => self.pushes(),
            // It did not wait.
            (Some(Phase::Pushing), State::Waits(_)) => self.pushes(),
            _ => {}
        }
    }

    /// It waits until it may push.
    pub(crate) fn waits(&mut self) {
        self.state = State::Waits(self.ask(false));
    }

    /// It pushes, whether or not the queue has allowed it.
    pub(crate) fn pushes(&mut self) {
        self.state = State::Pushes(Some(self.ask(true)));
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waits(_))
    }

    /// Its lines cannot be read. Returns whether it has to be let through: it is then counted at once.
    pub(crate) fn unheard(&mut self) -> bool {
        let limited = matches!(self.state, State::Before) && self.pushes.are_limited(&self.image);
        if limited {
            self.pushes();
        }
        limited
    }

    /// Redis has lost the build: a run that pushes has to be counted again. (One that waits goes on asking.)
    pub(crate) fn lost(&mut self) {
        if matches!(self.state, State::Pushes(_)) {
            self.pushes();
        }
    }

    /// Waits for news. Cancel-safe.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            let (State::Waits(wish) | State::Pushes(Some(wish))) = &mut self.state else {
                return std::future::pending().await;
            };
            match (wish.answer().await, &self.state) {
                (PushAnswer::Go, State::Waits(_)) => {
                    self.state = State::Pushes(None);
                    return News::Go;
                }
                (PushAnswer::Go, _) => self.state = State::Pushes(None),
                (PushAnswer::Wait { pushing, ahead }, State::Waits(_)) => {
                    return News::Wait(self.note(pushing, ahead));
                }
                // Heartbeats find out who has the lease.
                _ => {}
            }
        }
    }

    fn ask(&self, pushing: bool) -> PushWish {
        self.pushes.ask(self.token.clone(), &self.image, pushing)
    }

    fn note(&self, pushing: u64, ahead: u64) -> String {
        let builds = |count| format!("{} {}", many(count, "build"), if count == 1 { "is" } else { "are" });
        let ahead = match ahead {
            0 => String::new(),
            count => format!(", {} ahead of this one", builds(count)),
        };
        let registry = registry::of_image(self.image.as_str());
        format!("built; waiting to push: {} pushing to {registry}{ahead}", builds(pushing))
    }
}
