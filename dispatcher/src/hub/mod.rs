//! The one reader that serves all event streams of this dispatcher.
//!
//! ```text
//! events stream ─┐                         ┌─ channel of build A: ring of frames ─► its streams
//! log hints ─────┼─► marks ─► updater ─────┤
//! every 2 s ─────┘   (ids)    (one fetch   └─ channel of build B: ring of frames ─► its streams
//!                              for all)
//! ```
//!
//! Hints only mark builds; a build's state and log are always read from Redis. So a lost hint
//! costs two seconds, and a stream can continue at any dispatcher. A watcher costs a task and an offset
//! in a ring of shared frames, never a connection to Redis.

pub(crate) mod cursor;
mod frame;
mod hints;
mod pages;
mod ring;
mod sent;
pub(crate) mod stream;
mod updater;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairlane_common::build::{Build, BuildState};
use fairlane_common::id::BuildId;
use fairlane_common::limits;
use fairlane_common::queue::Queue;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::api::BuildView;

use crate::metrics::Metrics;
use crate::outlook::OutlookCache;
use crate::problem::{Answer, Refusal, TOO_MANY_STREAMS};
use crate::redis_wait::bounded;
use crate::settings::Bounds;
use crate::upkeep::feeder::Feeder;
use cursor::{Cursor, EntryId};
use pages::{Page, Pages};
use ring::Ring;
use sent::Sent;

/// Most concurrent log reads by streams that have fallen behind. The pool has 4 connections, and the updater
/// needs one.
const READERS_MAX: usize = 3;
/// How many of a log's last lines are remembered when its first stream opens.
const LAST_LINES: usize = 20;
/// How many log entries a stream reads at a time while it catches up.
const READ_ENTRIES: usize = 100;

/// All watched builds of this dispatcher.
pub(crate) struct Hub {
    queue: Queue,
    outlook: Arc<OutlookCache>,
    metrics: Arc<Metrics>,
    feeder: Arc<Feeder>,
    pub(crate) bounds: Bounds,
    pub(crate) shutdown: CancellationToken,
    channels: Mutex<HashMap<BuildId, Arc<Channel>>>,
    marked: Mutex<HashSet<BuildId>>,
    mark: Notify,
    // Wakes the task that holds the subscriptions to log hints.
    membership: Notify,
    readers: Semaphore,
    streams: AtomicUsize,
}

/// One watched build.
pub(crate) struct Channel {
    pub(crate) id: BuildId,
    ring: Mutex<Ring>,
    pages: Mutex<Pages>,
    sent: Mutex<Sent>,
    // The number of changes of the ring, for streams to wait on.
    changed: watch::Sender<u64>,
    streams: AtomicUsize,
}

impl Channel {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

/// A stream's place at its channel; released on drop.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    pub(crate) channel: Arc<Channel>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.streams.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.streams.dec();
        let mut channels = self.hub.channels();
        if self.channel.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            channels.remove(&self.channel.id);
            self.hub.membership.notify_one();
        }
    }
}

/// Permission to follow a log as text; released on drop.
pub(crate) struct LogSeat(Arc<Hub>);

impl Drop for LogSeat {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.streams.dec();
    }
}

