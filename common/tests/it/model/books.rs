//! What Redis keeps beside the builds themselves: how long each key lives, which image belongs to which build, timers,
//! people, and the books of campaigns. All of it is read at once and compared with the builds.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Redis keeps scores as floating point numbers; these are whole and small enough"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use fairlane_common::{Build, BuildId, BuildState, FailureClass, Priority, Rule};

use super::invariants::{Broken, State};
use super::world::ensure;
use super::world::holding::LOG_BYTES;
use crate::scene::Scene;

const DAY_S: i64 = 86_400;
/// Keys expire by Redis's own clock, and a history takes a while.
const HISTORY_S: i64 = 900;
/// A key that never expires.
const STAYS: RangeInclusive<i64> = -1..=-1;
const READ_ALL: &str = "local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, {}
  if kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'string' then value = { redis.call('GET', key) } end
  all[#all + 1] = { key, redis.call('TTL', key), value }
end
return cjson.encode(all)";

/// Every key without the queue's prefix: how many seconds it lives, and what it holds, except for streams and lists.
pub(crate) struct Books(BTreeMap<String, (i64, Vec<String>)>);

fn lives(seconds: i64) -> RangeInclusive<i64> {
    seconds - HISTORY_S..=seconds
}

impl Books {
    pub(crate) async fn read(scene: &Scene) -> Self {
        let text: String = scene.redis(&["EVAL", READ_ALL, "0"]).await;
        // An empty table of Lua is an object in JSON.
        let all: Vec<(String, i64, serde_json::Value)> = serde_json::from_str(&text).unwrap();
        let strings = |value| serde_json::from_value::<Vec<String>>(value).unwrap_or_default();
        let keys = all.into_iter().filter_map(|(key, ttl, value)| {
            Some((key.strip_prefix("{fairlane}:")?.to_owned(), (ttl, strings(value))))
        });
        Self(keys.collect())
    }

    fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], |(_, values)| values.as_slice())
    }

    /// The fields of a hash, or the scores of a set.
    fn pairs(&self, key: &str) -> HashMap<&str, &str> {
        self.values(key).chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect()
    }

    fn number(&self, key: &str, field: &str) -> f64 {
        self.pairs(key).get(field).and_then(|text| text.parse().ok()).unwrap_or(0.0)
    }

    /// Keys that begin like this: the rest of their names.
    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter_map(move |key| key.strip_prefix(prefix))
    }

    pub(crate) fn check(&self, before: &State, after: &State) -> Result<(), Broken> {
        self.check_expiry(before, after)?;
        for build in after.builds.values() {
            self.check_build(build)?;
        }
        self.check_timers(after)?;
        self.check_people(after)?;
        self.check_places()?;
        self.check_log_bytes()?;
        for campaign in self.under("campaign:").filter(|name| !name.contains(':')) {
            self.check_campaign(campaign)?;
        }
        self.check_wanted_images()
    }

    fn check_expiry(&self, before: &State, after: &State) -> Result<(), Broken> {
        for (key, (ttl, _)) in &self.0 {
            let (kind, name) = key.split_once(':').unwrap_or((key.as_str(), ""));
            let due = match kind {
                "build" => match after.builds.get(&id_of(name)) {
                    Some(build) if build.state.is_ended() => lives(DAY_S),
                    _ => STAYS,
                },
                "image" => match after.builds.get(&id_of(&self.values(key)[0])) {
                    Some(build) => remembered(before, build)?,
                    None => continue,
                },
                "stats" => {
                    let fields = self.pairs(key);
                    let known = ["succeeded", "failed", "slow"].iter().any(|name| fields.contains_key(name));
                    if known { lives(180 * DAY_S) } else { STAYS }
                }
                "worker" => lives(DAY_S),
                "node-failures" => lives(3600),
                "campaign" => {
                    let campaign = name.split(':').next().unwrap_or_default();
                    let is_open = self.pairs("campaigns:open").contains_key(campaign);
                    if is_open { STAYS } else { lives(30 * DAY_S) }
                }
                _ => STAYS,
            };
            ensure(due.contains(ttl), || format!("{key} lives for {ttl} s, not {due:?}"))?;
        }
        Ok(())
    }

    fn check_build(&self, build: &Build) -> Result<(), Broken> {
        if build.state.is_ended() {
            return self.check_ended(build);
        }
        let (image, own) = (format!("image:{}", build.spec.image), build.id.to_string());
        let is_own = self.values(&image).first() == Some(&own);
        ensure(is_own != build.cancelling, || format!("{image} names {:?}: {build:?}", self.values(&image)))?;
        let fields = self.pairs_of_build(build.id);
        let of_a_run = ["worker", "place", "claimed", "started", "note", "shared", "bg"];
        let has = |name: &&&str| fields.get(**name).is_some_and(|text| !text.is_empty());
        if build.state == BuildState::Queued {
            let left = of_a_run.iter().find(has);
            return ensure(left.is_none(), || format!("{} is in line and has its {left:?}", build.id));
        }
        let missing = of_a_run[..3].iter().find(|name| !has(name));
        ensure(missing.is_none(), || format!("{} runs without its {missing:?}", build.id))
    }

    /// What has ended keeps no secret and nothing of its run, and is found among what has ended.
    fn check_ended(&self, build: &Build) -> Result<(), Broken> {
        let (fields, own) = (self.pairs_of_build(build.id), build.id.to_string());
        let secret = ["secrets", "sealed_for"]
            .iter()
            .any(|name| fields.get(name).is_some_and(|text| !text.is_empty()));
        ensure(!secret, || format!("{own} has ended and has its secrets"))?;
        let people = self.0.contains_key(&format!("people:{own}"));
        ensure(!people, || format!("{own} has ended and has people"))?;
        let at = self.pairs("ended").get(own.as_str()).and_then(|at| at.parse::<f64>().ok());
        ensure(at.map(|at| at as u64) == build.ended, || format!("{build:?} is among the ended at {at:?}"))?;
        if build.moved.is_some() {
            return Ok(());
        }
        let left = ["not_before", "note", "shared", "bg", "cancelling"];
        let left = left.iter().find(|name| fields.contains_key(**name));
        ensure(left.is_none(), || format!("{own} has ended and has its {left:?}"))?;
        let logs: Vec<&str> =
            self.pairs("logs").into_keys().filter(|entry| entry.starts_with(&own)).collect();
        let known = |bytes: u64| logs == [format!("{own} {} {bytes}", build.attempt)];
        let fits = if build.epoch > 0 { known(LOG_BYTES) || known(0) } else { logs.is_empty() };
        ensure(fits, || format!("{logs:?} are known as logs: {build:?}"))
    }

    /// How much memory the logs of ended builds take.
    fn check_log_bytes(&self) -> Result<(), Broken> {
        let bytes = |entry: &str| entry.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        let sum: f64 = self.pairs("logs").into_keys().map(bytes).sum();
        let counted = self.number("totals", "logs_bytes");
        ensure((counted - sum).abs() < 1.0, || format!("logs have {sum} bytes, and {counted} were counted"))
    }

    /// Each place knows its live workers, and no others.
    fn check_places(&self) -> Result<(), Broken> {
        let mut found = BTreeSet::new();
        for place in self.under("place:") {
            found.extend(self.pairs(&format!("place:{place}")).into_keys().map(|id| (place, id)));
        }
        let mut due = BTreeSet::new();
        for id in self.pairs("workers").into_keys() {
            let place = self.pairs(&format!("worker:{id}")).get("place").copied().unwrap_or_default();
            if place.starts_with("k8s:") {
                due.insert((place, id));
            }
        }
        ensure(found == due, || format!("places know {found:?}, not {due:?}"))
    }

    fn pairs_of_build(&self, id: BuildId) -> HashMap<&str, &str> {
        self.pairs(&format!("build:{id}"))
    }

    /// Whatever ends by itself has a timer, and nothing else has.
    fn check_timers(&self, after: &State) -> Result<(), Broken> {
        let mut expected: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for (pattern, rule) in &after.rules {
            if let Some(end) = end_of(rule) {
                expected.insert(format!("rule:{pattern}"), Some(end));
            }
        }
        for build in after.builds.values().filter(|build| build.state == BuildState::Queued) {
            if build.not_before.is_some() {
                expected.insert(format!("build:{}", build.id), build.not_before);
            }
        }
        let processes = self.pairs("workers").into_keys().map(|id| format!("worker:{id}"));
        expected.extend(processes.map(|timer| (timer, None)));
        let dispatchers = self.pairs("dispatchers").into_keys().chain(self.under("watched:"));
        expected.extend(dispatchers.map(|id| (format!("dispatcher:{id}"), None)));
        let timers = self.pairs("timers");
        for (timer, at) in &expected {
            let found = timers.get(timer.as_str()).and_then(|text| text.parse::<f64>().ok());
            ensure(found.is_some_and(|found| at.is_none_or(|at| found as u64 == at)), || {
                format!("the timer {timer} is {found:?}, not {at:?}")
            })?;
        }
        let stray = timers.keys().find(|timer| {
            (timer.starts_with("rule:") || timer.starts_with("build:") || timer.starts_with("worker:"))
                && !expected.contains_key(**timer)
        });
        ensure(stray.is_none(), || format!("the timer {stray:?} is about nothing"))
    }

    /// After a reap, nothing is due any more.
    pub(crate) fn check_nothing_due(&self, now: u64) -> Result<(), Broken> {
        let due = |set: &str| {
            let found = self.pairs(set).into_iter().find(|(_, at)| at.parse::<f64>().unwrap() <= now as f64);
            found.map(|(name, _)| name.to_owned())
        };
        let quiet = self.number("totals", "quiet_until") > now as f64;
        let left = due("timers").or_else(|| due("leases").filter(|_| !quiet));
        ensure(left.is_none(), || format!("{left:?} is still due"))?;
        let ended = self.pairs("rules").into_iter().find(|(_, text)| {
            let rule: Rule = serde_json::from_str(text).unwrap();
            end_of(&rule).is_some_and(|end| end <= now)
        });
        ensure(ended.is_none(), || format!("a rule has ended and is still there: {ended:?}"))
    }

    /// The people of a build are known by dispatcher, and each dispatcher knows which builds it watches.
    fn check_people(&self, after: &State) -> Result<(), Broken> {
        for build in after.builds.values().filter(|build| !build.state.is_ended()) {
            let counts = self.pairs(&format!("people:{}", build.id)).into_iter();
            let mut sum = 0;
            for (dispatcher, count) in counts {
                let watched = self.values(&format!("watched:{dispatcher}")).contains(&build.id.to_string());
                ensure(watched, || format!("{dispatcher} does not know that it watches {}", build.id))?;
                sum += count.parse::<u64>().unwrap();
            }
            ensure(sum == build.people, || format!("{sum} people were counted: {build:?}"))?;
        }
        Ok(())
    }

    fn item(&self, campaign: &str, item: &str) -> serde_json::Value {
        let items = self.pairs(&format!("campaign:{campaign}:items"));
        items.get(item).map_or(serde_json::Value::Null, |text| serde_json::from_str(text).unwrap())
    }

    /// The items of a campaign that are still to be built.
    fn left<'a>(&'a self, campaign: &str) -> BTreeSet<&'a str> {
        let part = |name: &str| {
            self.values(&format!("campaign:{campaign}:{name}")).chunks(2).map(|pair| pair[0].as_str())
        };
        part("todo").chain(part("open")).chain(part("joined")).collect()
    }

    fn check_campaign(&self, campaign: &str) -> Result<(), Broken> {
        let key = format!("campaign:{campaign}");
        let state = self.pairs(&key).get("state").copied().unwrap_or_default();
        let done: Vec<(&str, serde_json::Value)> = self
            .pairs(&format!("{key}:done"))
            .into_iter()
            .map(|(item, text)| (item, serde_json::from_str(text).unwrap()))
            .collect();
        let (mut covered, mut slot_ms) = (self.number(&key, "present_before"), 0.0);
        for (item, note) in &done {
            if ["built", "present", "people"].contains(&note["how"].as_str().unwrap()) {
                covered += self.item(campaign, item)["launches"].as_f64().unwrap();
            }
            slot_ms += note["slot_ms"].as_f64().unwrap();
        }
        let equal = |field: &str, due: f64| {
            let found = self.number(&key, field);
            ensure((found - due).abs() < 0.001, || format!("{field} of {campaign} is {found}, not {due}"))
        };
        equal("covered", covered)?;
        equal("slot_ms", slot_ms)?;
        for how in ["built", "present", "people", "failed", "cancelled"] {
            equal(how, done.iter().filter(|(_, note)| note["how"] == how).count() as f64)?;
        }
        let failed: BTreeSet<&str> =
            done.iter().filter(|(_, note)| note["how"] == "failed").map(|(item, _)| *item).collect();
        let listed: BTreeSet<&str> = self.pairs(&format!("{key}:failed")).into_keys().collect();
        ensure(failed == listed, || {
            format!("{listed:?} of {campaign} are listed as failed, not {failed:?}")
        })?;
        if state == "cancelled" {
            return Ok(());
        }
        let left = self.left(campaign).into_iter();
        let expected = left.map(|item| self.item(campaign, item)["expected_seconds"].as_f64().unwrap_or(0.0));
        equal("left_ms", 1000.0 * expected.sum::<f64>())
    }

    /// Which items want an image is known for exactly those that are not done.
    fn check_wanted_images(&self) -> Result<(), Broken> {
        let mut due: BTreeSet<(String, String)> = BTreeSet::new();
        for campaign in self.under("campaign:").filter(|name| !name.contains(':')) {
            for item in self.left(campaign) {
                let image = self.item(campaign, item)["image"].as_str().unwrap_or_default().to_owned();
                due.insert((image, format!("{campaign} {item}")));
            }
        }
        let mut found = BTreeSet::new();
        for (image, text) in self.pairs("campaign-images") {
            let words: Vec<&str> = text.split(' ').collect();
            found.extend(words.chunks(2).map(|pair| (image.to_owned(), pair.join(" "))));
        }
        ensure(due == found, || format!("campaigns want {due:?}, and are known to want {found:?}"))
    }
}

