//! Recent history: what operators did and how builds changed state, newest first.

use std::fmt;
use std::str::FromStr;

use redis::Value;
use redis::streams::{StreamId, StreamRangeReply};

use super::Queue;
use super::since::Since;
use super::views::Page;
use crate::build::{BuildState, FailureClass};
use crate::error::{Error, Result};
use crate::id::{BuildId, WorkerId};
use crate::invalid::Invalid;
use crate::limits;
use crate::repo::Lane;

/// Entries read in one round trip.
const READ: usize = 1000;
/// Most entries read for one page, matching or not. A filter that matches few entries gives short pages with
/// a cursor, instead of a call of unlimited length.
const READ_MAX: usize = 10_000;

/// Something that an operator did, or that happened by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When, Unix milliseconds.
    pub at: u64,
    /// The token's name; `fairlane` for what happened by itself.
    pub by: String,
    /// What was done, such as `rule set` or `cancel`.
    pub act: String,
    /// To what: a pattern, a build's id, a worker, a node.
    pub what: String,
    /// What else there is to say: a rule, a reason. May be empty.
    pub detail: String,
    /// Why, in the operator's words. May be empty.
    pub reason: String,
}

/// A change of a build's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, Unix milliseconds.
    pub at: u64,
    /// The build.
    pub build: BuildId,
    /// Its lane.
    pub lane: Lane,
    /// The state that it went into.
    pub state: BuildState,
    /// The build's change counter after it.
    pub seq: u64,
    /// Who holds it, or held it until then.
    pub worker: Option<WorkerId>,
    /// The class of the failure that led here.
    pub class: Option<FailureClass>,
    /// The cause of that failure.
    pub cause: Option<String>,
    /// The node or host of the run that ended here.
    pub node: Option<String>,
    /// The reason for a failure, a cancellation or a lost run: its first 200 bytes.
    pub reason: Option<String>,
}

/// Which acts to list. Absent parts match everything.
#[derive(Debug, Clone, Default)]
pub struct ActFilter {
    /// Only later ones.
    pub since: Option<Since>,
    /// Only those of this token.
    pub by: Option<String>,
    /// Only those of this kind.
    pub act: Option<String>,
    /// Only those about exactly this.
    pub what: Option<String>,
    /// At most this many ([`limits::PAGE`] if 0, which is also the maximum).
    pub limit: usize,
    /// Where to start: the cursor of the page before.
    pub cursor: Option<String>,
}

/// Which changes to list. Absent parts match everything.
#[derive(Debug, Clone, Default)]
pub struct ChangeFilter {
    /// Only later ones.
    pub since: Option<Since>,
    /// Only those of this lane.
    pub lane: Option<Lane>,
    /// Only those in which this worker had a hand.
    pub worker: Option<WorkerId>,
    /// Only those into this state.
    pub state: Option<BuildState>,
    /// Only those of this build.
    pub build: Option<BuildId>,
    /// At most this many ([`limits::PAGE`] if 0, which is also the maximum).
    pub limit: usize,
    /// Where to start: the cursor of the page before.
    pub cursor: Option<String>,
}

/// An entry's id in its stream, `<ms>-<number>`. As a cursor, the page starts after this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryId(pub(super) u64, u64);

