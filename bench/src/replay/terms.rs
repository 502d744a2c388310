//! The rules of a replay's queue, for the independent records.

use fairlane_common::queue::{Order, Policy};

/// The queue's defaults, for what a replay does not set; see [`Policy`].
const OVERTAKE_MAX_MS: u64 = 4 * 3_600_000;
const BURST: u32 = 3;
const PEOPLE_MAX: u64 = 200;
const BACKGROUND_SHARE: f64 = 0.75;
/// This puts background builds behind all interactive ones.
const BACKGROUND_MS: u64 = 1_000_000_000_000;

/// The rules of a replay's queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Terms {
    pub(super) slots: usize,
    pub(super) limit: usize,
    pub(super) burst: usize,
    /// Background builds at once.
    pub(super) background: usize,
    order: Order,
    overtake_max_ms: u64,
}

impl Terms {
    /// What `policy` means on a cluster of `slots`.
    pub(super) fn new(slots: u32, policy: &Policy) -> Self {
        let limit = policy.limit.unwrap_or(if slots < 4 { 1 } else { 2 });
        let share = policy.background_share.unwrap_or(BACKGROUND_SHARE);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the slots")]
        let background = if share > 0.0 { ((f64::from(slots) * share) as usize).max(1) } else { 0 };
        Self {
            background,
            slots: slots as usize,
            limit: limit as usize,
            burst: policy.burst.unwrap_or(BURST).max(limit) as usize,
            order: policy.order.unwrap_or(Order::Fair),
            overtake_max_ms: policy.overtake_max_ms.unwrap_or(OVERTAKE_MAX_MS),
        }
    }

    /// A build's due, which decides its position in line: quick or popular builds go first, and more so the longer
    /// the line is (`in_line` builds); nobody waits without bound.
    pub(super) fn due(&self, asked: u64, expected_ms: u64, people: u64, mean_ms: u64, in_line: usize) -> u64 {
        if self.order == Order::FirstCome {
            return asked;
        }
        #[expect(clippy::cast_precision_loss, reason = "times of a day stay far below 2^53")]
        let put_off = {
            let share = expected_ms as f64 / (mean_ms * people.clamp(1, PEOPLE_MAX)) as f64;
            let pressure = (in_line as f64 / (20 * self.slots) as f64).max(0.2);
            self.overtake_max_ms as f64 * (share * share * share * pressure).min(1.0)
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and not negative")]
        let put_off = put_off.floor() as u64;
        asked + put_off
    }
}

/// The due of a background build that would have this due if somebody waited for it.
pub(super) fn background(due: u64) -> u64 {
    due + BACKGROUND_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_put_off_without_bound() {
        let terms = Terms::new(4, &Policy::default());
        let hours = 3_600_000;
        let due = |expected_ms, people, in_line| terms.due(1000, expected_ms, people, 60_000, in_line) - 1000;
        assert_eq!(due(60_000, 0, 0), 4 * hours / 5, "a short line puts a usual build off by a fifth");
        assert_eq!(due(60_000, 2, 0), 4 * hours / 5 / 8, "two people, an eighth of that");
        assert_eq!(due(60_000, 1, 40), 2 * hours, "the longer the line, the more");
        assert_eq!(due(7_200_000, 1, 40), 4 * hours);
    }
}
