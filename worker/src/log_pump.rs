//! The way of a run's lines into its log: in batches, through Redis's absences, within a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_common::log::{Appended, LogLine, LogWriter};
use fairlane_common::{Queue, Token, limits};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Shortest time between two writes of one log.
const INTERVAL: Duration = Duration::from_millis(200);
/// Text of one write.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Text that waits for Redis, per build. A build rarely writes more in a minute.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lines that wait: empty ones cost memory too.
const BUFFER_LINES_MAX: usize = 50_000;
/// How long a run's end may wait for the rest of its log, where that is read from elsewhere: lines
/// that nobody took for so long are not read any more.
const UNREAD_AFTER: Duration = Duration::from_secs(15);
/// How long the last lines may take while Redis answers.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes a run's lines and writes them.
pub(crate) struct LogPump {
    buffer: Arc<Buffer>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Buffer {
    state: Mutex<State>,
    changed: Notify,
    emptied: Notify,
    room: Notify,
}

#[derive(Default)]
struct State {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Lines that found no room since the last one that did.
    dropped: u64,
    /// No line comes any more.
    closed: bool,
    /// The last try found no Redis.
    away: bool,
    /// When there was last no room while Redis was away.
    full_at: Option<Instant>,
    /// The last entry that was written.
    end: Option<String>,
    /// What was written before is gone, or the end of it.
    emptied: bool,
    /// Nobody writes any more.
    over: bool,
}

/// Whoever writes. A build does not wait for one that is gone, whatever ended it.
struct Over(Arc<Buffer>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.room.notify_waiters();
    }
}

impl LogPump {
    /// A pump into the log of that run, under that lease.
    pub(crate) fn start(queue: Queue, token: Token, run: u32) -> Self {
        Self::spawn(|buffer| pump(buffer, queue, token, run))
    }

    /// A pump into a log that was taken over, of a run whose lines can be had again: should the log
    /// be lost it writes no more (see [`Self::emptied`]).
    pub(crate) fn resume(writer: LogWriter) -> Self {
        Self::spawn(|buffer| write_on(buffer, writer, true))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(task: impl FnOnce(Arc<Buffer>) -> F) -> Self {
        let buffer = Arc::new(Buffer::default());
        let (over, task) = (Over(Arc::clone(&buffer)), task(Arc::clone(&buffer)));
        let task = tokio::spawn(async move {
            let _over = over;
            task.await;
        });
        Self { buffer, task }
    }

    /// Waits until what was written is found to be gone, or the end of it, for Redis was emptied or
    /// failed over.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.buffer.emptied.notified();
            if self.buffer.state().emptied {
                return;
            }
            emptied.await;
        }
    }

    /// Whether another line would be kept. Who can wait with its next line does so until then.
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

    /// Takes a line; never waits. Without room it is dropped, and a note tells how many were.
    pub(crate) fn push(&self, line: LogLine) {
        self.buffer.state().push(line);
        self.buffer.changed.notify_one();
    }

    /// The same for a log that somebody else goes on with: none is taken after one that was dropped,
    /// so that what is written has no gap.
    pub(crate) fn push_whole(&self, line: LogLine) {
        let mut state = self.buffer.state();
        if state.dropped > 0 {
            state.dropped += 1;
            return;
        }
        state.push(line);
        drop(state);
        self.buffer.changed.notify_one();
    }

    /// Notes that the log's end may not have been read, where it had to wait for too long.
    pub(crate) fn note_unread(&self) {
        self.buffer.state().note_unread();
        self.buffer.changed.notify_one();
    }

    /// Writes what is left: the id of the log's last entry. Gives up after 10 s, those not counted
    /// in which Redis is away: without Redis the end of the build cannot be told either.
    /// `more_comes`: somebody else writes on, those lines too that found no room here.
    pub(crate) async fn flush(mut self, more_comes: bool) -> Option<String> {
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
        self.buffer.state().end.take()
    }
}

