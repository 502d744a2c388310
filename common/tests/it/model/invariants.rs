//! The promises, checked by brute force against everything in Redis.

use std::collections::{BTreeMap, HashMap, HashSet};

use fairlane_common::queue::{Claim, Claimed, Counts};
use fairlane_common::{Build, BuildId, BuildState, FailureClass, Lane, Pattern, Priority, Rule};

use crate::scene::Scene;

/// Which promise was broken, in one sentence.
pub(crate) type Broken = String;

/// Everything in Redis at one moment.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) builds: HashMap<BuildId, Build>,
    pub(crate) dispatchers: HashSet<String>,
    pub(crate) rules: BTreeMap<Pattern, Rule>,
    pub(crate) slots: u64,
    /// The mean duration of all builds, in ms.
    pub(crate) mean: Option<u64>,
    workers: u64,
    /// Permits of builds whose record was deleted by hand; they count until a repair finds them.
    ghosts: HashMap<Lane, usize>,
    /// How many workers each place has, as the queue counts them.
    places: HashMap<String, usize>,
    sorting: bool,
    /// Whether workers are registering runs after Redis was emptied.
    pub(crate) refilling: bool,
    pub(crate) avoided: usize,
    shared_permits: HashMap<Pattern, HashSet<BuildId>>,
    pub(super) counts: Counts,
}

impl State {
    pub(crate) async fn read(scene: &Scene) -> Self {
        let keys: Vec<String> = scene.redis(&["KEYS", "{fairlane}:build:*"]).await;
        let ids: Vec<BuildId> =
            keys.iter().map(|key| key.rsplit(':').next().unwrap().parse().unwrap()).collect();
        let builds: HashMap<BuildId, Build> =
            scene.queue.load(&ids).await.unwrap().builds.into_iter().map(|build| (build.id, build)).collect();
        let snapshot = scene.queue.snapshot().await.unwrap();
        let timers: Vec<String> = scene.redis(&["ZRANGE", "{fairlane}:timers", "0", "-1"]).await;
        let mut shared_permits = HashMap::new();
        for pattern in super::world::PATTERNS {
            let holders: Vec<String> =
                scene.redis(&["ZRANGE", &scene.queue.keys().permits_shared(pattern), "0", "-1"]).await;
            shared_permits
                .insert(pattern.parse().unwrap(), holders.iter().map(|id| id.parse().unwrap()).collect());
        }
        Self {
            now: scene.clock.now_ms(),
            dispatchers: scene.redis(&["ZRANGE", "{fairlane}:dispatchers", "0", "-1"]).await,
            rules: scene.queue.rules().await.unwrap(),
            slots: snapshot.slots,
            mean: snapshot.mean_ms,
            workers: snapshot.workers,
            places: Self::places(scene).await,
            ghosts: Self::ghosts(scene, &builds).await,
            builds,
            refilling: snapshot.refill_until.is_some(),
            avoided: scene.queue.nodes().await.unwrap().len(),
            shared_permits,
            counts: scene.queue.counts().await.unwrap(),
            sorting: timers.iter().any(|timer| timer.starts_with("place:")),
        }
    }

    async fn ghosts(scene: &Scene, builds: &HashMap<BuildId, Build>) -> HashMap<Lane, usize> {
        let mut ghosts = HashMap::new();
        for repo in super::world::REPOS {
            let lane: Lane = format!("github.com/{repo}").parse().unwrap();
            let holders: Vec<String> =
                scene.redis(&["ZRANGE", &scene.queue.keys().permits(&lane), "0", "-1"]).await;
            let gone = |id: &&String| !builds.contains_key(&id.parse::<BuildId>().unwrap());
            ghosts.insert(lane, holders.iter().filter(gone).count());
        }
        ghosts
    }

    async fn places(scene: &Scene) -> HashMap<String, usize> {
        let mut places = HashMap::new();
        for place in super::world::PLACES {
            let fresh = (scene.clock.now_ms() - 60_000).to_string();
            let workers = scene.redis(&["ZCOUNT", &scene.queue.keys().place(place), &fresh, "+inf"]).await;
            places.insert(place.to_owned(), workers);
        }
        places
    }

