//! Lists of builds.

use std::time::Duration;

use super::Queue;
use super::inspect::{Filter, first, page_size};
use super::since::Since;
use super::views::Page;
use crate::build::{Build, BuildState};
use crate::error::Result;
use crate::id::BuildId;
use crate::invalid::Invalid;
use crate::limits;

/// Most entries read of sets for one page, matching or not.
const READ_MAX: usize = 1000;
/// How long the hashes of ended builds stay.
const DAY: Duration = Duration::from_hours(24);

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// In one of the sets of builds that have not ended, at an offset.
    Live(usize, usize),
    /// After a record of an ended build; empty for the newest.
    Past(String),
    /// Among ended builds that are older than the first record, at an offset.
    Older(usize),
}

impl Start {
    fn of(cursor: Option<&str>, sets: usize) -> Result<Self> {
        let Some(cursor) = cursor else { return Ok(Self::Live(0, 0)) };
        let bad = || Invalid::new("cursor", "not a cursor of this list; use the one from the previous page");
        let (what, rest) = cursor.split_once(':').ok_or_else(bad)?;
        let offset = || rest.parse().ok().filter(|offset| *offset <= 10_000_000).ok_or_else(bad);
        Ok(match what {
            "past" => Self::Past(rest.to_owned()),
            "older" => Self::Older(offset()?),
            set => Self::Live(set.parse().ok().filter(|set| *set <= sets).ok_or_else(bad)?, offset()?),
        })
    }

    fn cursor(&self) -> String {
        match self {
            Self::Live(set, offset) => format!("{set}:{offset}"),
            Self::Past(after) => format!("past:{after}"),
            Self::Older(offset) => format!("older:{offset}"),
        }
    }
}

impl Queue {
    /// Builds, those in line first in their order, then live ones, then ended ones, latest first.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a cursor that we did not issue.
    pub async fn builds(&self, filter: &Filter) -> Result<Page<Build>> {
        let limit = page_size(filter.limit);
        let sets = self.live_sets(filter);
        let mut start = Start::of(filter.cursor.as_deref(), sets.len())?;
        let mut page = Page { items: Vec::new(), cursor: None, unreadable: Vec::new() };
        let oldest = self.oldest_listed(filter).await?;
        let mut read = 0;
        loop {
            let next = match &start {
                Start::Live(set, offset) => match sets.get(*set) {
                    Some(key) => {
                        let ids = |offset, count| self.zrange::<String>(key, offset, count, false);
                        let rest = self.take(filter, &mut page, &mut read, *offset, ids).await?;
                        Some(rest.map_or(Start::Live(set + 1, 0), |offset| Start::Live(*set, offset)))
                    }
                    None if filter.wants_ended() => Some(Start::Past(String::new())),
                    None => None,
                },
                Start::Past(after) => {
                    let rest = self.take_records(filter, oldest, &mut page, &mut read, after).await?;
                    Some(rest.map_or(Start::Older(0), Start::Past))
                }
                Start::Older(offset) => {
                    let newest = self.recorded_since().await?;
                    let ids = |offset, count| self.ended_between(newest, oldest, offset, count);
                    self.take(filter, &mut page, &mut read, *offset, ids).await?.map(Start::Older)
                }
            };
            let Some(next) = next else { return Ok(page) };
            start = next;
            if page.items.len() >= limit || read >= READ_MAX {
                page.cursor = Some(start.cursor());
                return Ok(page);
            }
        }
    }

    /// Takes builds of a set into a page, from an offset on. Returns where to go on, unless the set was read to its
    /// end.
    async fn take<F: Future<Output = Result<Vec<String>>>>(
        &self,
        filter: &Filter,
        page: &mut Page<Build>,
        read: &mut usize,
        mut offset: usize,
        ids: impl Fn(usize, usize) -> F,
    ) -> Result<Option<usize>> {
        let limit = page_size(filter.limit);
        while page.items.len() < limit && *read < READ_MAX {
            let room = limits::PAGE.min(READ_MAX - *read);
            let ids = ids(offset, room).await?;
            let exhausted = ids.len() < room;
            let parsed: Vec<BuildId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            let mut found = self.load(&parsed).await?.by_id();
            let mut taken = 0;
            for id in &parsed {
                if page.items.len() == limit {
                    break;
                }
                taken += 1;
                match found.remove(id) {
                    Some(Ok(build)) if filter.fits(&build) => page.items.push(build),
                    Some(Err(bad)) => page.unreadable.push(bad),
                    _ => {}
                }
            }
            *read += taken;
            if exhausted && taken == parsed.len() {
                return Ok(None);
            }
            offset += taken;
        }
        Ok(Some(offset))
    }

    /// The sets of builds that have not ended and that a filter may match.
    fn live_sets(&self, filter: &Filter) -> Vec<String> {
        let keys = self.keys();
        match filter.state {
            _ if filter.only_ended() => vec![],
            None => vec![keys.queued(), keys.leases(), keys.orphans()],
            Some(BuildState::Starting | BuildState::Running) => vec![keys.leases()],
            Some(BuildState::Orphaned) => vec![keys.orphans()],
            Some(_) => vec![keys.queued()],
        }
    }

    /// When the oldest ended builds of a list ended. A list of all builds goes back a day, others as far as there are
    /// records.
    async fn oldest_listed(&self, filter: &Filter) -> Result<u64> {
        match filter.since {
            Some(since) => self.moment(since).await,
            None if filter.only_ended() => Ok(0),
            None => self.moment(Since::Ago(DAY)).await,
        }
    }

    /// Builds that ended before the first record was kept, latest first.
    async fn ended_between(
        &self,
        recorded: Option<u64>,
        oldest: u64,
        offset: usize,
        count: usize,
    ) -> Result<Vec<String>> {
        let newest = recorded.map_or_else(|| "+inf".to_owned(), |at| format!("({at}"));
        let mut pipe = redis::pipe();
        pipe.cmd("ZREVRANGEBYSCORE").arg(self.keys().ended()).arg(newest).arg(oldest);
        pipe.arg("LIMIT").arg(offset).arg(count);
        first(self.link().bulk(&pipe).await?)
    }
}

impl Filter {
    /// Whether ended builds can match.
    fn wants_ended(&self) -> bool {
        self.state.is_none_or(BuildState::is_ended)
    }

    /// Whether only ended builds can match.
    pub fn only_ended(&self) -> bool {
        self.ended
            || self.state.is_some_and(BuildState::is_ended)
            || self.since.is_some()
            || self.class.is_some()
            || self.cause.is_some()
    }

    /// Whether a build matches; how far back it ended is left to the caller.
    pub(super) fn fits(&self, build: &Build) -> bool {
        let failed = build.state == BuildState::Failed;
        self.state.is_none_or(|state| state == build.state)
            && (!self.only_ended() || build.state.is_ended())
            && self.lane.as_ref().is_none_or(|lane| *lane == build.lane)
            && self.class.is_none_or(|class| failed && build.class == Some(class))
            && self.cause.is_none_or(|cause| failed && build.cause.as_deref() == Some(cause.word()))
            && self.text.as_ref().is_none_or(|text| is_in(text, build))
    }
}

/// Whether a build's lane, ref, image, name or id contains a text, whatever its case.
fn is_in(text: &str, build: &Build) -> bool {
    let (text, spec) = (text.to_lowercase(), &build.spec);
    let id = build.id.to_string();
    [build.lane.as_str(), spec.reference.as_str(), spec.image.as_str(), &spec.name, &id]
        .into_iter()
        .any(|part| part.to_lowercase().contains(&text))
}
