//! Rules: what an operator sets for a lane or a pattern of lanes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;
use crate::limits;
use crate::repo::{Lane, normal_lane};

/// A lane, or leading segments and one final `*`: `github.com/jupyterlab/*`, `doi/*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// Valid ends of rules, from 2001 to 2286, so that seconds and microseconds are rejected.
const UNTIL_MS: std::ops::Range<u64> = 1_000_000_000_000..10_000_000_000_000;

/// How a pattern looks.
const STAR: &str = "a * can only be at the end, after whole segments: github.com/jupyterlab/*";
/// Most leading segments of a pattern that ends in `*`: the scripts look up one name for each.
const SEGMENTS_MAX: usize = 4;

impl Pattern {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names one lane only.
    pub fn is_lane(&self) -> bool {
        !self.0.ends_with('*')
    }

    /// Whether `lane` falls under it.
    pub fn matches(&self, lane: &Lane) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => lane.as_str().starts_with(prefix),
            None => self.0 == lane.as_str(),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("pattern", why);
        let Some(lead) = text.strip_suffix('*') else {
            if text.contains('*') {
                return Err(bad(STAR));
            }
            let lane = Lane::from_str(text).map_err(|e| bad(&e.why))?;
            return Ok(Self(lane.as_str().to_owned()));
        };
        if lead.is_empty() {
            return Ok(Self("*".to_owned()));
        }
        let Some(lead) = lead.strip_suffix('/') else {
            return Err(bad(STAR));
        };
        if lead.split('/').count() > SEGMENTS_MAX {
            return Err(bad("a pattern has at most four segments before its *"));
        }
        let usable = !lead.is_empty()
            && lead.len() <= limits::REPO_BYTES_MAX
            && lead.split('/').all(|segment| {
                !segment.is_empty()
                    && segment
                        .chars()
                        .all(|c| c.is_ascii_graphic() && !matches!(c, '*' | '{' | '}' | '"' | '\\' | '['))
            });
        if !usable {
            return Err(bad(STAR));
        }
        Ok(Self(format!("{}/*", normal_lane(lead).trim_end_matches('/'))))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A ban or a hold, and when it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// What people are told.
    #[schema(max_length = 4096)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ends by itself, Unix milliseconds.
    #[schema(minimum = 1_000_000_000_000_u64, maximum = 9_999_999_999_999_u64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Whether it ends when a build of the lane succeeds that was requested with or after the rule. Only
    /// for a ban of one lane.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_built: bool,
}

/// An operator's rule for a lane or a pattern of lanes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Permits of each lane, or of all lanes of the pattern together.
    #[schema(minimum = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Permits that a lane may have while more than half of all slots are free. If a rule sets a limit
    /// and no burst, the limit is also the burst.
    #[schema(minimum = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Whether `limit` counts all lanes of the pattern together, in addition to each lane's own limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
    /// New requests are refused; queued and running builds go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<Stop>,
    /// Builds are queued and not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Stop>,
    /// When limit and burst end by themselves, Unix milliseconds.
    #[schema(minimum = 1_000_000_000_000_u64, maximum = 99_999_999_999_999_u64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Who set it; filled in by Fairlane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was set, Unix milliseconds; filled in by Fairlane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

impl Rule {
    /// Whether the rule sets nothing.
    pub fn is_empty(&self) -> bool {
        self.limit.is_none() && self.burst.is_none() && self.ban.is_none() && self.hold.is_none()
    }

    /// Checks what depends on more than one field.
    ///
    /// # Errors
    /// Names the field and what is allowed.
    pub fn check(&self, pattern: &Pattern) -> Result<(), Invalid> {
        if self.is_empty() {
            return Err(Invalid::new("rule", "is empty; set limit, burst, ban or hold (or delete the rule)"));
        }
        if self.limit == Some(0) || self.burst == Some(0) {
            return Err(Invalid::new("limit", "must be at least 1; to start nothing, hold the lane"));
        }
        if self.together && (pattern.is_lane() || self.limit.is_none()) {
            return Err(Invalid::new("together", "needs a pattern that ends in * and a limit"));
        }
        if let (Some(limit), Some(burst)) = (self.limit, self.burst)
            && burst < limit
        {
            return Err(Invalid::new("burst", format!("must be at least the limit, {limit}")));
        }
        let ends = [
            self.until,
            self.ban.as_ref().and_then(|stop| stop.until),
            self.hold.as_ref().and_then(|stop| stop.until),
        ];
        if ends.into_iter().flatten().any(|end| !UNTIL_MS.contains(&end)) {
            return Err(Invalid::new("until", "is a time in Unix milliseconds, such as 1795000000000"));
        }
        if self.hold.as_ref().is_some_and(|hold| hold.until_built) {
            return Err(Invalid::new(
                "until_built",
                "ends a ban; a hold would hold the very build that ends it",
            ));
        }
        let until_built = [&self.ban, &self.hold].into_iter().flatten().any(|stop| stop.until_built);
        if until_built && !pattern.is_lane() {
            return Err(Invalid::new("until_built", "works for one lane, not for a pattern"));
        }
        let long = [&self.ban, &self.hold]
            .into_iter()
            .flatten()
            .any(|stop| stop.message.as_ref().is_some_and(|message| message.len() > limits::ARG_BYTES_MAX));
        if long {
            return Err(Invalid::new("message", format!("has at most {} bytes", limits::ARG_BYTES_MAX)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, normal) in [
            ("*", "*"),
            ("GitHub.com/JupyterLab/*", "github.com/jupyterlab/*"),
            ("github.com/*", "github.com/*"),
            ("https://github.com/O/N", "github.com/o/n"),
            ("doi/*", "doi/*"),
        ] {
            assert_eq!(text.parse::<Pattern>().unwrap().as_str(), normal);
        }
        for bad in ["", "github.com/jup*", "a/*/b", "/*", "a/b/c/d/e/*", "plain"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        let owner: Pattern = "github.com/jupyterlab/*".parse().unwrap();
        assert!(owner.matches(&"github.com/jupyterlab/x".parse().unwrap()));
        assert!(!owner.matches(&"github.com/jupyterlabs/x".parse().unwrap()));
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let lane: Pattern = "github.com/o/n".parse().unwrap();
        let owner: Pattern = "github.com/o/*".parse().unwrap();
        assert!(Rule::default().check(&lane).is_err());
        assert!(Rule { limit: Some(0), ..Rule::default() }.check(&lane).is_err());
        assert!(Rule { limit: Some(2), together: true, ..Rule::default() }.check(&lane).is_err());
        assert!(Rule { limit: Some(2), together: true, ..Rule::default() }.check(&owner).is_ok());
        assert!(Rule { limit: Some(4), burst: Some(2), ..Rule::default() }.check(&lane).is_err());
        let until_built = Some(Stop { until_built: true, ..Stop::default() });
        assert!(Rule { ban: until_built.clone(), ..Rule::default() }.check(&owner).is_err());
        assert!(Rule { hold: until_built.clone(), ..Rule::default() }.check(&lane).is_err());
        assert!(Rule { ban: until_built, ..Rule::default() }.check(&lane).is_ok());
        for until in [1_795_000_000, 1_795_000_000_000_000] {
            assert!(Rule { limit: Some(1), until: Some(until), ..Rule::default() }.check(&lane).is_err());
        }
    }
}
