//! The state that the worker's tasks share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fairlane_common::limits::LEASE_MARGIN;
use fairlane_common::{Queue, WorkerId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counts::Counts;
use super::leases::Leases;
use super::pushes::Pushes;
use crate::executor::Executor;
use crate::settings::Settings;
use crate::time::boot_time::BootTime;
use crate::time::stall::Stalls;

/// The state that the worker's tasks share.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    pub(crate) executor: Arc<dyn Executor>,
    /// The place of its runs.
    pub(crate) place: String,
    pub(crate) leases: Arc<Leases>,
    /// There may be something to claim.
    pub(crate) wake: Notify,
    /// A heartbeat is due now.
    pub(crate) beat_now: Notify,
    /// There may be runs that the queue does not know.
    pub(crate) refill: Notify,
    /// The tasks of the builds that it works on.
    pub(crate) builds: TaskTracker,
    /// Runs that want to push.
    pub(crate) pushes: Arc<Pushes>,
    /// When this process was suspended.
    pub(crate) stalls: Arc<Stalls>,
    pub(crate) counts: Counts,
    /// It is shutting down: no more claims.
    pub(crate) draining: CancellationToken,
    /// An operator has drained it: no claims until that is undone.
    drained: AtomicBool,
    /// Builds fail on its host: no claims for a while.
    avoided: AtomicBool,
    /// There may be orphans.
    orphans: AtomicBool,
    born: Mutex<String>,
}

impl Worker {
    pub(crate) fn new(
        settings: Settings,
        queue: Queue,
        executor: Arc<dyn Executor>,
        draining: CancellationToken,
    ) -> Self {
        let id = WorkerId::new(&settings.host);
        Self {
            place: executor.place(&id),
            id,
            queue,
            leases: Leases::new(settings.slots.get()),
            settings,
            executor,
            wake: Notify::new(),
            beat_now: Notify::new(),
            refill: Notify::new(),
            builds: TaskTracker::new(),
            pushes: Arc::default(),
            stalls: Arc::default(),
            counts: Counts::new(),
            draining,
            drained: AtomicBool::new(false),
            avoided: AtomicBool::new(false),
            orphans: AtomicBool::new(false),
            born: Mutex::default(),
        }
    }

    /// When a lease that a call granted or renewed from now on has to be given up. (Redis starts counting later.)
    pub(crate) fn deadline(&self) -> BootTime {
        BootTime::now().plus(self.settings.lease.saturating_sub(LEASE_MARGIN))
    }

    /// Records the id of Redis's data set, and notices if Redis was emptied.
    pub(crate) fn note_life(&self, born: &str) {
        let mut known = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_empty() && *known != born {
            tracing::error!(
                born,
                "Redis was emptied: queued builds are lost and must be requested again; running builds are registered again"
            );
            self.refill.notify_one();
        }
        born.clone_into(&mut known);
    }

    /// Records whether an operator has drained this worker.
    pub(crate) fn note_drained(&self, drained: bool) {
        if self.drained.swap(drained, Ordering::Relaxed) == drained {
            return;
        }
        if drained {
            tracing::warn!("an operator drained this worker: it claims no builds until that is undone");
        } else {
            tracing::info!("no longer drained: this worker claims builds again");
        }
        self.wake.notify_one();
    }

    /// Records whether the queue gives this host no builds because they fail here.
    pub(crate) fn note_avoided(&self, avoided: bool) {
        if self.avoided.swap(avoided, Ordering::Relaxed) == avoided {
            return;
        }
        if avoided {
            tracing::error!(
                "builds fail on this host, so it gets no builds for a while (`fairlane nodes` shows why)"
            );
        } else {
            tracing::info!("this host gets builds again");
        }
        self.wake.notify_one();
    }

    /// Why no build may start here at present, in words for people.
    pub(crate) fn paused(&self) -> Option<String> {
        self.queue.memory_pause().or_else(|| self.executor.paused())
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    pub(crate) fn is_avoided(&self) -> bool {
        self.avoided.load(Ordering::Relaxed)
    }

    /// Free slots for which builds may be claimed.
    pub(crate) fn room(&self) -> usize {
        if self.is_drained() || self.is_avoided() { 0 } else { self.leases.free() }
    }

    /// Triggers a claim, even without a free slot: orphans come first.
    pub(crate) fn look_for_orphans(&self) {
        self.orphans.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether there was news of orphans since the last call.
    pub(crate) fn take_orphan_news(&self) -> bool {
        self.orphans.swap(false, Ordering::Relaxed)
    }
}
