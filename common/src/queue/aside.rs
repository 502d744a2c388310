//! One bad record must not stop the others: builds that cannot be read, because they were edited by hand or
//! written by another release, are separated from the rest and set aside.

use std::collections::HashMap;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::build::Build;
use crate::error::{Error, Result};
use crate::id::{BuildId, WorkerId};
use crate::library::SET_ASIDE;
use crate::limits;
use crate::queue::script::Args;

/// A build whose record cannot be read: a field is missing, or has a value that only a newer release knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The build.
    pub id: BuildId,
    /// What cannot be read.
    pub why: String,
}

/// Builds that were looked up; those that do not exist (any more) are in neither list.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Those that can be read, in the order in which they were asked for.
    pub builds: Vec<Build>,
    /// The others. They exist, so do not remove anything of theirs, and do not start them again.
    pub unreadable: Vec<Unreadable>,
}

impl Loaded {
    /// Each of them by its id.
    pub(super) fn by_id(self) -> HashMap<BuildId, std::result::Result<Build, Unreadable>> {
        let bad = self.unreadable.into_iter().map(|bad| (bad.id, Err(bad)));
        self.builds.into_iter().map(|build| (build.id, Ok(build))).chain(bad).collect()
    }
}

/// A claimed build that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableClaim {
    /// The build, as Redis names it.
    pub id: String,
    /// The lease on it.
    pub epoch: u64,
    /// Whether its run may be alive.
    pub adopted: bool,
    /// What cannot be read.
    pub why: String,
}

/// Something that was set aside, for operators to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aside {
    /// What: `build:<id>`, `timer:<timer>`, `rule:<pattern>`.
    pub what: String,
    /// Since when, Unix milliseconds; `None` if that was not recorded.
    pub at: Option<u64>,
    /// Why.
    pub why: String,
}

#[derive(Deserialize)]
struct Note {
    at: u64,
    why: String,
}

impl Queue {
    /// Those of `ids` that exist, in one round trip.
    pub async fn load(&self, ids: &[BuildId]) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        if ids.is_empty() {
            return Ok(loaded);
        }
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("HGETALL").arg(self.keys().build(*id));
        }
        for (id, answer) in ids.iter().zip(self.link().bulk(&pipe).await?) {
            let fields: HashMap<String, String> = redis::from_redis_value(answer).map_err(Error::reply)?;
            if fields.is_empty() {
                continue;
            }
            match Build::from_fields(*id, fields) {
                Ok(build) => loaded.builds.push(build),
                Err(error) => loaded.unreadable.push(Unreadable { id: *id, why: error.to_string() }),
            }
        }
        Ok(loaded)
    }

    /// A build, or `None` if no build has that id (any more).
    ///
    /// # Errors
    /// [`Error::Unreadable`] when there is one, and this release cannot read it.
    pub async fn build(&self, id: BuildId) -> Result<Option<Build>> {
        let mut loaded = self.load(&[id]).await?;
        match loaded.unreadable.pop() {
            Some(bad) => Err(Error::Unreadable(bad.why)),
            None => Ok(loaded.builds.pop()),
        }
    }

    /// Gives back a build that cannot be read. This does not count against the build, and nobody gets it for
    /// a minute. `false`: another worker already has the lease.
    pub async fn set_aside(&self, worker: &WorkerId, claim: &UnreadableClaim) -> Result<bool> {
        let args = Args::new()
            .text("id", &claim.id)
            .show("epoch", claim.epoch)
            .text("worker", worker.as_str())
            .flag("adopted", claim.adopted)
            .text("why", &claim.why);
        let reply = self.call(&SET_ASIDE, args).await?;
        match reply.tag.as_str() {
            "aside" => Ok(true),
            "stale" => Ok(false),
            _ => Err(reply.unknown()),
        }
    }

    /// A page of what was set aside: builds and timers that could not be processed, and rules that cannot be
    /// read.
    pub async fn aside(&self) -> Result<Vec<Aside>> {
        let mut pipe = redis::pipe();
        pipe.cmd("HSCAN").arg(self.keys().aside()).arg(0).arg("COUNT").arg(limits::PAGE);
        let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
        let (_, notes): (String, Vec<(String, String)>) =
            redis::from_redis_value(answer).map_err(Error::reply)?;
        let mut aside: Vec<Aside> = notes
            .into_iter()
            .take(limits::PAGE)
            .map(|(what, text)| match serde_json::from_str::<Note>(&text) {
                Ok(note) => Aside { what, at: Some(note.at), why: note.why },
                Err(_) => Aside { what, at: None, why: text },
            })
            .collect();
        for (pattern, why) in self.all_rules().await?.unreadable {
            aside.push(Aside { what: format!("rule:{pattern}"), at: None, why });
        }
        aside.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(aside)
    }
}