    /// How many runs of a place wait for adoption.
    fn orphans_at(&self, place: &str) -> usize {
        let here =
            |build: &&Build| build.state == BuildState::Orphaned && build.place.as_deref() == Some(place);
        self.builds.values().filter(here).count()
    }

    fn live(&self) -> impl Iterator<Item = &Build> {
        self.builds.values().filter(|build| is_live(build.state))
    }

    /// The rules for a lane, most specific first.
    fn rules_of<'a>(&'a self, lane: &'a Lane) -> impl Iterator<Item = (&'a Pattern, &'a Rule)> {
        let mut found: Vec<_> = self.rules.iter().filter(|(pattern, _)| pattern.matches(lane)).collect();
        found.sort_by_key(|(pattern, _)| std::cmp::Reverse((pattern.is_lane(), pattern.as_str().len())));
        found.into_iter()
    }

    fn limit_in_force(&self, rule: &Rule) -> bool {
        rule.until.is_none_or(|until| until > self.now)
    }

    fn held(&self, lane: &Lane) -> bool {
        self.rules_of(lane)
            .any(|(_, rule)| rule.hold.as_ref().is_some_and(|hold| hold.until.is_none_or(|at| at > self.now)))
    }

    fn limit_and_burst(&self, lane: &Lane) -> (usize, usize) {
        let default = if self.slots < 4 { 1 } else { 2 };
        let (mut limit, mut burst) = (None, None);
        for (_, rule) in self.rules_of(lane).filter(|(_, rule)| !rule.together && self.limit_in_force(rule)) {
            if burst.is_none() {
                burst = rule.burst.or(if limit.is_none() { rule.limit } else { None });
            }
            limit = limit.or(rule.limit);
        }
        let limit = limit.unwrap_or(default) as usize;
        (limit, burst.map_or(3.max(default as usize), |burst| burst as usize).max(limit))
    }

    /// The shared limit of a lane, and the pattern of the rule that sets it.
    fn shared<'a>(&'a self, lane: &'a Lane) -> Option<(usize, &'a Pattern)> {
        self.rules_of(lane)
            .find(|(_, rule)| rule.together && self.limit_in_force(rule))
            .map(|(pattern, rule)| (rule.limit.unwrap() as usize, pattern))
    }
}

pub(super) fn is_live(state: BuildState) -> bool {
    matches!(state, BuildState::Starting | BuildState::Running | BuildState::Orphaned)
}

/// Whether one state can lead to another through any number of transitions.
fn reachable(from: BuildState, to: BuildState) -> bool {
    let mut found = vec![from];
    let mut at = 0;
    while at < found.len() {
        let here = found[at];
        found.extend(
            BuildState::ALL
                .iter()
                .filter(|next| here.can_become(**next) && !found.contains(next))
                .collect::<Vec<_>>(),
        );
        at += 1;
    }
    found.contains(&to)
}

/// Checks what must hold from one step to the next.
pub(crate) fn check_step(before: &State, after: &State) -> Result<(), Broken> {
    for (id, old) in &before.builds {
        let Some(new) = after.builds.get(id) else {
            return Err(format!("{id} is gone"));
        };
        if !reachable(old.state, new.state) {
            return Err(format!("{id} went from {} to {}", old.state, new.state));
        }
        if new.epoch < old.epoch || new.seq < old.seq || new.asked != old.asked {
            return Err(format!("{id} went back: {old:?} to {new:?}"));
        }
        if old.state != new.state && old.seq == new.seq {
            return Err(format!("{id} changed without its counter: {old:?} to {new:?}"));
        }
    }
    // At most a third of the three nodes that workers know.
    if after.avoided > 1 {
        return Err(format!("{} of 3 nodes are avoided", after.avoided));
    }
    for build in after.live() {
        if build.worker.is_none() || build.epoch == 0 {
            return Err(format!("{} is live without a holder", build.id));
        }
    }
    Ok(())
}

