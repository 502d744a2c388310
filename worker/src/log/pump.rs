//! Writes a run's lines into its log: in batches, across outages of Redis, and with a bounded buffer.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::log::{Appended, LogLine, LogWriter};
use fairlane_common::{Error, Queue, Token};
use prometheus_client::metrics::histogram::Histogram;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::buffer::Buffer;
pub(crate) use super::buffer::is_gap;
use crate::time::backoff::Backoff;

/// Shortest time between two writes of one log.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long the last lines may take while Redis answers.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of writing a log.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// The id of its last entry.
    pub(crate) end: Option<String>,
    /// How many lines are missing.
    pub(crate) missing: u64,
}

/// Accepts a run's lines and writes them.
pub(crate) struct LogPump {
    buffer: Arc<Buffer>,
    task: JoinHandle<()>,
}

/// Marks the writer as ended when it is dropped, so that no build waits for a writer that is gone for any reason.
struct Over(Arc<Buffer>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.room.notify_waiters();
    }
}

impl LogPump {
    /// A pump into the log of that run, under that lease. `delays`: how long lines wait until they are stored.
    pub(crate) fn start(queue: Queue, token: Token, run: u32, delays: Histogram) -> Self {
        Self::spawn(delays, |buffer| pump(buffer, queue, token, run))
    }

    /// A pump into a log that was taken over, of a run whose lines can be had again: should the log
    /// be lost it writes no more (see [`Self::emptied`]).
    pub(crate) fn resume(writer: LogWriter, delays: Histogram) -> Self {
        Self::spawn(delays, |buffer| write_on(buffer, writer, true))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        delays: Histogram,
        task: impl FnOnce(Arc<Buffer>) -> F,
    ) -> Self {
        let buffer = Arc::new(Buffer::timed(delays));
        let (over, task) = (Over(Arc::clone(&buffer)), task(Arc::clone(&buffer)));
        let task = async move {
            let _over = over;
            task.await;
        };
        let task = tokio::spawn(task.in_current_span());
        Self { buffer, task }
    }

    /// Waits until written lines turn out to be lost, because Redis was emptied or failed over.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.buffer.emptied.notified();
            if self.buffer.state().emptied {
                return;
            }
            emptied.await;
        }
    }

    /// Whether another line would fit. A source that can wait should wait until then.
    pub(crate) fn has_room(&self) -> bool {
        self.buffer.state().look_for_room()
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.buffer.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Accepts a line; never waits. If there is no room, the line is dropped, and a note says how many were.
    pub(crate) fn push(&self, line: LogLine) {
        self.buffer.state().push(line);
        self.buffer.changed.notify_one();
    }

    /// The same for a log that another worker will continue: after a dropped line, no further line is accepted, so
    /// that the written part has no gap.
    pub(crate) fn push_whole(&self, line: LogLine) {
        self.buffer.state().push_whole(line);
        self.buffer.changed.notify_one();
    }

    /// Adds a note that the log's end may not have been read, if there was no room for too long.
    pub(crate) fn note_unread(&self) {
        self.buffer.state().note_unread();
        self.buffer.changed.notify_one();
    }

    /// Writes the remaining lines. Gives up after 10 s, not counting time in which Redis is away: without Redis,
    /// the end of the build cannot be reported either. `more_comes`: another worker continues the log, including
    /// lines that did not fit here.
    pub(crate) async fn flush(mut self, more_comes: bool) -> Flushed {
        self.buffer.state().close(more_comes);
        self.buffer.changed.notify_one();
        loop {
            match tokio::time::timeout(FLUSH_TIMEOUT, &mut self.task).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the task that writes the log failed");
                    break;
                }
                Err(_) if self.buffer.state().away => {}
                Err(_) => {
                    tracing::warn!("the end of a log could not be written in time");
                    break;
                }
            }
        }
        let mut state = self.buffer.state();
        Flushed { end: state.end.take(), missing: state.missing }
    }
}

impl Drop for LogPump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(buffer: Arc<Buffer>, queue: Queue, token: Token, run: u32) {
    let mut backoff = Backoff::new();
    // A run that was lost with its worker may have left lines with the same run number.
    let last = loop {
        match queue.log_end(token.build, run, 1).await {
            Ok((last, _)) => break last,
            Err(error) if error.is_transient() => retry(&buffer, &mut backoff, &error).await,
            Err(error) => {
                tracing::error!(%error, "the end of the log cannot be read");
                break "0-0".to_owned();
            }
        }
    };
    write_on(buffer, LogWriter::new(queue, token, run, last), false).await;
}

/// Writes lines as they come. `again`: whether the lines can be read again from their source.
async fn write_on(buffer: Arc<Buffer>, mut writer: LogWriter, again: bool) {
    let mut backoff = Backoff::new();
    while let Some(mut batch) = buffer.take().await {
        let began = Instant::now();
        // Repeats the same lines until they are stored: the writer then notices if a call with a lost answer had
        // stored them.
        loop {
            match writer.append(&batch).await {
                Ok(Appended::Done(end)) => {
                    buffer.stored();
                    let mut state = buffer.state();
                    state.end = Some(end);
                    if state.accept() {
                        tracing::info!(lines_left_out = state.missing, "Redis accepts the log again");
                    }
                    break;
                }
                Ok(Appended::Stale) => return,
                Ok(gone @ (Appended::Emptied | Appended::SetBack)) => {
                    let mut state = buffer.state();
                    // After a run has ended, nobody reads its lines again, so the existing log is continued.
                    if again && (gone == Appended::Emptied || !state.is_closed()) {
                        state.emptied = true;
                        drop(state);
                        buffer.emptied.notify_waiters();
                        return;
                    }
                    drop(state);
                    // Only the writer still has these lines.
                    batch.splice(..0, writer.take_lost());
                }
                Err(error) => {
                    retry(&buffer, &mut backoff, &error).await;
                    if buffer.state().gives_up() {
                        return say_missing(&buffer, writer, &batch).await;
                    }
                }
            }
        }
        backoff.reset();
        buffer.gather(began + INTERVAL).await;
    }
}

/// Waits before the next attempt. If Redis answers but refuses lines, builds do not wait for that.
async fn retry(buffer: &Buffer, backoff: &mut Backoff, error: &Error) {
    let why = match error {
        Error::Unavailable(_) => None,
        Error::OutOfMemory(_) => Some("Redis had no memory for the log"),
        _ => Some("Redis refused the log"),
    };
    let is_news = {
        let mut state = buffer.state();
        state.away = why.is_none();
        why.is_some_and(|why| state.refuse(why))
    };
    if is_news {
        tracing::warn!(%error, "Redis rejects the log of a build; the build continues, lines are dropped");
        buffer.room.notify_waiters();
    } else {
        tracing::debug!(%error, "a log waits for Redis");
    }
    backoff.pause().await;
}

/// The run has ended and Redis still refuses its lines: ends the log with a note that says how many are missing.
async fn say_missing(buffer: &Buffer, mut writer: LogWriter, batch: &[LogLine]) {
    let note = {
        let mut state = buffer.state();
        if state.more_comes {
            return;
        }
        state.give_up(batch)
    };
    match writer.append_note(&note).await {
        Ok(Appended::Done(end)) => buffer.state().end = Some(end),
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, note = note.text, "could not note in the log that its end is missing");
        }
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
