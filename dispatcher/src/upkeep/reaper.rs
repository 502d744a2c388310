//! Handles what is due in the queue. Every dispatcher may do this: a reap is short and can be repeated.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fairlane_common::queue::Queue;
use tokio_util::sync::CancellationToken;

use crate::upkeep::feeder::Feeder;
use crate::upkeep::outage::{Outage, jitter};

/// Shortest pause. Due items come in batches, and requests need their turn, too.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause. Other processes may add something that is due earlier, without telling this one.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often to check for function libraries of earlier releases that nobody calls any more.
const LIBRARIES_EVERY: Duration = Duration::from_hours(1);

/// Whether Redis accepts writes, as the latest reap has shown.
#[derive(Debug, Default)]
pub(crate) struct Writes(Mutex<Option<&'static str>>);

impl Writes {
    fn note(&self, refusal: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// Why Redis accepts no writes, if it said so.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reaps until `shutdown`.
pub(crate) async fn run(queue: Queue, writes: Arc<Writes>, feeder: Arc<Feeder>, shutdown: CancellationToken) {
    let mut outage = Outage::new("reaping");
    let mut look_at_libraries = Instant::now() + jitter(LIBRARIES_EVERY);
    while !shutdown.is_cancelled() {
        let pause = match queue.reap().await {
            Ok(reaped) => {
                outage.over();
                writes.note(None);
                feeder.note(reaped.campaigns);
                if reaped.orphaned > 0 || reaped.lost > 0 {
                    tracing::info!(orphaned = reaped.orphaned, lost = reaped.lost, "leases expired");
                }
                reaped.sleep.clamp(PAUSE_MIN, PAUSE_MAX)
            }
            Err(error) => {
                writes.note(error.refusal());
                outage.backoff(&error, Duration::from_millis(500))
            }
        };
        if Instant::now() >= look_at_libraries {
            look_at_libraries = Instant::now() + jitter(LIBRARIES_EVERY);
            remove_unused_libraries(&queue).await;
        }
        // Random, so that the reapers of many processes do not run at the same time.
        tokio::select! {
            () = tokio::time::sleep(jitter(pause)) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn remove_unused_libraries(queue: &Queue) {
    match queue.remove_unused_libraries().await {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            tracing::info!(libraries = names.join(", "), "removed function libraries of earlier releases");
        }
        Err(error) => tracing::debug!(%error, "could not look for unused function libraries"),
    }
}
