//! Buffers the lines of a run on their way into its log. The buffer is bounded; notes in the log replace the lines
//! that do not fit.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_common::limits;
use fairlane_common::log::LogLine;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most text in one write.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Most text that waits for Redis, per build. Builds rarely write more in a minute.
pub(super) const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same if Redis answers but refuses the lines: the log would not keep more than its tail anyway.
pub(super) const REFUSED_BYTES_MAX: usize = limits::LOG_TAIL_BYTES;
/// Most lines that wait: empty lines also need memory.
pub(super) const BUFFER_LINES_MAX: usize = 50_000;
/// How long the end of a run waits for the rest of a log that is read from elsewhere: lines for which there was no
/// room for this long are no longer read.
const UNREAD_AFTER: Duration = Duration::from_secs(15);
/// How long to keep trying after the run has ended if Redis refuses its lines.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) emptied: Notify,
    pub(super) room: Notify,
    /// How long lines wait until they are stored.
    delays: Option<Histogram>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) lines: VecDeque<LogLine>,
    pub(super) bytes: usize,
    /// Lines that did not fit since the last one that did; their place is after `lines`.
    pub(super) dropped: Gap,
    /// Lines that made room for newer ones; their place is before `lines`.
    left_out: Gap,
    /// Those of them that the latest batch mentions.
    told: Gap,
    /// Why lines were left out.
    why: &'static str,
    /// Number of lines that are missing in the log.
    pub(super) missing: u64,
    /// Since when no more lines come.
    closed: Option<Instant>,
    /// Whether another worker continues the log.
    pub(super) more_comes: bool,
    /// Whether Redis was away at the last attempt.
    pub(super) away: bool,
    /// Why Redis refuses lines, if it answers; then nobody waits for it.
    refused: Option<&'static str>,
    /// When the buffer was last full while Redis was away.
    full_at: Option<Instant>,
    /// The last entry that was written.
    pub(super) end: Option<String>,
    /// Whether lines that were written are gone, at least the last ones.
    pub(super) emptied: bool,
    /// Whether the writer has ended.
    pub(super) over: bool,
    /// When the first of `lines` came, or, after a batch, when that was taken.
    since: Option<Instant>,
    /// The same of the latest batch.
    batch_since: Option<Instant>,
}

/// Lines that are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) lines: u64,
    bytes: usize,
}

impl Gap {
    fn add(&mut self, line: &LogLine) {
        self.lines += 1;
        self.bytes += line.text.len();
    }

    fn and(self, other: Self) -> Self {
        Self { lines: self.lines + other.lines, bytes: self.bytes + other.bytes }
    }

    /// The note that replaces them in the log. It has no time, so that no line of a source is compared with it.
    pub(super) fn note(self, why: &str) -> LogLine {
        let lines = match self.lines {
            1 => "1 line".to_owned(),
            count => format!("{} lines", grouped(count)),
        };
        #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
        let size = match self.bytes {
            0..1024 => format!("{} B", self.bytes),
            1024..1_048_576 => format!("{} KB", self.bytes / 1024),
            bytes => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        };
        LogLine { t: String::new(), text: format!("[fairlane] {lines} ({size}) {LEFT_OUT}: {why}") }
    }
}

/// 1,234,567
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The words by which a gap is recognized.
const LEFT_OUT: &str = "were left out here";

/// Whether a stored line stands for lines that were left out.
pub(crate) fn is_gap(text: &str) -> bool {
    text.starts_with("[fairlane] ") && text.contains(LEFT_OUT)
}

pub(super) const AWAY: &str = "Redis could not be reached, and too many lines were waiting";

