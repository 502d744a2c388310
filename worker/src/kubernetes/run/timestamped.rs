//! Splits the bytes of a log with timestamps into lines. The same bytes always give the same lines, whenever they
//! arrive, because a line that is read again must be recognized.

use std::time::Instant;

use fairlane_common::log::LogLine;
use jiff::Timestamp;

use crate::log::lines::Splitter;

/// Longest timestamp, in bytes; a kubelet's have 30 or 35.
const STAMP_BYTES_MAX: usize = 40;

/// Splits one stream of a log into lines.
pub(super) struct TimestampedLines {
    /// The current line's timestamp, once it is complete.
    time: Option<String>,
    /// The part of the timestamp that has arrived so far.
    stamp: Vec<u8>,
    splitter: Splitter,
    /// Never changes, so that no line is split because of when it arrived.
    now: Instant,
}

impl TimestampedLines {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { time: None, stamp: Vec::new(), splitter: Splitter::new(now), now }
    }

    /// The lines that `bytes` complete. Lines longer than 16 KiB are returned in parts with the same timestamp.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<LogLine> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            if self.time.is_none() {
                bytes = self.read_stamp(bytes);
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (part, rest) = bytes.split_at(end);
            let texts = self.splitter.push(part, self.now);
            lines.extend(self.stamped(texts));
            if part.ends_with(b"\n") {
                self.time = None;
            }
            bytes = rest;
        }
        lines
    }

    /// The last line, if it is incomplete.
    pub(super) fn finish(mut self) -> Vec<LogLine> {
        if self.time.is_none() {
            self.end_stamp(false);
        }
        let splitter = std::mem::replace(&mut self.splitter, Splitter::new(self.now));
        let texts = splitter.finish(self.now);
        self.stamped(texts)
    }

    /// Reads the timestamp; returns the rest of the line.
    fn read_stamp<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b' ' || *byte == b'\n' || self.stamp.len() >= STAMP_BYTES_MAX {
                let stamped = self.end_stamp(*byte == b' ');
                return &bytes[at + usize::from(stamped)..];
            }
            self.stamp.push(*byte);
        }
        &[]
    }

    /// Whether this was a timestamp. Otherwise it is text: kubelets write their own errors without one.
    fn end_stamp(&mut self, parted: bool) -> bool {
        let stamp = std::mem::take(&mut self.stamp);
        let text = std::str::from_utf8(&stamp).ok().filter(|text| time_of(text).is_some());
        if let Some(text) = text {
            self.time = Some(text.to_owned());
            return parted;
        }
        self.time = Some(String::new());
        // Too short to complete a line.
        self.splitter.push(&stamp, self.now);
        false
    }

    fn stamped(&self, texts: Vec<String>) -> Vec<LogLine> {
        let t = self.time.clone().unwrap_or_default();
        texts.into_iter().map(|text| LogLine { t: t.clone(), text }).collect()
    }
}

/// A line's time in nanoseconds since 1970; `None` for lines that are not from the container.
pub(super) fn time_of(stamp: &str) -> Option<i64> {
    let time: Timestamp = stamp.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Whether a kubelet ends a stream with this text because the container no longer exists.
pub(super) fn is_end_of_removed(text: &str) -> bool {
    ["No such container", "NotFound"].iter().any(|words| text.contains(words))
}

/// Whether this may be the answer to a request for the log of a container that no longer exists. A kubelet that
/// cannot ask its container runtime answers the same.
pub(super) fn is_of_removed(text: &str) -> bool {
    let words = ["unable to retrieve container logs", "is terminated"];
    is_end_of_removed(text) || words.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "2026-11-22T11:50:17.474984279Z";

    fn split(parts: &[&[u8]]) -> Vec<(String, String)> {
        let mut split = TimestampedLines::new();
        let mut lines: Vec<LogLine> = parts.iter().flat_map(|part| split.push(part)).collect();
        lines.extend(split.finish());
        lines.into_iter().map(|line| (line.t, line.text)).collect()
    }

    fn of(t: &str, text: &str) -> (String, String) {
        (t.to_owned(), text.to_owned())
    }

    #[test]
    fn lines_and_their_times() {
        let bytes = format!("{T} one\n{T} \n{T} 1%\r2%\r3%\n{T} no end");
        let expected = [of(T, "one"), of(T, ""), of(T, "1%\r2%\r3%"), of(T, "no end")];
        assert_eq!(split(&[bytes.as_bytes()]), expected);
        for at in 0..bytes.len() {
            let (left, right) = bytes.as_bytes().split_at(at);
            assert_eq!(split(&[left, right]), expected, "split at {at}");
        }
    }

    #[test]
    fn what_has_no_time_is_kept() {
        assert_eq!(
            split(&[b"rpc error: code = NotFound\n\nunable to retrieve container logs for containerd://0123456789\n"]),
            [
                of("", "rpc error: code = NotFound"),
                of("", ""),
                of("", "unable to retrieve container logs for containerd://0123456789")
            ]
        );
        assert_eq!(split(&[T.as_bytes()]), []);
    }

    #[test]
    fn rubbish_and_long_lines_lose_nothing() {
        let mut bytes = format!("{T} ").into_bytes();
        bytes.extend(vec![b'a'; 40_000]);
        bytes.extend(format!("\n{T} ").bytes());
        bytes.extend([0xff, 0xfe, 0, b'!', b'\n']);
        let lines = split(&[&bytes]);
        let long: String = lines[..3].iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(long, "a".repeat(40_000));
        assert!(lines.iter().all(|(t, _)| t == T));
        assert_eq!(lines[3].1, "\u{fffd}\u{fffd}\0!");
    }
}
