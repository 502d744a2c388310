//! Who used the capacity: the time that lanes held permits, by the records of ended builds.

use std::collections::HashMap;

use super::Queue;
use super::past::record;
use super::since::Since;
use crate::build::BuildState;
use crate::error::Result;
use crate::repo::Lane;

/// Records read in one round trip.
const READ: usize = 1000;

/// What a lane used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// How long its ended builds held permits, in milliseconds, over all their runs.
    pub slot_ms: u64,
    /// Builds that succeeded.
    pub succeeded: u64,
    /// Builds that failed.
    pub failed: u64,
    /// Builds that were cancelled.
    pub cancelled: u64,
}

impl Use {
    /// How many builds ended.
    pub fn builds(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }
}

/// What lanes used since a moment, those that used most first.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// The moment, Unix milliseconds.
    pub since: u64,
    /// Every lane with a build that ended since then.
    pub lanes: Vec<(Lane, Use)>,
}

impl Queue {
    /// What lanes used, by the builds that ended since then. Reads every record of that time.
    pub async fn usage(&self, since: Since) -> Result<Usage> {
        let since = self.moment(since).await?;
        let (oldest, mut newest) = (since.to_string(), "+".to_owned());
        let mut lanes: HashMap<Lane, Use> = HashMap::new();
        loop {
            let page = self.records(&newest, &oldest, READ).await?;
            for build in page.iter().filter_map(record) {
                let of = lanes.entry(build.lane).or_default();
                of.slot_ms += build.slot_ms;
                *match build.state {
                    BuildState::Succeeded => &mut of.succeeded,
                    BuildState::Cancelled => &mut of.cancelled,
                    _ => &mut of.failed,
                } += 1;
            }
            match page.last() {
                Some(last) if page.len() == READ => newest = format!("({}", last.id),
                _ => break,
            }
        }
        let mut lanes: Vec<(Lane, Use)> = lanes.into_iter().collect();
        lanes.sort_by(|(a, of_a), (b, of_b)| {
            of_b.slot_ms.cmp(&of_a.slot_ms).then_with(|| a.as_str().cmp(b.as_str()))
        });
        Ok(Usage { since, lanes })
    }
}
