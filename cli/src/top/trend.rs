//! Whether people queue up while nothing more is being built: the signature of the incident of 2019-03-24.

use std::collections::VecDeque;

use fairlane_dispatcher::api::Totals;

use super::style::{people, span};

/// How far back samples are kept.
const WINDOW_MS: u64 = 5 * 60_000;
/// A trend is only reported over at least this time.
const SHORTEST_MS: u64 = 2 * 60_000;
/// Time between samples.
const STEP_MS: u64 = 5_000;
/// A smaller increase in people is not reported.
const MORE: u64 = 5;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: u64,
    people: u64,
    running: u64,
}

/// The latest numbers of people and of running builds.
#[derive(Debug, Default)]
pub(super) struct Trend(VecDeque<Sample>);

impl Trend {
    pub(super) fn note(&mut self, totals: &Totals) {
        let now =
            Sample { at: totals.now_ms, people: totals.people, running: totals.leased + totals.orphaned };
        if self.0.back().is_some_and(|last| now.at < last.at + STEP_MS) {
            return;
        }
        self.0.push_back(now);
        while self.0.front().is_some_and(|first| first.at + WINDOW_MS < now.at) {
            self.0.pop_front();
        }
    }

    /// A sentence for operators if at least a fifth more people wait and no more builds run.
    pub(super) fn incident(&self) -> Option<String> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let grew = last.people >= first.people + MORE && last.people * 5 >= first.people * 6;
        let is_long = last.at >= first.at + SHORTEST_MS;
        (is_long && grew && last.running <= first.running).then(|| {
            format!(
                "{} wait, {} more than {} ago, but no more builds run than then ({}).",
                people(last.people),
                last.people - first.people,
                span(first.at, last.at),
                last.running
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence after samples of people and of running builds, ten seconds apart.
    fn after(samples: impl IntoIterator<Item = (u64, u64)>) -> Option<String> {
        let mut trend = Trend::default();
        for (number, (people, running)) in samples.into_iter().enumerate() {
            trend.0.push_back(Sample { at: 10_000 * number as u64, people, running });
        }
        trend.incident()
    }

    #[test]
    fn only_a_growing_crowd_without_more_builds_is_the_incident() {
        let said = after((0..13).map(|step| (10 + step, 4))).unwrap();
        assert_eq!(said, "22 people wait, 12 more than 2 min ago, but no more builds run than then (4).");
        assert_eq!(after((0..12).map(|step| (10 + step, 4))), None, "too short");
        assert_eq!(after((0..13).map(|step| (10 + step, 4 + step))), None, "more builds run");
        assert_eq!(after((0..13).map(|step| (100 + step, 4))), None, "few more people");
        assert_eq!(after((0..13).map(|step| (40 - step, 4))), None, "fewer people");
        assert_eq!(after([]), None);
    }
}