/// The permits in use, updated while a claim is replayed.
struct Permits {
    lanes: HashMap<Lane, usize>,
    shared: HashMap<Pattern, HashSet<BuildId>>,
    busy: usize,
    background: usize,
}

/// Checks how many builds a claim got; returns those that were not adopted.
fn check_count<'a>(
    before: &State,
    after: &State,
    claimed: &'a [Claimed],
    claim: &Claim,
    draining: bool,
) -> Result<Vec<&'a Claimed>, Broken> {
    let fresh: Vec<&Claimed> = claimed.iter().filter(|one| !one.adopted).collect();
    let waiting = before.orphans_at(&claim.place);
    let workers = before.places.get(&claim.place).copied().unwrap_or(0);
    let share = waiting.div_ceil(workers.max(1));
    if claimed.len() > claim.free.max(share) {
        return Err(format!("{} builds for {} free slots", claimed.len(), claim.free));
    }
    if fresh.len() > claim.free.saturating_sub(claimed.len() - fresh.len()) {
        return Err(format!("{} fresh builds for {} free slots", fresh.len(), claim.free));
    }
    let adopted = claimed.len() - fresh.len();
    let stuck = after.builds.values().filter(|build| {
        build.class == Some(FailureClass::Stuck)
            && before.builds.get(&build.id).is_some_and(|old| old.state == BuildState::Orphaned)
    });
    if !draining && adopted + stuck.count() < share {
        return Err(format!("{adopted} of {waiting} orphans were adopted at {}", claim.place));
    }
    if draining && !fresh.is_empty() {
        return Err("a draining worker got a build".to_owned());
    }
    Ok(fresh)
}

/// Checks a claim: limits, order, and that it left nothing that could start.
pub(crate) fn check_claim(
    before: &State,
    after: &State,
    claimed: &[Claimed],
    claim: &Claim,
    draining: bool,
) -> Result<(), Broken> {
    let fresh = check_count(before, after, claimed, claim, draining)?;
    if before.refilling && !fresh.is_empty() {
        return Err("a build was begun before it was known what runs".to_owned());
    }
    if draining || before.refilling {
        return Ok(());
    }
    let mut permits = Permits::of(before);
    let mut waiting: HashMap<BuildId, &Build> = before
        .builds
        .values()
        .filter(|build| build.state == BuildState::Queued && build.not_before.is_none())
        .map(|build| (build.id, build))
        .collect();
    let settled = !before.sorting && !after.sorting;
    for one in fresh {
        let Some(build) = waiting.get(&one.build.id).copied() else {
            return Err(format!("{} was not in line", one.build.id));
        };
        if !permits.may_start(before, build) {
            return Err(format!("{} of {} started over a limit", build.id, build.lane));
        }
        let earlier =
            waiting.values().find(|other| other.due < build.due && permits.may_start(before, other));
        if let (Some(other), true) = (earlier, settled) {
            return Err(format!(
                "{} (due {}) started before {} (due {})",
                build.id, build.due, other.id, other.due
            ));
        }
        waiting.remove(&build.id);
        if let Some((_, pattern)) = before.shared(&build.lane) {
            permits.shared.entry(pattern.clone()).or_default().insert(build.id);
        }
        permits.hold(build);
    }
    if claimed.len() < claim.free && settled {
        let left = waiting.values().find(|build| permits.may_start(before, build));
        if let Some(build) = left {
            return Err(format!("{} of {} was left with a free slot: {build:?}", build.id, build.lane));
        }
    }
    Ok(())
}