impl FromStr for EntryId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed =
            text.split_once('-').and_then(|(ms, number)| Some((ms.parse().ok()?, number.parse().ok()?)));
        let (ms, number) = parsed.ok_or_else(|| {
            Invalid::new("cursor", "not a cursor of this list; use the one from the previous page")
        })?;
        Ok(Self(ms, number))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Queue {
    /// What operators did, newest first. If few of many entries match, a page may be short and still have a
    /// cursor.
    pub async fn acts(&self, filter: &ActFilter) -> Result<Page<Act>> {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        let take = |entry: &StreamId| {
            let act = act(entry)?;
            let matches =
                fits(&filter.by, &act.by) && fits(&filter.act, &act.act) && fits(&filter.what, &act.what);
            matches.then_some(act)
        };
        let key = self.keys().audit();
        self.newest_first(&key, filter.since, filter.limit, filter.cursor.as_deref(), take).await
    }

    /// Changes of builds' states, newest first, as pages like those of [`Self::acts`]. Redis keeps
    /// the latest fifty thousand.
    pub async fn changes(&self, filter: &ChangeFilter) -> Result<Page<Change>> {
        let take = |entry: &StreamId| {
            let change = change(entry)?;
            let matches = filter.lane.as_ref().is_none_or(|lane| *lane == change.lane)
                && filter.worker.as_ref().is_none_or(|worker| change.worker.as_ref() == Some(worker))
                && filter.state.is_none_or(|state| state == change.state)
                && filter.build.is_none_or(|build| build == change.build);
            matches.then_some(change)
        };
        let key = self.keys().events();
        self.newest_first(&key, filter.since, filter.limit, filter.cursor.as_deref(), take).await
    }

    /// A page of a stream from its end, of the entries that `take` accepts.
    async fn newest_first<T>(
        &self,
        key: &str,
        since: Option<Since>,
        limit: usize,
        cursor: Option<&str>,
        take: impl Fn(&StreamId) -> Option<T>,
    ) -> Result<Page<T>> {
        let limit = if limit == 0 { limits::PAGE } else { limit.min(limits::PAGE) };
        let oldest = match since {
            None => "-".to_owned(),
            Some(since) => self.moment(since).await?.to_string(),
        };
        let mut before = cursor.map(str::parse::<EntryId>).transpose()?;
        let (mut items, mut read) = (Vec::new(), 0);
        while read < READ_MAX {
            // If everything matches, the first page takes one round trip of the page's own size.
            let wanted = if read == 0 { limit + 1 } else { READ };
            let newest = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
            let mut pipe = redis::pipe();
            pipe.cmd("XREVRANGE").arg(key).arg(newest).arg(&oldest).arg("COUNT").arg(wanted);
            let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
            let page: StreamRangeReply = redis::from_redis_value(answer).map_err(Error::reply)?;
            let (count, is_last) = (page.ids.len(), page.ids.len() < wanted);
            for entry in &page.ids {
                let id = entry.id.parse()?;
                if let Some(item) = take(entry) {
                    if items.len() == limit {
                        return Ok(Page {
                            items,
                            cursor: before.map(|id| id.to_string()),
                            unreadable: Vec::new(),
                        });
                    }
                    items.push(item);
                }
                before = Some(id);
            }
            if is_last {
                return Ok(Page { items, cursor: None, unreadable: Vec::new() });
            }
            read += count;
        }
        Ok(Page { items, cursor: before.map(|id| id.to_string()), unreadable: Vec::new() })
    }
}

/// A field's text; empty if an older release did not write it. A reason that was cut in the middle of a
/// character loses that character.
pub(super) fn text(entry: &StreamId, name: &str) -> String {
    let bytes = entry.get::<Vec<u8>>(name).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()
}

fn act(entry: &StreamId) -> Option<Act> {
    Some(Act {
        at: text(entry, "at").parse().ok()?,
        by: text(entry, "by"),
        act: text(entry, "act"),
        what: text(entry, "what"),
        detail: text(entry, "detail"),
        reason: text(entry, "reason"),
    })
}

fn change(entry: &StreamId) -> Option<Change> {
    let EntryId(at, _) = entry.id.parse().ok()?;
    Some(Change {
        at,
        build: text(entry, "build").parse().ok()?,
        lane: text(entry, "lane").parse().ok()?,
        state: text(entry, "state").parse().ok()?,
        seq: text(entry, "seq").parse().ok()?,
        worker: text(entry, "worker").parse().ok(),
        class: text(entry, "class").parse().ok(),
        cause: Some(text(entry, "cause")).filter(|cause| !cause.is_empty()),
        node: Some(text(entry, "node")).filter(|node| !node.is_empty()),
        reason: Some(text(entry, "reason")).filter(|reason| !reason.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_ids_of_entries() {
        assert_eq!("17-3".parse(), Ok(EntryId(17, 3)));
        for bad in ["", "17", "17-", "x-1", "(17-3"] {
            assert!(bad.parse::<EntryId>().is_err(), "{bad}");
        }
    }
}
