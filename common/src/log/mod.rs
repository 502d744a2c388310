//! Logs of runs: one stream entry per line, with its raw time. The head and the tail are kept; the middle is
//! dropped with a note. Only the holder of the newest lease writes.

mod writer;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::limits;
use crate::queue::Queue;

pub use writer::{Appended, LogWriter};

/// A line to be written to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its raw time, as the source gave it (RFC 3339), or empty. It distinguishes equal lines.
    pub t: String,
    /// Its text, without the end of line; colors and `\r` are kept.
    pub text: String,
}

/// A stored line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its id in the log.
    pub id: String,
    /// Its raw time.
    pub t: String,
    /// Its text.
    pub text: String,
}

impl LogPage {
    /// The text shown in place of the missing lines.
    pub fn gap(&self) -> Option<String> {
        let removed = |lines| format!("{lines} lines were removed to free memory");
        Some(if self.pruned { removed(self.dropped?) } else { left_out(self.dropped?) })
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// How many lines are missing before the tail, if the gap lies before or within this page.
    pub dropped: Option<u64>,
    /// Whether the missing lines were removed after the end of the build, to free memory.
    pub pruned: bool,
    /// How many of `entries` come before the gap.
    pub before_gap: usize,
    /// The lines.
    pub entries: Vec<LogEntry>,
}

/// The text shown for missing lines, wherever a log is read.
pub fn left_out(lines: u64) -> String {
    if lines == 1 { "1 line is left out here".to_owned() } else { format!("{lines} lines are left out here") }
}

/// The last entry of a log that has none.
const NOTHING: &str = "0-0";

impl Queue {
    /// A piece of the log of a run: up to [`limits::LOG_PAGE`] lines after the entry `after` (`0`
    /// for the beginning).
    pub async fn read_log(&self, id: BuildId, run: u32, after: &str, count: usize) -> Result<LogPage> {
        let mut pages = self.read_logs(&[(id, run, after.to_owned())], count).await?;
        Ok(pages.pop().unwrap_or_default())
    }

    /// Pieces of several logs in one round trip; see [`Self::read_log`].
    pub async fn read_logs(&self, logs: &[(BuildId, u32, String)], count: usize) -> Result<Vec<LogPage>> {
        let count = count.clamp(1, limits::LOG_PAGE);
        let mut pipe = redis::pipe();
        for (id, run, after) in logs {
            let from = format!("({}", check_entry_id(after)?);
            // The tail first: then a reader that sees an entry of the tail has seen all of the head, even if
            // lines arrive between the two reads.
            for key in [self.keys().log_tail(*id, *run), self.keys().log(*id, *run)] {
                pipe.cmd("XRANGE").arg(key).arg(&from).arg("+").arg("COUNT").arg(count);
            }
            pipe.cmd("HMGET")
                .arg(self.keys().log_meta(*id, *run))
                .arg("dropped")
                .arg("kept_from")
                .arg("pruned");
        }
        if logs.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.link().bulk(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(redis::Value::Nil);
        let mut pages = Vec::with_capacity(logs.len());
        for (_, _, after) in logs {
            let tail = entries(next())?;
            let head = entries(next())?;
            let (dropped, kept_from, pruned): (Option<u64>, Option<String>, Option<String>) =
                redis::from_redis_value(next()).map_err(Error::reply)?;
            let kept_from = kept_from.filter(|id| !id.is_empty());
            let page = assemble(head, tail, dropped, kept_from.as_deref(), after, count);
            pages.push(LogPage { pruned: pruned.is_some(), ..page });
        }
        Ok(pages)
    }

    /// The id of the last entry of a run's log (`0-0` if it has none), and its last lines, oldest first, for
    /// an adopter to compare with the source.
    pub async fn log_end(&self, id: BuildId, run: u32, count: usize) -> Result<(String, Vec<LogEntry>)> {
        let mut pipe = redis::pipe();
        for key in [self.keys().log_tail(id, run), self.keys().log(id, run)] {
            pipe.cmd("XREVRANGE")
                .arg(key)
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(count.clamp(1, limits::LOG_PAGE));
        }
        let mut last = Vec::new();
        for answer in self.link().bulk(&pipe).await? {
            last.extend(entries(answer)?);
        }
        last.truncate(count);
        last.reverse();
        let end = last.last().map_or_else(|| NOTHING.to_owned(), |entry| entry.id.clone());
        Ok((end, last))
    }
}

/// How many of `lines`, read again from a source, are already stored: the longest prefix of them that equals
/// a suffix of the stored lines. There is no counter, and times alone are not enough (they repeat, and clocks
/// step back).
pub fn already_stored(stored: &[LogEntry], lines: &[LogLine]) -> usize {
    let most = stored.len().min(lines.len());
    (1..=most)
        .rev()
        .find(|n| {
            stored[stored.len() - n..]
                .iter()
                .zip(lines)
                .all(|(entry, line)| entry.t == line.t && entry.text == cut(&line.text))
        })
        .unwrap_or(0)
}

/// Cuts a line to at most [`limits::LINE_BYTES_MAX`] bytes.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::LINE_BYTES_MAX)]
}

fn check_entry_id(id: &str) -> Result<&str> {
    let number = |text: &str| (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    let fits = match id.split_once('-') {
        Some((ms, seq)) => number(ms) && number(seq),
        None => number(id),
    };
    if fits { Ok(id) } else { Err(crate::Invalid::new("cursor", "not the id of a log entry").into()) }
}

/// The order of entry ids, `<ms>-<seq>`.
fn entry_order(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), seq.parse().unwrap_or(0))
}

