//! Checks the queue during a replay: keeps records independent of the scripts', and reports when the scripts break
//! a promise.

use std::collections::{BTreeSet, HashMap, HashSet};

use fairlane_common::BuildId;

use super::terms::Terms;

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
        let due = self.terms.due(now, expected_ms, 1, self.mean(), self.queued.len());
        let known = Known { lane, asked: now, people: 1, due, state: State::Queued };
        if self.builds.insert(id, known).is_some() {
            self.note(format!("build {id} was created twice"));
        }
        self.queued.insert((due, id));
    }

    /// One more person waits for a build.
    pub(super) fn joined(&mut self, id: BuildId, expected_ms: u64) {
        let (mean, in_line) = (self.mean(), self.queued.len());
        let Some(known) = self.builds.get_mut(&id) else {
            return self.note(format!("build {id} was joined but never created"));
        };
        known.people += 1;
        match known.state {
            State::Queued => {
                self.queued.remove(&(known.due, id));
                known.due = self.terms.due(known.asked, expected_ms, known.people, mean, in_line);
                self.queued.insert((known.due, id));
            }
            State::Running(_) => {}
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
        let lane = known.lane;
        if let Some(running) = self.running.get_mut(&lane) {
            *running -= 1;
        }
        self.running_all -= 1;
        self.running_slow -= usize::from(shares);
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
        let mut startable =
            earlier.filter(|(_, id)| self.builds.get(id).is_some_and(|known| self.may_start(known.lane)));
        startable.next().copied()
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
mod tests {
    use fairlane_common::queue::{Order, Policy};

    use super::*;

    fn promises(slots: u32, policy: &Policy) -> Promises {
        Promises::new(Terms::new(slots, policy))
    }

    fn ids<const N: usize>() -> [BuildId; N] {
        std::array::from_fn(|_| BuildId::new())
    }

    /// Checks how many promises were broken, and the text of the last one.
    #[track_caller]
    fn expect(promises: Promises, count: usize, says: &str) {
        let (broken, told) = promises.broken();
        assert_eq!(broken, count, "{told:#?}");
        assert!(told.last().is_some_and(|told| told.contains(says)) || count == 0, "{told:#?}");
    }

    /// Requests these builds one second apart, each expected to take a minute, a third of the mean.
    fn asked(promises: &mut Promises, builds: &[(BuildId, usize)]) -> Vec<(BuildId, u64)> {
        (0..)
            .step_by(1000)
            .zip(builds)
            .map(|(now, (id, lane))| {
                promises.asked(*id, *lane, now, 60_000);
                (*id, now + 106_666)
            })
            .collect()
    }

    #[test]
    fn a_day_without_fault() {
        let [a, b, c] = ids();
        let mut promises = promises(2, &Policy::default());
        let due = asked(&mut promises, &[(a, 1), (b, 1), (c, 2)]);
        // With so few slots, a lane has one permit; its second build is skipped.
        promises.joined(c, 60_000);
        promises.claimed(&[(c, 2000 + 13_333), due[0]]);
        promises.idle();
        promises.ended(a, 1);
        promises.claimed(&[due[1]]);
        promises.idle();
        promises.ended(b, 1);
        promises.ended(c, 1);
        promises.over();
        expect(promises, 0, "");
    }

    #[test]
    fn limits() {
        let [a, b, c, d] = ids();
        let mut over_slots = promises(1, &Policy::default());
        let due = asked(&mut over_slots, &[(a, 1), (b, 2)]);
        over_slots.claimed(&due);
        expect(over_slots, 1, "beyond the 1 slots");

        let mut over_limit = promises(4, &Policy::default());
        let due = asked(&mut over_limit, &[(a, 1), (b, 1), (c, 1)]);
        over_limit.claimed(&due);
        expect(over_limit, 1, "2 run already");

        // Six slots: the third build of a lane may borrow while four are free, the fourth may not.
        let mut over_burst = promises(6, &Policy::default());
        let due = asked(&mut over_burst, &[(a, 1), (b, 1), (c, 1), (d, 1)]);
        over_burst.claimed(&due);
        expect(over_burst, 1, "3 run already");

        let mut over_shared = promises(8, &Policy::default());
        over_shared.lane_shares(1, Some(1));
        over_shared.lane_shares(2, Some(1));
        let due = asked(&mut over_shared, &[(a, 1), (b, 2)]);
        over_shared.claimed(&due);
        expect(over_shared, 1, "beyond its lane's limit");
    }

    #[test]
    fn order_and_idleness() {
        let [a, b] = ids();
        let mut overtaken = promises(4, &Policy::default());
        let due = asked(&mut overtaken, &[(a, 1), (b, 2)]);
        overtaken.claimed(&due[1..]);
        expect(overtaken, 1, "was overtaken by");

        let mut elsewhere = promises(4, &Policy { order: Some(Order::FirstCome), ..Policy::default() });
        asked(&mut elsewhere, &[(a, 1)]);
        elsewhere.claimed(&[(a, 1)]);
        expect(elsewhere, 1, "due at 1, not at 0");

        let mut idle = promises(4, &Policy::default());
        asked(&mut idle, &[(a, 1)]);
        idle.idle();
        expect(idle, 1, "free slots");
    }

    #[test]
    fn lost_and_doubled() {
        let [a, b, stranger] = ids();
        let mut promises = promises(4, &Policy::default());
        let due = asked(&mut promises, &[(a, 1), (b, 2)]);
        promises.claimed(&[due[0], due[0]]);
        promises.claimed(&[(stranger, 0)]);
        promises.ended(a, 1);
        promises.ended(a, 1);
        promises.ended(b, 1);
        promises.ended(stranger, 1);
        promises.joined(a, 1);
        promises.joined(stranger, 1);
        promises.over();
        let (broken, told) = promises.broken();
        assert_eq!(broken, 8, "{told:#?}");
        for says in ["in state Running", "never requested", "ended in state Ended", "ended in state Queued"] {
            assert!(told.iter().any(|told| told.contains(says)), "{says}: {told:#?}");
        }
        assert!(told[7].contains("was lost"), "{told:#?}");
    }
}
