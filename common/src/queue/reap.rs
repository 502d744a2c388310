//! Handling what is due: expired leases, backoffs that are over, rules that end, processes that are gone. Any
//! process may reap; a reap is bounded and can be repeated.

use std::time::Duration;

use super::Queue;
use crate::error::Result;
use crate::library::REAP;
use crate::limits;
use crate::queue::script::Args;

/// What one reap did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Expired leases whose runs now wait for adoption.
    pub orphaned: u64,
    /// Expired leases whose runs died with their worker; the builds are back in line.
    pub lost: u64,
    /// Timers that were due.
    pub timers: u64,
    /// Campaigns that have not ended.
    pub campaigns: u64,
    /// How long until something may become due; at most a second.
    pub sleep: Duration,
}

impl Queue {
    /// Handles what is due, a bounded amount per call.
    pub async fn reap(&self) -> Result<Reaped> {
        let args = Args::new().show("lease", limits::LEASE.as_millis());
        let mut reply = self.call(&REAP, args).await?;
        if reply.tag != "reaped" {
            return Err(reply.unknown());
        }
        Ok(Reaped {
            sleep: Duration::from_millis(reply.parse("sleep")?),
            orphaned: reply.parse("orphaned")?,
            lost: reply.parse("lost")?,
            timers: reply.parse("timers")?,
            campaigns: reply.maybe("campaigns")?.unwrap_or(0),
        })
    }
}
