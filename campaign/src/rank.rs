//! What people will open, from what they have opened.
//!
//! A build saves its launches the time that it takes, and costs that time of a slot. So, per slot-second, its worth is
//! its expected launches, and nothing else. (docs/renewing-the-cache.md compares other rankings.)

use std::collections::{BTreeMap, HashMap};

use crate::events::Launch;

/// After this many days, a launch weighs half as much.
pub const HALF_LIFE_DAYS: f64 = 3.0;
const DAY_MS: u64 = 86_400_000;

/// A spec, and how often it will be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// `Provider:spec`.
    pub spec: String,
    /// Expected launches a day.
    pub launches: f64,
    /// The ref that its latest launch was resolved to, if the events say.
    pub reference: Option<String>,
}

/// The launches of one spec so far.
#[derive(Default)]
struct Found<'a> {
    launches: f64,
    /// When the latest one with a resolved ref was, and that ref.
    latest: Option<(u64, &'a str)>,
}

/// The specs of these launches, most expected launches first. Only days with launches count, so that a day that nobody
/// recorded does not.
pub fn expected(launches: &[Launch], half_life_days: f64) -> Vec<Candidate> {
    let mut of_day: BTreeMap<u64, f64> = BTreeMap::new();
    for launch in launches {
        of_day.entry(launch.minute / DAY_MS).or_default();
    }
    let last = of_day.last_key_value().map_or(0, |(day, _)| *day);
    for (day, weight) in &mut of_day {
        #[expect(clippy::cast_precision_loss, reason = "days")]
        let age = (last - day) as f64;
        *weight = 0.5_f64.powf(age / half_life_days);
    }
    let all: f64 = of_day.values().sum();
    let mut found: HashMap<&str, Found<'_>> = HashMap::new();
    for launch in launches {
        let Found { launches, latest } = found.entry(&launch.spec).or_default();
        *launches += of_day.get(&(launch.minute / DAY_MS)).copied().unwrap_or_default() / all;
        if let Some(reference) = &launch.reference
            && latest.is_none_or(|(at, _)| at <= launch.minute)
        {
            *latest = Some((launch.minute, reference));
        }
    }
    let mut candidates: Vec<Candidate> = found
        .into_iter()
        .map(|(spec, Found { launches, latest })| Candidate {
            spec: spec.to_owned(),
            launches,
            reference: latest.map(|(_, reference)| reference.to_owned()),
        })
        .collect();
    // Sums of the same launches in another order may differ in their last bits.
    let rounded = |one: &Candidate| (one.launches * 1e6).round();
    candidates.sort_by(|a, b| rounded(b).total_cmp(&rounded(a)).then_with(|| a.spec.cmp(&b.spec)));
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(day: u64, spec: &str, reference: Option<&str>) -> Launch {
        Launch { minute: day * DAY_MS, spec: spec.to_owned(), reference: reference.map(str::to_owned) }
    }

    #[test]
    fn recent_days_weigh_more() {
        let launches = [
            launch(10, "GitHub:o/a/main", Some("2")),
            launch(7, "GitHub:o/b/main", None),
            launch(7, "GitHub:o/a/main", Some("1")),
            launch(10, "GitHub:o/c/main", None),
            launch(7, "GitHub:o/b/main", None),
        ];
        let found = expected(&launches, 3.0);
        let known: Vec<(&str, f64)> =
            found.iter().map(|one| (one.spec.as_str(), (one.launches * 100.0).round())).collect();
        // The earlier of the two days weighs 1/2, and both together 3/2.
        assert_eq!(known, [("GitHub:o/a/main", 100.0), ("GitHub:o/b/main", 67.0), ("GitHub:o/c/main", 67.0)]);
        assert_eq!(found[0].reference.as_deref(), Some("2"), "the latest");
        assert!(expected(&[], 3.0).is_empty());
        let steady = expected(&launches, 1000.0);
        assert!((steady[1].launches - 1.0).abs() < 0.01, "{steady:?}");
    }
}
