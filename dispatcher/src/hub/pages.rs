//! Pages of a build's log for newcomers, shared by those who arrive at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use super::cursor::EntryId;
use super::frame::Piece;

/// Most bytes kept for one build; beyond this, all pages are dropped, and the next newcomer reads again.
const BYTES_MAX: usize = 1024 * 1024;

/// A page of a log, as events.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) pieces: Vec<Piece>,
    /// How many entries were read for it; fewer than asked for means the end of the log.
    pub(crate) entries: usize,
}

/// Pages by the entry after which they were read.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: HashMap<(u32, EntryId), Arc<Page>>,
    bytes: usize,
}

impl Pages {
    /// The page after that entry, if it lies within the log up to `until`.
    pub(crate) fn get(&self, run: u32, after: EntryId, until: Option<EntryId>) -> Option<Arc<Page>> {
        let page = self.pages.get(&(run, after))?;
        let last = page.pieces.last()?.to;
        until.is_none_or(|until| last <= until).then(|| Arc::clone(page))
    }

    /// Keeps a page that will not change any more.
    pub(crate) fn keep(&mut self, run: u32, after: EntryId, page: &Arc<Page>) {
        let bytes: usize = page.pieces.iter().map(|piece| piece.bytes.len()).sum();
        if self.bytes + bytes > BYTES_MAX {
            self.pages.clear();
            self.bytes = 0;
        }
        if bytes <= BYTES_MAX && self.pages.insert((run, after), Arc::clone(page)).is_none() {
            self.bytes += bytes;
        }
    }
}
