//! When waiting builds will start: simulates the line by the rules of a claim, from the present state.
//!
//! Whenever a slot is free, the first build in line whose lane may start one is started. The lane must be
//! below its limit, or below its burst while more than half of all slots are free; its shared limit must have
//! a free permit; a background build must fit the background share; no rule may hold the lane, and the build
//! must not be backing off. [`Spread`] says how long builds take. Later requests are not predicted; they may
//! overtake or join.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use super::spread::Spread;

/// The state that a forecast starts from. Times are milliseconds from that moment.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// Slots of all workers.
    pub(super) slots: u64,
    /// Nothing starts before this time.
    pub(super) opens: u64,
    /// Most background builds at once.
    pub(super) background_max: u64,
    /// The permits of each shared limit.
    pub(super) shared: Vec<u64>,
    pub(super) lanes: Vec<LaneTerms>,
    pub(super) runs: Vec<Run>,
    /// In the order of the line.
    pub(super) line: Vec<Waiting>,
}

/// What a lane may start, and how long its builds take.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneTerms {
    pub(super) limit: u64,
    pub(super) burst: u64,
    /// The limit that it shares with others: its index in [`World::shared`].
    pub(super) shared: Option<usize>,
    pub(super) held: Hold,
    pub(super) spread: Spread,
}

/// Whether a rule holds a lane, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    No,
    Until(u64),
    Forever,
}

/// A build that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Its index in [`World::lanes`].
    pub(super) lane: usize,
    /// For how long it has run.
    pub(super) age: u64,
    /// The shared limit of which it holds a permit.
    pub(super) shared: Option<usize>,
    pub(super) background: bool,
}

/// A build that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Its index in [`World::lanes`].
    pub(super) lane: usize,
    /// When its backoff ends.
    pub(super) not_before: u64,
    pub(super) background: bool,
}

impl World {
    /// When each build in line starts; `None` if, as far as is known, it never can.
    pub(super) fn starts(&self) -> Vec<Option<u64>> {
        let mut play = Play::new(self);
        // Without slots nothing ever starts, and the remaining events do not matter.
        while self.slots > 0 && play.left > 0 {
            play.start_all();
            if !play.go_on() {
                break;
            }
        }
        play.starts
    }
}

/// Events that happen by themselves. Ends come first, because they free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End { lane: usize, shared: Option<usize>, background: bool },
    Open,
    HoldEnds { lane: usize },
    BackoffEnds { index: usize },
}

struct Play<'a> {
    world: &'a World,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    running: u64,
    background: u64,
    /// Permits in use: of shared limits, and of lanes.
    shared: Vec<u64>,
    permits: Vec<u64>,
    /// Each lane's builds in line, as indexes into the line.
    queues: Vec<VecDeque<usize>>,
    held: Vec<bool>,
    /// The first build of each lane that is not held, and its lane.
    heads: BTreeSet<(usize, usize)>,
    starts: Vec<Option<u64>>,
    left: usize,
}

impl<'a> Play<'a> {
    fn new(world: &'a World) -> Self {
        let lanes = world.lanes.len();
        let mut play = Self {
            world,
            now: 0,
            events: BinaryHeap::new(),
            running: 0,
            background: 0,
            shared: vec![0; world.shared.len()],
            permits: vec![0; lanes],
            queues: vec![VecDeque::new(); lanes],
            held: world.lanes.iter().map(|lane| lane.held != Hold::No).collect(),
            heads: BTreeSet::new(),
            starts: vec![None; world.line.len()],
            left: world.line.len(),
        };
        for run in &world.runs {
            let ends = world.lanes[run.lane].spread.planned(run.age);
            play.run(run.lane, run.shared, run.background, ends);
        }
        for (index, waiting) in world.line.iter().enumerate() {
            if waiting.not_before > 0 {
                play.events.push(Reverse((waiting.not_before, Event::BackoffEnds { index })));
            } else {
                play.queues[waiting.lane].push_back(index);
            }
        }
        for (lane, terms) in world.lanes.iter().enumerate() {
            if let Hold::Until(at) = terms.held {
                play.events.push(Reverse((at, Event::HoldEnds { lane })));
            }
            play.show_head(lane);
        }
        play.events.push(Reverse((world.opens, Event::Open)));
        play
    }

