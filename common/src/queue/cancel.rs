//! Cancelling a build for everybody who waits for it.

use super::Queue;
use crate::build::BuildState;
use crate::error::Result;
use crate::id::BuildId;
use crate::library::CANCEL;
use crate::queue::script::Args;

/// What a cancellation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started, and has ended.
    Ended,
    /// Its run is being stopped; it ends when the run is gone.
    Stopping,
    /// It had ended before.
    Before(BuildState),
    /// There is no such build.
    Unknown,
}

impl Queue {
    /// Ends a build. `by` and `reason` go to the audit stream and to its watchers.
    pub async fn cancel(&self, id: BuildId, by: &str, reason: &str) -> Result<Cancelled> {
        let mut reply =
            self.call(&CANCEL, Args::new().show("id", id).text("by", by).text("reason", reason)).await?;
        match reply.tag.as_str() {
            "cancelled" => Ok(Cancelled::Ended),
            "stopping" => Ok(Cancelled::Stopping),
            "ended" => Ok(Cancelled::Before(reply.parse("state")?)),
            "unknown" => Ok(Cancelled::Unknown),
            _ => Err(reply.unknown()),
        }
    }
}
