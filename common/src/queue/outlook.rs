//! When builds will be ready, computed once per snapshot of the queue and shared by everybody who asks.

use std::collections::HashMap;

use super::Queue;
use super::forecast::{Hold, LaneTerms, Run, Waiting, World};
use super::inspect::Snapshot;
use super::line::{LaneFacts, Line};
use super::spread::Spread;
use crate::build::{Build, Priority};
use crate::error::Result;
use crate::id::BuildId;

/// A snapshot of the queue, and the forecast from it.
#[derive(Debug)]
pub struct Outlook {
    snapshot: Snapshot,
    line: Line,
    world: World,
    /// A shared limit's index in the world, by name.
    shared: HashMap<String, usize>,
    /// When each build in line starts, in ms after the snapshot.
    starts: Vec<Option<u64>>,
    /// A build's index in the line.
    places: HashMap<BuildId, usize>,
}

/// A build's position in line.
#[derive(Debug)]
pub(super) struct Standing {
    /// Its position, from 1, and the length of the line.
    pub(super) position: Option<(u64, u64)>,
    /// How many builds of its lane are ahead of it.
    pub(super) lane_ahead: u64,
    pub(super) lane: LaneFacts,
    /// When it starts, in ms from now; `None` if that is unknown.
    pub(super) start: Option<u64>,
}

impl Queue {
    /// A snapshot of the queue, and the forecast from it. It serves many answers, for about a second.
    pub async fn outlook(&self) -> Result<Outlook> {
        let (snapshot, line) = futures::try_join!(self.snapshot(), self.line())?;
        Ok(Outlook::new(snapshot, line))
    }

    /// A build's position in line.
    pub(super) async fn standing(&self, build: &Build, outlook: &Outlook) -> Result<Standing> {
        if let Some(standing) = outlook.standing(build) {
            return Ok(standing);
        }
        // It was requested after the snapshot, or is behind the builds that the forecast covers.
        let ((position, lane_ahead), lane) = futures::try_join!(self.places(build), self.lane(&build.lane))?;
        let lane = lane.into();
        let start = outlook.start_of(build, &lane, position, lane_ahead);
        Ok(Standing { position, lane_ahead, lane, start })
    }
}

impl Outlook {
    fn new(snapshot: Snapshot, line: Line) -> Self {
        let mut shared = HashMap::new();
        let world = world_of(&snapshot, &line, &mut shared);
        let starts = world.starts();
        let places = line.waiting.iter().enumerate().map(|(place, build)| (build.id, place)).collect();
        Self { snapshot, line, world, shared, starts, places }
    }

    /// The queue in numbers.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The running builds, the builds in line, and their lanes.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// How long a build of that lane takes, as far as is known now.
    pub(super) fn spread(&self, build: &Build) -> Spread {
        let mean = match self.line.lane(&build.lane) {
            Some(lane) => lane.mean_ms,
            None => Some(build.expected),
        };
        Spread::new(mean, self.snapshot.mean_ms)
    }

    /// Whether builds can start at all.
    fn is_open(&self) -> bool {
        self.snapshot.slots > 0 && self.snapshot.taking > 0
    }

    fn standing(&self, build: &Build) -> Option<Standing> {
        let place = *self.places.get(&build.id)?;
        let of = &self.line.waiting[place];
        let before = self.line.waiting[..place].iter();
        let lane_ahead = before.filter(|other| other.lane == of.lane && other.not_before.is_none()).count();
        Some(Standing {
            position: Some((place as u64 + 1, self.snapshot.queued.max(self.line.waiting.len() as u64))),
            lane_ahead: lane_ahead as u64,
            lane: self.line.lanes[of.lane].clone(),
            start: self.starts[place].filter(|_| self.is_open()),
        })
    }

