//! The words for the state of a build, how urgent it is, and why it failed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of its definition.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for it in Redis, HTTP and on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => {
                        let known = [$($word,)+].join(", ");
                        Err(format!("'{text}' is not one of {known}"))
                    }
                }
            }
        }
    };
}

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
