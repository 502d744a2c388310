//! Wake-up hints: a worker takes a token when something may be claimed.

use std::time::Duration;

use fairlane_common::Queue;
use fairlane_common::queue::Waiter;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::time::backoff::Backoff;

/// Longest block of one wait for a hint.
const WAIT: Duration = Duration::from_secs(2);

/// Waits for wake-up tokens. A wait continues during a claim, so that its connection is kept.
pub(crate) struct Hint {
    queue: Queue,
    idle: Option<Waiter>,
    waiting: Option<BoxFuture<'static, (Waiter, fairlane_common::Result<bool>)>>,
    backoff: Backoff,
}

impl Hint {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue, idle: None, waiting: None, backoff: Backoff::new() }
    }

    /// Returns when a token has arrived. Cancel-safe.
    pub(crate) async fn came(&mut self) {
        loop {
            let waiting = self.waiting.get_or_insert_with(|| {
                let mut waiter = self.idle.take().unwrap_or_else(|| self.queue.waiter());
                async move {
                    let answer = waiter.wait(WAIT).await;
                    (waiter, answer)
                }
                .boxed()
            });
            let (waiter, answer) = waiting.await;
            self.waiting = None;
            match answer {
                Ok(came) => {
                    self.backoff.reset();
                    self.idle = Some(waiter);
                    if came {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no hints from Redis");
                    self.backoff.pause().await;
                }
            }
        }
    }

    /// Stops waiting: closes the connection, so that no token is taken without being used.
    pub(crate) fn stop(&mut self) {
        self.waiting = None;
    }
}
