//! The tables: their columns and cells.

use std::cmp::Reverse;
use std::collections::HashMap;

use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Tone, clean};
use fairlane_common::build::BuildState;
use fairlane_common::limits;
use fairlane_dispatcher::api::{BuildView, LaneView, WorkerView};

use super::data::Data;
use super::style::short;
use crate::commands::lists::tone_of;
use crate::commands::queue::{limit, waits_for};
use crate::commands::workers;

/// Characters of an id that are shown: its last ones, because all ids begin with the time.
const SHORT_ID: usize = 8;

/// The views. Each has a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Numbers, problems, and lanes.
    Now,
    /// Builds that run or wait.
    Builds,
    /// All lanes.
    Lanes,
    /// Workers.
    Workers,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::Now, Self::Builds, Self::Lanes, Self::Workers];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Now => "Now",
            Self::Builds => "Builds",
            Self::Lanes => "Lanes",
            Self::Workers => "Workers",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Now | Self::Lanes => LANES,
            Self::Builds => BUILDS,
            Self::Workers => WORKERS,
        }
    }
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) right: bool,
    /// Hidden on terminals with fewer columns than this.
    pub(super) from_width: u16,
}

const fn words(title: &'static str, from_width: u16) -> Column {
    Column { title, right: false, from_width }
}

const fn number(title: &'static str, from_width: u16) -> Column {
    Column { title, right: true, from_width }
}

const BUILDS: &[Column] = &[
    words("ID", 0),
    words("STATE", 0),
    number("PEOPLE", 0),
    number("AGE", 0),
    number("EXPECTED", 72),
    words("LANE", 0),
    words("WHY", 0),
];
const LANES: &[Column] = &[
    words("LANE", 0),
    number("WAITING", 0),
    number("RUNNING", 0),
    number("LIMIT", 72),
    number("TAKES", 90),
    number("LONGEST", 72),
    words("WAITS FOR", 0),
];
const WORKERS: &[Column] = &[
    words("WORKER", 0),
    number("RUNNING", 0),
    number("SLOTS", 0),
    number("SEEN", 72),
    words("RELEASE", 100),
    words("PLACE", 100),
    words("STATE", 0),
];

/// What a column is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Option<Tone>,
    key: Key,
}

fn text(text: &(impl ToString + ?Sized)) -> Cell {
    let text = clean(&text.to_string(), Colors::Drop);
    Cell { key: Key::Text(text.to_lowercase()), text, tone: None }
}

fn of(number: u64) -> Cell {
    Cell { text: number.to_string(), tone: None, key: Key::Number(number) }
}

fn time(ms: Option<u64>) -> Cell {
    Cell { text: ms.map(short).unwrap_or_default(), tone: None, key: Key::Number(ms.unwrap_or(0)) }
}

impl Cell {
    fn toned(mut self, tone: Option<Tone>) -> Self {
        self.tone = tone;
        self
    }
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The row's subject: a build's id, a lane, or a worker.
    pub(super) id: String,
    pub(super) cells: Vec<Cell>,
}

impl Row {
    /// Whether the row contains this text (in lower case).
    pub(super) fn has(&self, text: &str) -> bool {
        self.id.to_lowercase().contains(text)
            || self.cells.iter().any(|cell| cell.text.to_lowercase().contains(text))
    }
}

/// The rows of a view in its default order; `now` is Redis's time.
pub(super) fn rows(view: View, data: &Data, now: u64) -> Vec<Row> {
    match view {
        View::Now | View::Lanes => data.lanes.lanes.iter().map(|lane| lane_row(lane, now)).collect(),
        View::Builds => builds(data, now),
        View::Workers => data.workers.workers.iter().map(|worker| worker_row(worker, now)).collect(),
    }
}

/// Sorts rows by a column; rows with equal values keep their order.
pub(super) fn sort(rows: &mut [Row], column: usize, descending: bool) {
    let key = |row: &Row| row.cells.get(column).map(|cell| cell.key.clone());
    if descending {
        rows.sort_by_key(|row| Reverse(key(row)));
    } else {
        rows.sort_by_key(key);
    }
}

