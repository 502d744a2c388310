//! Doing what has become due: leases that ran out, backoffs that are over, rules that end,
//! processes that are gone. Any process may reap; a reap is bounded and may be repeated.

use std::time::Duration;

use super::Queue;
use crate::error::Result;
use crate::library::REAP;
use crate::limits;
use crate::script::Args;

/// What one reap did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Leases that ran out and whose runs wait for adoption.
    pub orphaned: u64,
    /// Leases that ran out and whose runs died with their worker: back in line.
    pub lost: u64,
    /// Timers that were due.
    pub timers: u64,
    /// How long until something may become due; at most a second.
    pub sleep: Duration,
}

impl Queue {
    /// Does what is due, a bounded amount of it.
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
        })
    }
}
