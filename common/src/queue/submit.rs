//! Asking for a build: a new one, a live one joined, or the answer of one that just ended.

use super::Queue;
use crate::build::{BuildSpec, BuildState};
use crate::error::Result;
use crate::id::{BuildId, DispatcherId};
use crate::script::{Args, Reply, SUBMIT};

/// A request for a build.
#[derive(Debug, Clone)]
pub struct Submit {
    /// The id that the build gets if it is a new one. A repeated call carries the same id.
    pub id: BuildId,
    /// What is asked for.
    pub spec: BuildSpec,
    /// Whether a remembered success or failure is passed over. A live build is joined all the same.
    pub force: bool,
    /// Whether a ban is passed over (scope `operate`).
    pub operate: bool,
    /// The dispatcher through which it is asked for. A request alone counts as one person.
    pub dispatcher: Option<DispatcherId>,
}

/// A build that answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The build.
    pub id: BuildId,
    /// Where it stands.
    pub state: BuildState,
    /// Its run: the one that is live, or the next.
    pub attempt: u32,
    /// People behind it.
    pub people: u64,
    /// Its place in line, from 1; `None` once it has started.
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
    /// The image is being built from something else.
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
    /// Redis was emptied, and workers are registering what still runs: ask again after that time.
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

impl Queue {
    /// Asks for a build.
    pub async fn submit(&self, submit: &Submit) -> Result<Submitted> {
        let spec = &submit.spec;
        let args = Args::new()
            .show(submit.id)
            .text(spec.image.as_str())
            .text(spec.repo.as_str())
            .text(spec.reference.as_str())
            .text(spec.repo.lane().as_str())
            .text(&spec.name)
            .text(spec.priority.word())
            .text(json(&spec.args))
            .flag(spec.push)
            .text(json(&spec.labels))
            .maybe(spec.secrets.as_ref())
            .flag(submit.force)
            .flag(submit.operate)
            .maybe(submit.dispatcher.as_ref());
        let mut reply = self.call(&SUBMIT, args).await?;
        match reply.tag.as_str() {
            "new" => Ok(Submitted::New(admitted(&mut reply)?)),
            "joined" => Ok(Submitted::Joined(admitted(&mut reply)?)),
            "ended" => Ok(Submitted::Ended(admitted(&mut reply)?)),
            "conflict" => {
                Ok(Submitted::Conflict { id: reply.parse()?, repo: reply.next()?, reference: reply.next()? })
            }
            "banned" => Ok(Submitted::Banned {
                pattern: reply.next()?,
                message: reply.next()?,
                until: reply.maybe()?,
            }),
            "refilling" => Ok(Submitted::Refilling { wait_ms: reply.parse()? }),
            "full" => Ok(Submitted::Full { what: reply.next()?, max: reply.parse()? }),
            _ => Err(reply.unknown()),
        }
    }
}

fn admitted(reply: &mut Reply) -> Result<Admitted> {
    Ok(Admitted {
        id: reply.parse()?,
        state: reply.parse()?,
        attempt: reply.parse()?,
        people: reply.parse()?,
        position: reply.maybe()?,
        expected_ms: reply.parse()?,
    })
}

/// Lists and maps of text as JSON; writing them cannot fail.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
