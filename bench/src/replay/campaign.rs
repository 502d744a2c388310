//! What a campaign that builds ahead changes about a day.

use serde::Serialize;

use super::day::Day;
use super::outcome::{BuildSpan, Figures, Outcome, as_float, most_at_once, rounded};
use super::player::Played;

/// The figures of a day with a campaign, compared with the same day without.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Ahead {
    /// How many specs the campaign had.
    pub(super) specs: usize,
    /// How many of them it built before the wipe.
    pub(super) before_wipe: usize,
    /// How long its builds took together, in hours.
    pub(super) slot_hours: f64,
    /// The most of its builds that ran at the same time.
    pub(super) running_max: usize,
    /// Percentage of the launches that count whose image was there because of it.
    pub(super) found: f64,
    /// How many launches waited in line while all slots were taken, and some by the campaign.
    pub(super) delayed: usize,
    /// How long they did so together, in percent of all waiting without a campaign.
    pub(super) delay: f64,
    /// The day.
    pub(super) day: Figures,
}

impl Ahead {
    /// Compares two plays of a day.
    pub(super) fn new(day: &Day, slots: u32, specs: usize, with: &Played, without: &Outcome) -> Self {
        let own: Vec<&BuildSpan> = with.outcome.builds.iter().filter(|build| build.ahead).collect();
        let took: u64 = own.iter().map(|build| build.ended - build.started).sum();
        let taken = all_taken(&with.outcome.builds, slots as usize);
        let (mut counted, mut found, mut delayed, mut delay, mut waited) = (0, 0, 0, 0, 0);
        for (ask, ready) in day.asks.iter().zip(&without.ready) {
            if day.specs[ask.spec].slow {
                continue;
            }
            counted += 1;
            waited += ready.saturating_sub(ask.at);
            found += u64::from(with.found[ask.spec].is_some_and(|at| at <= ask.at));
            let started = with.started[ask.spec].unwrap_or(ask.at);
            let held_up: u64 =
                taken.iter().map(|(from, to)| (*to).min(started).saturating_sub((*from).max(ask.at))).sum();
            (delayed, delay) = (delayed + usize::from(held_up > 0), delay + held_up);
        }
        let percent =
            |part: u64, of: u64| if of == 0 { 0.0 } else { rounded(as_float(part * 100) / as_float(of)) };
        Self {
            specs,
            before_wipe: own.iter().filter(|build| build.ended <= day.wipe).count(),
            slot_hours: rounded(as_float(took) / 3_600_000.0),
            running_max: most_at_once(own.iter().copied()),
            found: percent(found, counted),
            delayed,
            delay: percent(delay, waited),
            day: Figures { broken_promises: Some(with.broken.0), ..with.outcome.figures(day) },
        }
    }
}

/// When all slots were taken, some of them by the campaign: from and to.
fn all_taken(builds: &[BuildSpan], slots: usize) -> Vec<(u64, u64)> {
    let starts = builds.iter().map(|build| (build.started, true, build.ahead));
    let mut changes: Vec<(u64, bool, bool)> =
        starts.chain(builds.iter().map(|build| (build.ended, false, build.ahead))).collect();
    changes.sort_unstable();
    let (mut running, mut ahead, mut since, mut taken) = (0, 0, None, Vec::new());
    for (at, starts, is_ahead) in changes {
        if starts {
            (running, ahead) = (running + 1, ahead + usize::from(is_ahead));
        } else {
            (running, ahead) = (running - 1, ahead - usize::from(is_ahead));
        }
        match (since, running >= slots && ahead > 0) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                since = None;
                if at > from {
                    taken.push((from, at));
                }
            }
            _ => {}
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn what_is_built_ahead_is_found_and_who_waits_for_its_slots_is_counted() {
        let day = fixtures::day(&[100, 100, 50], &[2], &[(10, 0), (20, 1), (30, 1), (40, 2)]);
        let outcome = |ready: [u64; 4], builds| Outcome { ready: ready.map(|at| at * 1000).to_vec(), builds };
        let span = |started: u64, ended: u64, ahead| BuildSpan {
            asked: started * 1000,
            started: started * 1000,
            ended: ended * 1000,
            ahead,
        };
        let without = outcome([110, 120, 120, 90], vec![]);
        // One of two slots is always somebody else's.
        let builds = vec![span(0, 25, true), span(0, 130, false), span(25, 26, true), span(27, 130, false)];
        let with = Played {
            outcome: outcome([130, 25, 30, 90], builds),
            found: vec![None, Some(25_000), Some(0)],
            started: vec![Some(27_000), Some(0), None],
            told: Vec::new(),
            broken: (0, Vec::new()),
        };
        let ahead = Ahead::new(&day, 2, 2, &with, &without);
        assert_eq!((ahead.specs, ahead.before_wipe, ahead.running_max), (2, 0, 1));
        // One of three launches that count: the second came before its image was there.
        assert!((ahead.found - 33.333).abs() < 1e-9, "{ahead:?}");
        // The first waited for its slot from second 10 to 26: 16 s of 290 s.
        assert!(ahead.delayed == 1 && (ahead.delay - 5.517).abs() < 1e-9, "{ahead:?}");
        assert!((ahead.slot_hours - 0.007).abs() < 1e-9, "{ahead:?}");
    }
}
