//! The worker: its slots, and the loop that fills them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use fairlane_common::limits::LEASE_MARGIN;
use fairlane_common::queue::{Claim, Claimed, OrphanNews, UnreadableClaim, tend_logs_on};
use fairlane_common::{Duties, Queue, WorkerId};
use futures::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use super::{blind, heartbeat, memory, refill, shutdown};
use crate::build::task::work_on;
use crate::claiming::hint::Hint;
use crate::claiming::leases::{Registry, Wanted};
use crate::executor::{self, Executor};
use crate::settings::Settings;
use crate::time::backoff::{Backoff, jittered};
use crate::time::boot_time::BootTime;
use crate::time::stall::Standstill;

/// How often the queue is looked at without a hint: the net under lost ones.
const POLL: Duration = Duration::from_secs(5);
/// How long the heartbeat of a worker that the queue does not know may take to be heard.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(200);
/// Shortest pause between two reaps.
const REAP_PAUSE_MIN: Duration = Duration::from_millis(20);

/// What the worker's tasks share.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    pub(crate) executor: Arc<dyn Executor>,
    /// Where its runs live.
    pub(crate) place: String,
    pub(crate) registry: Arc<Registry>,
    /// There may be something to claim.
    pub(crate) wake: Notify,
    /// A heartbeat is due now.
    pub(crate) beat_now: Notify,
    /// There may be runs that the queue does not know of.
    pub(crate) refill: Notify,
    /// The builds that are worked on.
    pub(crate) builds: TaskTracker,
    /// Whether this process stood still.
    pub(crate) standstill: Arc<Standstill>,
    /// It is shutting down: no more claims.
    pub(crate) draining: CancellationToken,
    /// An operator has drained it: no claims until that is undone.
    drained: AtomicBool,
    /// Builds fail on its host: no claims for a while.
    avoided: AtomicBool,
    orphans: AtomicBool,
    born: Mutex<String>,
}

impl Worker {
    /// When a lease that is taken or renewed by a call that begins now has to be given up: Redis counts
    /// it from later on.
    pub(crate) fn deadline(&self) -> BootTime {
        BootTime::now().plus(self.settings.lease.saturating_sub(LEASE_MARGIN))
    }

    /// Notes which life of Redis this is.
    pub(crate) fn note_life(&self, born: &str) {
        let mut known = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_empty() && *known != born {
            tracing::error!(
                born,
                "Redis was emptied: builds that waited are gone and must be asked for again; what runs is registered again"
            );
            self.refill.notify_one();
        }
        born.clone_into(&mut known);
    }

    /// Notes whether an operator wants no builds to be claimed here.
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

