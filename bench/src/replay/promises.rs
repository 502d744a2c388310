//! Checks the queue during a replay: keeps records independent of the scripts', and reports when the scripts break
//! a promise.

use std::collections::{BTreeSet, HashMap, HashSet};

use fairlane_common::BuildId;

use super::terms::{self, Terms};

/// Broken promises that are reported in words; further ones are only counted.
const TOLD_MAX: usize = 20;
/// How the queue learns durations; see `common/lua/finish.lua`.
const MEAN_UNKNOWN_MS: u64 = 180_000;
const MEAN_OF_MAX: u64 = 200;
const DURATION_MAX_MS: u64 = 7_200_000;

/// The expected state of a build.
#[derive(Debug, Clone, Copy)]
struct Known {
    lane: usize,
    asked: u64,
    people: u64,
    due: u64,
    state: State,
    /// Whether nobody waits for it.
    background: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    /// Whether it holds a permit of the limit that slow lanes share.
    Running(bool),
    Ended,
}

/// The records, and the broken promises found.
#[derive(Debug)]
pub(super) struct Promises {
    terms: Terms,
    builds: HashMap<BuildId, Known>,
    queued: BTreeSet<(u64, BuildId)>,
    /// By lane.
    running: HashMap<usize, usize>,
    running_all: usize,
    /// Lanes that share the slow limit, and that limit.
    slow: HashSet<usize>,
    slow_limit: usize,
    running_slow: usize,
    running_background: usize,
    /// The running mean of builds of all lanes, in ms, and how many it includes.
    mean: Option<u64>,
    mean_of: u64,
    broken: usize,
    told: Vec<String>,
}

