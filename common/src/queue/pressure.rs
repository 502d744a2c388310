//! Who waits although they could start, whether one lane has most of the slots or of the people, and what takes too long.

use super::outlook::Outlook;
use crate::id::BuildId;
use crate::limits;
use crate::repo::Lane;

/// What an outlook says about the load. It covers the running builds and the first [`crate::limits::FORESEEN`] builds in line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Builds that people wait for and that wait only for a slot.
    pub startable: u64,
    /// When the oldest of them was requested, Unix milliseconds.
    pub oldest_startable: Option<u64>,
    /// The lane that has most running builds, and how many; `None` if nothing runs.
    pub busiest: Option<(Lane, u64)>,
    /// The lane that most people wait for; `None` if nobody waits.
    pub crowded: Option<Crowd>,
    /// Builds that have run much longer than expected.
    pub overdue: Vec<Overdue>,
}

/// The people who wait for a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowd {
    /// The lane.
    pub lane: Lane,
    /// How many there are.
    pub people: u64,
    /// Running builds of the lane.
    pub runs: u64,
    /// Since when the oldest of these has a slot, Unix milliseconds.
    pub since: Option<u64>,
}

/// A build that has run much longer than expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// The build.
    pub id: BuildId,
    /// Its lane.
    pub lane: Lane,
    /// How long it has run, in milliseconds.
    pub ran_ms: u64,
    /// How long it was expected to take, in milliseconds.
    pub expected_ms: u64,
}

impl Outlook {
    /// The load at the moment of the outlook.
    pub fn pressure(&self) -> Pressure {
        let (snapshot, line) = (self.snapshot(), self.line());
        let free = snapshot.slots.saturating_sub(snapshot.leased + snapshot.orphaned);
        let mut pressure = Pressure::default();
        let mut people = vec![0; line.lanes.len()];
        for run in &line.runs {
            people[run.lane] += run.people;
            let lane = &line.lanes[run.lane];
            let ran_ms = snapshot.now.saturating_sub(run.claimed);
            if let Some(expected_ms) = lane.mean_ms.or(snapshot.mean_ms)
                && limits::is_overdue(ran_ms, expected_ms)
            {
                pressure.overdue.push(Overdue { id: run.id, lane: lane.lane.clone(), ran_ms, expected_ms });
            }
        }
        // How many more builds each lane may start.
        let mut room: Vec<u64> = line
            .lanes
            .iter()
            .map(|lane| {
                let limit = match (lane.at.as_deref(), &lane.shared) {
                    (Some("lanes"), _) => lane.limit,
                    (Some("lanes:burst"), _) if free * 2 > snapshot.slots => lane.burst,
                    (Some(at), Some((_, shared, taken)))
                        if at.starts_with("lanes:shared:") && taken < shared =>
                    {
                        lane.limit
                    }
                    _ => 0,
                };
                limit.saturating_sub(lane.permits)
            })
            .collect();
        for build in &line.waiting {
            people[build.lane] += build.people;
            if build.background || build.not_before.is_some() || room[build.lane] == 0 {
                continue;
            }
            room[build.lane] -= 1;
            pressure.startable += 1;
            let oldest = pressure.oldest_startable.get_or_insert(build.asked);
            *oldest = build.asked.min(*oldest);
        }
        let busiest = line.lanes.iter().max_by_key(|lane| lane.permits).filter(|lane| lane.permits > 0);
        pressure.busiest = busiest.map(|lane| (lane.lane.clone(), lane.permits));
        let crowded = people.iter().zip(&line.lanes).max_by_key(|(people, _)| **people);
        pressure.crowded = crowded.filter(|(people, _)| **people > 0).map(|(people, lane)| Crowd {
            lane: lane.lane.clone(),
            people: *people,
            runs: lane.permits,
            since: lane.holder.map(|(_, since)| since),
        });
        pressure
    }
}