/// What must hold of a call of `feed`; gives the builds that it made.
pub(crate) fn check_feed(before: &State, after: &State) -> Result<Vec<BuildId>, Broken> {
    let mut new: Vec<&Build> =
        after.builds.values().filter(|build| !before.builds.contains_key(&build.id)).collect();
    new.sort_by_key(|build| build.due);
    let Some(first) = new.first() else { return Ok(vec![]) };
    if before.refilling {
        return Err(format!("{} was made before it was known what runs", first.id));
    }
    let mut permits = Permits::of(before);
    let mut in_line: HashMap<&Lane, usize> = HashMap::new();
    for build in before.builds.values().filter(|b| b.state == BuildState::Queued && b.not_before.is_none()) {
        if permits.may_start(before, build) && !before.sorting {
            return Err(format!("{} was made while {} of {} could start", first.id, build.id, build.lane));
        }
        *in_line.entry(&build.lane).or_default() += 1;
    }
    // A build that enters the line has its lane's permits checked, so those that nobody holds may be gone already.
    for (lane, ghosts) in &before.ghosts {
        let left = after.ghosts.get(lane).copied().unwrap_or(0);
        *permits.lanes.entry(lane.clone()).or_default() -= ghosts.saturating_sub(left);
    }
    for build in &new {
        if build.spec.priority != Priority::Background || build.campaign.is_none() {
            return Err(format!("{build:?} is no build of a campaign"));
        }
        let waiting = in_line.get(&build.lane).copied().unwrap_or(0);
        let taken = permits.lanes.get(&build.lane).copied().unwrap_or(0);
        let slots = usize::try_from(before.slots).unwrap();
        let fits = taken + waiting < before.limit_and_burst(&build.lane).0 && permits.busy < slots;
        let fits = fits && permits.may_start(before, build);
        if !fits && !before.sorting {
            return Err(format!("{} of {} was made and cannot start", build.id, build.lane));
        }
        permits.hold(build);
    }
    Ok(new.iter().map(|build| build.id).collect())
}

/// After a pause or a cancellation, no build of a campaign stands in line, unless people wait for it.
pub(crate) fn check_nothing_starts(state: &State, campaign: &str) -> Result<(), Broken> {
    let left = state.builds.values().find(|build| {
        build.state == BuildState::Queued
            && build.campaign.as_deref() == Some(campaign)
            && build.spec.priority == Priority::Background
            && build.people == 0
    });
    left.map_or(Ok(()), |build| Err(format!("{} of {campaign} could still start", build.id)))
}

/// The first build that a worker could start now, if it had a slot for it.
pub(crate) fn startable(state: &State) -> Option<&Build> {
    if state.sorting || state.refilling {
        return None;
    }
    let permits = Permits::of(state);
    let waiting = state.builds.values().filter(|b| b.state == BuildState::Queued && b.not_before.is_none());
    waiting.filter(|build| permits.may_start(state, build)).min_by_key(|build| build.due)
}

/// If a build can start, a worker is woken for it.
pub(crate) fn check_wake(state: &State, tokens: u64) -> Result<(), Broken> {
    match startable(state) {
        Some(build) if tokens == 0 && state.workers > 0 => {
            Err(format!("nobody is told that {} of {} could start", build.id, build.lane))
        }
        _ => Ok(()),
    }
}

impl Permits {
    fn of(state: &State) -> Self {
        let mut permits = Self {
            lanes: state.ghosts.clone(),
            shared: state.shared_permits.clone(),
            busy: 0,
            background: 0,
        };
        for build in state.live() {
            permits.hold(build);
        }
        permits
    }

    fn hold(&mut self, build: &Build) {
        *self.lanes.entry(build.lane.clone()).or_default() += 1;
        self.busy += 1;
        self.background += usize::from(build.spec.priority == Priority::Background);
    }

    /// Whether `build` may start now. (Builds that started before a rule got `together` hold no permit of its
    /// shared limit.)
    fn may_start(&self, state: &State, build: &Build) -> bool {
        let lane = &build.lane;
        let slots = usize::try_from(state.slots).unwrap();
        let taken = self.lanes.get(lane).copied().unwrap_or(0);
        let (limit, burst) = state.limit_and_burst(lane);
        if state.held(lane) {
            return false;
        }
        if build.spec.priority == Priority::Background && self.background >= (slots * 3 / 4).max(1) {
            return false;
        }
        match state.shared(lane) {
            Some((most, pattern)) => taken < limit && self.shared.get(pattern).map_or(0, HashSet::len) < most,
            None => taken < limit || (taken < burst && slots.saturating_sub(self.busy) * 2 > slots),
        }
    }
}
