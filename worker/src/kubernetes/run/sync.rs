//! Resumes a log: recognizes, by time and text, lines that a source sends again. Counting lines does not work
//! (sources drop lines on rotation), and neither do times alone (they repeat, and clocks step back).

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use fairlane_common::limits;
use fairlane_common::log::{LogEntry, LogLine};
use jiff::Timestamp;

use super::timestamped::time_of;
use crate::log::pump::is_gap;

/// The earliest time of this many last lines counts, in case the clock has stepped back.
const LAST_LINES: usize = 50;
/// How much earlier than that the log is requested from, in nanoseconds.
const MARGIN: i64 = 10 * SECOND;
const SECOND: i64 = 1_000_000_000;
/// Lines remembered, 16 bytes each: more than a build usually writes within the margin. In a flood of lines,
/// earlier ones are recognized by time alone.
const WINDOW_LINES: usize = 2000;

/// What a line is recognized by: its time, and a hash of time and text.
type Key = (i64, u64);

/// The last lines that were read from a log.
#[derive(Debug, Default)]
pub(super) struct Window {
    seen: VecDeque<Key>,
    /// Whether there were lines before them.
    truncated: bool,
}

impl Window {
    /// The lines that an earlier holder stored, oldest first.
    pub(super) fn of_stored(stored: &[LogEntry]) -> Self {
        // Lines before a gap are recognized by time alone.
        let from = stored.iter().rposition(|entry| is_gap(&entry.text)).map_or(0, |gap| gap + 1);
        let seen = stored[from..].iter().filter_map(|entry| key(&entry.t, &entry.text)).collect();
        Self { seen, truncated: from > 0 || stored.len() >= limits::LOG_PAGE }
    }

    /// Records that a line was read.
    pub(super) fn note(&mut self, line: &LogLine) {
        let Some(key) = key(&line.t, &line.text) else { return };
        if self.seen.len() >= WINDOW_LINES {
            self.seen.pop_front();
            self.truncated = true;
        }
        self.seen.push_back(key);
    }

    /// The time from which the log has to be requested again; whole seconds, because sources ignore fractions.
    pub(super) fn since(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.since_nanos()?.div_euclid(SECOND)).ok()
    }

    fn since_nanos(&self) -> Option<i64> {
        let earliest = self.seen.iter().rev().take(LAST_LINES).map(|(t, _)| *t).min()?;
        Some((earliest - MARGIN).div_euclid(SECOND) * SECOND)
    }

    /// A filter for the lines that a source sends from [`Self::since`] on.
    pub(super) fn resume(&self) -> Resume {
        let Some(since) = self.since_nanos() else { return Resume::nothing_known() };
        let mut known: Vec<Key> = self.seen.iter().copied().collect();
        let mut floor = i64::MIN;
        if self.truncated {
            // Lines with the same time may be on both sides of the window's beginning.
            let first = known.first().map_or(0, |(t, _)| *t);
            let start = known.iter().position(|(t, _)| *t != first).unwrap_or(0);
            known.drain(..start);
            floor = known.first().map_or(floor, |(t, _)| *t);
        }
        known.retain(|(t, _)| *t >= since);
        Resume { known, floor, candidates: None, pending: Vec::new(), same: 0, done: false }
    }
}

/// Finds the longest prefix of the incoming lines that equals a suffix of the known lines, and lets pass what
/// follows it. Lines that may still belong to such a prefix are held back: they are already known, unless a line
/// that does not fit follows.
#[derive(Debug)]
pub(super) struct Resume {
    known: Vec<Key>,
    /// Lines before this time were read long ago.
    floor: i64,
    /// Where in `known` the pending lines may start.
    candidates: Option<Vec<usize>>,
    pending: Vec<LogLine>,
    /// How many of the pending lines equal a suffix of `known`.
    same: usize,
    done: bool,
}

impl Resume {
    fn nothing_known() -> Self {
        Self {
            known: Vec::new(),
            floor: i64::MIN,
            candidates: None,
            pending: Vec::new(),
            same: 0,
            done: true,
        }
    }

