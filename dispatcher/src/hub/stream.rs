//! One watcher's stream: first what it missed, from Redis, then the shared frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cursor::{Cursor, EntryId};
use super::ring::{Offset, Step};
use super::{Hub, READ_ENTRIES, Seat, frame};
use crate::upkeep::outage::jitter;
use crate::upkeep::people::Subscription;

/// Pause before a failed log read is retried.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Retry delay for a client that was disconnected, in milliseconds.
const RETRY_MS: u64 = 1000;
/// The same if all clients are disconnected at once; a random value in this range.
const RETRY_STOP_MS: std::ops::Range<u64> = 100..2000;

struct Watcher {
    hub: Arc<Hub>,
    seat: Seat,
    _subscription: Subscription,
    changes: watch::Receiver<u64>,
    offset: Offset,
    pending: VecDeque<Bytes>,
    sent_at: Instant,
    // The longest time that the client did not accept data since the stream was last up to date.
    stalled: Duration,
    over: bool,
}

/// The events of a build for one watcher. They begin after `cursor` if the watcher is reconnecting. `run` is
/// the build's newest run.
pub(crate) fn events(
    hub: Arc<Hub>,
    seat: Seat,
    subscription: Subscription,
    cursor: Option<Cursor>,
    run: u32,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + use<> {
    // A cursor from a later run is from before Redis lost data, so the stream starts from the beginning.
    let start = cursor.filter(|cursor| (1..=run).contains(&cursor.run));
    let (run, entry) = start.map_or((run, EntryId::START), |cursor| (cursor.run, cursor.entry));
    let changes = seat.channel.changed.subscribe();
    let (first, offset) = seat.channel.ring().welcome(run, entry, &subscription.name());
    let retry = Bytes::from(format!("retry: {RETRY_MS}\n\n"));
    let watcher = Watcher {
        hub,
        seat,
        _subscription: subscription,
        changes,
        offset,
        pending: VecDeque::from([retry, first]),
        sent_at: Instant::now(),
        stalled: Duration::ZERO,
        over: false,
    };
    futures::stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        watcher.sent_at = Instant::now();
        Some((Ok(bytes), watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        self.stalled = self.stalled.max(self.sent_at.elapsed());
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if self.over {
                return None;
            }
            if self.hub.shutdown.is_cancelled() {
                return Some(
                    // A random delay, so that not all clients reach the remaining dispatchers at once.
                    self.closing_comment(
                        "dispatcher shutting down; reconnect with Last-Event-ID",
                        fastrand::u64(RETRY_STOP_MS),
                    ),
                );
            }
            self.changes.mark_unchanged();
            let step =
                self.seat.channel.ring().step(&mut self.offset, self.stalled, self.hub.bounds.slow_after);
            match step {
                Step::Send(bytes) => return Some(bytes),
                Step::Read { until, seq } => {
                    if let Some(comment) = self.read(until, seq).await {
                        return Some(comment);
                    }
                }
                Step::Wait => {
                    self.stalled = Duration::ZERO;
                    if let Some(comment) = self.wait(self.hub.bounds.keepalive).await {
                        return Some(comment);
                    }
                }
                Step::Done => return None,
                Step::TooSlow => {
                    self.hub.metrics.slow_readers.inc();
                    return Some(
                        self.closing_comment(
                            "client reads too slowly; reconnect with Last-Event-ID",
                            RETRY_MS,
                        ),
                    );
                }
            }
        }
    }

    fn closing_comment(&mut self, why: &str, retry_ms: u64) -> Bytes {
        self.over = true;
        Bytes::from(format!(": {why}\nretry: {retry_ms}\n\n"))
    }

    /// Waits for news; returns a keepalive comment if there was none for `limit`.
    async fn wait(&mut self, limit: Duration) -> Option<Bytes> {
        tokio::select! {
            changed = self.changes.changed() => {
                // The channel exists for as long as this stream has its seat.
                self.over |= changed.is_err();
                None
            }
            () = self.hub.shutdown.cancelled() => None,
            () = tokio::time::sleep(limit) => Some(Bytes::from_static(b": still here\n\n")),
        }
    }

    /// Reads the log itself; returns a keepalive comment if Redis does not answer.
    async fn read(&mut self, until: Option<EntryId>, seq: u64) -> Option<Bytes> {
        let Offset { run, entry, .. } = self.offset;
        let page = self.hub.read(&self.seat.channel, (run, entry), until, seq).await;
        let Ok(page) = page else {
            tokio::select! {
                () = tokio::time::sleep(jitter(READ_AGAIN)) => {}
                () = self.hub.shutdown.cancelled() => {}
            }
            return Some(Bytes::from_static(b": Redis does not answer, waiting\n\n"));
        };
        let read = page.entries;
        for piece in &page.pieces {
            self.offset.entry = piece.to;
            self.pending.push_back(piece.bytes.clone());
        }
        match until {
            // Everything up to `until` was read, or is no longer kept.
            Some(until) if self.offset.entry == entry || read < READ_ENTRIES => self.offset.entry = until,
            None if read < READ_ENTRIES => {
                let next = run + 1;
                (self.offset.run, self.offset.entry) = (next, EntryId::START);
                let is_news = read > 0 || entry != EntryId::START;
                self.pending.push_back(frame::new_run(next, seq, is_news));
            }
            _ => {}
        }
        None
    }
}