impl Promises {
    /// Nothing has been requested yet.
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            builds: HashMap::new(),
            queued: BTreeSet::new(),
            running: HashMap::new(),
            running_all: 0,
            slow: HashSet::new(),
            slow_limit: usize::MAX,
            running_slow: 0,
            running_background: 0,
            mean: None,
            mean_of: 0,
            broken: 0,
            told: Vec::new(),
        }
    }

    /// Records a broken promise.
    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.broken += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what.into());
        }
    }

    /// How many promises were broken, and the first ones in words.
    pub(super) fn broken(self) -> (usize, Vec<String>) {
        (self.broken, self.told)
    }

    /// Builds in line.
    pub(super) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Free slots.
    pub(super) fn free(&self) -> usize {
        self.terms.slots.saturating_sub(self.running_all)
    }

    /// The queue made a new build for the requested image.
    pub(super) fn asked(&mut self, id: BuildId, lane: usize, now: u64, expected_ms: u64) {
        let due = self.terms.due(now, expected_ms, 1, self.mean(), self.in_line());
        self.made(id, Known { lane, asked: now, people: 1, due, state: State::Queued, background: false });
    }

    /// A build was made for a campaign. Nobody waits for it yet.
    pub(super) fn fed(&mut self, id: BuildId, lane: usize, now: u64, expected_ms: u64) {
        let due = terms::background(self.terms.due(now, expected_ms, 1, self.mean(), self.in_line()));
        self.made(id, Known { lane, asked: now, people: 0, due, state: State::Queued, background: true });
    }

    fn made(&mut self, id: BuildId, known: Known) {
        let due = known.due;
        if self.builds.insert(id, known).is_some() {
            self.note(format!("build {id} was created twice"));
        }
        self.queued.insert((due, id));
    }

    /// One more person waits for a build.
    pub(super) fn joined(&mut self, id: BuildId, expected_ms: u64) {
        let (mean, in_line) = (self.mean(), self.in_line());
        let Some(known) = self.builds.get_mut(&id) else {
            return self.note(format!("build {id} was joined but never created"));
        };
        known.people += 1;
        let was_background = std::mem::take(&mut known.background);
        match known.state {
            State::Queued => {
                self.queued.remove(&(known.due, id));
                known.due = self.terms.due(known.asked, expected_ms, known.people, mean, in_line);
                self.queued.insert((known.due, id));
            }
            // Somebody waits for it now, so it no longer takes up the share of background builds.
            State::Running(_) => self.running_background -= usize::from(was_background),
            State::Ended => self.note(format!("build {id} was joined after its end")),
        }
    }

    /// Records whether the queue counts a lane among the slow ones, which share a limit: `Some(limit)` if so.
    pub(super) fn lane_shares(&mut self, lane: usize, limit: Option<usize>) {
        if let Some(limit) = limit {
            self.slow_limit = limit;
            self.slow.insert(lane);
        } else {
            self.slow.remove(&lane);
        }
    }

    /// A claim gave these builds, each with its position in line, in this order.
    pub(super) fn claimed(&mut self, builds: &[(BuildId, u64)]) {
        for (id, due) in builds {
            self.started(*id, *due);
        }
    }

    fn started(&mut self, id: BuildId, due: u64) {
        let Some(known) = self.builds.get(&id).copied() else {
            return self.note(format!("build {id} was started but never requested"));
        };
        if known.state != State::Queued {
            return self.note(format!("build {id} was started in state {:?}", known.state));
        }
        if known.due != due {
            self.note(format!("build {id} is due at {due}, not at {}", known.due));
        }
        if self.running_all >= self.terms.slots {
            self.note(format!("build {id} was started beyond the {} slots", self.terms.slots));
        } else if known.background && self.is_background_full() {
            self.note(format!(
                "build {id} was started beyond the {} of the background",
                self.terms.background
            ));
        } else if !self.may_start(known.lane) {
            let running = self.running.get(&known.lane).copied().unwrap_or(0);
            self.note(format!("build {id} was started beyond its lane's limit: {running} run already"));
        }
        if let Some((earlier, other)) = self.first_startable(known.due) {
            self.note(format!(
                "build {other}, due at {earlier}, was overtaken by {id}, due at {}",
                known.due
            ));
        }
        let shares = self.slow.contains(&known.lane);
        self.queued.remove(&(known.due, id));
        self.builds.insert(id, Known { state: State::Running(shares), ..known });
        *self.running.entry(known.lane).or_default() += 1;
        self.running_all += 1;
        self.running_slow += usize::from(shares);
        self.running_background += usize::from(known.background);
    }

    fn mean(&self) -> u64 {
        self.mean.unwrap_or(MEAN_UNKNOWN_MS)
    }

    /// A build succeeded after `took_ms`; from now on the queue takes that into account.
    pub(super) fn learned(&mut self, took_ms: u64) {
        let took = took_ms.clamp(1, DURATION_MAX_MS);
        self.mean_of = (self.mean_of + 1).min(MEAN_OF_MAX);
        let old = self.mean.unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "times of a day stay far below 2^53")]
        let mean = old as f64 + (took as f64 - old as f64) / self.mean_of as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "cut to whole ms, as there"
        )]
        let mean = mean as u64;
        self.mean = Some(mean);
    }

    /// The queue has accepted that a build succeeded after `took_ms`.
    pub(super) fn ended(&mut self, id: BuildId, took_ms: u64) {
        let Some(known) = self.builds.get_mut(&id) else {
            return self.note(format!("build {id} ended but was never requested"));
        };
        let State::Running(shares) = known.state else {
            let state = known.state;
            return self.note(format!("build {id} ended in state {state:?}"));
        };
        known.state = State::Ended;
        let (lane, background) = (known.lane, known.background);
        if let Some(running) = self.running.get_mut(&lane) {
            *running -= 1;
        }
        self.running_all -= 1;
        self.running_slow -= usize::from(shares);
        self.running_background -= usize::from(background);
        self.learned(took_ms);
    }

    /// A claim got nothing more at this moment, so nothing may be startable.
    pub(super) fn idle(&mut self) {
        if self.free() > 0
            && let Some((due, id)) = self.first_startable(u64::MAX)
        {
            self.note(format!(
                "build {id}, due at {due}, was not started on one of {} free slots",
                self.free()
            ));
        }
    }

    /// The day is over: every build must have ended.
    pub(super) fn over(&mut self) {
        let lost: Vec<BuildId> =
            self.builds.iter().filter(|(_, known)| known.state != State::Ended).map(|(id, _)| *id).collect();
        for id in lost {
            self.note(format!("build {id} was lost"));
        }
    }

    /// The first build in line, due before `due`, whose lane may start one now.
    fn first_startable(&self, due: u64) -> Option<(u64, BuildId)> {
        let earlier = self.queued.iter().take_while(|(at, _)| *at < due);
        let mut startable = earlier.filter(|(_, id)| {
            self.builds.get(id).is_some_and(|known| {
                !(known.background && self.is_background_full()) && self.may_start(known.lane)
            })
        });
        startable.next().copied()
    }

    /// Builds in line that somebody waits for. The others are behind them.
    fn in_line(&self) -> usize {
        let is_background =
            |(_, id): &&(u64, BuildId)| self.builds.get(id).is_some_and(|known| known.background);
        self.queued.len() - self.queued.iter().rev().take_while(is_background).count()
    }

    /// Whether a campaign could start a build of this lane now: a slot is free, the background's share is not used up,
    /// and the lane has a permit without borrowing one.
    pub(super) fn has_room(&self, lane: usize) -> bool {
        let running = self.running.get(&lane).copied().unwrap_or(0);
        self.free() > 0 && !self.is_background_full() && running < self.terms.limit && self.may_start(lane)
    }

    fn is_background_full(&self) -> bool {
        self.running_background >= self.terms.background
    }

    /// Whether a lane may start one more build, if a slot is free.
    fn may_start(&self, lane: usize) -> bool {
        let running = self.running.get(&lane).copied().unwrap_or(0);
        if self.slow.contains(&lane) {
            return running < self.terms.limit && self.running_slow < self.slow_limit;
        }
        // Only while more than half of all slots are free may a lane borrow.
        running < self.terms.limit || (running < self.terms.burst && self.free() * 2 > self.terms.slots)
    }
}

#[cfg(test)]
mod tests;
