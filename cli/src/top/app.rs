//! What is on the screen, and how it changes. No input or output: tests press keys here.

use std::time::{Duration, Instant};

use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::BuildView;

use super::data::{Data, Fetched};
use super::feed::Feed;
use super::log::Log;
use super::rows::{self, Row, View};

/// How long a message is shown.
const MESSAGE: Duration = Duration::from_secs(8);

/// What the loop should do after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    /// Clear the terminal and draw everything.
    Redraw,
    /// Suspend the process until the shell continues it.
    Suspend,
    /// Another build was opened, or the open one closed.
    Look,
    Cancel(BuildId, Option<String>),
}

/// The selection, scroll position and order of a table.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// What the selected row is about, so that it stays selected when rows move.
    id: Option<String>,
    /// The number of the selected row when it was last drawn.
    pub(super) at: usize,
    pub(super) offset: usize,
    /// The column that the table is sorted by, and whether the largest values come first.
    pub(super) sort: Option<(usize, bool)>,
}

/// A text that is being typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typing {
    Search,
    Filter,
    Reason,
}

/// What covers the screen.
#[derive(Debug)]
pub(super) enum Popup {
    Help,
    /// The columns to sort by, and the selected one; 0 is the default order.
    Sort(usize),
    Cancel(Box<BuildView>),
}

/// The build whose log is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: BuildId,
    pub(super) view: Option<BuildView>,
    pub(super) log: Log,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct App {
    pub(super) address: String,
    pub(super) may_operate: bool,
    pub(super) color: bool,
    pub(super) view: View,
    pub(super) data: Option<Data>,
    /// Why the latest fetch failed.
    pub(super) failure: Option<String>,
    got: Instant,
    /// How old the data is.
    pub(super) age: Duration,
    pub(super) places: [Place; 4],
    pub(super) filter: String,
    pub(super) search: String,
    pub(super) reason: String,
    pub(super) typing: Option<Typing>,
    pub(super) popup: Option<Popup>,
    pub(super) open: Option<Open>,
    message: Option<(String, Instant)>,
    /// The height of the table, for page up and page down.
    pub(super) height: usize,
}

impl App {
    pub(super) fn new(address: String, may_operate: bool, color: bool) -> Self {
        Self {
            address,
            may_operate,
            color,
            view: View::Now,
            data: None,
            failure: None,
            got: Instant::now(),
            age: Duration::ZERO,
            places: Default::default(),
            filter: String::new(),
            search: String::new(),
            reason: String::new(),
            typing: None,
            popup: None,
            open: None,
            message: None,
            height: 1,
        }
    }

    /// Stores fetched data. After a failed fetch, the previous data stays.
    pub(super) fn take(&mut self, fetched: Fetched) {
        match fetched {
            Ok(data) => {
                if let (Some(open), Some(build)) = (&mut self.open, &data.build)
                    && open.id == build.id
                {
                    open.view = Some((**build).clone());
                }
                self.data = Some(data);
                self.failure = None;
                (self.got, self.age) = (Instant::now(), Duration::ZERO);
            }
            Err(why) => self.failure = Some(why),
        }
    }

    /// Adds to the log of the open build.
    pub(super) fn take_feed(&mut self, feed: Feed) {
        let Some(open) = &mut self.open else { return };
        match feed {
            Feed::Lines(id, lines) if id == open.id => {
                for line in &lines {
                    open.log.push(line, false);
                }
            }
            Feed::Remark(id, text) if id == open.id => open.log.push(&format!("--- {text} ---"), true),
            Feed::End(id) if id == open.id => open.log.is_complete = true,
            _ => {}
        }
    }

    /// Shows a message for a few seconds.
    pub(super) fn say(&mut self, message: impl Into<String>) {
        self.message = Some((message.into(), Instant::now()));
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_ref().filter(|(_, at)| at.elapsed() < MESSAGE).map(|(text, _)| text.as_str())
    }