    /// A build takes a slot and its permits until `ends`.
    fn run(&mut self, lane: usize, shared: Option<usize>, background: bool, ends: u64) {
        self.running += 1;
        self.permits[lane] += 1;
        self.background += u64::from(background);
        if let Some(shared) = shared {
            self.shared[shared] += 1;
        }
        self.events.push(Reverse((ends, Event::End { lane, shared, background })));
    }

    /// Puts the lane's first build among the heads.
    fn show_head(&mut self, lane: usize) {
        if let Some(index) = self.queues[lane].front().filter(|_| !self.held[lane]) {
            self.heads.insert((*index, lane));
        }
    }

    /// Starts what may start now.
    fn start_all(&mut self) {
        while self.now >= self.world.opens && self.running < self.world.slots {
            let next = self.heads.iter().copied().find(|(index, lane)| self.may_start(*index, *lane));
            let Some((index, lane)) = next else { return };
            self.heads.remove(&(index, lane));
            self.queues[lane].pop_front();
            self.show_head(lane);
            self.starts[index] = Some(self.now);
            self.left -= 1;
            let terms = &self.world.lanes[lane];
            let ends = self.now + terms.spread.planned(0);
            self.run(lane, terms.shared, self.world.line[index].background, ends);
        }
    }

    fn may_start(&self, index: usize, lane: usize) -> bool {
        let terms = &self.world.lanes[lane];
        if self.world.line[index].background && self.background >= self.world.background_max {
            return false;
        }
        let permits = self.permits[lane];
        if let Some(shared) = terms.shared {
            return permits < terms.limit && self.shared[shared] < self.world.shared[shared];
        }
        let free = self.world.slots - self.running;
        permits < terms.limit || (permits < terms.burst && free * 2 > self.world.slots)
    }

