//! Requesting a build: a new one, a live one joined, or the outcome of one that just ended.

use super::Queue;
use crate::build::{BuildSpec, BuildState};
use crate::error::Result;
use crate::id::{BuildId, DispatcherId};
use crate::queue::script::{Args, Reply};

/// A request for a build.
#[derive(Debug, Clone)]
pub struct Submit {
    /// The id that the build gets if it is a new one. A repeated call carries the same id.
    pub id: BuildId,
    /// What is asked for.
    pub spec: BuildSpec,
    /// Whether to ignore a remembered success or failure. A live build is joined in any case.
    pub force: bool,
    /// Who overrides a ban, for the audit: an operator who asked for it. `None`: bans apply.
    pub override_ban: Option<String>,
    /// The dispatcher that received the request. Each request counts as one person.
    pub dispatcher: Option<DispatcherId>,
}

/// A build that answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The build.
    pub id: BuildId,
    /// Its state.
    pub state: BuildState,
    /// Its attempt, as shown to people.
    pub attempt: u32,
    /// People behind it.
    pub people: u64,
    /// Its position in line, from 1; `None` once it has started.
    pub position: Option<u64>,
    /// How long it is expected to take, in milliseconds.
    pub expected_ms: u64,
}

/// The queue's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// A new build.
    New(Admitted),
    /// A live build of the same image, joined.
    Joined(Admitted),
    /// A build of the same image that ended so recently that its outcome still holds.
    Ended(Admitted),
    /// The image is being built from a different repository or ref.
    Conflict {
        /// That build.
        id: BuildId,
        /// Its repository.
        repo: String,
        /// Its ref.
        reference: String,
    },
    /// A rule bans the lane.
    Banned {
        /// The rule's pattern.
        pattern: String,
        /// The operator's message, or empty.
        message: String,
        /// When the ban ends, Unix milliseconds.
        until: Option<u64>,
    },
    /// Redis was emptied, and workers are registering their runs: ask again after this time.
    Refilling {
        /// How long that takes, in milliseconds.
        wait_ms: u64,
    },
    /// The queue, or the lane, holds as many builds as it may.
    Full {
        /// `queue` or `lane`.
        what: String,
        /// How many that is.
        max: u64,
    },
}

impl Submit {
    /// The arguments of a request; the next request starts at the next `id`.
    fn words(&self) -> Args {
        Args::new()
            .show("id", self.id)
            .with(spec_words(&self.spec))
            .maybe("secrets", self.spec.secrets.as_ref())
            .flag("force", self.force)
            .maybe("override", self.override_ban.as_ref())
    }
}

impl Queue {
    /// Requests a build. Requests that arrive while others are in flight go to Redis in one call.
    pub async fn submit(&self, submit: &Submit) -> Result<Submitted> {
        let common = Args::new().maybe("dispatcher", submit.dispatcher.as_ref());
        outcome(self.submit_together(common, submit.words()).await?)
    }
}

fn outcome(mut reply: Reply) -> Result<Submitted> {
    match reply.tag.as_str() {
        "new" => Ok(Submitted::New(admitted(&mut reply)?)),
        "joined" => Ok(Submitted::Joined(admitted(&mut reply)?)),
        "ended" => Ok(Submitted::Ended(admitted(&mut reply)?)),
        "conflict" => Ok(Submitted::Conflict {
            id: reply.parse("id")?,
            repo: reply.get("repo")?,
            reference: reply.get("ref")?,
        }),
        "banned" => Ok(Submitted::Banned {
            pattern: reply.get("rule")?,
            message: reply.get("message")?,
            until: reply.maybe("until")?,
        }),
        "full" => Ok(Submitted::Full { what: reply.get("what")?, max: reply.parse("max")? }),
        "refilling" => Ok(Submitted::Refilling { wait_ms: reply.parse("left")? }),
        _ => Err(reply.unknown()),
    }
}

fn admitted(reply: &mut Reply) -> Result<Admitted> {
    Ok(Admitted {
        id: reply.parse("id")?,
        state: reply.parse("state")?,
        attempt: reply.parse("attempt")?,
        people: reply.parse("people")?,
        position: reply.maybe("position")?,
        expected_ms: reply.parse("expected")?,
    })
}

/// A request as arguments.
pub(super) fn spec_words(spec: &BuildSpec) -> Args {
    Args::new()
        .text("lane", spec.repo.lane().as_str())
        .text("image", spec.image.as_str())
        .text("repo", spec.repo.as_str())
        .text("ref", spec.reference.as_str())
        .text("args", json(&spec.args))
        .text("priority", spec.priority.word())
        .maybe("name", Some(&spec.name).filter(|name| !name.is_empty()))
        .maybe("push", spec.push.then_some("1"))
        .maybe("labels", (!spec.labels.is_empty()).then(|| json(&spec.labels)))
        .maybe("more", spec.more())
}

/// Lists and maps of text as JSON; writing them cannot fail.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
