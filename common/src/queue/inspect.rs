//! Read-only views of the queue. Every list is a page.

use super::Queue;
pub use super::views::{CheckReport, Filter, LaneView, NodeView, Page, Scale, Snapshot, WorkerView};
use crate::build::Build;
use crate::error::{Error, Result};
use crate::id::BuildId;
use crate::invalid::Invalid;
use crate::library::{CHECK, LANE, REFILLING, SCALE, SNAPSHOT};
use crate::limits;
use crate::queue::script::{Args, Reply};
use crate::repo::Lane;
use redis::Value;

impl Queue {
    /// The live, or recently ended, build of an image.
    pub async fn build_of_image(&self, image: &crate::Image) -> Result<Option<BuildId>> {
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(self.keys().image(image));
        let id: Option<String> = first(self.link().bulk(&pipe).await?)?;
        Ok(id.map(|id| id.parse()).transpose()?)
    }

    /// A build's position in line, from 1, and the length of the line; `None` once it has started.
    pub async fn position(&self, id: BuildId) -> Result<Option<(u64, u64)>> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANK").arg(self.keys().queued()).arg(id.to_string());
        pipe.cmd("ZCARD").arg(self.keys().queued());
        let mut answers = self.link().bulk(&pipe).await?.into_iter();
        let rank: Option<u64> = first(answers.next().into_iter().collect())?;
        let total: u64 = first(answers.collect())?;
        Ok(rank.map(|rank| (rank + 1, total)))
    }

    /// The same, and how many builds of its lane are ahead of it.
    pub(super) async fn places(&self, build: &Build) -> Result<(Option<(u64, u64)>, u64)> {
        let id = build.id.to_string();
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANK").arg(self.keys().queued()).arg(&id);
        pipe.cmd("ZCARD").arg(self.keys().queued());
        pipe.cmd("ZRANK").arg(self.keys().lane(&build.lane)).arg(&id);
        let mut answers = self.link().bulk(&pipe).await?.into_iter();
        let mut number = || first::<Option<u64>>(answers.next().into_iter().collect());
        let (rank, line, ahead) = (number()?, number()?, number()?);
        Ok((rank.map(|rank| (rank + 1, line.unwrap_or(0))), ahead.unwrap_or(0)))
    }

    /// The queue in numbers.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut reply = self.call(&SNAPSHOT, Args::new()).await?;
        Ok(Snapshot {
            now: reply.parse("now")?,
            queued: reply.parse("queued")?,
            leased: reply.parse("leases")?,
            orphaned: reply.parse("orphans")?,
            workers: reply.parse("workers")?,
            dispatchers: reply.parse("dispatchers")?,
            slots: reply.parse("slots")?,
            people: reply.parse("people")?,
            background: reply.parse("background")?,
            background_max: reply.parse("background_max")?,
            mean_ms: reply.maybe::<f64>("mean")?.map(whole),
            lanes_ready: reply.parse("lanes")?,
            lanes_burst: reply.parse("lanes:burst")?,
            lanes_full: reply.parse("lanes:full")?,
            lanes_held: reply.parse("lanes:held")?,
            oldest_asked: reply.maybe("oldest")?,
            ended: reply.parse("ended")?,
            taking: reply.parse("taking")?,
            paused: reply.parse("paused")?,
            paused_why: reply.maybe("why")?,
            probing: {
                let (node, at): (Option<String>, Option<u64>) =
                    (reply.maybe("only")?, reply.maybe("probe_at")?);
                node.zip(at)
            },
            avoided: reply.parse("avoided")?,
            refill_until: reply.maybe("refill_until")?,
            aside: reply.parse("aside")?,
            repairs: reply.parse("repairs")?,
            logs_bytes: reply.parse("logs_bytes")?,
            log_lines_missing: reply.parse("log_lines_missing")?,
            pushing: reply.parse("pushing")?,
            push_waiting: reply.parse("push_waiting")?,
            campaigns: reply.parse("campaigns")?,
            campaign_builds: reply.parse("campaign_builds")?,
        })
    }

    /// Since when the oldest orphan has waited for a worker, Unix milliseconds.
    pub async fn oldest_orphan(&self) -> Result<Option<u64>> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANGE").arg(self.keys().orphans()).arg(0).arg(0).arg("WITHSCORES");
        let oldest: Vec<(String, f64)> = first(self.link().bulk(&pipe).await?)?;
        Ok(oldest.first().map(|(_, since)| whole(*since)))
    }

    /// How long runs will still be registered after Redis was emptied, in milliseconds.
    pub async fn refilling(&self) -> Result<Option<u64>> {
        let left: u64 = self.call(&REFILLING, Args::new()).await?.parse("left")?;
        Ok((left > 0).then_some(left))
    }

    /// How many slots the queue could use.
    pub async fn scale(&self) -> Result<Scale> {
        let mut reply = self.call(&SCALE, Args::new().show("most", limits::PAGE)).await?;
        Ok(Scale {
            queued: reply.parse("queued")?,
            startable: reply.parse("startable")?,
            running: reply.parse("running")?,
            slots: reply.parse("slots")?,
            wanted_slots: reply.parse("wanted")?,
        })
    }

    /// One lane; a lane that was never requested exists too, and is empty.
    pub async fn lane(&self, lane: &Lane) -> Result<LaneView> {
        self.lane_views(std::slice::from_ref(lane))
            .await?
            .pop()
            .ok_or_else(|| Error::Corrupt("no lane".to_owned()))
    }

    /// Lanes with builds in line, in the order of their next builds, grouped by what they wait for: ready,
    /// burst, held, full; then lanes that only have running builds.
    pub async fn lanes(&self, limit: usize, cursor: Option<&str>) -> Result<Page<LaneView>> {
        let limit = page_size(limit);
        let keys = self.keys();
        let shared: Vec<String> = {
            let rules = self.rules().await?;
            let together =
                rules.iter().filter(|(_, rule)| rule.together).map(|(pattern, _)| pattern.to_string());
            std::iter::once("slow".to_owned()).chain(together).map(|name| keys.lanes_shared(&name)).collect()
        };
        let mut sets = vec![keys.lanes(), keys.lanes_burst()];
        sets.extend(shared);
        sets.extend([keys.lanes_held(), keys.lanes_full()]);
        let (mut set, mut offset) = parse_cursor(cursor, sets.len())?;
        let mut names: Vec<Lane> = Vec::new();
        while set < sets.len() && names.len() < limit {
            let room = limit - names.len();
            let page: Vec<String> = self.zrange(&sets[set], offset, room, false).await?;
            let read = page.len();
            // `@name` stands for a shared limit; its lanes are listed separately.
            names.extend(
                page.into_iter().filter(|name| !name.starts_with('@')).filter_map(|name| name.parse().ok()),
            );
            if read < room {
                (set, offset) = (set + 1, 0);
            } else {
                offset += read;
            }
        }
        let cursor = (set < sets.len()).then(|| format!("{set}:{offset}"));
        if cursor.is_none() {
            let ids = self.zrange::<String>(&keys.leases(), 0, limits::PAGE, false).await?;
            let ids: Vec<BuildId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            for build in self.load(&ids).await?.builds {
                if !names.contains(&build.lane) {
                    names.push(build.lane);
                }
            }
        }
        Ok(Page { items: self.lane_views(&names).await?, cursor, unreadable: Vec::new() })
    }

    async fn lane_views(&self, lanes: &[Lane]) -> Result<Vec<LaneView>> {
        let mut views = Vec::with_capacity(lanes.len());
        for batch in lanes.chunks(50) {
            let args = batch.iter().fold(Args::new(), |args, lane| args.text("lane", lane.as_str()));
            let items = self.call(&LANE, args).await?.items("lanes")?;
            for (lane, item) in batch.iter().zip(items) {
                views.push(lane_view(lane, item)?);
            }
        }
        Ok(views)
    }

    /// Compares every set with the builds' states. Reads up to `max` entries of each set in one script; 1,000
    /// block Redis for a few milliseconds.
    pub async fn check(&self, max: usize) -> Result<CheckReport> {
        let mut reply = self.call(&CHECK, Args::new().show("most", max)).await?;
        Ok(CheckReport { checked: reply.parse("entries")?, problems: reply.get("problems")? })
    }

    pub(super) async fn zrange<T: redis::FromRedisValue>(
        &self,
        key: &str,
        offset: usize,
        count: usize,
        newest_first: bool,
    ) -> Result<Vec<T>> {
        let mut pipe = redis::pipe();
        let command = if newest_first { "ZREVRANGE" } else { "ZRANGE" };
        pipe.cmd(command).arg(key).arg(offset).arg(offset + count.max(1) - 1);
        first(self.link().bulk(&pipe).await?)
    }
}