fn id_of(text: &str) -> BuildId {
    text.parse().unwrap()
}

/// How long an image is answered with this build.
fn remembered(before: &State, build: &Build) -> Result<RangeInclusive<i64>, Broken> {
    let most = match (build.state, build.class) {
        (BuildState::Succeeded, _) => 60,
        (BuildState::Failed, Some(FailureClass::Repository | FailureClass::Stuck)) => 300,
        (BuildState::Failed, _) => 30,
        (BuildState::Cancelled, _) => {
            return Err(format!("the image of a cancelled build is kept: {build:?}"));
        }
        _ => return Ok(STAYS),
    };
    let is_new = before.builds.get(&build.id).is_some_and(|old| !old.state.is_ended());
    Ok(if is_new { most - 10..=most } else { 0..=most })
}

/// When the first part of a rule ends by itself.
fn end_of(rule: &Rule) -> Option<u64> {
    let stops = [&rule.ban, &rule.hold].into_iter().flatten().filter_map(|stop| stop.until);
    stops.chain(rule.until).min()
}

/// What is counted for each build: the time that it used slots, and the most people that ever waited for it.
pub(crate) fn check_sums(before: &State, after: &State) -> Result<(), Broken> {
    for (id, old) in &before.builds {
        let Some(new) = after.builds.get(id) else { continue };
        let live = |build: &Build| {
            matches!(build.state, BuildState::Starting | BuildState::Running | BuildState::Orphaned)
        };
        let used = match old.claimed {
            Some(claimed) if live(old) && !live(new) => after.now - claimed,
            _ => 0,
        };
        let fits = if before.now == after.now {
            new.slot_ms == old.slot_ms + used
        } else {
            (old.slot_ms..=old.slot_ms + used).contains(&new.slot_ms) || live(new)
        };
        ensure(fits, || format!("{used} ms of a slot were added to {old:?}, and it has {}", new.slot_ms))?;
        let is_back = live(old) && new.state == BuildState::Queued;
        ensure(!is_back || new.attempt == old.attempt + 1, || format!("{old:?} is back in line as {new:?}"))?;
        let peak = old.peak.max(new.people);
        ensure(new.state.is_ended() || new.peak == peak, || {
            format!("{peak} people waited at most: {new:?}")
        })?;
    }
    Ok(())
}

