//! Writes the log of a run.

use std::collections::VecDeque;

use super::{LogEntry, LogLine, NOTHING, cut, entry_order};
use crate::error::Result;
use crate::id::Token;
use crate::library::{APPEND, FENCE, Operation};
use crate::limits;
use crate::queue::Queue;
use crate::queue::script::Args;

/// The result of appending lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// They are stored; the id of the last entry.
    Done(String),
    /// Redis was emptied, and this writer does not remember all lines; these were not stored.
    Emptied,
    /// Redis failed over and lost more lines than this writer remembers; these were not stored.
    SetBack,
    /// A newer holder writes this log: stop.
    Stale,
}

/// How many bytes of earlier pieces a writer remembers. A replica is usually less than a second behind, but what is
/// written to a former master until it is left is lost too: two seconds at a thousand lines a second.
const WRITTEN_BYTES_MAX: usize = 256 * 1024;

enum Step {
    Done(String),
    Behind(String),
    Stale,
}

impl Queue {
    async fn append_step(
        &self,
        how: &'static Operation,
        token: &Token,
        run: u32,
        expected: &str,
        lines: &[LogLine],
        again: Option<&str>,
    ) -> Result<Step> {
        let id = token.build;
        let keys = self.keys().whole_log(id, run);
        let (head, tail) = self.log_bounds();
        let mut args = Args::new()
            .show("epoch", token.epoch)
            .text("last", expected)
            .maybe("again", again)
            .show("head", head)
            .show("tail", tail)
            .show("keep", limits::KEEP.as_secs())
            .text("channel", self.keys().log_channel(id));
        for line in lines {
            args = args.text("t", &line.t).text("text", cut(&line.text));
        }
        let mut reply = self.call_log(how, &keys, &args).await?;
        match reply.tag.as_str() {
            "appended" => Ok(Step::Done(reply.get("last")?)),
            "behind" => Ok(Step::Behind(reply.get("last")?)),
            "stale" => Ok(Step::Stale),
            _ => Err(reply.unknown()),
        }
    }
}

/// Writes one run's log under one lease.
#[derive(Debug)]
pub struct LogWriter {
    queue: Queue,
    token: Token,
    run: u32,
    last: String,
    /// What was written last: a failover may lose it.
    written: VecDeque<Piece>,
    /// Whether the end of it was lost and is being written again.
    has_lost: bool,
    written_bytes: usize,
}

/// Lines that were stored by one call.
#[derive(Debug)]
struct Piece {
    /// The last entry before it.
    after: String,
    /// Its last entry.
    end: String,
    lines: Vec<LogLine>,
}

impl LogWriter {
    /// A writer that continues after the stored lines. `last` comes from [`Queue::log_end`]; for a new run it
    /// is `0-0`.
    pub fn new(queue: Queue, token: Token, run: u32, last: String) -> Self {
        Self { queue, token, run, last, written: VecDeque::new(), has_lost: false, written_bytes: 0 }
    }

    /// A writer that takes over a log, and the log's last lines, oldest first (at most [`limits::LOG_PAGE`]).
    /// When this returns, older holders can no longer append. `None` if a newer holder has already taken it
    /// over.
    pub async fn take_over(queue: Queue, token: Token, run: u32) -> Result<Option<(Self, Vec<LogEntry>)>> {
        loop {
            let (last, stored) = queue.log_end(token.build, run, limits::LOG_PAGE).await?;
            match queue.append_step(&FENCE, &token, run, &last, &[], None).await? {
                Step::Done(_) => return Ok(Some((Self::new(queue, token, run, last), stored))),
                Step::Behind(_) => {}
                Step::Stale => return Ok(None),
            }
        }
    }

    /// The id of the last entry that this writer knows of.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Appends lines in order, each exactly once, even if an earlier call was applied but its answer lost.
    pub async fn append(&mut self, lines: &[LogLine]) -> Result<Appended> {
        self.write(&APPEND, lines).await
    }

    /// Appends one last line, even if Redis is out of memory.
    pub async fn append_note(&mut self, note: &LogLine) -> Result<Appended> {
        self.write(&FENCE, std::slice::from_ref(note)).await
    }

