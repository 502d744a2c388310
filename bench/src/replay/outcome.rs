//! The outcome of a day, for any scheduler, and its figures.

use std::collections::HashMap;

use serde::Serialize;

use super::day::Day;

/// One build of a day. Times are Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BuildSpan {
    /// When its image was first requested.
    pub(super) asked: u64,
    /// When it started.
    pub(super) started: u64,
    /// When its image was ready.
    pub(super) ended: u64,
    /// Whether a campaign started it.
    pub(super) ahead: bool,
}

/// The outcome of a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// For each launch of the day: when its image was ready, Unix milliseconds.
    pub(super) ready: Vec<u64>,
    /// The builds.
    pub(super) builds: Vec<BuildSpan>,
}

/// The figures of a day. Launches of slow specs are left out, except from the counts of builds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Launches that count.
    pub(super) launches: usize,
    /// The sum of their waits, in hours.
    pub(super) people_hours: f64,
    /// The same in lanes without a slow spec.
    pub(super) people_hours_outside_slow_lanes: f64,
    /// Their mean wait, in seconds from the request until the image is ready.
    pub(super) mean: f64,
    /// Half of them waited at most this many seconds.
    pub(super) p50: f64,
    /// 95 of 100 waited at most this many seconds.
    pub(super) p95: f64,
    /// 99 of 100 waited at most this many seconds.
    pub(super) p99: f64,
    /// The longest wait, in seconds.
    pub(super) max: f64,
    /// The longest wait in lanes without a slow spec, in seconds.
    pub(super) max_outside_slow_lanes: f64,
    /// Builds made, including slow ones.
    pub(super) builds: usize,
    /// The most builds that ran at the same time.
    pub(super) running_max: usize,
    /// How many of the queue's promises were broken; `None` for other schedulers, which make none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken_promises: Option<usize>,
}

impl Outcome {
    /// The day on a cluster with unlimited slots: each image is built as soon as it is first requested.
    pub(super) fn unlimited(day: &Day) -> Self {
        let mut first: HashMap<usize, u64> = HashMap::new();
        let mut outcome = Self::default();
        for ask in &day.asks {
            let ended = *first.entry(ask.spec).or_insert_with(|| {
                let ended = ask.at + day.specs[ask.spec].build_ms;
                outcome.builds.push(BuildSpan { asked: ask.at, started: ask.at, ended, ahead: false });
                ended
            });
            outcome.ready.push(ended.max(ask.at));
        }
        outcome
    }

    /// The figures of the day.
    pub(super) fn figures(&self, day: &Day) -> Figures {
        let waits = day.asks.iter().zip(&self.ready);
        let mut counted: Vec<u64> = Vec::new();
        let (mut outside, mut outside_sum) = (0, 0);
        for (ask, ready) in waits {
            let wait = ready.saturating_sub(ask.at);
            if !day.specs[ask.spec].slow {
                counted.push(wait);
            }
            if !day.lane_of(ask.spec).slow {
                outside = outside.max(wait);
                outside_sum += wait;
            }
        }
        counted.sort_unstable();
        let sum: u64 = counted.iter().sum();
        let mean = if counted.is_empty() { 0.0 } else { as_float(sum) / as_float(counted.len() as u64) };
        Figures {
            launches: counted.len(),
            people_hours: in_hours(sum),
            people_hours_outside_slow_lanes: in_hours(outside_sum),
            mean: rounded(mean / 1000.0),
            p50: seconds(quantile(&counted, 50)),
            p95: seconds(quantile(&counted, 95)),
            p99: seconds(quantile(&counted, 99)),
            max: seconds(counted.last().copied().unwrap_or(0)),
            max_outside_slow_lanes: seconds(outside),
            builds: self.builds.len(),
            running_max: self.running_max(),
            broken_promises: None,
        }
    }

    /// The most builds that ran at the same time.
    fn running_max(&self) -> usize {
        most_at_once(self.builds.iter())
    }
}

/// The most of these builds that ran at the same time.
pub(super) fn most_at_once<'a>(builds: impl Iterator<Item = &'a BuildSpan>) -> usize {
    let mut changes: Vec<(u64, bool)> =
        builds.flat_map(|build| [(build.started, true), (build.ended, false)]).collect();
    // At the same moment, ends come before starts: false sorts before true.
    changes.sort_unstable();
    let (mut running, mut most) = (0_usize, 0);
    for (_, starts) in changes {
        running = if starts { running + 1 } else { running.saturating_sub(1) };
        most = most.max(running);
    }
    most
}

/// The wait that this percentage of launches does not exceed (nearest rank); 0 if there are none.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn in_hours(ms: u64) -> f64 {
    rounded(as_float(ms) / 3_600_000.0)
}

fn seconds(ms: u64) -> f64 {
    as_float(ms) / 1000.0
}

/// Rounded to thousandths.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "sums of a day's milliseconds stay far below 2^53")]
pub(super) fn as_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::super::day::Ask;
    use super::super::fixtures::day;
    use super::*;

    #[test]
    fn without_a_limit_of_slots() {
        // Spec 0 takes 100 s, spec 1 is slow and takes 1,000 s, spec 2 is in spec 1's lane.
        let day = day(&[100, 1000, 10], &[1], &[(0, 0), (10, 1), (40, 0), (50, 2), (200, 0)]);
        let outcome = Outcome::unlimited(&day);
        let waits: Vec<u64> =
            day.asks.iter().zip(&outcome.ready).map(|(ask, ready)| ready - ask.at).collect();
        assert_eq!(waits, [100_000, 1_000_000, 60_000, 10_000, 0]);
        let figures = outcome.figures(&day);
        assert_eq!(figures.launches, 4);
        assert!((figures.people_hours - 0.047).abs() < 1e-9, "{figures:?}");
        assert!((figures.mean - 42.5).abs() < 1e-9, "{figures:?}");
        assert_eq!((figures.p50, figures.p95, figures.max), (10.0, 100.0, 100.0));
        assert_eq!((figures.builds, figures.running_max), (3, 3));
        assert!((figures.max_outside_slow_lanes - 100.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.people_hours_outside_slow_lanes - 0.044).abs() < 1e-9, "{figures:?}");
    }

    #[test]
    fn quantiles_and_ends() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 95, 99, 100].map(|percent| quantile(&hundred, percent)), [50, 95, 99, 100]);
        assert_eq!((quantile(&[7], 50), quantile(&[], 99)), (7, 0));
        let span = |started, ended| BuildSpan { asked: 0, started, ended, ahead: false };
        let outcome = Outcome { ready: vec![], builds: vec![span(0, 10), span(10, 20), span(15, 30)] };
        assert_eq!(outcome.running_max(), 2, "one that ends makes room for one that starts");
        let none = Day { asks: vec![Ask { at: 0, spec: 1 }], ..day(&[1, 1], &[1], &[]) };
        let figures = Outcome { ready: vec![5], builds: vec![] }.figures(&none);
        assert_eq!((figures.launches, figures.people_hours, figures.max), (0, 0.0, 0.0));
    }
}