impl Buffer {
    /// One that counts how long its lines wait.
    pub(super) fn timed(delays: Histogram) -> Self {
        Self { delays: Some(delays), ..Self::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest batch is stored.
    pub(super) fn stored(&self) {
        let since = self.state().batch_since.take();
        if let (Some(delays), Some(since)) = (&self.delays, since) {
            delays.observe(since.elapsed().as_secs_f64());
        }
    }

    /// The next lines; `None` when all are written.
    pub(super) async fn take(&self) -> Option<Vec<LogLine>> {
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
                if state.closed.is_some() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Waits until `end`, until a whole batch has arrived, or until the log is complete.
    pub(super) async fn gather(&self, end: Instant) {
        let enough = async {
            loop {
                let changed = self.changed.notified();
                {
                    let state = self.state();
                    if state.closed.is_some()
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
    /// Whether another line would fit, or there is no point in waiting for room.
    pub(super) fn look_for_room(&mut self) -> bool {
        if self.over || self.refused.is_some() {
            return true;
        }
        let room =
            self.bytes + limits::LINE_BYTES_MAX <= BUFFER_BYTES_MAX && self.lines.len() < BUFFER_LINES_MAX;
        if !room && self.away {
            self.full_at = Some(Instant::now());
        }
        room
    }

    pub(super) fn push(&mut self, line: LogLine) {
        if self.over {
            return;
        }
        if self.refused.is_none() && self.is_full(&line) {
            self.dropped.add(&line);
            return;
        }
        self.note_dropped();
        self.since.get_or_insert_with(Instant::now);
        self.bytes += line.text.len();
        self.lines.push_back(line);
        self.make_room();
    }

    /// The same if the log must have no gap: after a dropped line, no further line is accepted.
    pub(super) fn push_whole(&mut self, line: LogLine) {
        if self.dropped.lines > 0 || self.is_full(&line) {
            self.dropped.add(&line);
        } else {
            self.push(line);
        }
    }

    fn is_full(&self, line: &LogLine) -> bool {
        let most = if self.refused.is_some() { REFUSED_BYTES_MAX } else { BUFFER_BYTES_MAX };
        self.bytes + line.text.len() > most || self.lines.len() >= BUFFER_LINES_MAX
    }

    /// While Redis refuses lines, the oldest make room for the newest.
    fn make_room(&mut self) {
        while self.refused.is_some()
            && (self.bytes > REFUSED_BYTES_MAX || self.lines.len() > BUFFER_LINES_MAX)
        {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.text.len();
            self.left_out.add(&oldest);
            self.missing += 1;
        }
    }

    /// Redis answers but refuses lines. Returns whether that is new.
    pub(super) fn refuse(&mut self, why: &'static str) -> bool {
        let news = self.refused.replace(why).is_none();
        self.why = why;
        self.make_room();
        news
    }

    /// Redis has accepted the latest batch. Returns whether it refused lines before.
    pub(super) fn accept(&mut self) -> bool {
        self.away = false;
        self.told = Gap::default();
        self.refused.take().is_some()
    }

    /// Whether an ended run has waited long enough for a Redis that refuses its lines.
    pub(super) fn gives_up(&self) -> bool {
        self.refused.is_some() && self.closed.is_some_and(|at| at.elapsed() >= REFUSED_PATIENCE)
    }

    /// Discards everything that was not written, including `batch`. Returns the line that says how much it was.
    pub(super) fn give_up(&mut self, batch: &[LogLine]) -> LogLine {
        let mut unwritten = Gap::default();
        // The first line of a batch may be a note about others.
        let lines = &batch[usize::from(self.told.lines > 0).min(batch.len())..];
        lines.iter().chain(&self.lines).for_each(|line| unwritten.add(line));
        self.missing += unwritten.lines;
        self.lines.clear();
        self.bytes = 0;
        let gap = std::mem::take(&mut self.told).and(std::mem::take(&mut self.left_out)).and(unwritten);
        gap.note(self.why)
    }

    pub(super) fn note_unread(&mut self) {
        if self.full_at.is_some_and(|at| at.elapsed() < UNREAD_AFTER) {
            let text =
                "[fairlane] the end of the log may be missing: Redis accepted no lines when the build ended";
            self.note(LogLine { t: String::new(), text: text.to_owned() });
        }
    }

    /// No more lines come. `more_comes`: another worker will write the lines that did not fit.
    pub(super) fn close(&mut self, more_comes: bool) {
        self.more_comes = more_comes;
        if more_comes {
            self.dropped = Gap::default();
        }
        self.note_dropped();
        self.closed = Some(Instant::now());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    fn note_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped.lines > 0 {
            self.missing += dropped.lines;
            self.note(dropped.note(self.refused.unwrap_or(AWAY)));
        }
    }

    fn note(&mut self, note: LogLine) {
        self.bytes += note.text.len();
        self.lines.push_back(note);
    }

    pub(super) fn batch(&mut self) -> Vec<LogLine> {
        let mut batch = Vec::new();
        self.told = std::mem::take(&mut self.left_out);
        if self.told.lines > 0 {
            batch.push(self.told.note(self.why));
        }
        let mut bytes = 0;
        while batch.len() < limits::APPEND_LINES && bytes < BATCH_BYTES_MAX {
            let Some(line) = self.lines.pop_front() else { break };
            bytes += line.text.len();
            batch.push(line);
        }
        self.bytes -= bytes;
        self.batch_since = self.since.take();
        self.since = (!self.lines.is_empty()).then(Instant::now);
        batch
    }
}
