//! The states of campaigns and of their items.

use crate::words::words;

words!(
    /// The state of a campaign.
    CampaignState {
        /// Its items are still coming.
        Loading = "loading",
        /// It makes builds.
        Running = "running",
        /// It makes none until it is resumed.
        Paused = "paused",
        /// All its items are done.
        Ended = "ended",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
);

words!(
    /// Where an item is.
    ItemState {
        /// Its build has not been asked for.
        Waiting = "waiting",
        /// Its build is in line or runs.
        Building = "building",
        /// Its image is being built because somebody asked for it.
        Joined = "joined",
        /// The campaign built it.
        Built = "built",
        /// Its image was in the registry already.
        Present = "present",
        /// Its image was built because somebody asked for it.
        People = "built_by_people",
        /// Its build failed.
        Failed = "failed",
        /// Its build was cancelled.
        Cancelled = "cancelled",
    }
);
