//! The words for the state of a build, how urgent it is, and why it failed.

use crate::words::words;

words!(
    /// The state of a build.
    BuildState {
        /// Waits for a slot, a permit, or the end of a backoff.
        Queued = "queued",
        /// A worker holds its lease and starts its run.
        Starting = "starting",
        /// Its run is alive.
        Running = "running",
        /// Its lease ran out or was handed over; its run may be alive and waits for adoption.
        Orphaned = "orphaned",
        /// Its image is made.
        Succeeded = "succeeded",
        /// It ended without an image; class and reason say why.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
    }
);

impl BuildState {
    /// Whether nothing will change any more.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The allowed transitions. The model test compares the scripts' guards with this table.
    pub fn can_become(self, next: Self) -> bool {
        use BuildState::{Cancelled, Failed, Orphaned, Queued, Running, Starting, Succeeded};
        match self {
            // Succeeded: a holder whose run was presumed lost finished it after all.
            Queued => matches!(next, Starting | Cancelled | Succeeded),
            Starting => matches!(next, Running | Orphaned | Queued | Succeeded | Failed | Cancelled),
            Running => matches!(next, Orphaned | Queued | Succeeded | Failed | Cancelled),
            Orphaned => matches!(next, Starting | Running | Queued | Succeeded | Failed | Cancelled),
            Succeeded | Failed | Cancelled => false,
        }
    }
}

words!(
    /// Whether people wait for a build, or it is made in the background.
    Priority {
        /// Somebody waits.
        Interactive = "interactive",
        /// Behind everything that people wait for, within a share of the slots.
        Background = "background",
    }
);

words!(
    /// Why a run failed: decides whether it is tried again, and what is remembered.
    FailureClass {
        /// The build itself failed: not retried, remembered for 5 minutes.
        Repository = "repository",
        /// Something outside the repository failed: retried, up to 3 attempts.
        Infrastructure = "infrastructure",
        /// Pending, silent or running for too long: killed, retried once.
        Stuck = "stuck",
    }
);
