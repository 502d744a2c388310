//! What operators do: rules on lanes, and draining workers.

use std::collections::BTreeMap;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::{By, Queue};
use crate::error::{Error, Result};
use crate::id::WorkerId;
use crate::library::{DRAIN, SET_RULE};
use crate::queue::script::Args;
use crate::rule::{Pattern, Rule};

/// What a change of rules did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    /// Whether there was a rule before: it was replaced or removed.
    pub existed: bool,
    /// For a rule on one lane: how many of its builds are queued or live now.
    pub live: u64,
}

/// The rules as Redis has them.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Those that can be read.
    pub rules: BTreeMap<Pattern, Rule>,
    /// The others, each with the reason: edited by hand, or written by a newer release. The parts that the
    /// queue cannot read have no effect.
    pub unreadable: BTreeMap<String, String>,
}

/// The effect of draining a worker, or of undoing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainChange {
    /// The name that is drained: the worker's host or pod.
    pub name: String,
    /// The live workers of that name.
    pub workers: Vec<WorkerId>,
}

/// When a name was drained, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// When, Unix milliseconds.
    pub at: u64,
    /// By whom.
    pub by: String,
}

/// Most drained names read at once; operators drain them one by one, so there are few.
const DRAINED_READ: usize = 1000;

impl Queue {
    /// Sets the rule of a pattern, replacing the previous one. It takes effect at once, for everybody.
    pub async fn set_rule<'a>(
        &self,
        pattern: &Pattern,
        rule: &Rule,
        by: impl Into<By<'a>>,
    ) -> Result<RuleChange> {
        rule.check(pattern)?;
        let text = serde_json::to_string(rule).map_err(|e| Error::Corrupt(e.to_string()))?;
        self.change_rule(pattern, &text, by.into()).await
    }

    /// Removes the rule of a pattern.
    pub async fn delete_rule<'a>(&self, pattern: &Pattern, by: impl Into<By<'a>>) -> Result<RuleChange> {
        self.change_rule(pattern, "", by.into()).await
    }

    async fn change_rule(&self, pattern: &Pattern, rule: &str, by: By<'_>) -> Result<RuleChange> {
        let args = Args::new().text("pattern", pattern.as_str()).text("rule", rule).by(by);
        let mut reply = self.call(&SET_RULE, args).await?;
        if reply.tag != "changed" {
            return Err(reply.unknown());
        }
        Ok(RuleChange { existed: reply.flag("existed")?, live: reply.parse("live")? })
    }

    /// All readable rules, by pattern.
    pub async fn rules(&self) -> Result<BTreeMap<Pattern, Rule>> {
        Ok(self.all_rules().await?.rules)
    }

    /// All rules. Operators write them by hand, so they are few.
    pub async fn all_rules(&self) -> Result<Rules> {
        let mut rules = Rules::default();
        let mut cursor = "0".to_owned();
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("HSCAN").arg(self.keys().rules()).arg(&cursor).arg("COUNT").arg(crate::limits::PAGE);
            let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
            let (next, fields): (String, Vec<(String, String)>) =
                redis::from_redis_value(answer).map_err(Error::reply)?;
            for (name, text) in fields {
                let pattern = name.parse::<Pattern>().map_err(|error| error.to_string());
                let rule = serde_json::from_str(&text).map_err(|error| error.to_string());
                match pattern.and_then(|pattern| Ok((pattern, rule?))) {
                    Ok((pattern, rule)) => drop(rules.rules.insert(pattern, rule)),
                    Err(why) => drop(rules.unreadable.insert(name, why)),
                }
            }
            if next == "0" {
                return Ok(rules);
            }
            cursor = next;
        }
    }

    /// Stops a worker, or all workers of a name, from claiming builds until this is undone (`on` false). It
    /// applies to the name: a restarted worker is still drained. `None`: no such worker.
    pub async fn drain_worker<'a>(
        &self,
        worker: &WorkerId,
        on: bool,
        by: impl Into<By<'a>>,
    ) -> Result<Option<DrainChange>> {
        let args = Args::new().text("worker", worker.as_str()).flag("drain", on).by(by.into());
        let mut reply = self.call(&DRAIN, args).await?;
        match reply.tag.as_str() {
            "drain" => {
                let name = reply.get("name")?;
                let workers: Vec<String> = reply.get("workers")?;
                let workers: Result<_> = workers.iter().map(|id| Ok(id.parse()?)).collect();
                Ok(Some(DrainChange { name, workers: workers? }))
            }
            "unknown" => Ok(None),
            _ => Err(reply.unknown()),
        }
    }

    /// The names that are drained, whether a worker of that name is alive or not.
    pub async fn drained(&self) -> Result<BTreeMap<String, Drained>> {
        let mut pipe = redis::pipe();
        pipe.cmd("HSCAN").arg(self.keys().drained()).arg("0").arg("COUNT").arg(DRAINED_READ);
        let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
        let (_, names): (String, Vec<(String, String)>) =
            redis::from_redis_value(answer).map_err(Error::reply)?;
        names
            .into_iter()
            .map(|(name, text)| {
                let drained = serde_json::from_str(&text).map_err(|e| {
                    Error::Corrupt(format!("the entry of the drained name {name} cannot be read: {e}"))
                })?;
                Ok((name, drained))
            })
            .collect()
    }
}
