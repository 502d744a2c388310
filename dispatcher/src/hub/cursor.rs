//! A point in a build's stream that every dispatcher understands: `<run>:<log id>:<seq>`.

use std::fmt;
use std::str::FromStr;

/// The id of a log entry, `<ms>-<number>`; ids increase within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct EntryId {
    ms: u64,
    number: u64,
}

impl EntryId {
    /// Before all entries.
    pub(crate) const START: Self = Self { ms: 0, number: 0 };
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

impl FromStr for EntryId {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (ms, number) = text.split_once('-').ok_or(BadCursor)?;
        Ok(Self { ms: digits(ms)?, number: digits(number)? })
    }
}

/// A point in a stream: after this entry of this run, with this value of the build's change counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) run: u32,
    pub(crate) entry: EntryId,
    pub(crate) seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.run, self.entry, self.seq)
    }
}

/// An invalid cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stream cursor; send the id of the last event unchanged")]
pub(crate) struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(BadCursor);
        let run = u32::try_from(digits(next()?)?).map_err(|_| BadCursor)?;
        let cursor = Self { run, entry: next()?.parse()?, seq: digits(next()?)? };
        if parts.next().is_some() { Err(BadCursor) } else { Ok(cursor) }
    }
}

fn digits(text: &str) -> Result<u64, BadCursor> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| BadCursor)
    } else {
        Err(BadCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let cursor: Cursor = "2:1763-12:7".parse().unwrap();
        assert_eq!(cursor.to_string(), "2:1763-12:7");
        for bad in
            ["", "1", "1:2:3", "1:2-3", "a:1-1:1", "1:1-1:1:1", "1:+1-1:1", "1:-1:1", "99999999999:1-1:1"]
        {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
