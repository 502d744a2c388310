//! The numbers that decide the order of the queue. They are stored in Redis, in the hash of totals, so that
//! all processes use the same ones and operators can read them there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{By, PushLimits, Queue};
use crate::clock::millis;
use crate::error::{Error, Result};
use crate::invalid::Invalid;
use crate::library::{CONFIGURE, POLICY};
use crate::queue::script::Args;
use crate::registry::{canonical, check_name};

/// How the audit and the policy refer to the settings of dispatchers.
const OF_SETTINGS: &str = "settings";
const ORDERS: &str = "must be fair or first-come";
const WEEK_MS: u64 = 7 * 24 * 3_600_000;
/// What is said behind it.
const WEEK: &str = " ms (7 days)";
const LIMITS: RangeInclusive<u32> = 1..=10_000;
/// What a limit of pushes to one registry is set by: `push_limit.registry.example.org=3`.
const OF_REGISTRY: &str = "push_limit.";
const REGISTRIES_MAX: usize = 100;

/// Which build is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Quick builds, and builds that many people wait for, go first, within limits.
    Fair,
    /// The build that was requested first goes first.
    FirstCome,
}

impl Order {
    fn word(self) -> &'static str {
        match self {
            Self::Fair => "fair",
            Self::FirstCome => "first-come",
        }
    }
}

impl std::str::FromStr for Order {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        [Self::Fair, Self::FirstCome]
            .into_iter()
            .find(|order| order.word() == word)
            .ok_or_else(|| Invalid::new("order", ORDERS))
    }
}

/// The policy of the queue. A field that is absent has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Permits of a lane without a rule. Default 2, or 1 while there are fewer than 4 slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
    /// Permits that a lane without a rule may have while more than half of all slots are free.
    /// Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub burst: Option<u32>,
    /// Which build is next. Default `fair`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// A build never overtakes one that was requested earlier by more than this, in milliseconds.
    /// Default 4 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800_000)]
    pub overtake_max_ms: Option<u64>,
    /// Maximum number of people that count toward one build's position. Default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub people_max: Option<u32>,
    /// Lanes are slow, and share one limit, if their builds take longer than this on average, in milliseconds,
    /// or if one that is running or one of the last four successes did; 0 turns this off. Default 60 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800_000)]
    pub slow_after_ms: Option<u64>,
    /// The limit that slow lanes share. Default a quarter of all slots, at least 2, but never more than half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub slow_limit: Option<u32>,
    /// The share of all slots that background builds may hold; at least one slot, unless it is 0.
    /// Default 0.75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub background_share: Option<f64>,
    /// Maximum number of builds that push to a registry at once. Default unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub push_limit: Option<u32>,
    /// The same for single registries, by their names in image names; Docker Hub is `docker.io`. At most 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub push_limits: BTreeMap<String, u32>,
}

/// The policy in force, and who set it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInForce {
    /// Every field, defaults filled in.
    pub in_force: Policy,
    /// What was set.
    pub set: Policy,
    /// By whom: a token's name, or `settings` for a dispatcher's settings.
    pub by: Option<String>,
    /// When, Unix milliseconds.
    pub at: Option<u64>,
}

fn check<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: Option<T>,
    range: &RangeInclusive<T>,
    unit: &str,
) -> Result<(), Invalid> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (from, to) = (range.start(), range.end());
            let why = format!("{value} is out of range; it must be from {from} to {to}{unit}");
            Err(Invalid::new(field, why))
        }
        _ => Ok(()),
    }
}

impl Policy {
    /// The names of its fields.
    pub const FIELDS: [&str; 10] = [
        "limit",
        "burst",
        "order",
        "overtake_max_ms",
        "people_max",
        "slow_after_ms",
        "slow_limit",
        "background_share",
        "push_limit",
        "push_limits",
    ];

    /// # Errors
    /// Names the field and its range.
    pub fn check(&self) -> Result<(), Invalid> {
        check("limit", self.limit, &(1..=10_000), "")?;
        check("burst", self.burst, &(1..=10_000), "")?;
        check("overtake_max_ms", self.overtake_max_ms, &(0..=WEEK_MS), WEEK)?;
        check("people_max", self.people_max, &(1..=10_000), "")?;
        check("slow_after_ms", self.slow_after_ms, &(0..=WEEK_MS), WEEK)?;
        check("slow_limit", self.slow_limit, &(1..=10_000), "")?;
        check("background_share", self.background_share, &(0.0..=1.0), "")?;
        check("push_limit", self.push_limit, &LIMITS, "")?;
        for (registry, limit) in &self.push_limits {
            check("push_limits", Some(*limit), &LIMITS, "")?;
            check_name(registry).map_err(|why| Invalid::new("push_limits", why))?;
        }
        if self.push_limits.len() > REGISTRIES_MAX {
            let why = format!("{} registries are too many; at most {REGISTRIES_MAX}", self.push_limits.len());
            return Err(Invalid::new("push_limits", why));
        }
        if let (Some(limit), Some(burst)) = (self.limit, self.burst)
            && burst < limit
        {
            return Err(Invalid::new("burst", format!("must be at least the limit, {limit}")));
        }
        Ok(())
    }

