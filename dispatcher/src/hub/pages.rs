//! Pages of a build's log for new streams, shared by those that start at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use super::cursor::EntryId;
use super::frame::Piece;

/// Most bytes kept for one build. If they are exceeded, all pages are dropped and read again when needed.
const BYTES_MAX: usize = 1024 * 1024;

/// A page of a log, as events.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) pieces: Vec<Piece>,
    /// How many entries were read. Fewer than requested means that the log ends here.
    pub(crate) entries: usize,
}

/// Pages, by run and by the entry after which they begin.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: HashMap<(u32, EntryId), Arc<Page>>,
    bytes: usize,
}

impl Pages {
    /// The page after this entry, if it does not go beyond `until`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_used_only_if_it_goes_no_further_than_wanted() {
        let id = |ms: u64| format!("{ms}-0").parse::<EntryId>().unwrap();
        let piece = Piece { from: id(1), to: id(5), bytes: "five".into() };
        let mut pages = Pages::default();
        pages.keep(1, id(1), &Arc::new(Page { pieces: vec![piece], entries: 1 }));
        for (run, after, until, fits) in [
            (1, 1, None, true),
            (1, 1, Some(5), true),
            (1, 1, Some(4), false),
            (1, 0, None, false),
            (2, 1, None, false),
        ] {
            assert_eq!(pages.get(run, id(after), until.map(id)).is_some(), fits, "{run} {after} {until:?}");
        }
    }
}
