//! The waiting times that launches were told, when requested and a minute later, compared with the real ones.

use serde::Serialize;

use super::day::Day;
use super::outcome::Outcome;

/// How long until a waiting launch gets its next estimate.
pub(super) const LATER_MS: u64 = 60_000;
/// On a day with more launches, only every second, third, … launch is examined, because each estimate costs as
/// much as many launches.
const LAUNCHES_MAX: usize = 6000;

/// What one launch was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// An index into [`Day::asks`].
    pub(super) launch: usize,
    /// Whether it was told a minute after the request, not at the request.
    pub(super) later: bool,
    /// Estimated milliseconds until its image is ready; `None` if there was no estimate.
    pub(super) eta_ms: Option<u64>,
}

/// One in this many launches of the day is examined.
pub(super) fn stride(day: &Day) -> usize {
    day.asks.len().div_ceil(LAUNCHES_MAX)
}

/// How accurate the estimates were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Nearness {
    /// One in this many launches was examined.
    pub(super) one_in: usize,
    /// Estimates at the time of the request, for launches that had to wait.
    pub(super) asked: Classes,
    /// Estimates a minute later, for launches that were still waiting.
    pub(super) minute_later: Classes,
}

/// The same by class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Classes {
    /// Launches of lanes with a slow spec.
    pub(super) slow_lanes: Share,
    /// Those of all other lanes.
    pub(super) others: Share,
    /// All launches.
    pub(super) all: Share,
}

/// How accurate the estimates of one class were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Share {
    /// Launches with an estimate.
    pub(super) launches: usize,
    /// Launches without one.
    pub(super) without: usize,
    /// Percentage of estimates between half and twice the real time.
    pub(super) within_factor_2: Option<f64>,
    /// The median of estimated time divided by real time.
    pub(super) median_ratio: Option<f64>,
}

impl Nearness {
    /// Compares the estimates with the real times.
    pub(super) fn new(day: &Day, outcome: &Outcome, told: &[Told]) -> Self {
        let classes = |later: bool| {
            let share = |slow: Option<bool>| {
                let counts = |one: &&Told| {
                    let is_slow = day.lane_of(day.asks[one.launch].spec).slow;
                    one.later == later && slow.is_none_or(|slow| slow == is_slow)
                };
                Share::new(told.iter().filter(counts).map(|one| {
                    let since = day.asks[one.launch].at + if later { LATER_MS } else { 0 };
                    (one.eta_ms, outcome.ready[one.launch].saturating_sub(since))
                }))
            };
            Classes { slow_lanes: share(Some(true)), others: share(Some(false)), all: share(None) }
        };
        Self { one_in: stride(day), asked: classes(false), minute_later: classes(true) }
    }
}

impl Share {
    /// From pairs of estimated and real times.
    fn new(pairs: impl Iterator<Item = (Option<u64>, u64)>) -> Self {
        let (mut ratios, mut without): (Vec<f64>, usize) = (Vec::new(), 0);
        for (told, came) in pairs {
            #[expect(clippy::cast_precision_loss, reason = "times of a day stay far below 2^53")]
            match told {
                Some(told) => ratios.push(told as f64 / came.max(1) as f64),
                None => without += 1,
            }
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let within = ratios.iter().filter(|ratio| (0.5..=2.0).contains(*ratio)).count();
        #[expect(clippy::cast_precision_loss, reason = "a day has not that many launches")]
        let percent =
            (!ratios.is_empty()).then(|| rounded(within as f64 * 100.0 / ratios.len() as f64, 10.0));
        let median_ratio = ratios.get(ratios.len() / 2).map(|ratio| rounded(*ratio, 100.0));
        Self { launches: ratios.len(), without, within_factor_2: percent, median_ratio }
    }
}

fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::day;
    use super::*;

    #[test]
    fn figures_are_compared_with_what_came() {
        // Spec 0 takes 100 s, spec 1 is slow.
        let day = day(&[100, 1000], &[1], &[(0, 0), (10, 1), (20, 0), (30, 0)]);
        let at = |launch: usize, ms: u64| day.asks[launch].at + ms;
        let outcome = Outcome {
            ready: vec![at(0, 100_000), at(1, 1_000_000), at(2, 90_000), at(3, 80_000)],
            ..Outcome::default()
        };
        let told = |launch, later, eta_ms| Told { launch, later, eta_ms };
        let told = [
            told(0, false, Some(200_000)),
            told(1, false, Some(499_000)),
            told(2, false, Some(200_000)),
            told(3, false, None),
            told(0, true, Some(40_000)),
        ];
        let near = Nearness::new(&day, &outcome, &told);
        let share = |launches, without, percent, ratio| Share {
            launches,
            without,
            within_factor_2: percent,
            median_ratio: ratio,
        };
        assert_eq!(near.asked.others, share(2, 1, Some(50.0), Some(2.22)));
        assert_eq!(near.asked.slow_lanes, share(1, 0, Some(0.0), Some(0.5)));
        assert_eq!(near.asked.all, share(3, 1, Some(33.3), Some(2.0)));
        assert_eq!(near.minute_later.all, share(1, 0, Some(100.0), Some(1.0)));
        assert_eq!(near.minute_later.slow_lanes, share(0, 0, None, None));
        assert_eq!(near.one_in, 1);
    }
}
