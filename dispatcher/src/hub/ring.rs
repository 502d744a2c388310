//! What the streams of one build share: the latest frames, up to a limit in bytes, and how far the log has
//! been read.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Bytes;

use super::cursor::{Cursor, EntryId};
use super::frame::{self, Piece};

/// Most frames kept, whatever their size, because finding a stream's offset means searching the ring.
const FRAMES_MAX: usize = 1024;

#[derive(Debug)]
enum Kind {
    State { number: u64 },
    Log { run: u32, from: EntryId, to: EntryId },
    Run { run: u32 },
    Other,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    bytes: Bytes,
}

/// The shared frames of one build.
#[derive(Debug)]
pub(crate) struct Ring {
    frames: VecDeque<Frame>,
    /// The number of the first frame that is kept.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    run: u32,
    /// The last log entry in any frame, or the last one before the first frame.
    end: EntryId,
    seq: u64,
    state: String,
    state_number: u64,
    /// The number of the first frame of the ending, once there is one.
    closing: Option<u64>,
}

/// A stream's position.
#[derive(Debug, Clone)]
pub(crate) struct Offset {
    pub(crate) run: u32,
    pub(crate) entry: EntryId,
    state_number: u64,
    /// The frame to send next; `None` while the stream reads the log by itself.
    next: Option<u64>,
}

impl Offset {
    /// An offset after an entry of a run, with the number of the last state that was sent.
    pub(crate) fn new(run: u32, entry: EntryId, state_number: u64) -> Self {
        Self { run, entry, state_number, next: None }
    }
}

/// What a stream must do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this.
    Send(Bytes),
    /// Read the log of this run after the stream's offset, up to `until`. If `until` is `None`, read to the
    /// end of that log and continue with the next run.
    Read { until: Option<EntryId>, seq: u64 },
    /// Wait for news.
    Wait,
    /// Everything was sent.
    Done,
    /// The stream has not read its data for too long.
    TooSlow,
}

