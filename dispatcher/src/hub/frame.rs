//! Server-sent events as bytes, made once and shared by all streams that send them.

use axum::body::Bytes;
use fairlane_common::log::{LogEntry, LogPage};
use serde::Serialize;

use super::cursor::{Cursor, EntryId};
use crate::api::{LogEvent, LogLine, NoticeEvent};

/// Bytes of text after which a `log` event ends and another one starts. A slow reader buffers a few events,
/// and each event is sent in one write.
const LOG_EVENT_BYTES: usize = 32 * 1024;

/// An event as bytes. `data` must be one line; JSON escapes line ends.
pub(crate) fn event(cursor: Cursor, name: &str, data: &str) -> Bytes {
    Bytes::from(format!("id: {cursor}\nevent: {name}\ndata: {data}\n\n"))
}

/// A value as the data of an event.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// A notice for people.
pub(crate) fn notice(cursor: Cursor, kind: &str, text: String, dropped: Option<u64>) -> Bytes {
    event(cursor, "notice", &json(&NoticeEvent { kind: kind.to_owned(), text, run: cursor.run, dropped }))
}

/// The notice that another run begins, sent at its start; only a comment unless `is_news`.
pub(crate) fn new_run(run: u32, seq: u64, is_news: bool) -> Bytes {
    if !is_news {
        return Bytes::from(format!(": run {run}\n\n"));
    }
    let cursor = Cursor { run, entry: EntryId::START, seq };
    notice(cursor, "attempt", "the build has started again; its new log follows".to_owned(), None)
}

/// Lines of a log as an event. `from` is the log entry before them, `to` their last one.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) from: EntryId,
    pub(crate) to: EntryId,
    pub(crate) bytes: Bytes,
}

/// The entries of a page up to `until`, as consecutive events.
pub(crate) fn pieces(
    run: u32,
    seq: u64,
    after: EntryId,
    until: Option<EntryId>,
    page: &LogPage,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut from = after;
    let (before, behind) = page.entries.split_at(page.before_gap.min(page.entries.len()));
    push_pieces(&mut pieces, run, seq, &mut from, until, before);
    let gap_reached = behind.first().is_some_and(|entry| within(entry, until));
    if let (Some(dropped), true) = (page.dropped, gap_reached) {
        let text = page.gap().unwrap_or_default();
        let bytes = notice(Cursor { run, entry: from, seq }, "dropped", text, Some(dropped));
        pieces.push(Piece { from, to: from, bytes });
    }
    push_pieces(&mut pieces, run, seq, &mut from, until, behind);
    pieces
}

fn within(entry: &LogEntry, until: Option<EntryId>) -> bool {
    match (entry.id.parse::<EntryId>(), until) {
        (Ok(id), Some(until)) => id <= until,
        (Ok(_), None) => true,
        (Err(_), _) => false,
    }
}

fn push_pieces(
    pieces: &mut Vec<Piece>,
    run: u32,
    seq: u64,
    from: &mut EntryId,
    until: Option<EntryId>,
    entries: &[LogEntry],
) {
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.text.len() + entry.t.len() + 1;
                within(entry, until) && (first || bytes <= LOG_EVENT_BYTES)
            })
            .count();
        let Some(last) = count.checked_sub(1).and_then(|last| rest[last].id.parse::<EntryId>().ok()) else {
            return;
        };
        let lines = rest[..count]
            .iter()
            .map(|entry| LogLine { t: entry.t.clone(), text: entry.text.clone() })
            .collect();
        let data = json(&LogEvent { run, lines });
        let bytes = event(Cursor { run, entry: last, seq }, "log", &data);
        pieces.push(Piece { from: *from, to: last, bytes });
        *from = last;
        rest = &rest[count..];
    }
}