pub(super) fn first<T: redis::FromRedisValue>(answers: Vec<Value>) -> Result<T> {
    redis::from_redis_value(answers.into_iter().next().unwrap_or(Value::Nil)).map_err(Error::reply)
}

pub(super) fn page_size(limit: usize) -> usize {
    if limit == 0 { limits::PAGE } else { limit.min(limits::PAGE) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scores are whole milliseconds")]
pub(super) fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

fn parse_cursor(cursor: Option<&str>, sets: usize) -> Result<(usize, usize)> {
    let Some(cursor) = cursor else { return Ok((0, 0)) };
    let parsed =
        cursor.split_once(':').and_then(|(set, offset)| Some((set.parse().ok()?, offset.parse().ok()?)));
    match parsed {
        Some((set, offset)) if set < sets && offset <= 10_000_000 => Ok((set, offset)),
        _ => Err(Error::Invalid(Invalid::new(
            "cursor",
            "not a cursor of this list; use the one from the previous page",
        ))),
    }
}

fn lane_view(lane: &Lane, mut item: Reply) -> Result<LaneView> {
    let holder: Option<BuildId> = item.maybe("holder")?;
    let since: Option<u64> = item.maybe("since")?;
    let shared: Option<String> = item.maybe("shared")?;
    let (shared_limit, shared_permits) = (item.parse("shared_limit")?, item.parse("shared_permits")?);
    let mut stop = |kind: &str| -> Result<Option<(String, String, Option<u64>)>> {
        let Some(pattern) = item.maybe(kind)? else { return Ok(None) };
        Ok(Some((pattern, item.get(&format!("{kind}_message"))?, item.maybe(&format!("{kind}_until"))?)))
    };
    let (held, banned) = (stop("hold")?, stop("ban")?);
    let failed_at: Option<u64> = item.maybe("failed_at")?;
    let failure: String = item.get("failure")?;
    Ok(LaneView {
        lane: lane.clone(),
        at: item.maybe("set")?,
        queued: item.parse("queued")?,
        permits: item.parse("permits")?,
        holder: holder.zip(since),
        limit: item.parse("limit")?,
        burst: item.parse("burst")?,
        shared: shared.map(|name| (name, shared_limit, shared_permits)),
        held,
        banned,
        mean_ms: item.maybe::<f64>("mean")?.map(whole),
        failed_mean_ms: item.maybe::<f64>("failed_mean")?.map(whole),
        builds: (item.parse("succeeded")?, item.parse("failed")?),
        last_failure: failed_at.map(|at| (at, failure)),
    })
}