    /// Advances to the next event; `false` if there is none.
    fn go_on(&mut self) -> bool {
        let Some(Reverse((at, event))) = self.events.pop() else { return false };
        self.now = self.now.max(at);
        match event {
            Event::End { lane, shared, background } => {
                self.running -= 1;
                self.permits[lane] -= 1;
                self.background -= u64::from(background);
                if let Some(shared) = shared {
                    self.shared[shared] -= 1;
                }
            }
            Event::Open => {}
            Event::HoldEnds { lane } => {
                self.held[lane] = false;
                self.show_head(lane);
            }
            Event::BackoffEnds { index } => {
                let lane = self.world.line[index].lane;
                let queue = &mut self.queues[lane];
                if let Some(head) = queue.front() {
                    self.heads.remove(&(*head, lane));
                }
                let at = queue.partition_point(|other| *other < index);
                queue.insert(at, index);
                self.show_head(lane);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn lane(minutes: u64) -> LaneTerms {
        let spread = Spread::new(Some(minutes * MINUTE), None);
        LaneTerms { limit: 2, burst: 2, shared: None, held: Hold::No, spread }
    }

    fn run(lane: usize, age_minutes: u64) -> Run {
        Run { lane, age: age_minutes * MINUTE, shared: None, background: false }
    }

    fn waits(lanes: &[usize]) -> Vec<Waiting> {
        lanes.iter().map(|lane| Waiting { lane: *lane, not_before: 0, background: false }).collect()
    }

    /// The planned duration of a lane's builds, in ms.
    fn takes(minutes: u64) -> u64 {
        lane(minutes).spread.planned(0)
    }

    #[test]
    fn slots_are_filled_in_order() {
        let lanes = vec![lane(10), lane(1), lane(2)];
        let world = World { slots: 2, lanes, line: waits(&[0, 1, 2, 1]), ..World::default() };
        let (one, two) = (takes(1), takes(2));
        assert_eq!(world.starts(), [Some(0), Some(0), Some(one), Some(one + two)]);
        let none = World { slots: 0, ..world.clone() };
        assert_eq!(none.starts(), [None; 4], "nobody is there to build");
        let later = World { opens: MINUTE, ..world };
        assert_eq!(later.starts()[..2], [Some(MINUTE); 2], "nothing starts while runs are registered");
    }

    #[test]
    fn what_runs_frees_its_slot_by_its_age() {
        let lanes = vec![lane(10), lane(1)];
        let runs = vec![run(0, 8), run(0, 1)];
        let world = World { slots: 2, lanes, runs, line: waits(&[1]), ..World::default() };
        let [Some(start)] = world.starts()[..] else { panic!("{world:?}") };
        assert_eq!(start, lane(10).spread.planned(8 * MINUTE));
        assert!(start > 4 * MINUTE && start < 6 * MINUTE, "{start}");
    }

    // The case of the issue: many slots are free, and a build waits behind its own lane.
    #[test]
    fn a_lane_at_its_limit_waits_for_its_own_builds() {
        let mut lanes = vec![lane(10), lane(1)];
        lanes[0].burst = 3;
        let runs = vec![run(0, 0), run(0, 0)];
        let world = World { slots: 100, lanes, runs, line: waits(&[0, 0, 0, 0, 0, 1]), ..World::default() };
        let (ten, one) = (takes(10), Some(0));
        assert_eq!(world.starts(), [Some(0), Some(ten), Some(ten), Some(ten), Some(2 * ten), one]);
        // It borrows only while more than half of all slots are free.
        let busy = World { slots: 4, ..world };
        assert_eq!(busy.starts()[0], Some(ten));
    }

    #[test]
    fn lanes_wait_for_the_limit_that_they_share() {
        let mut lanes = vec![lane(10), lane(10), lane(1)];
        lanes[0].shared = Some(0);
        lanes[1].shared = Some(0);
        let runs = vec![Run { shared: Some(0), ..run(0, 0) }];
        let world =
            World { slots: 8, shared: vec![1], lanes, runs, line: waits(&[1, 0, 2]), ..World::default() };
        assert_eq!(world.starts(), [Some(takes(10)), Some(2 * takes(10)), Some(0)]);
    }

    #[test]
    fn background_builds_keep_to_their_share() {
        let mut line = waits(&[0, 1, 2]);
        line[1].background = true;
        line[2].background = true;
        let lanes = vec![lane(10), lane(10), lane(10)];
        let world = World { slots: 4, background_max: 1, lanes, line, ..World::default() };
        assert_eq!(world.starts(), [Some(0), Some(0), Some(takes(10))]);
        assert_eq!(World { background_max: 0, ..world }.starts(), [Some(0), None, None]);
    }

    #[test]
    fn holds_and_backoffs_end_at_their_time() {
        let mut lanes = vec![lane(10), lane(10), lane(1)];
        lanes[0].held = Hold::Until(30 * MINUTE);
        lanes[1].held = Hold::Forever;
        let mut line = waits(&[0, 1, 2, 2]);
        line[2].not_before = 5 * MINUTE;
        let world = World { slots: 1, lanes, line, ..World::default() };
        // The next build of the lane passes the one in backoff.
        assert_eq!(world.starts(), [Some(30 * MINUTE), None, Some(5 * MINUTE), Some(0)]);
    }

    #[test]
    fn more_may_run_than_there_are_slots() {
        let runs = vec![run(0, 0); 3];
        let world = World { slots: 1, lanes: vec![lane(10)], runs, line: waits(&[0]), ..World::default() };
        assert_eq!(world.starts(), [Some(takes(10))], "all of equal age end together");
    }
}