    /// The start of a build that the forecast does not cover.
    fn start_of(
        &self,
        build: &Build,
        lane: &LaneFacts,
        position: Option<(u64, u64)>,
        lane_ahead: u64,
    ) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        let looked_at = self.line.waiting.len() as u64;
        match position {
            Some((place, _)) if place > looked_at && self.snapshot.queued > looked_at => {
                self.start_behind(place, lane_ahead, lane, build)
            }
            _ => self.start_among(build, lane),
        }
    }

    /// Estimates it as if it were among the covered builds.
    fn start_among(&self, build: &Build, facts: &LaneFacts) -> Option<u64> {
        let mut world = self.world.clone();
        let known = self.line.lanes.iter().position(|lane| lane.lane == facts.lane);
        let lane = known.unwrap_or_else(|| {
            let terms = terms_of(&self.snapshot, facts, &mut world.shared, &mut self.shared.clone());
            world.lanes.push(terms);
            world.lanes.len() - 1
        });
        let place = self.line.waiting.partition_point(|other| other.due <= build.due);
        let not_before = build.not_before.map_or(0, |at| at.saturating_sub(self.snapshot.now));
        let background = build.spec.priority == Priority::Background;
        world.line.insert(place, Waiting { lane, not_before, background });
        world.starts()[place]
    }

    /// Behind the covered builds, the line continues at their pace, and no lane is faster than its limit.
    fn start_behind(&self, place: u64, lane_ahead: u64, lane: &LaneFacts, build: &Build) -> Option<u64> {
        let hold = hold_of(&self.snapshot, lane);
        let last = self.starts.iter().flatten().max()?;
        let by_line = last * place / self.starts.len() as u64;
        let free = lane.limit.saturating_sub(lane.permits);
        let turns = (lane_ahead + 1).saturating_sub(free).div_ceil(lane.limit.max(1));
        let by_lane = turns * self.spread(build).planned(0);
        match hold {
            Hold::Forever => None,
            Hold::Until(at) => Some(at.max(by_line)),
            Hold::No => Some(by_line.max(by_lane)),
        }
    }
}

fn world_of(snapshot: &Snapshot, line: &Line, names: &mut HashMap<String, usize>) -> World {
    let mut shared = Vec::new();
    let lanes = line.lanes.iter().map(|lane| terms_of(snapshot, lane, &mut shared, names)).collect();
    let runs = line.runs.iter().map(|run| Run {
        lane: run.lane,
        age: snapshot.now.saturating_sub(run.claimed),
        shared: run.shared.as_ref().and_then(|name| names.get(name).copied()),
        background: run.background,
    });
    let waiting = line.waiting.iter().map(|build| Waiting {
        lane: build.lane,
        not_before: build.not_before.map_or(0, |at| at.saturating_sub(snapshot.now)),
        background: build.background,
    });
    World {
        slots: snapshot.slots,
        opens: snapshot.refill_until.map_or(0, |at| at.saturating_sub(snapshot.now)),
        background_max: snapshot.background_max,
        shared,
        lanes,
        runs: runs.collect(),
        line: waiting.collect(),
    }
}

/// A lane's terms; a shared limit that is not yet known is added.
fn terms_of(
    snapshot: &Snapshot,
    facts: &LaneFacts,
    shared: &mut Vec<u64>,
    names: &mut HashMap<String, usize>,
) -> LaneTerms {
    let own = facts.shared.as_ref().map(|(name, limit, _)| {
        *names.entry(name.clone()).or_insert_with(|| {
            shared.push(*limit);
            shared.len() - 1
        })
    });
    LaneTerms {
        limit: facts.limit,
        burst: facts.burst,
        shared: own,
        held: hold_of(snapshot, facts),
        spread: Spread::new(facts.mean_ms, snapshot.mean_ms),
    }
}

fn hold_of(snapshot: &Snapshot, facts: &LaneFacts) -> Hold {
    match &facts.held {
        None => Hold::No,
        Some((_, _, Some(until))) => Hold::Until(until.saturating_sub(snapshot.now)),
        Some((_, _, None)) => Hold::Forever,
    }
}
