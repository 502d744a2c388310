//! How long a build may take, given how long builds of its lane took: a median, and a spread around it.

/// How closely builds cluster around their median: the shape of a log-logistic distribution, which is nearly
/// log-normal and has a formula for the time left at a given age. Commits of one repository differ less than
/// repositories do.
const SHAPE_KNOWN: f64 = 3.5;
const SHAPE_UNKNOWN: f64 = 2.5;
/// A new lane uses the median of all lanes, which is below their mean.
const MEDIAN_OF_MEAN: f64 = 0.75;
/// Beyond this multiple of the median, nothing that was learned applies: from there, a build is expected to
/// take as long again as it has taken so far.
const KNEE: f64 = 3.0;
/// The share of builds that take longer than [`Spread::planned`]. The times of many builds add up, and their
/// sum follows the mean, which is above the median.
const PLANNED: f64 = 0.4;
/// A build is late once it has taken this many times its median.
const LATE: f64 = 1.5;
/// Expected duration before any build has ended.
const GUESS_MS: f64 = 180_000.0;

/// How long a build may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    median_ms: f64,
    shape: f64,
}

impl Spread {
    /// From what a lane has learned, else from the mean of all lanes.
    pub(super) fn new(lane_ms: Option<u64>, all_ms: Option<u64>) -> Self {
        match (lane_ms, all_ms) {
            (Some(lane), _) => Self { median_ms: float(lane).max(1.0), shape: SHAPE_KNOWN },
            (None, Some(all)) => {
                Self { median_ms: (MEDIAN_OF_MEAN * float(all)).max(1.0), shape: SHAPE_UNKNOWN }
            }
            (None, None) => Self { median_ms: GUESS_MS, shape: SHAPE_UNKNOWN },
        }
    }

    /// Median time left for a build that has run for `age` ms.
    pub(super) fn left(&self, age: u64) -> u64 {
        self.left_with(age, 0.5)
    }

    /// The same for planning: the time until its slot is free.
    pub(super) fn planned(&self, age: u64) -> u64 {
        self.left_with(age, PLANNED)
    }

    /// Whether a build of that age takes longer than expected.
    pub(super) fn is_late(&self, age: u64) -> bool {
        float(age) > LATE * self.median_ms
    }

    /// The time left after `age` ms that a share of `longer` (0 to 1) of the builds of that age exceeds.
    fn left_with(&self, age: u64, longer: f64) -> u64 {
        let age = float(age);
        whole(self.lasting(self.share_beyond(age) * longer) - age)
    }

    /// The share of builds that take longer than `ms`.
    fn share_beyond(&self, ms: f64) -> f64 {
        let times = ms / self.median_ms;
        if times <= KNEE { 1.0 / (1.0 + times.powf(self.shape)) } else { self.share_at_knee() * KNEE / times }
    }

    /// The duration that this share of builds exceeds.
    fn lasting(&self, share: f64) -> f64 {
        let at_knee = self.share_at_knee();
        let times = if share >= at_knee {
            (1.0 / share - 1.0).powf(1.0 / self.shape)
        } else {
            KNEE * at_knee / share
        };
        self.median_ms * times
    }

    fn share_at_knee(&self) -> f64 {
        1.0 / (1.0 + KNEE.powf(self.shape))
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans in ms stay far below 2^53")]
fn float(ms: u64) -> f64 {
    ms as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span in ms, not negative")]
fn whole(ms: f64) -> u64 {
    ms.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn a_build_that_has_begun_takes_what_its_lane_takes() {
        let lane = Spread::new(Some(10 * MINUTE), Some(MINUTE));
        assert_eq!(lane.left(0), 10 * MINUTE);
        let planned = lane.planned(0);
        assert!(planned > 11 * MINUTE && planned < 12 * MINUTE, "the mean is above the median: {planned}");
        // Less is known about a new lane: the median of all lanes is below their mean.
        assert_eq!(Spread::new(None, Some(8 * MINUTE)).left(0), 6 * MINUTE);
        assert_eq!(Spread::new(None, None).left(0), 3 * MINUTE);
    }

    #[test]
    fn what_is_left_shrinks_first_and_grows_once_a_build_is_late() {
        let lane = Spread::new(Some(10 * MINUTE), None);
        let left = |minutes: u64| lane.left(minutes * MINUTE) / MINUTE;
        assert_eq!([0, 2, 5, 8, 10, 15].map(left), [10, 8, 5, 4, 3, 3]);
        // Nothing that is known explains it: as long again as it has taken.
        assert_eq!([40, 60, 240].map(left), [40, 60, 240]);
        for age in 0..300 {
            assert!(lane.left(age * MINUTE) > MINUTE, "never over before it has ended: {age}");
        }
        assert!(!lane.is_late(10 * MINUTE) && lane.is_late(16 * MINUTE));
    }

    #[test]
    fn shares_and_spans_are_two_sides_of_one_thing() {
        for spread in [Spread::new(Some(MINUTE), None), Spread::new(None, Some(MINUTE))] {
            for ms in [1_000, 10_000, 60_000, 179_000, 181_000, 10_000_000] {
                let back = spread.lasting(spread.share_beyond(float(ms)));
                assert!((back - float(ms)).abs() < 1.0, "{ms} {back}");
            }
        }
    }
}
