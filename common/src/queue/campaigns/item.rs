//! The items of a campaign, and its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::campaign::Item;
use crate::invalid::Invalid;

/// Most items of a campaign.
pub const ITEMS_MAX: usize = 100_000;
/// Most items of one call: Redis does nothing else while it adds them.
pub const ITEMS_AT_ONCE: usize = 1000;
/// How long a build is expected to take where the plan does not say, in seconds.
pub const EXPECTED_S: u64 = 180;

/// A campaign's name: it is part of keys and of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CampaignName(String);

impl CampaignName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CampaignName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CampaignName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if plain && (1..=63).contains(&text.len()) && !text.starts_with('-') {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(
            "name",
            "a campaign's name has 1 to 63 lowercase letters, digits or '-', and does not start with '-'",
        ))
    }
}

/// An item as Redis has it: with its lane, and with the arguments as the text that the queue compares.
#[derive(Serialize)]
struct Stored<'a> {
    repo: &'a str,
    #[serde(rename = "ref")]
    reference: &'a str,
    image: &'a str,
    lane: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<&'a str>,
    launches: f64,
    expected_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_push: bool,
}

/// What is read back of an item.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Kept {
    pub(super) repo: String,
    #[serde(rename = "ref")]
    pub(super) reference: String,
    pub(super) image: String,
    #[serde(default)]
    pub(super) spec: Option<String>,
    pub(super) launches: f64,
    pub(super) expected_seconds: u64,
}

/// An item as it is stored.
pub(super) fn stored(item: &Item) -> String {
    let (args, lane) = (&item.repo2docker_args, item.repo.lane());
    let stored = Stored {
        repo: item.repo.as_str(),
        reference: item.reference.as_str(),
        image: item.image.as_str(),
        lane: lane.as_str(),
        spec: item.spec.as_deref(),
        launches: item.launches,
        expected_seconds: item.expected_seconds.unwrap_or(EXPECTED_S),
        args: (!args.is_empty()).then(|| serde_json::to_string(args).unwrap_or_default()),
        no_push: !item.push,
    };
    serde_json::to_string(&stored).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_keys_and_addresses() {
        for good in ["spring", "r2d-2026-11", "0", &"a".repeat(63)] {
            good.parse::<CampaignName>().unwrap();
        }
        for bad in ["", "-a", "A", "a b", "a/b", "ä", "a:b", &"a".repeat(64)] {
            let refused = bad.parse::<CampaignName>().unwrap_err();
            assert!(refused.to_string().contains("lowercase"), "{bad}: {refused}");
        }
    }
}
