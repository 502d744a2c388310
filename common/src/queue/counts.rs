//! Counters of what happened, over all processes since Redis was last emptied.

use std::collections::BTreeMap;

use super::Queue;
use super::inspect::first;
use crate::build::{FailureClass, Priority};
use crate::cause::FailureCause;
use crate::error::Result;

/// How often something happened. Each event is counted once, by the call that makes it happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that were claimed, apart from adoptions.
    pub started: BTreeMap<Priority, u64>,
    /// Builds that succeeded.
    pub succeeded: u64,
    /// Builds that were cancelled.
    pub cancelled: u64,
    /// Builds that failed.
    pub failed: BTreeMap<(FailureClass, FailureCause), u64>,
    /// Failed attempts that are followed by another one.
    pub retried: BTreeMap<(FailureClass, FailureCause), u64>,
    /// Leases that expired.
    pub leases_lost: u64,
    /// Runs that another worker took over.
    pub adopted: u64,
}

impl Counts {
    /// How many builds have ended.
    pub fn ended(&self) -> u64 {
        self.succeeded + self.cancelled + self.failed.values().sum::<u64>()
    }

    /// Adds one counter; names of other releases are left out.
    fn add(&mut self, name: &str, count: u64) -> Option<()> {
        let words: Vec<&str> = name.split(':').collect();
        let of = match *words.as_slice() {
            ["started", priority] => self.started.entry(priority.parse().ok()?).or_default(),
            ["ended", "succeeded"] => &mut self.succeeded,
            ["ended", "cancelled"] => &mut self.cancelled,
            ["ended", "failed", class, cause] => {
                self.failed.entry((class.parse().ok()?, cause.parse().ok()?)).or_default()
            }
            ["retried", class, cause] => {
                self.retried.entry((class.parse().ok()?, cause.parse().ok()?)).or_default()
            }
            ["leases_lost"] => &mut self.leases_lost,
            ["adopted"] => &mut self.adopted,
            _ => return None,
        };
        *of += count;
        Some(())
    }
}

impl Queue {
    /// What happened so far, in one call.
    pub async fn counts(&self) -> Result<Counts> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(self.keys().counts());
        let fields: BTreeMap<String, u64> = first(self.link().bulk(&pipe).await?)?;
        let mut counts = Counts::default();
        for (name, count) in fields {
            counts.add(&name, count);
        }
        Ok(counts)
    }
}
