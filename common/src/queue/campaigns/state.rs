//! The states of campaigns and of their items.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $field:literal, $($(#[$of:meta])* $variant:ident = $word:literal,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As the API spells it.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::ALL.iter().copied().find(|one| one.word() == text).ok_or_else(|| {
                    Invalid::new($field, concat!("must be one of", $(" ", $word),+))
                })
            }
        }
    };
}

words! {
    /// The state of a campaign.
    CampaignState, "state",
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

words! {
    /// Where an item is.
    ItemState, "state",
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