    /// Takes the next line; returns the lines that are now known to be new.
    pub(super) fn push(&mut self, line: LogLine) -> Vec<LogLine> {
        let key = key(&line.t, &line.text);
        let (false, Some(key)) = (self.done, key) else { return vec![line] };
        if self.candidates.is_none() && key.0 < self.floor {
            return Vec::new();
        }
        let at = self.pending.len();
        self.pending.push(line);
        let known = &self.known;
        let candidates = self.candidates.get_or_insert_with(|| (0..known.len()).collect());
        candidates.retain(|start| known[start + at] == key);
        if candidates.iter().any(|start| start + at + 1 == known.len()) {
            self.same = at + 1;
            candidates.retain(|start| start + at + 1 < known.len());
        }
        if candidates.is_empty() {
            self.done = true;
            return self.pending.split_off(self.same);
        }
        Vec::new()
    }
}

fn key(t: &str, text: &str) -> Option<Key> {
    let time = time_of(t)?;
    let mut hasher = DefaultHasher::new();
    (t, &text[..text.floor_char_boundary(limits::LINE_BYTES_MAX)]).hash(&mut hasher);
    Some((time, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ms: i64, text: &str) -> LogLine {
        let t = Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap();
        LogLine { t: t.to_string(), text: text.to_owned() }
    }

    fn entries(lines: &[LogLine]) -> Vec<LogEntry> {
        lines
            .iter()
            .map(|line| LogEntry { id: String::new(), t: line.t.clone(), text: line.text.clone() })
            .collect()
    }

    /// What the source sends from the window's time on, filtered as a kubelet does.
    fn given(source: &[LogLine], window: &Window) -> Vec<LogLine> {
        let since = window.since().map_or(i64::MIN, |t| i64::try_from(t.as_nanosecond()).unwrap());
        source.iter().filter(|line| time_of(&line.t).unwrap() >= since).cloned().collect()
    }

    fn resumed(window: &Window, given: &[LogLine]) -> Vec<LogLine> {
        let mut resume = window.resume();
        given.iter().flat_map(|line| resume.push(line.clone())).collect()
    }

    #[test]
    fn equal_lines_are_told_by_their_order() {
        let source: Vec<LogLine> =
            [(0, "a"), (1, "b"), (1, "b"), (1, "b"), (2, "c")].map(|(ms, text)| line(ms, text)).into();
        for taken in 0..=source.len() {
            let window = Window::of_stored(&entries(&source[..taken]));
            assert_eq!(resumed(&window, &given(&source, &window)), source[taken..], "{taken} taken");
        }
    }

    #[test]
    fn lines_that_were_rotated_away_double_nothing() {
        let source: Vec<LogLine> = (0..30).map(|n| line(n, &format!("line {n}"))).collect();
        let window = Window::of_stored(&entries(&source[..20]));
        assert_eq!(resumed(&window, &source[10..]), source[20..]);
        // The source no longer has any known line, so all lines are new.
        assert_eq!(resumed(&window, &source[25..]), source[25..]);
    }

    #[test]
    fn random_logs_are_resumed_without_loss_or_doubling() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut ms, mut source) = (0, Vec::new());
            for _ in 0..random.usize(1..300) {
                // The clock steps back, and times and texts repeat.
                ms += random.i64(-4..40) * random.i64(0..20);
                source.push(line(ms, ["x", "y", "z"][random.usize(0..3)]));
            }
            let (mut window, mut taken) = (Window::default(), Vec::new());
            while taken.len() < source.len() {
                let given = given(&source, &window);
                let mut resume = window.resume();
                // The stream is cut at a random place.
                let cut = random.usize(0..=given.len());
                let cut = if random.u8(0..4) == 0 { given.len() } else { cut };
                for new in given[..cut].iter().flat_map(|line| resume.push(line.clone())) {
                    window.note(&new);
                    taken.push(new);
                }
                if random.bool() {
                    window = Window::of_stored(&entries(&taken));
                }
            }
            assert_eq!(taken, source, "seed {seed}");
        }
    }

    #[test]
    fn of_a_flood_only_the_end_is_remembered() {
        let source: Vec<LogLine> = (0..10_000).map(|n| line(n / 3, &format!("line {n}"))).collect();
        let mut window = Window::default();
        source[..9000].iter().for_each(|line| window.note(line));
        assert_eq!(resumed(&window, &given(&source, &window)), source[9000..]);
        let window = Window::of_stored(&entries(&source[8500..9000]));
        assert_eq!(resumed(&window, &given(&source, &window)), source[9000..]);
    }
}