    /// Sets a field from `name=value`. Durations can be written like `4h`, and their names without `_ms`:
    /// `overtake_max=4h`. One registry's limit is `push_limit.registry.example.org=3`.
    ///
    /// # Errors
    /// Names the field and says what is allowed.
    pub fn set(&mut self, word: &str) -> Result<(), Invalid> {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| Invalid::new("policy", format!("'{word}' must be name=value, such as limit=3")))?;
        if let Some(registry) = name.strip_prefix(OF_REGISTRY) {
            let number = |_| Invalid::new("push_limits", format!("'{value}' must be a whole number"));
            let limit = value.parse().map_err(number)?;
            let mut changed = self.clone();
            changed.push_limits.insert(canonical(registry).to_ascii_lowercase(), limit);
            changed.check()?;
            *self = changed;
            return Ok(());
        }
        let name = Self::field(name)?;
        let as_json = match name {
            "order" => Value::from(value),
            "push_limits" => {
                let why = format!("set one registry at a time, such as {OF_REGISTRY}registry.example.org=3");
                return Err(Invalid::new(name, why));
            }
            _ if name.ends_with("_ms") && value.parse::<u64>().is_err() => {
                let span = humantime::parse_duration(value).map_err(|_| {
                    Invalid::new(name, format!("'{value}' must be a time span such as 4h, or milliseconds"))
                })?;
                Value::from(millis(span))
            }
            _ => value
                .parse::<serde_json::Number>()
                .map(Value::from)
                .map_err(|_| Invalid::new(name, format!("'{value}' must be a number")))?,
        };
        self.change(name, Some(as_json))
    }

    /// Resets a field to its default.
    ///
    /// # Errors
    /// There is no such field.
    pub fn unset(&mut self, name: &str) -> Result<(), Invalid> {
        if let Some(registry) = name.strip_prefix(OF_REGISTRY) {
            let registry = canonical(registry).to_ascii_lowercase();
            let none = || Invalid::new("push_limits", format!("'{registry}' has no limit of its own"));
            return self.push_limits.remove(&registry).map(drop).ok_or_else(none);
        }
        let name = Self::field(name)?;
        self.change(name, None)
    }

    fn field(name: &str) -> Result<&'static str, Invalid> {
        let fits = |field: &&&str| **field == name || field.strip_suffix("_ms") == Some(name);
        let known = || format!("there is no field '{name}'; known fields: {}", Self::FIELDS.join(", "));
        Self::FIELDS.iter().find(fits).copied().ok_or_else(|| Invalid::new("policy", known()))
    }

    fn change(&mut self, name: &'static str, value: Option<Value>) -> Result<(), Invalid> {
        let bad = |_| Invalid::new(name, if name == "order" { ORDERS } else { "must be a whole number" });
        let Ok(Value::Object(mut fields)) = serde_json::to_value(&*self) else {
            return Err(Invalid::new(name, "cannot be set"));
        };
        match value {
            Some(value) => drop(fields.insert(name.to_owned(), value)),
            None => drop(fields.remove(name)),
        }
        let changed: Self = serde_json::from_value(Value::Object(fields)).map_err(bad)?;
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// A policy of words `name=value`.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a String>) -> Result<Self, Invalid> {
        let mut policy = Self::default();
        words.into_iter().try_for_each(|word| policy.set(word))?;
        Ok(policy)
    }

    /// The policy's fields as Redis has them.
    fn stored(&self) -> [(&'static str, Option<String>); 10] {
        fn text(value: Option<impl ToString>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        [
            ("limit", text(self.limit)),
            ("burst", text(self.burst)),
            ("order", text(self.order.map(Order::word))),
            ("overtake_max", text(self.overtake_max_ms)),
            ("people_max", text(self.people_max)),
            ("slow_after", text(self.slow_after_ms)),
            ("slow_limit", text(self.slow_limit)),
            ("background_share", text(self.background_share)),
            ("push_limit", text(self.push_limit)),
            (
                "push_limits",
                Some(&self.push_limits).filter(|own| !own.is_empty()).map(|own| json!(own).to_string()),
            ),
        ]
    }
}

impl Queue {
    /// Sets `policy` for everybody, replacing the previous one. A queued build keeps its position until
    /// people join or leave it.
    pub async fn set_policy<'a>(&self, policy: &Policy, by: impl Into<By<'a>>) -> Result<()> {
        self.store_policy(policy, by.into(), false).await.map(drop)
    }

    /// Applies the policy from a dispatcher's settings, unless an operator has set one since Redis was last
    /// empty. Returns whether anything changed.
    pub async fn default_policy(&self, policy: &Policy) -> Result<bool> {
        self.store_policy(policy, OF_SETTINGS.into(), true).await
    }

    /// As [`Self::set_policy`], for replays and benchmarks.
    pub async fn configure(&self, policy: &Policy) -> Result<()> {
        self.set_policy(policy, "fairlane").await
    }

    async fn store_policy(&self, policy: &Policy, by: By<'_>, yields: bool) -> Result<bool> {
        policy.check()?;
        let text = serde_json::to_string(policy).map_err(|error| Error::Corrupt(error.to_string()))?;
        let args = Args::new().by(by).flag("yields", yields).text("policy", text);
        let args = policy
            .stored()
            .into_iter()
            .fold(args, |args, (field, value)| args.text("field", field).maybe("value", value));
        let reply = self.call(&CONFIGURE, args).await?;
        match reply.tag.as_str() {
            "configured" => Ok(true),
            "kept" => Ok(false),
            _ => Err(reply.unknown()),
        }
    }

    /// The policy in force, and who set it.
    pub async fn policy(&self) -> Result<PolicyInForce> {
        let mut reply = self.call(&POLICY, Args::new()).await?;
        let push_limits = PushLimits::of_reply(&mut reply)?;
        let mut in_force = Policy {
            limit: reply.maybe("limit")?,
            burst: reply.maybe("burst")?,
            overtake_max_ms: reply.maybe("overtake_max")?,
            slow_after_ms: reply.maybe("slow_after")?,
            slow_limit: reply.maybe("slow_limit")?,
            people_max: reply.maybe("people_max")?,
            background_share: reply.maybe("background_share")?,
            order: None,
            push_limit: push_limits.usual,
            push_limits: push_limits.own,
        };
        let order: String = reply.get("order")?;
        in_force.order = Some(if order == Order::FirstCome.word() { Order::FirstCome } else { Order::Fair });
        // Fields of a later release are ignored.
        let set: String = reply.get("set")?;
        let mut fields: Map<String, Value> = serde_json::from_str(&set).unwrap_or_default();
        fields.retain(|name, _| Policy::FIELDS.contains(&name.as_str()));
        let set = serde_json::from_value(Value::Object(fields)).unwrap_or_default();
        Ok(PolicyInForce { in_force, set, by: reply.maybe("by")?, at: reply.maybe("at")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_checked_by_field_and_range() {
        let mut policy = Policy::default();
        for word in [
            "limit=3",
            "burst=4",
            "overtake_max=4h",
            "slow_after_ms=0",
            "order=first-come",
            "background_share=0.5",
            "push_limit=5",
            "push_limit.registry.example.org:5000=3",
            "push_limit.index.docker.io=2",
        ] {
            policy.set(word).unwrap();
        }
        assert_eq!((policy.limit, policy.overtake_max_ms), (Some(3), Some(4 * 3_600_000)));
        policy.unset("overtake_max").unwrap();
        assert_eq!(policy.overtake_max_ms, None);
        policy.unset("push_limit.registry.example.org:5000").unwrap();
        assert_eq!(
            (policy.push_limit, &policy.push_limits),
            (Some(5), &[("docker.io".to_owned(), 2)].into())
        );
        for (word, field, why) in [
            ("limit=0", "limit", "from 1 to 10000"),
            ("limit=1.5", "limit", "whole number"),
            ("burst=2", "burst", "at least the limit, 3"),
            ("background_share=NaN", "background_share", "a number"),
            ("background_share=1.1", "background_share", "from 0 to 1"),
            ("overtake_max=soon", "overtake_max_ms", "4h"),
            ("order=random", "order", "first-come"),
            ("limits=3", "policy", "known fields: limit"),
            ("limit", "policy", "name=value"),
            ("push_limit=0", "push_limit", "from 1 to 10000"),
            ("push_limit.r.example.org=0", "push_limits", "from 1 to 10000"),
            ("push_limit.r.example.org=many", "push_limits", "whole number"),
            ("push_limit.r/x=1", "push_limits", "'r/x' is not a registry"),
            ("push_limit.=1", "push_limits", "not a registry"),
            ("push_limits=3", "push_limits", "push_limit.registry.example.org=3"),
        ] {
            let refused = policy.clone().set(word).unwrap_err();
            assert_eq!(refused.field, field, "{word}");
            assert!(refused.to_string().contains(why), "{word}: {refused}");
        }
    }
}