/// A queued build whose place in line was set in this step is where the formula puts it.
pub(crate) fn check_due(before: &State, after: &State) -> Result<(), Broken> {
    if before.now != after.now {
        return Ok(());
    }
    let in_line = |state: &State| {
        let waiting = |build: &&Build| {
            build.state == BuildState::Queued && build.spec.priority == Priority::Interactive
        };
        state.builds.values().filter(waiting).count() as u64
    };
    let (first, last) = (in_line(before).min(in_line(after)), in_line(before).max(in_line(after)));
    for new in after.builds.values().filter(|build| build.state == BuildState::Queued) {
        let facts =
            |build: &Build| (build.state, build.people, build.due, build.spec.priority, build.expected);
        if before.builds.get(&new.id).is_some_and(|old| facts(old) == facts(new)) {
            continue;
        }
        let (mean, people) = (after.mean.unwrap_or(180_000) as f64, new.people.clamp(1, 200) as f64);
        let share = new.expected as f64 / (mean * people);
        let behind = if new.spec.priority == Priority::Background { 1_000_000_000_000 } else { 0 };
        let mut possible = vec![];
        for (in_line, slots) in
            (first.saturating_sub(1)..=last + 1).flat_map(|n| [(n, before.slots), (n, after.slots)])
        {
            let pressure = (in_line as f64 / (20.0 * slots.max(1) as f64)).max(0.2);
            let put_off = (14_400_000.0 * (share * share * share * pressure).min(1.0)).floor();
            possible.push(new.asked + put_off as u64 + behind);
        }
        let fits = possible.iter().any(|due| due.abs_diff(new.due) <= 1);
        ensure(fits, || format!("its due should be one of {possible:?}: {new:?}"))?;
    }
    Ok(())
}

