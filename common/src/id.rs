//! Ids of builds and processes, and the token that a holder presents.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::invalid::Invalid;
pub use crate::repo::{GitRef, Image, Lane, Repo};

/// The cluster that the hosts of process workers are the nodes of.
pub const HOSTS: &str = "process";

/// A build's id: a version 7 UUID, so ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(Uuid);

impl BuildId {
    /// A new id.
    #[expect(clippy::new_without_default, reason = "every call gives another id")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Its 128 bits.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BuildId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // Only the hyphenated form: ids are pasted into keys, and one build must have one key.
        match Uuid::parse_str(text) {
            Ok(id) if text.len() == 36 && id.to_string() == text => Ok(Self(id)),
            _ => {
                Err(Invalid::new("id", "not a build id; one looks like 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d"))
            }
        }
    }
}

macro_rules! process_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new id that starts with the host's name, so that people can tell where it runs.
            pub fn new(host: &str) -> Self {
                let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
                let random = Uuid::new_v4().simple().to_string();
                Self(format!("{}-{}", if host.is_empty() { "host" } else { &host }, &random[..8]))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let fits = (1..=100).contains(&text.len())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
                if fits {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Invalid::new($field, "an id has 1 to 100 letters, digits, '-', '.' or '_'"))
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

process_id!(
    /// A worker process. A restarted worker is another worker.
    WorkerId, "worker");
process_id!(
    /// A dispatcher process. A restarted dispatcher is another dispatcher.
    DispatcherId, "dispatcher");

/// A node's name, as Kubernetes allows it: it becomes part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = (1..=253).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("node", "a node's name has 1 to 253 letters, digits, '-', '.' or '_'"))
        }
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a worker presents to act on a build: (build, epoch, worker). If Redis has another epoch or worker,
/// the lease is old and the holder must not change anything any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// The build that the lease is for.
    pub build: BuildId,
    /// The fencing number, assigned at claim or adoption; it never decreases.
    pub epoch: u64,
    /// The worker that holds the lease.
    pub worker: WorkerId,
}