    /// Updates the age of the data.
    pub(super) fn tick(&mut self) {
        self.age = self.got.elapsed();
    }

    /// The queue's time now. If the latest fetch failed, it is the time of the data shown.
    pub(super) fn now(&self) -> u64 {
        let Some(data) = &self.data else { return 0 };
        let age = if self.failure.is_some() { 0 } else { self.age.as_secs() };
        data.queue.totals.now_ms + 1000 * age
    }

    pub(super) fn wanted(&self) -> Option<BuildId> {
        self.open_build()
    }

    pub(super) fn open_build(&self) -> Option<BuildId> {
        self.open.as_ref().map(|open| open.id)
    }

    pub(super) fn place(&mut self) -> &mut Place {
        &mut self.places[self.view as usize]
    }

    /// The rows of this view, filtered and sorted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(data) = &self.data else { return Vec::new() };
        let mut rows = rows::rows(self.view, data, self.now());
        if !self.filter.is_empty() {
            let text = self.filter.to_lowercase();
            rows.retain(|row| row.has(&text));
        }
        if let Some((column, descending)) = self.places[self.view as usize].sort {
            rows::sort(&mut rows, column, descending);
        }
        rows
    }

    /// The number of the selected row. If that row is gone, the one now in its position is selected.
    pub(super) fn selected(&mut self, rows: &[Row]) -> Option<usize> {
        let place = self.place();
        let at = place.id.as_ref().and_then(|id| rows.iter().position(|row| row.id == *id));
        let at = at.unwrap_or(place.at).min(rows.len().checked_sub(1)?);
        place.at = at;
        // If nothing was selected by hand, the top row stays selected, whatever comes first.
        place.id = place.id.as_ref().map(|_| rows[at].id.clone());
        Some(at)
    }

    pub(super) fn select(&mut self, at: usize) {
        let rows = self.rows();
        let at = at.min(rows.len().saturating_sub(1));
        let id = rows.get(at).map(|row| row.id.clone());
        let place = self.place();
        (place.at, place.id) = (at, id);
    }

    /// The build that a key applies to: the open one, or the selected one.
    pub(super) fn build(&mut self) -> Option<BuildView> {
        if let Some(open) = &self.open {
            return open.view.clone();
        }
        if self.view != View::Builds {
            return None;
        }
        let rows = self.rows();
        let at = self.selected(&rows)?;
        let id = rows.get(at)?.id.clone();
        self.data.as_ref()?.live().find(|build| build.id.to_string() == id).cloned()
    }

    /// Opens the selected row: a build's log, or the builds of a lane or of a worker.
    pub(super) fn enter(&mut self) -> Effect {
        let rows = self.rows();
        let Some(id) = self.selected(&rows).and_then(|at| rows.get(at)).map(|row| row.id.clone()) else {
            return Effect::None;
        };
        if self.view != View::Builds {
            self.filter = id;
            self.view = View::Builds;
            return Effect::None;
        }
        let Ok(id) = id.parse() else { return Effect::None };
        self.open = Some(Open { id, view: self.build(), log: Log::default() });
        Effect::Look
    }

    /// Goes to the next table row or log line that contains the search text.
    pub(super) fn find(&mut self, forward: bool, from_here: bool) {
        let text = self.search.to_lowercase();
        if text.is_empty() {
            return;
        }
        if let Some(open) = &mut self.open {
            if !open.log.find(&text, forward) {
                self.say(format!("'{}' is not in the log", self.search));
            }
            return;
        }
        let rows = self.rows();
        let (at, count) = (self.selected(&rows).unwrap_or(0), rows.len());
        let first = usize::from(!from_here);
        let has = |at: &usize| rows[*at].has(&text);
        let found = if forward {
            (first..count + first).map(|step| (at + step) % count).find(has)
        } else {
            (1..=count).map(|step| (at + count - step) % count).find(has)
        };
        match found {
            Some(at) => self.select(at),
            None => self.say(format!("No row contains '{}'", self.search)),
        }
    }
}