/// Whether there are more rows than were fetched.
pub(super) fn beyond(view: View, data: &Data) -> bool {
    match view {
        View::Now | View::Lanes => data.lanes.cursor.is_some(),
        View::Builds => !data.is_whole(),
        View::Workers => data.workers.cursor.is_some(),
    }
}

fn builds(data: &Data, now: u64) -> Vec<Row> {
    let lanes: HashMap<_, _> = data.lanes.lanes.iter().map(|lane| (&lane.lane, lane)).collect();
    let mut position = 0;
    let mut live: Vec<&BuildView> = data.live().collect();
    // The longest-running builds come first, because somebody may have to look at them.
    live.sort_by_key(|build| match build.state {
        BuildState::Queued => (1, 0),
        _ => (0, build.claimed_ms.unwrap_or(u64::MAX)),
    });
    let mut rows = Vec::with_capacity(live.len());
    for build in live {
        let why = if build.state == BuildState::Queued {
            position += 1;
            waits(build, position, lanes.get(&build.lane).copied(), now)
        } else {
            runs(build, now)
        };
        let since = build.claimed_ms.filter(|_| build.state != BuildState::Queued).unwrap_or(build.asked_ms);
        let id = build.id.to_string();
        rows.push(Row {
            cells: vec![
                text(&id[id.len() - SHORT_ID..]),
                text(&build.state).toned(tone_of(build.state)),
                of(build.people),
                time(Some(now.saturating_sub(since))),
                time(Some(build.expected_seconds * 1000)),
                text(&build.lane),
                text(&why),
            ],
            id,
        });
    }
    rows
}

fn waits(build: &BuildView, position: u64, lane: Option<&LaneView>, now: u64) -> String {
    if let Some(at) = build.not_before_ms.filter(|at| *at > now) {
        let reason = build.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        return format!("attempt {} in {}{reason}", build.attempt, short(at - now));
    }
    let why = lane.map(|lane| (waits_for(lane).0, if lane.held.is_some() { "held by" } else { "needs" }));
    let why = why.filter(|(words, _)| !words.is_empty()).map(|(words, how)| format!(" {how} {words}"));
    format!("#{position}{}", why.unwrap_or_default())
}

fn runs(build: &BuildView, now: u64) -> String {
    let mut said: Vec<String> = build.worker.iter().map(|worker| format!("on {worker}")).collect();
    if build.state == BuildState::Orphaned {
        said = vec!["its worker is gone; another one takes over".to_owned()];
    }
    if is_overdue(build, now) {
        said.push("overdue".to_owned());
    }
    if build.cancelling {
        said.push("being cancelled".to_owned());
    }
    if build.failed_attempts > 0 {
        said.push(format!("attempt {}", build.failed_attempts + 1));
    }
    said.extend(build.note.clone());
    said.join(", ")
}

/// Whether a build has run much longer than expected.
fn is_overdue(build: &BuildView, now: u64) -> bool {
    let claimed = build.claimed_ms.filter(|_| build.state != BuildState::Queued);
    claimed.is_some_and(|since| limits::is_overdue(now.saturating_sub(since), build.expected_seconds * 1000))
}

fn lane_row(lane: &LaneView, now: u64) -> Row {
    let (words, tone) = waits_for(lane);
    Row {
        id: lane.lane.to_string(),
        cells: vec![
            text(&lane.lane),
            of(lane.queued),
            of(lane.permits),
            text(&limit(lane)),
            time(lane.mean_seconds.map(|seconds| seconds * 1000)),
            time(lane.holder_since_ms.map(|since| now.saturating_sub(since))),
            text(&words).toned(tone),
        ],
    }
}

fn worker_row(worker: &WorkerView, now: u64) -> Row {
    let (state, tone) = workers::state(worker, now);
    let nodes = worker.nodes.map(|nodes| format!(" on {}", human::many(nodes, "node"))).unwrap_or_default();
    Row {
        id: worker.id.to_string(),
        cells: vec![
            text(&worker.id),
            of(worker.running),
            of(worker.slots),
            time(Some(now.saturating_sub(worker.seen_ms))),
            text(&worker.version),
            text(&worker.place),
            text(&format!("{state}{nodes}")).toned(tone),
        ],
    }
}
