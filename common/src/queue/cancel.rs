//! What operators do to one build: cancel it for everybody who waits for it, or promote it.

use super::{By, Queue};
use crate::build::BuildState;
use crate::error::Result;
use crate::id::BuildId;
use crate::library::{CANCEL, PROMOTE};
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

/// What a promotion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promoted {
    /// It is interactive now.
    Done,
    /// It was interactive before.
    Before,
    /// It has ended.
    Ended(BuildState),
    /// There is no such build.
    Unknown,
}

impl Queue {
    /// Makes a background build interactive, as if somebody who waits had asked for it.
    pub async fn promote<'a>(&self, id: BuildId, by: impl Into<By<'a>>) -> Result<Promoted> {
        let mut reply = self.call(&PROMOTE, Args::new().show("id", id).by(by.into())).await?;
        match reply.tag.as_str() {
            "promoted" => Ok(Promoted::Done),
            "interactive" => Ok(Promoted::Before),
            "ended" => Ok(Promoted::Ended(reply.parse("state")?)),
            "unknown" => Ok(Promoted::Unknown),
            _ => Err(reply.unknown()),
        }
    }

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