type RawEntry = (String, Vec<(String, redis::Value)>);

fn entries(answer: redis::Value) -> Result<Vec<LogEntry>> {
    let raw: Vec<RawEntry> = redis::from_redis_value(answer).map_err(Error::reply)?;
    Ok(raw
        .into_iter()
        .map(|(id, fields)| {
            let mut entry = LogEntry { id, t: String::new(), text: String::new() };
            for (name, value) in fields {
                let text = match value {
                    redis::Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    _ => String::new(),
                };
                match name.as_str() {
                    "t" => entry.t = text,
                    "text" => entry.text = text,
                    _ => {}
                }
            }
            entry
        })
        .collect())
}

fn assemble(
    head: Vec<LogEntry>,
    tail: Vec<LogEntry>,
    dropped: Option<u64>,
    kept_from: Option<&str>,
    after: &str,
    count: usize,
) -> LogPage {
    let before_gap = head.len();
    let mut entries = head;
    entries.extend(tail);
    entries.truncate(count);
    let before_gap = before_gap.min(entries.len());
    // The gap is shown once: to a reader positioned before the kept tail, when the tail begins.
    let crosses =
        entries.len() > before_gap && kept_from.is_some_and(|kept| entry_order(after) < entry_order(kept));
    LogPage { dropped: dropped.filter(|n| *n > 0 && crosses), pruned: false, before_gap, entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(t: &str, text: &str) -> LogLine {
        LogLine { t: t.to_owned(), text: text.to_owned() }
    }

    fn entry(t: &str, text: &str) -> LogEntry {
        LogEntry { id: "1-1".to_owned(), t: t.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn what_is_stored_is_recognized_by_time_and_text() {
        let stored = [entry("1", "a"), entry("2", "b"), entry("2", "b")];
        assert_eq!(already_stored(&stored, &[line("2", "b"), line("2", "b"), line("3", "c")]), 2);
        assert_eq!(already_stored(&stored, &[line("2", "b"), line("3", "c")]), 1);
        assert_eq!(already_stored(&stored, &[line("3", "c")]), 0);
        assert_eq!(already_stored(&[], &[line("3", "c")]), 0);
    }

    #[test]
    fn only_entry_ids_reach_redis() {
        for good in ["0", "0-0", "1763-12"] {
            assert!(check_entry_id(good).is_ok());
        }
        for bad in ["", "-", "+", "1-", "a", "1-2-3", "1763 12"] {
            assert!(check_entry_id(bad).is_err(), "{bad}");
        }
    }
}
