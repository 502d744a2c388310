//! The day that is played: who requests what and when, from the wipe of the cache on.

use std::collections::{HashMap, HashSet};

use fairlane_campaign::events::Launch;
use fairlane_campaign::rank::Candidate;
use fairlane_clikit::exit::Stop;

use super::args::{Slow, TimeOfDay};
use super::model::{build_ms, lane_of};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// Number of suggestions for a name that does not occur.
const NEAREST: usize = 3;

/// One image: a repository at a ref, as the events name it.
#[derive(Debug)]
pub(super) struct Spec {
    /// `Provider:spec`.
    pub(super) name: String,
    /// Its lane: an index into [`Day::lanes`].
    pub(super) lane: usize,
    /// How long its build takes, in milliseconds.
    pub(super) build_ms: u64,
    /// Whether its build time was set with `--slow`; its launches are then left out of the figures.
    pub(super) slow: bool,
}

/// All specs of one repository.
#[derive(Debug)]
pub(super) struct Lane {
    /// Whether one of its specs is slow.
    pub(super) slow: bool,
}

/// Somebody requests an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// When (Unix milliseconds).
    pub(super) at: u64,
    /// Which image: an index into [`Day::specs`].
    pub(super) spec: usize,
}

/// A day of launches.
#[derive(Debug)]
pub(super) struct Day {
    /// Every spec of the day and of its history.
    pub(super) specs: Vec<Spec>,
    /// Their lanes.
    pub(super) lanes: Vec<Lane>,
    /// Launches from the wipe on, in chronological order.
    pub(super) asks: Vec<Ask>,
    /// Specs that were built once before the wipe, in order.
    pub(super) history: Vec<usize>,
    /// Specs that a campaign may build ahead, best first.
    pub(super) ahead: Vec<usize>,
    /// When that campaign starts, Unix milliseconds; without one, the wipe.
    pub(super) start: u64,
    /// When the cache was wiped, Unix milliseconds.
    pub(super) wipe: u64,
    /// The end of that day, Unix milliseconds.
    pub(super) midnight: u64,
    /// Warnings for people.
    pub(super) warnings: Vec<String>,
}

impl Day {
    /// Assembles the day. `launches` are those of the whole day, `history` those of earlier days, earliest first;
    /// `ahead` are the specs that a campaign may build from a time of the day on.
    ///
    /// # Errors
    /// When no launch comes after the wipe.
    pub(super) fn new(
        mut launches: Vec<Launch>,
        history: &[Launch],
        wipe_at: TimeOfDay,
        slow: &[Slow],
        ahead: Option<(&[Candidate], TimeOfDay)>,
    ) -> Result<Self, Stop> {
        launches.sort_by_key(|launch| launch.minute);
        let start = launches.first().map_or(0, |launch| launch.minute / DAY_MS * DAY_MS);
        let wipe = start + wipe_at.0 * MINUTE_MS;
        let mut known = Known { slow, ..Known::default() };
        let mut seen = HashSet::new();
        let history: Vec<usize> =
            history.iter().map(|launch| known.spec(&launch.spec)).filter(|spec| seen.insert(*spec)).collect();
        let mut asks = Vec::new();
        for minute in launches.chunk_by(|a, b| a.minute == b.minute) {
            let count = minute.len() as u64;
            for (index, launch) in (0..).zip(minute) {
                // Launches are spread evenly over their minute, so that any program gets the same times.
                let at = launch.minute + MINUTE_MS * index / count;
                if launch.minute >= wipe {
                    asks.push(Ask { at, spec: known.spec(&launch.spec) });
                }
            }
        }
        if asks.is_empty() {
            return Err(Stop::usage("no launch comes after the wipe; choose an earlier --wipe-at"));
        }
        let mut campaign = (Vec::new(), wipe);
        if let Some((candidates, from)) = ahead {
            let quick = candidates.iter().filter(|one| !slow.iter().any(|slow| slow.spec == one.spec));
            let today = start + from.0 * MINUTE_MS;
            campaign.0 = quick.map(|one| known.spec(&one.spec)).collect();
            campaign.1 = if today < wipe { today } else { today - DAY_MS };
        }
        let warnings = slow.iter().filter_map(|slow| known.missing(&slow.spec)).collect();
        let Known { specs, lanes, .. } = known;
        let (ahead, from) = campaign;
        Ok(Self { specs, lanes, asks, history, ahead, start: from, wipe, midnight: start + DAY_MS, warnings })
    }

    /// The lane of a spec.
    pub(super) fn lane_of(&self, spec: usize) -> &Lane {
        &self.lanes[self.specs[spec].lane]
    }
}

/// Specs and lanes seen so far.
#[derive(Debug, Default)]
struct Known<'a> {
    slow: &'a [Slow],
    specs: Vec<Spec>,
    lanes: Vec<Lane>,
    by_name: HashMap<String, usize>,
    lanes_by_name: HashMap<String, usize>,
}

