//! A small day for unit tests.

use super::day::{Ask, Day, Lane, Spec};

/// A day whose specs take these seconds; those in `slow` are slow. The first spec has its own lane, the others
/// share one. Launches are (second, spec).
pub(super) fn day(seconds: &[u64], slow: &[usize], asks: &[(u64, usize)]) -> Day {
    let spec = |(index, seconds): (usize, &u64)| Spec {
        name: format!("GitHub:o/{index}/main"),
        lane: index.min(1),
        build_ms: seconds * 1000,
        slow: slow.contains(&index),
    };
    let slow_lane = |lane: usize| slow.iter().any(|spec| (*spec).min(1) == lane);
    Day {
        specs: seconds.iter().enumerate().map(spec).collect(),
        lanes: (0..2).map(|lane| Lane { slow: slow_lane(lane) }).collect(),
        asks: asks.iter().map(|(second, spec)| Ask { at: second * 1000, spec: *spec }).collect(),
        history: Vec::new(),
        ahead: Vec::new(),
        start: 0,
        wipe: 0,
        midnight: 86_400_000,
        warnings: Vec::new(),
    }
}