/// An entry of the stream of events.
type Event = (String, HashMap<String, String>);

/// The events after the one with the id `last`.
pub(crate) async fn events_after(scene: &Scene, last: Option<&str>) -> Vec<Event> {
    let from = last.map_or("-".to_owned(), |last| format!("({last}"));
    scene.redis(&["XRANGE", &scene.queue.keys().events(), &from, "+"]).await
}

/// Of each build that has ended there is one record, which says the same as the build.
pub(crate) async fn check_records(scene: &Scene, after: &State) -> Result<(), Broken> {
    let records: Vec<Event> = scene.redis(&["XRANGE", &scene.queue.keys().past(), "-", "+"]).await;
    for build in after.builds.values().filter(|build| build.state.is_ended() && build.moved.is_none()) {
        let own = build.id.to_string();
        let found: Vec<_> = records.iter().filter(|(_, record)| record["id"] == own).collect();
        let [(at, record)] = found[..] else {
            return Err(format!("{} records of {build:?}", found.len()));
        };
        let failed = build.state == BuildState::Failed;
        let text = |text: &Option<String>| text.clone().filter(|_| failed).unwrap_or_default();
        let attempts = if build.epoch > 0 { build.failed_attempts + 1 } else { 0 };
        let class = build.class.filter(|_| failed).map(|class| class.to_string()).unwrap_or_default();
        let same = at.starts_with(&build.ended.unwrap().to_string())
            && record["state"] == build.state.to_string()
            && record["lane"] == build.lane.as_str()
            && record["image"] == build.spec.image.to_string()
            && record["asked"] == build.asked.to_string()
            && record["attempts"] == attempts.to_string()
            && record["slot_ms"] == build.slot_ms.to_string()
            && record["peak"] == build.peak.to_string()
            && (record["background"] == "1") == (build.spec.priority == Priority::Background)
            && record["cause"] == text(&build.cause)
            && record["class"] == class;
        ensure(same, || format!("its record is {record:?}: {build:?}"))?;
    }
    Ok(())
}

