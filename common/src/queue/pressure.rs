//! Who waits although they could start, and whether one lane has most of the slots or of the people.

use super::outlook::Outlook;
use crate::repo::Lane;

/// What an outlook says about the load. It covers the running builds and the first [`crate::limits::FORESEEN`] builds in line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Builds that people wait for and that wait only for a slot.
    pub startable: u64,
    /// When the oldest of them was requested, Unix milliseconds.
    pub oldest_startable: Option<u64>,
    /// Running builds of the lane that has most of them.
    pub lane_running_max: u64,
    /// The lane that most people wait for, and how many there are; `None` if nobody waits.
    pub crowded: Option<(Lane, u64)>,
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
        pressure.lane_running_max = line.lanes.iter().map(|lane| lane.permits).max().unwrap_or(0);
        let crowded = people.iter().zip(&line.lanes).max_by_key(|(people, _)| **people);
        pressure.crowded =
            crowded.filter(|(people, _)| **people > 0).map(|(people, lane)| (lane.lane.clone(), *people));
        pressure
    }
}