    async fn write(&mut self, how: &'static Operation, mut lines: &[LogLine]) -> Result<Appended> {
        while !lines.is_empty() {
            if let Some(gone) = self.restore(how).await? {
                return Ok(gone);
            }
            let batch = &lines[..lines.len().min(limits::APPEND_LINES)];
            match self.queue.append_step(how, &self.token, self.run, &self.last, batch, None).await? {
                Step::Done(last) => {
                    self.note(last, batch);
                    lines = &lines[batch.len()..];
                }
                Step::Behind(last) if entry_order(&last) < entry_order(&self.last) => {
                    if let Some(gone) = self.fall_back(last) {
                        return Ok(gone);
                    }
                }
                Step::Behind(last) => {
                    // An earlier call was applied but its answer was lost: it wrote our first lines.
                    let stored =
                        self.queue.read_log(self.token.build, self.run, &self.last, limits::LOG_PAGE).await?;
                    let same = stored
                        .entries
                        .iter()
                        .zip(lines)
                        .take_while(|(entry, line)| entry.t == line.t && entry.text == cut(&line.text))
                        .count();
                    self.note(last, &lines[..same]);
                    lines = &lines[same..];
                }
                Step::Stale => return Ok(Appended::Stale),
            }
        }
        Ok(Appended::Done(self.last.clone()))
    }

    /// Goes back to where the log ends in Redis. Returns what the caller has to be told if the lines after that cannot
    /// be restored.
    fn fall_back(&mut self, last: String) -> Option<Appended> {
        self.last = last;
        let (mut end, mut is_whole) = (&self.last, false);
        for piece in self.written.iter().skip_while(|piece| piece.after != self.last) {
            is_whole = piece.after == *end;
            if !is_whole {
                break;
            }
            end = &piece.end;
        }
        self.has_lost = is_whole;
        let gone = if self.last == NOTHING { Appended::Emptied } else { Appended::SetBack };
        (!is_whole).then_some(gone)
    }

    /// Restores the pieces that a failover lost under their old ids, so that nobody reads a line twice.
    async fn restore(&mut self, how: &'static Operation) -> Result<Option<Appended>> {
        while self.has_lost {
            let Some(piece) = self.written.iter().find(|piece| piece.after == self.last) else {
                self.has_lost = false;
                break;
            };
            let Piece { after, end, lines } = piece;
            match self.queue.append_step(how, &self.token, self.run, after, lines, Some(end)).await? {
                Step::Done(last) => self.last = last,
                // It was restored, and the answer was lost.
                Step::Behind(last) if last == *end => self.last = last,
                Step::Behind(last) => {
                    if let Some(gone) = self.fall_back(last) {
                        return Ok(Some(gone));
                    }
                }
                Step::Stale => return Ok(Some(Appended::Stale)),
            }
        }
        Ok(None)
    }

    /// The lines that were written and then lost, as far as still remembered: write them first after
    /// [`Appended::Emptied`] or [`Appended::SetBack`], unless another source has them.
    pub fn take_lost(&mut self) -> Vec<LogLine> {
        let last = entry_order(&self.last);
        let kept = self.written.partition_point(|piece| entry_order(&piece.end) <= last);
        let lost = self.written.split_off(kept);
        self.written_bytes = self.written.iter().map(|piece| bytes_of(&piece.lines)).sum();
        lost.into_iter().flat_map(|piece| piece.lines).collect()
    }

    fn note(&mut self, last: String, lines: &[LogLine]) {
        let after = std::mem::replace(&mut self.last, last.clone());
        if lines.is_empty() {
            return;
        }
        self.written.push_back(Piece { after, end: last, lines: lines.to_vec() });
        self.written_bytes += bytes_of(lines);
        while self.written_bytes > WRITTEN_BYTES_MAX && self.written.len() > 1 {
            let oldest = self.written.pop_front();
            self.written_bytes -= oldest.map_or(0, |piece| bytes_of(&piece.lines));
        }
    }
}

fn bytes_of(lines: &[LogLine]) -> usize {
    lines.iter().map(|line| line.t.len() + line.text.len() + size_of::<LogLine>()).sum()
}