impl Drop for LogPump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Buffer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next lines; `None` when all are written.
    async fn take(&self) -> Option<Vec<LogLine>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if !state.lines.is_empty() {
                    let batch = state.batch();
                    drop(state);
                    self.room.notify_waiters();
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Waits until `end`, or until a whole batch is there, or the last line is.
    async fn gather(&self, end: Instant) {
        let enough = async {
            loop {
                let changed = self.changed.notified();
                {
                    let state = self.state();
                    if state.closed
                        || state.lines.len() >= limits::APPEND_LINES
                        || state.bytes >= BATCH_BYTES_MAX
                    {
                        return;
                    }
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout_at(end, enough).await;
    }
}

impl State {
    /// Whether any line would be kept.
    fn look_for_room(&mut self) -> bool {
        if self.over {
            return true;
        }
        let room =
            self.bytes + limits::LINE_BYTES_MAX <= BUFFER_BYTES_MAX && self.lines.len() < BUFFER_LINES_MAX;
        if !room && self.away {
            self.full_at = Some(Instant::now());
        }
        room
    }

    fn push(&mut self, line: LogLine) {
        if self.over {
            return;
        }
        let full = self.bytes + line.text.len() > BUFFER_BYTES_MAX || self.lines.len() >= BUFFER_LINES_MAX;
        if full {
            self.dropped += 1;
            return;
        }
        self.note_dropped(&line.t);
        self.bytes += line.text.len();
        self.lines.push_back(line);
    }

    fn note_unread(&mut self) {
        if self.full_at.is_some_and(|at| at.elapsed() < UNREAD_AFTER) {
            let text =
                "[fairlane] the end of the log may be missing: Redis took no lines when the build ended";
            self.note("", text.to_owned());
        }
    }

    fn close(&mut self, more_comes: bool) {
        if more_comes {
            self.dropped = 0;
        }
        self.note_dropped("");
        self.closed = true;
    }

    fn note_dropped(&mut self, t: &str) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.note(t, format!("[fairlane] {dropped} lines were dropped while Redis did not take them"));
        }
    }

    fn note(&mut self, t: &str, text: String) {
        self.bytes += text.len();
        self.lines.push_back(LogLine { t: t.to_owned(), text });
    }

    fn batch(&mut self) -> Vec<LogLine> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < limits::APPEND_LINES && bytes < BATCH_BYTES_MAX {
            let Some(line) = self.lines.pop_front() else { break };
            bytes += line.text.len();
            batch.push(line);
        }
        self.bytes -= bytes;
        batch
    }
}

async fn pump(buffer: Arc<Buffer>, queue: Queue, token: Token, run: u32) {
    let mut backoff = Backoff::new();
    // A run that was lost with its worker may have left lines under the same number.
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

/// Writes what comes. `again`: the lines can be had again.
async fn write_on(buffer: Arc<Buffer>, mut writer: LogWriter, again: bool) {
    let mut backoff = Backoff::new();
    while let Some(mut batch) = buffer.take().await {
        let began = Instant::now();
        // The same lines until they are in: the writer can tell then whether a lost answer meant so.
        loop {
            match writer.append(&batch).await {
                Ok(Appended::Done(end)) => {
                    let mut state = buffer.state();
                    state.end = Some(end);
                    state.away = false;
                    break;
                }
                Ok(Appended::Stale) => return,
                Ok(gone @ (Appended::Emptied | Appended::SetBack)) => {
                    let mut state = buffer.state();
                    // Of a run that has ended nobody takes up the rest: what is still there goes on.
                    if again && (gone == Appended::Emptied || !state.closed) {
                        state.emptied = true;
                        drop(state);
                        buffer.emptied.notify_waiters();
                        return;
                    }
                    drop(state);
                    // Nobody else has them.
                    batch.splice(..0, writer.take_lost());
                }
                Err(error) if error.is_transient() => retry(&buffer, &mut backoff, &error).await,
                Err(error) => {
                    tracing::error!(%error, lines = batch.len(), "lines of a log are refused and dropped");
                    break;
                }
            }
        }
        backoff.reset();
        buffer.gather(began + INTERVAL).await;
    }
}

async fn retry(buffer: &Buffer, backoff: &mut Backoff, error: &fairlane_common::Error) {
    tracing::debug!(%error, "a log waits for Redis");
    buffer.state().away = error.is_transient();
    backoff.pause().await;
}

#[cfg(test)]
#[path = "log_pump_tests.rs"]
mod tests;