impl Books {
    /// Each change of a build has one event, and the last event has the build's current state.
    pub(crate) fn check_events(&self, events: &[Event], before: &State, after: &State) -> Result<(), Broken> {
        for build in after.builds.values() {
            let old = before.builds.get(&build.id);
            let own = build.id.to_string();
            let told: Vec<_> =
                events.iter().map(|(_, fields)| fields).filter(|told| told["build"] == own).collect();
            let Some(last) = told.last() else {
                ensure(old.is_some_and(|old| old.seq == build.seq), || {
                    format!("nobody was told of {build:?}")
                })?;
                continue;
            };
            let numbers: Vec<u64> = told.iter().map(|told| told["seq"].parse().unwrap()).collect();
            let first = old.map_or(numbers[0], |old| old.seq + 1);
            let all: Vec<u64> = (first..=build.seq).collect();
            ensure(numbers == all, || format!("changes {numbers:?} were told, not {all:?}: {build:?}"))?;
            let fields = self.pairs_of_build(build.id);
            let retried = old.is_some_and(|old| build.failed_attempts > old.failed_attempts);
            let names: &[&str] = match build.state {
                BuildState::Failed => &["state", "lane", "class", "reason", "cause", "worker"],
                BuildState::Cancelled => &["state", "lane", "reason"],
                BuildState::Queued if retried => &["state", "lane", "class", "reason", "cause"],
                BuildState::Queued => &["state", "lane"],
                _ => &["state", "lane", "worker"],
            };
            let wrong = names.iter().find(|name| {
                let now = fields.get(**name).copied().unwrap_or_default();
                last[**name] != now.chars().take(200).collect::<String>()
            });
            ensure(wrong.is_none(), || format!("the {wrong:?} was told wrong: {last:?}, {fields:?}"))?;
        }
        Ok(())
    }
}
