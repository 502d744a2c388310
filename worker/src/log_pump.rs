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
    /// The last entry that was written.
    end: Option<String>,
    /// What was written before is gone, or the end of it.
    emptied: bool,
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
        let task = tokio::spawn(task(Arc::clone(&buffer)));
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

    /// Takes a line; never waits. Without room it is dropped, and a note tells how many were.
    pub(crate) fn push(&self, line: LogLine) {
        self.buffer.state().push(line);
        self.buffer.changed.notify_one();
    }

    /// Writes what is left: the id of the log's last entry. Gives up after 10 s, those not counted
    /// in which Redis is away: without Redis the end of the build cannot be told either.
    pub(crate) async fn flush(mut self) -> Option<String> {
        self.buffer.state().close();
        self.buffer.changed.notify_one();
        loop {
            match tokio::time::timeout(FLUSH_TIMEOUT, &mut self.task).await {
                Ok(_) => break,
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
                    return Some(state.batch());
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
    fn push(&mut self, line: LogLine) {
        let full = self.bytes + line.text.len() > BUFFER_BYTES_MAX || self.lines.len() >= BUFFER_LINES_MAX;
        if full {
            self.dropped += 1;
            return;
        }
        self.note_dropped(&line.t);
        self.bytes += line.text.len();
        self.lines.push_back(line);
    }

    fn close(&mut self) {
        self.note_dropped("");
        self.closed = true;
    }

    fn note_dropped(&mut self, t: &str) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let text = format!("[fairlane] {dropped} lines were dropped while Redis did not take them");
            self.bytes += text.len();
            self.lines.push_back(LogLine { t: t.to_owned(), text });
        }
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
            Err(error) => retry(&buffer, &mut backoff, &error).await,
        }
    };
    write_on(buffer, LogWriter::new(queue, token, run, last), false).await;
}

/// Writes what comes. `again`: the lines can be had again.
async fn write_on(buffer: Arc<Buffer>, mut writer: LogWriter, again: bool) {
    let mut backoff = Backoff::new();
    while let Some(batch) = buffer.take().await {
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
mod tests {
    use super::*;

    fn line(bytes: usize) -> LogLine {
        LogLine { t: "t".to_owned(), text: "x".repeat(bytes) }
    }

    #[test]
    fn what_waits_is_bounded_and_the_gap_is_told() {
        let mut state = State::default();
        for _ in 0..10_000 {
            state.push(line(1024));
        }
        assert!(state.bytes <= BUFFER_BYTES_MAX);
        let kept = state.lines.len();
        while !state.batch().is_empty() {}
        assert_eq!(state.bytes, 0);
        state.push(line(1));
        assert_eq!(state.lines.len(), 2);
        let note = format!("[fairlane] {} lines were dropped", 10_000 - kept);
        assert!(state.lines[0].text.starts_with(&note), "{}", state.lines[0].text);
        assert_eq!(state.lines[1], line(1));
    }

    #[test]
    fn empty_lines_are_bounded_too() {
        let mut state = State::default();
        for _ in 0..BUFFER_LINES_MAX + 7 {
            state.push(line(0));
        }
        assert_eq!(state.lines.len(), BUFFER_LINES_MAX);
        state.close();
        assert!(state.lines.back().unwrap().text.contains("7 lines were dropped"));
    }
}