impl Ring {
    /// A ring for a log that was already read up to `end`. `state` is the first event for newcomers.
    pub(crate) fn new(run: u32, end: EntryId, seq: u64, state: String, bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            first: 0,
            bytes: 0,
            bytes_max,
            run,
            end,
            seq,
            state,
            state_number: 1,
            closing: None,
        }
    }

    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    pub(crate) fn end(&self) -> EntryId {
        self.end
    }

    /// The first event for a stream that starts after an entry of a run, and that stream's offset.
    pub(crate) fn welcome(&self, run: u32, entry: EntryId, subscriber: &str) -> (Bytes, Offset) {
        // The state is a JSON object with many fields; the subscriber's name is put in front of them.
        let fields = self.state.strip_prefix('{').unwrap_or_default();
        let state = format!("{{\"subscriber\":{},{fields}", frame::json(&subscriber));
        let cursor = Cursor { run, entry, seq: self.seq };
        (frame::event(cursor, "state", &state), Offset::new(run, entry, self.state_number))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether the newest state is from change `seq` of the build.
    pub(crate) fn is_state(&self, seq: u64) -> bool {
        self.seq == seq
    }

    fn cursor(&self) -> Cursor {
        Cursor { run: self.run, entry: self.end, seq: self.seq }
    }

    fn push(&mut self, kind: Kind, bytes: Bytes) {
        self.bytes += bytes.len();
        self.frames.push_back(Frame { kind, bytes });
        // The ending must stay, for streams that join later.
        while self.closing.is_none()
            && self.frames.len() > 1
            && (self.bytes > self.bytes_max || self.frames.len() > FRAMES_MAX)
        {
            if let Some(gone) = self.frames.pop_front() {
                self.bytes -= gone.bytes.len();
                self.first += 1;
            }
        }
    }

    /// Adds the build's new state.
    pub(crate) fn push_state(&mut self, seq: u64, state: String) {
        self.seq = seq;
        self.state = state;
        self.state_number += 1;
        let bytes = frame::event(self.cursor(), "state", &self.state);
        self.push(Kind::State { number: self.state_number }, bytes);
    }

    /// Adds new log lines.
    pub(crate) fn push_log(&mut self, piece: Piece) {
        let Piece { from, to, bytes } = piece;
        self.end = to;
        let kind = if from == to { Kind::Other } else { Kind::Log { run: self.run, from, to } };
        self.push(kind, bytes);
    }

    /// Begins another run. This is only announced if the previous run left a log.
    pub(crate) fn push_run(&mut self, run: u32) {
        let is_news = std::mem::replace(&mut self.end, EntryId::START) != EntryId::START;
        self.run = run;
        self.push(Kind::Run { run }, frame::new_run(run, self.seq, is_news));
    }

    /// Adds a notice for people.
    pub(crate) fn push_notice(&mut self, kind: &str, text: String) {
        let bytes = frame::notice(self.cursor(), kind, text, None);
        self.push(Kind::Other, bytes);
    }

    /// Adds a notice, if there is one, and the final event. Nothing may follow.
    pub(crate) fn close(&mut self, notice: Option<(&str, String)>, name: &str, data: &str) {
        self.closing = Some(self.first + self.frames.len() as u64);
        if let Some((kind, text)) = notice {
            self.push_notice(kind, text);
        }
        let bytes = frame::event(self.cursor(), name, data);
        self.push(Kind::Other, bytes);
    }

    /// The next step for the stream at `offset`, whose client has read nothing for `stalled`. A stream that
    /// has stalled and fallen behind is disconnected. One that is only behind, such as a new one, reads the
    /// log by itself.
    pub(crate) fn step(&self, offset: &mut Offset, stalled: Duration, slow_after: Duration) -> Step {
        if let Some(next) = offset.next {
            if next >= self.first {
                return self.follow(offset, next);
            }
            // A burst has overtaken this stream, so it reads by itself what it missed.
            offset.next = None;
        }
        match self.align(offset) {
            Step::Read { .. } if stalled > slow_after => Step::TooSlow,
            step => step,
        }
    }

    /// Continues with the frame `next`.
    fn follow(&self, offset: &mut Offset, mut next: u64) -> Step {
        loop {
            let frame = usize::try_from(next - self.first).ok().and_then(|at| self.frames.get(at));
            let Some(frame) = frame else {
                offset.next = Some(next);
                return if self.closing.is_some() { Step::Done } else { Step::Wait };
            };
            next += 1;
            match frame.kind {
                Kind::State { number } if number <= offset.state_number => continue,
                Kind::State { number } => offset.state_number = number,
                Kind::Log { run, to, .. } if (run, to) <= (offset.run, offset.entry) => continue,
                Kind::Log { run, from, .. } if (run, from) != (offset.run, offset.entry) => {
                    offset.next = None;
                    return self.align(offset);
                }
                Kind::Log { to, .. } => offset.entry = to,
                Kind::Run { run } if run <= offset.run => continue,
                Kind::Run { run } => (offset.run, offset.entry) = (run, EntryId::START),
                Kind::Other => {}
            }
            offset.next = Some(next);
            return Step::Send(frame.bytes.clone());
        }
    }

    /// Finds the frame at which a stream can continue, or says what it must read first.
    fn align(&self, offset: &mut Offset) -> Step {
        // The frame of the newest state is checked first, because it may precede the frame found below.
        if offset.state_number < self.state_number {
            offset.state_number = self.state_number;
            let cursor = Cursor { run: offset.run, entry: offset.entry, seq: self.seq };
            return Step::Send(frame::event(cursor, "state", &self.state));
        }
        let behind = (offset.run, offset.entry) < (self.run, self.end);
        let start = self.frames.iter().position(
            |frame| matches!(frame.kind, Kind::Log { run, from, .. } if (run, from) == (offset.run, offset.entry)),
        );
        match start {
            Some(at) if behind => return self.follow(offset, self.first + at as u64),
            _ if behind && offset.run < self.run => {
                return Step::Read { until: None, seq: self.seq };
            }
            _ if behind => {
                return Step::Read { until: Some(self.end), seq: self.seq };
            }
            _ => {}
        }
        let next = self.closing.unwrap_or(self.first + self.frames.len() as u64);
        self.follow(offset, next)
    }
}

#[cfg(test)]
mod tests;
