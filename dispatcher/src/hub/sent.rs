//! Which lines of a log were already sent. After Redis has lost a log, its worker writes the same lines
//! again.

use fairlane_common::log::LogEntry;
use jiff::Timestamp;

/// The latest time of the lines sent, and all lines with that time.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    last: Option<Timestamp>,
    texts: Vec<String>,
    // The log was lost, so lines up to that time will come again.
    again: bool,
}

impl Sent {
    /// Notes that these lines were sent.
    pub(crate) fn note(&mut self, entries: &[LogEntry]) {
        for entry in entries {
            let at = entry.t.parse::<Timestamp>().ok();
            if at.is_none() || at < self.last {
                continue;
            }
            if at > self.last {
                self.texts.clear();
            }
            self.last = at;
            self.texts.push(entry.text.clone());
        }
    }

    /// Notes that the log starts again. Lines may only be skipped after this, because sources' clocks
    /// sometimes go back.
    pub(crate) fn lost(&mut self) {
        self.again = self.last.is_some();
    }

    /// How many of the first `entries` were already sent.
    pub(crate) fn again(&mut self, entries: &[LogEntry]) -> usize {
        if !self.again {
            return 0;
        }
        let before = |entry: &&LogEntry| match entry.t.parse::<Timestamp>().ok() {
            Some(at) if Some(at) < self.last => true,
            at => at.is_some() && at == self.last && self.texts.contains(&entry.text),
        };
        let count = entries.iter().take_while(before).count();
        self.again = count == entries.len();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(lines: &[(u32, &str)]) -> Vec<LogEntry> {
        let entry = |(s, text): &(u32, &str)| LogEntry {
            id: "1-1".to_owned(),
            t: format!("2019-03-24T07:54:{s:02}Z"),
            text: (*text).to_owned(),
        };
        lines.iter().map(entry).collect()
    }

    #[test]
    fn lines_that_come_again_are_told_from_new_ones() {
        let mut sent = Sent::default();
        sent.note(&entries(&[(1, "a"), (2, "b"), (2, "c")]));
        // Nothing was lost, so a clock that goes back must not drop a line.
        assert_eq!(sent.again(&entries(&[(1, "d")])), 0);
        sent.lost();
        assert_eq!(sent.again(&entries(&[(1, "a"), (2, "b")])), 2);
        assert_eq!(sent.again(&entries(&[(2, "c"), (2, "e"), (1, "f")])), 1);
        assert_eq!(sent.again(&entries(&[(1, "a")])), 0, "the new lines have begun");
    }

    #[test]
    fn lines_without_a_time_are_always_sent() {
        let mut sent = Sent::default();
        sent.note(&[LogEntry { id: String::new(), t: String::new(), text: "a".to_owned() }]);
        sent.lost();
        assert_eq!(sent.again(&entries(&[(1, "a")])), 0);
    }
}