    /// Notes whether the queue gives this host no builds because they fail here.
    pub(crate) fn note_avoided(&self, avoided: bool) {
        if self.avoided.swap(avoided, Ordering::Relaxed) == avoided {
            return;
        }
        if avoided {
            tracing::error!(
                "builds fail on this host: it gets none for a while (`fairlane nodes` shows why)"
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

    /// Free slots that builds may be claimed for.
    fn room(&self) -> usize {
        let none = self.drained.load(Ordering::Relaxed) || self.avoided.load(Ordering::Relaxed);
        if none { 0 } else { self.registry.free() }
    }

    /// Claims soon, also without a free slot: orphans come first.
    pub(crate) fn look_for_orphans(&self) {
        self.orphans.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

/// Runs a worker until `shutdown`; then its builds get time to end. `ready` is called once the queue counts its slots.
///
/// # Errors
/// The settings do not fit this host (a missing build command), or Redis cannot be reached at start.
/// Later failures are retried.
pub async fn run(
    settings: Settings,
    queue: Queue,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<()> {
    settings.check()?;
    let executor = executor::connect(&settings, &queue).await?;
    let id = WorkerId::new(&settings.host);
    let worker = Arc::new(Worker {
        place: executor.place(&id),
        id,
        queue,
        registry: Registry::new(settings.slots.get()),
        settings,
        executor,
        wake: Notify::new(),
        beat_now: Notify::new(),
        refill: Notify::new(),
        builds: TaskTracker::new(),
        standstill: Arc::default(),
        draining: shutdown.child_token(),
        drained: AtomicBool::new(false),
        avoided: AtomicBool::new(false),
        orphans: AtomicBool::new(false),
        born: Mutex::default(),
    });
    heartbeat::join(&worker).await.context("the worker cannot join the queue")?;
    // Known before the first claim.
    worker.queue.memory().await;
    tracing::info!(worker.id = %worker.id, slots = worker.settings.slots, "worker is ready");
    ready();

    let mut duties = duties(&worker);
    let failed = tokio::select! {
        () = claim_on(&worker) => None,
        // Without one of them no lease is safe.
        failed = duties.failed() => Some(failed),
    };
    if let Some(failed) = &failed {
        tracing::error!(error = %failed, "a duty of the worker failed");
    }
    worker.draining.cancel();
    shutdown::drain(&worker).await;
    // Before the goodbye: a late heartbeat would let the queue count the worker again.
    duties.ended(Duration::ZERO).await;
    shutdown::leave(&worker).await;
    if let Some(failed) = failed {
        return Err(failed.into());
    }
    Ok(())
}

/// What goes on beside the claims until the worker ends.
fn duties(worker: &Arc<Worker>) -> Duties {
    let mut duties = Duties::default();
    let standstill = Arc::clone(&worker.standstill);
    duties.spawn("noticing standstills", async move { standstill.watch().await });
    duties.spawn("heartbeat", heartbeat::beat_on(Arc::clone(worker)));
    duties.spawn("hearing news", hear_news(Arc::clone(worker)));
    duties.spawn("reaping", reap_on(worker.queue.clone()));
    duties.spawn("seeing to logs", tend_logs_on(worker.queue.clone(), worker.settings.log_limits));
    duties.spawn("watching memory", memory::watch_on(Arc::clone(worker)));
    let executor = Arc::clone(&worker.executor);
    duties.spawn("tending the executor", async move { executor.tend().await });
    duties.spawn("looking for lost runs", refill::find_on(Arc::clone(worker)));
    duties.spawn("handing over unseen pods", blind::hand_over_on(Arc::clone(worker)));
    duties
}

/// Fills free slots until the worker shuts down. A claim that is under way is not given up: what the
/// queue has handed out would wait for the end of its lease.
async fn claim_on(worker: &Arc<Worker>) {
    let mut changes = worker.registry.changes();
    let mut hint = Hint::new(worker.queue.clone());
    let mut token_unused = false;
    while !worker.draining.is_cancelled() {
        let no_memory = worker.queue.memory_pause().is_some();
        let free = if no_memory { 0 } else { worker.executor.may_start(worker.room()) };
        let orphans = worker.orphans.swap(false, Ordering::Relaxed);
        // A token that was taken by a worker without room must go on: the script passes it on.
        // What cannot be seen is not adopted: heartbeats tell of orphans again.
        if (free > 0 || orphans || token_unused) && worker.executor.blind().is_none() {
            claim(worker, free).await;
        }
        changes.mark_unchanged();
        let free = if worker.paused().is_some() { 0 } else { worker.room() };
        if free == 0 {
            // A worker that is full, or may start nothing, takes no hints from others.
            hint.stop();
        }
        token_unused = false;
        tokio::select! {
            () = hint.came(), if free > 0 => token_unused = true,
            () = worker.wake.notified() => {}
            () = worker.draining.cancelled() => {}
            _ = changes.changed() => {}
            // A full worker makes nothing of it: the pause's end, once past, would wake it without end.
            () = worker.executor.pause_changed(), if worker.room() > 0 => {}
            () = tokio::time::sleep(jittered(POLL)) => {}
        }
    }
}

/// One claim, repeated until it is answered, and the builds that it gave.
async fn claim(worker: &Arc<Worker>, free: usize) {
    let settings = &worker.settings;
    let claim = Claim {
        worker: worker.id.clone(),
        place: worker.place.clone(),
        free,
        lease: settings.lease,
        request: Uuid::new_v4(),
    };
    let mut backoff = Backoff::new();
    loop {
        // Counted from the try that is answered: it renews what an earlier one was given.
        let deadline = worker.deadline();
        match worker.queue.claim(&claim).await {
            Ok(claims) => {
                if claims.drained {
                    // Known before the next heartbeat: else it would take tokens and pass them on without end.
                    worker.note_drained(true);
                } else if claims.avoided {
                    worker.note_avoided(true);
                } else if claims.unknown {
                    worker.beat_now.notify_one();
                    tokio::time::sleep(UNKNOWN_PAUSE).await;
                }
                if claims.orphans > 0 && !claims.builds.is_empty() {
                    // Its share was a part of them. What it can have none of waits for the next heartbeat.
                    worker.look_for_orphans();
                }
                set_aside(worker, &claims.unreadable).await;
                if free > 0 && claims.builds.iter().all(|claimed| claimed.adopted) {
                    worker.executor.unused();
                }
                for claimed in claims.builds {
                    take_on(worker, claimed, deadline);
                }
                return;
            }
            Err(_) if worker.draining.is_cancelled() => return,
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "a claim was not answered");
                backoff.pause().await;
            }
            Err(error) => {
                tracing::error!(%error, "a claim failed");
                return tokio::time::sleep(jittered(POLL)).await;
            }
        }
    }
}

/// Gives back what this release cannot read. Where that fails, the leases run out by themselves.
async fn set_aside(worker: &Worker, unreadable: &[UnreadableClaim]) {
    for claim in unreadable {
        tracing::error!(build.id = claim.id, why = claim.why, "cannot read a build; it is set aside");
        if let Err(error) = worker.queue.set_aside(&worker.id, claim).await {
            tracing::warn!(%error, build.id = claim.id, "could not give back a build");
        }
    }
}

/// Works on a build under its lease, in a task of its own.
pub(crate) fn take_on(worker: &Arc<Worker>, claimed: Claimed, deadline: BootTime) {
    let span = tracing::info_span!(
        "build",
        build.id = %claimed.build.id,
        build.run = claimed.build.attempt,
        build.lane = %claimed.build.lane,
    );
    let lease = worker.registry.enter(claimed.token.clone(), deadline);
    // It came while the others were told already.
    if worker.draining.is_cancelled() {
        worker.registry.want(&claimed.token, Wanted::Drained);
    }
    span.in_scope(|| tracing::info!(adopted = claimed.adopted, "claimed"));
    worker.builds.spawn(Box::pin(work_on(Arc::clone(worker), lease, claimed)).instrument(span));
}

/// Hears of orphans and of builds to be stopped, for as long as it is polled.
async fn hear_news(worker: Arc<Worker>) {
    let mut backoff = Backoff::new();
    loop {
        match worker.queue.orphan_news().await {
            Ok(news) => {
                backoff.reset();
                let mut news = std::pin::pin!(news);
                while let Some(news) = news.next().await {
                    match news {
                        OrphanNews::Orphans(place) => {
                            if place.is_none_or(|place| place == worker.place) {
                                worker.look_for_orphans();
                            }
                        }
                        OrphanNews::Cancel(id, build) if id == worker.id => {
                            worker.registry.want_build(build, Wanted::Cancelled);
                        }
                        OrphanNews::Cancel(..) => {}
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no news from Redis"),
        }
        backoff.pause().await;
    }
}

/// Does what is due in the queue, as any process may, for as long as it is polled.
async fn reap_on(queue: Queue) {
    let mut backoff = Backoff::new();
    loop {
        match queue.reap().await {
            Ok(reaped) => {
                backoff.reset();
                if reaped.orphaned + reaped.lost > 0 {
                    tracing::info!(orphaned = reaped.orphaned, lost = reaped.lost, "leases ran out");
                }
                tokio::time::sleep(jittered(reaped.sleep).max(REAP_PAUSE_MIN)).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a reap was not answered");
                backoff.pause().await;
            }
        }
    }
}