impl Hub {
    pub(crate) fn new(
        queue: Queue,
        outlook: Arc<OutlookCache>,
        metrics: Arc<Metrics>,
        feeder: Arc<Feeder>,
        bounds: Bounds,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue,
            outlook,
            metrics,
            feeder,
            bounds,
            shutdown,
            channels: Mutex::default(),
            marked: Mutex::default(),
            mark: Notify::new(),
            membership: Notify::new(),
            readers: Semaphore::new(READERS_MAX),
            streams: AtomicUsize::new(0),
        })
    }

    /// Runs the tasks that keep the channels up to date, until the dispatcher stops.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(updater::run(&self), hints::events(&self), hints::logs(&self));
    }

    /// A seat at the channel of a build that is already watched here. This reads nothing, so even ten
    /// thousand newcomers at once cost Redis nothing. `None` if nobody watches the build here, or if `cursor`
    /// is from a later run than the channel's.
    pub(crate) fn join(self: &Arc<Self>, id: BuildId, cursor: Option<Cursor>) -> Answer<Option<(Seat, u32)>> {
        self.check_room()?;
        let Some(channel) = self.take_seat(id) else { return Ok(None) };
        let seat = self.seat(channel);
        let run = seat.channel.ring().run();
        Ok(cursor.is_none_or(|cursor| cursor.run <= run).then_some((seat, run)))
    }

    /// A seat at the channel of a build that was just read, and the build's newest run.
    pub(crate) async fn attach(self: &Arc<Self>, build: &Build, view: &BuildView) -> Answer<(Seat, u32)> {
        self.check_room()?;
        let channel = match self.take_seat(build.id) {
            Some(channel) => channel,
            None => self.open(build, view).await?,
        };
        Ok((self.seat(channel), last_run(build)))
    }

    fn check_room(&self) -> Answer<()> {
        if self.streams.load(Ordering::Relaxed) < self.bounds.streams_max {
            return Ok(());
        }
        let detail = format!(
            "this dispatcher already serves {} streams, its maximum; retry in a moment, or use another dispatcher",
            self.bounds.streams_max
        );
        Err(Refusal::new(TOO_MANY_STREAMS, detail).retry_after(5))
    }

    fn seat(self: &Arc<Self>, channel: Arc<Channel>) -> Seat {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.metrics.streams.inc();
        Seat { hub: Arc::clone(self), channel }
    }

    /// Permission to follow a log as text.
    pub(crate) fn seat_for_log(self: &Arc<Self>) -> Answer<LogSeat> {
        self.check_room()?;
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.metrics.streams.inc();
        Ok(LogSeat(Arc::clone(self)))
    }

    fn take_seat(&self, id: BuildId) -> Option<Arc<Channel>> {
        let channels = self.channels();
        let channel = channels.get(&id)?;
        channel.streams.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(channel))
    }

    async fn open(&self, build: &Build, view: &BuildView) -> Answer<Arc<Channel>> {
        let run = last_run(build);
        let (end, last) =
            bounded(self.bounds.redis_wait, self.queue.log_end(build.id, run, LAST_LINES)).await?;
        let mut sent = Sent::default();
        sent.note(&last);
        let end = end.parse().unwrap_or(EntryId::START);
        let ring = Ring::new(run, end, build.seq, frame::json(view), self.bounds.ring_bytes);
        let mut channels = self.channels();
        let channel = channels.entry(build.id).or_insert_with(|| {
            let changed = watch::Sender::new(0);
            Arc::new(Channel {
                id: build.id,
                ring: Mutex::new(ring),
                pages: Mutex::default(),
                sent: Mutex::new(sent),
                changed,
                streams: AtomicUsize::new(0),
            })
        });
        channel.streams.fetch_add(1, Ordering::Relaxed);
        let channel = Arc::clone(channel);
        drop(channels);
        self.membership.notify_one();
        self.mark(build.id);
        Ok(channel)
    }

    /// Marks the build to be checked soon, if somebody watches it.
    fn mark(&self, id: BuildId) {
        if self.channels().contains_key(&id) {
            self.marked().insert(id);
            self.mark.notify_one();
        }
    }

    /// Marks all watched builds to be checked soon.
    fn mark_all(&self) {
        let ids: Vec<BuildId> = self.channels().keys().copied().collect();
        if !ids.is_empty() {
            self.marked().extend(ids);
            self.mark.notify_one();
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<BuildId, Arc<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marked(&self) -> MutexGuard<'_, HashSet<BuildId>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page of a log for one stream, up to the entry `until`. Streams that need the same page at the same
    /// time share one read.
    async fn read(
        &self,
        channel: &Channel,
        (run, after): (u32, EntryId),
        until: Option<EntryId>,
        seq: u64,
    ) -> Answer<Arc<Page>> {
        if let Some(page) = channel.pages().get(run, after, until) {
            return Ok(page);
        }
        // This wait needs no limit, because each reader ahead has one.
        let _turn = self.readers.acquire().await;
        if let Some(page) = channel.pages().get(run, after, until) {
            return Ok(page);
        }
        let from = after.to_string();
        let read = self.queue.read_log(channel.id, run, &from, READ_ENTRIES);
        let log = bounded(self.bounds.redis_wait, read).await?;
        let pieces = frame::pieces(run, seq, after, until, &log);
        let page = Arc::new(Page { pieces, entries: log.entries.len() });
        let last = log.entries.last().and_then(|entry| entry.id.parse().ok());
        let whole = page.pieces.last().map(|piece| piece.to) == last && log.entries.len() == READ_ENTRIES;
        if whole && log.dropped.is_none() {
            channel.pages().keep(run, after, &page);
        }
        Ok(page)
    }
}

/// The run with the newest log.
fn last_run(build: &Build) -> u32 {
    match build.state {
        _ if build.state.is_ended() => build.log_run.unwrap_or(build.attempt),
        // The next run has not begun, so the newest log is that of the previous one.
        BuildState::Queued => build.attempt.saturating_sub(1).max(1),
        _ => build.attempt,
    }
}

/// How many entries the updater reads at a time: the maximum.
const PAGE: usize = limits::LOG_PAGE;
