//! Records of ended builds: what is known of a build after its hash has expired.

use redis::Value;
use redis::streams::{StreamId, StreamRangeReply};

use super::Queue;
use super::activity::{EntryId, text};
use super::inspect::{Filter, first, page_size, whole};
use super::views::Page;
use crate::build::{Build, BuildSpec, BuildState, Priority};
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::limits;

/// Records read in one round trip.
const READ: usize = 500;
/// Most records read for one page, matching or not.
const READ_MAX: usize = 5000;

impl Queue {
    /// A build, or what its record knows of it once its hash has expired; `None` if no build of the last 7 days has
    /// that id.
    pub async fn build_or_record(&self, id: BuildId) -> Result<Option<Build>> {
        if let Some(build) = self.build(id).await? {
            return Ok(Some(build));
        }
        let mut pipe = redis::pipe();
        pipe.cmd("ZSCORE").arg(self.keys().ended()).arg(id.to_string());
        let Some(at) = first::<Option<f64>>(self.link().bulk(&pipe).await?)? else { return Ok(None) };
        let at = whole(at).to_string();
        // Builds that ended within the same millisecond.
        let records = self.records(&at, &at, limits::PAGE).await?;
        Ok(records.iter().filter_map(record).find(|build| build.id == id))
    }

    /// Records between two entries of the stream, newest first.
    pub(super) async fn records(&self, newest: &str, oldest: &str, count: usize) -> Result<Vec<StreamId>> {
        let mut pipe = redis::pipe();
        pipe.cmd("XREVRANGE").arg(self.keys().past()).arg(newest).arg(oldest).arg("COUNT").arg(count);
        let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
        let page: StreamRangeReply = redis::from_redis_value(answer).map_err(Error::reply)?;
        Ok(page.ids)
    }

    /// Takes ended builds into a page by their records, newest first: those with a hash as they are there. Returns
    /// where to go on, unless all records were read.
    pub(super) async fn take_records(
        &self,
        filter: &Filter,
        oldest: u64,
        page: &mut Page<Build>,
        read: &mut usize,
        after: &str,
    ) -> Result<Option<String>> {
        let room = page_size(filter.limit).saturating_sub(page.items.len());
        let oldest = oldest.to_string();
        let mut before = if after.is_empty() { None } else { Some(after.parse::<EntryId>()?) };
        let (mut found, mut rest, mut count) = (Vec::new(), true, 0);
        'records: while count < READ_MAX {
            let wanted = if count == 0 { room + 1 } else { READ };
            let newest = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
            let records = self.records(&newest, &oldest, wanted).await?;
            count += records.len();
            for entry in &records {
                if found.len() == room {
                    break 'records;
                }
                before = Some(entry.id.parse()?);
                found.extend(record(entry).filter(|build| filter.fits(build)));
            }
            if records.len() < wanted {
                rest = false;
                break;
            }
        }
        *read += count;
        self.with_hashes(found, page).await?;
        Ok(rest.then(|| before.map(|id| id.to_string()).unwrap_or_default()))
    }

    /// Adds records to a page, replaced by the builds themselves where these are still known.
    async fn with_hashes(&self, records: Vec<Build>, page: &mut Page<Build>) -> Result<()> {
        let ids: Vec<BuildId> = records.iter().map(|build| build.id).collect();
        let mut known = self.load(&ids).await?.by_id();
        for record in records {
            match known.remove(&record.id) {
                Some(Ok(build)) => page.items.push(build),
                Some(Err(bad)) => page.unreadable.push(bad),
                None => page.items.push(record),
            }
        }
        Ok(())
    }

    /// The time of the oldest record, Unix milliseconds.
    pub(super) async fn recorded_since(&self) -> Result<Option<u64>> {
        let mut pipe = redis::pipe();
        pipe.cmd("XRANGE").arg(self.keys().past()).arg("-").arg("+").arg("COUNT").arg(1);
        let page: StreamRangeReply = first(self.link().bulk(&pipe).await?)?;
        page.ids.first().map(|entry| Ok(entry.id.parse::<EntryId>()?.0)).transpose()
    }
}

/// A build as its record has it; `None` if it cannot be read.
pub(super) fn record(entry: &StreamId) -> Option<Build> {
    let text = |name| text(entry, name);
    let maybe = |name| Some(text(name)).filter(|value| !value.is_empty());
    let number = |name| text(name).parse::<u64>().ok();
    let lane: crate::Lane = text("lane").parse().ok()?;
    let repo = maybe("repo").unwrap_or_else(|| format!("https://{lane}"));
    let image = text("image");
    let reference = maybe("ref").or_else(|| Some(image.rsplit_once(':')?.1.to_owned()))?;
    let spec = BuildSpec::new(repo.parse().ok()?, reference.parse().ok()?, image.parse().ok()?);
    let attempts = u32::try_from(number("attempts").unwrap_or(0)).ok()?;
    let state: BuildState = text("state").parse().ok()?;
    let asked = number("asked")?;
    let mut build = Build::ended(text("id").parse().ok()?, spec, lane, state, asked);
    if text("background") == "1" {
        build.spec.priority = Priority::Background;
    }
    build.started = number("started");
    build.ended = Some(entry.id.parse::<EntryId>().ok()?.0);
    build.class = maybe("class").and_then(|class| class.parse().ok());
    build.cause = maybe("cause");
    build.reason = maybe("reason");
    build.node = maybe("node");
    build.slot_ms = number("slot_ms").unwrap_or(0);
    build.peak = number("peak").unwrap_or(0);
    build.failed_attempts = attempts.saturating_sub(1);
    build.attempt = attempts.max(1);
    // Whether it ever ran is all that is left of its leases.
    build.epoch = u64::from(attempts > 0);
    Some(build)
}