impl Known<'_> {
    fn spec(&mut self, name: &str) -> usize {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let given = self.slow.iter().rfind(|slow| slow.spec == name);
        let lane = self.lane(lane_of(name));
        self.lanes[lane].slow |= given.is_some();
        let build_ms = given.map_or_else(|| build_ms(name), |slow| slow.build_ms);
        self.specs.push(Spec { name: name.to_owned(), lane, build_ms, slow: given.is_some() });
        self.by_name.insert(name.to_owned(), self.specs.len() - 1);
        self.specs.len() - 1
    }

    fn lane(&mut self, name: &str) -> usize {
        if let Some(known) = self.lanes_by_name.get(name) {
            return *known;
        }
        self.lanes.push(Lane { slow: false });
        self.lanes_by_name.insert(name.to_owned(), self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    /// The warning for a spec that does not occur.
    fn missing(&self, name: &str) -> Option<String> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let mut near: Vec<(f64, &str)> = self
            .specs
            .iter()
            .map(|spec| (strsim::normalized_damerau_levenshtein(name, &spec.name), spec.name.as_str()))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let near: Vec<&str> = near.into_iter().take(NEAREST).map(|(_, name)| name).collect();
        Some(format!(
            "--slow: {name} does not occur after the wipe or in the history; did you mean {}?",
            near.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORNING: u64 = 1_553_385_600_000; // 2019-03-24 00:00 UTC

    fn launch(minute: u64, spec: &str) -> Launch {
        Launch { minute: MORNING + minute * MINUTE_MS, spec: spec.to_owned(), reference: None }
    }

    #[test]
    fn launches_are_spread_over_their_minute_from_the_wipe_on() {
        let launches = vec![
            launch(12, "GitHub:o/n/b"),
            launch(9, "GitHub:o/n/a"),
            launch(10, "GitHub:o/n/a"),
            launch(12, "GitHub:o/m/a"),
            launch(12, "GitHub:o/n/a"),
        ];
        let history = [launch(0, "GitHub:o/m/a"), launch(1, "Git:x/y"), launch(2, "GitHub:o/m/a")];
        let slow = ["GitHub:o/n/b=7200".parse().unwrap(), "GitHub:o/n/c=1".parse().unwrap()];
        let day = Day::new(launches, &history, TimeOfDay(10), &slow, None).unwrap();
        let asks: Vec<(u64, &str)> =
            day.asks.iter().map(|ask| (ask.at - MORNING, day.specs[ask.spec].name.as_str())).collect();
        assert_eq!(
            asks,
            [
                (600_000, "GitHub:o/n/a"),
                (720_000, "GitHub:o/n/b"),
                (740_000, "GitHub:o/m/a"),
                (760_000, "GitHub:o/n/a"),
            ]
        );
        let built: Vec<&str> = day.history.iter().map(|spec| day.specs[*spec].name.as_str()).collect();
        assert_eq!(built, ["GitHub:o/m/a", "Git:x/y"]);
        assert_eq!((day.wipe, day.midnight), (MORNING + 600_000, MORNING + DAY_MS));
        let slow = day.specs.iter().filter(|spec| day.lanes[spec.lane].slow).map(|spec| spec.name.as_str());
        assert_eq!(slow.collect::<Vec<_>>(), ["GitHub:o/n/a", "GitHub:o/n/b"]);
        let b = day.specs.iter().find(|spec| spec.name == "GitHub:o/n/b").unwrap();
        assert!(b.slow && b.build_ms == 7_200_000);
        assert_eq!(day.warnings.len(), 1);
        assert!(day.warnings[0].contains("did you mean GitHub:o/n/a, GitHub:o/n/b, "), "{:?}", day.warnings);
    }

    #[test]
    fn a_campaign_starts_before_the_wipe_and_leaves_slow_specs_out() {
        let launches = vec![launch(12, "GitHub:o/n/a")];
        let candidate = |spec: &str| Candidate { spec: spec.to_owned(), launches: 1.0, reference: None };
        let all = ["GitHub:o/n/b", "GitHub:o/n/slow", "GitHub:o/n/a"].map(candidate);
        let slow = ["GitHub:o/n/slow=7200".parse().unwrap()];
        for (from, start) in [(9, MORNING + 9 * MINUTE_MS), (10, MORNING + 10 * MINUTE_MS - DAY_MS)] {
            let ahead = Some((all.as_slice(), TimeOfDay(from)));
            let day = Day::new(launches.clone(), &[], TimeOfDay(10), &slow, ahead).unwrap();
            let names: Vec<&str> = day.ahead.iter().map(|spec| day.specs[*spec].name.as_str()).collect();
            assert_eq!((names.as_slice(), day.start), (["GitHub:o/n/b", "GitHub:o/n/a"].as_slice(), start));
        }
    }

    #[test]
    fn a_wipe_after_the_last_launch_is_refused() {
        let error = Day::new(vec![launch(9, "GitHub:o/n/a")], &[], TimeOfDay(10), &[], None).unwrap_err();
        assert!(error.to_string().contains("--wipe-at"), "{error}");
    }
}
