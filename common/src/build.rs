//! A build: what is asked for, the states it goes through, and how it can end.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{BuildId, WorkerId};
use crate::repo::{GitRef, Image, Lane, Repo};

mod state;

pub use state::{BuildState, FailureClass, Priority};

/// A request for a build. It is stored as fields of the build's hash, and as JSON on its pod as an annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// The source to build: a Git URL, DOI or other identifier that repo2docker accepts.
    pub repo: Repo,
    /// The resolved commit or record id.
    #[serde(rename = "ref")]
    pub reference: GitRef,
    /// The image to make: the build's identity.
    pub image: Image,
    /// A name for people, such as `BinderHub`'s build name; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Interactive or background: as requested, or, for a build read from Redis, as it is now.
    pub priority: Priority,
    /// Extra arguments of repo2docker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether the image is pushed to its registry.
    #[serde(default)]
    pub push: bool,
    /// The requester's own labels for the build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The place in a trace that its spans belong to (see [`crate::trace`]), as a `traceparent`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    /// Sealed secrets (see [`crate::seal`]), never plain text. They are stored separately, and removed from
    /// Redis when the build ends.
    #[serde(skip)]
    pub secrets: Option<String>,
    /// Fields that only a newer release knows; they are passed on unchanged.
    #[serde(flatten)]
    pub newer: serde_json::Map<String, serde_json::Value>,
}

impl BuildSpec {
    /// A plain request for an image of a repository at a ref: interactive, without extras.
    pub fn new(repo: Repo, reference: GitRef, image: Image) -> Self {
        Self {
            repo,
            reference,
            image,
            name: String::new(),
            priority: Priority::Interactive,
            args: Vec::new(),
            push: false,
            labels: BTreeMap::new(),
            traceparent: String::new(),
            secrets: None,
            newer: serde_json::Map::new(),
        }
    }

    /// Everything that has no field of its own in the build's hash, as JSON; `None` if there is nothing.
    pub(crate) fn more(&self) -> Option<String> {
        let mut more = self.newer.clone();
        if !self.traceparent.is_empty() {
            more.insert(TRACEPARENT.to_owned(), self.traceparent.clone().into());
        }
        (!more.is_empty()).then(|| serde_json::Value::Object(more).to_string())
    }

    /// The request as JSON.
    pub fn to_json(&self) -> String {
        // Only text, lists and maps of text, so serializing cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A build as Redis has it: one readable field each. Times are Unix milliseconds of Redis's clock.
#[derive(Debug, Clone)]
pub struct Build {
    /// The build's id.
    pub id: BuildId,
    /// What was asked for.
    pub spec: BuildSpec,
    /// The request whose secrets the build has: they can only be opened with its id. `None`: this build's
    /// own.
    pub sealed_for: Option<BuildId>,
    /// All builds of the same repository.
    pub lane: Lane,
    /// Its state.
    pub state: BuildState,
    /// The number of its run: the live one, or the next. Starts at 1 and also counts runs that led to
    /// nothing; [`Self::attempt_shown`] is for people.
    pub attempt: u32,
    /// Counts every change of the build.
    pub seq: u64,
    /// People who wait for it, over all dispatchers; the order of the line counts at least 1.
    pub people: u64,
    /// When it was first asked for.
    pub asked: u64,
    /// When it should start; this is its position in line.
    pub due: u64,
    /// How long it is expected to take, in milliseconds.
    pub expected: u64,
    /// During a backoff: it must not start before this.
    pub not_before: Option<u64>,
    /// The fencing number of its latest lease; 0 before the first.
    pub epoch: u64,
    /// Who holds its lease; for an orphan, who held the latest one.
    pub worker: Option<WorkerId>,
    /// Where its run lives, such as `process:<worker>` or `k8s:<cluster>/<namespace>`.
    pub place: Option<String>,
    /// When its current run was claimed.
    pub claimed: Option<u64>,
    /// When its current run was first seen alive.
    pub started: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
    /// When its run first asked to push, while pushes to its registry are limited.
    pub push_since: Option<u64>,
    /// When it was allowed to.
    pub push_go: Option<u64>,
    /// What it is waiting for outside the queue, in a worker's words ("pulling image …").
    pub note: Option<String>,
    /// The class of its (latest) failure.
    pub class: Option<FailureClass>,
    /// The cause of its (latest) failure, one of [`crate::cause::CAUSES`] or of a newer release's.
    pub cause: Option<String>,
    /// The reason of its (latest) failure or cancellation, one sentence; or [`ALREADY_THERE`].
    pub reason: Option<String>,
    /// The last lines of its log, when it failed.
    pub log_tail: Option<String>,
    /// The run whose log is the final one.
    pub log_run: Option<u32>,
    /// The last entry of that log.
    pub log_end: Option<String>,
    /// What became of the log to free memory: `cut` or `gone`.
    pub log_pruned: Option<String>,
    /// Whether its whole log is in the archive.
    pub archived: bool,
    /// Whether somebody has cancelled it; its run is being stopped.
    pub cancelling: bool,
    /// Adoptions and losses within the last hour.
    pub adoptions: u32,
    /// How many of its attempts failed for causes outside the repository. (A run that was lost with its
    /// worker does not count, although the next run has a higher number.)
    pub failed_attempts: u32,
    /// Names of nodes on which it failed for causes outside the repository: after a claim, those of the
    /// claiming cluster; otherwise those that an earlier release stored without a cluster.
    pub avoid: Vec<String>,
    /// All of them, as `<cluster>/<node>`.
    pub failed_on: Vec<String>,
    /// Whether it was requested even if the image may already exist.
    pub forced: bool,
    /// The build that took over its run after Redis was emptied.
    pub moved: Option<BuildId>,
    /// The node that its last run ended on.
    pub node: Option<String>,
    /// How long its runs that are over held a permit, in milliseconds.
    pub slot_ms: u64,
    /// The most people who waited for it at a time.
    pub peak: u64,
    /// The campaign that asked for it.
    pub campaign: Option<String>,
    /// Whether only its record is left: its hash and its log have expired.
    pub recorded: bool,
}

/// The name of [`BuildSpec::traceparent`] in JSON.
const TRACEPARENT: &str = "traceparent";
/// The reason of a success that needed no run.
pub const ALREADY_THERE: &str = "already in the registry";

impl Build {
    /// Reads a build from the fields of its hash.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a field that every build has is missing or cannot be read.
    pub fn from_fields(id: BuildId, mut fields: HashMap<String, String>) -> Result<Self> {
        let mut take = |name: &str| fields.remove(name).filter(|text| !text.is_empty());
        let mut more: serde_json::Map<_, _> = json(id, "more", take("more"))?;
        let traceparent = more.remove(TRACEPARENT);
        let spec = BuildSpec {
            repo: need(id, "repo", take("repo"))?,
            reference: need(id, "ref", take("ref"))?,
            image: need(id, "image", take("image"))?,
            name: take("name").unwrap_or_default(),
            priority: need(id, "priority", take("priority"))?,
            args: json(id, "args", take("args"))?,
            push: take("push").is_some_and(|push| push == "1"),
            labels: json(id, "labels", take("labels"))?,
            traceparent: traceparent.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default(),
            secrets: take("secrets"),
            newer: more,
        };
        Ok(Self {
            id,
            spec,
            sealed_for: maybe(id, "sealed_for", take("sealed_for"))?,
            lane: need(id, "lane", take("lane"))?,
            state: need(id, "state", take("state"))?,
            attempt: need(id, "attempt", take("attempt"))?,
            seq: need(id, "seq", take("seq"))?,
            people: need(id, "people", take("people"))?,
            asked: need(id, "asked", take("asked"))?,
            due: need(id, "due", take("due"))?,
            expected: need(id, "expected", take("expected"))?,
            not_before: maybe(id, "not_before", take("not_before"))?,
            epoch: maybe(id, "epoch", take("epoch"))?.unwrap_or(0),
            worker: maybe(id, "worker", take("worker"))?,
            place: take("place"),
            claimed: maybe(id, "claimed", take("claimed"))?,
            started: maybe(id, "started", take("started"))?,
            ended: maybe(id, "ended", take("ended"))?,
            push_since: maybe(id, "push_since", take("push_since"))?,
            push_go: maybe(id, "push_go", take("push_go"))?,
            note: take("note"),
            class: maybe(id, "class", take("class"))?,
            cause: take("cause"),
            reason: take("reason"),
            log_tail: take("log_tail"),
            log_run: maybe(id, "log_run", take("log_run"))?,
            log_end: take("log_end"),
            log_pruned: take("log_pruned"),
            archived: take("archived").is_some(),
            cancelling: take("cancelling").is_some(),
            adoptions: maybe(id, "adoptions", take("adoptions"))?.unwrap_or(0),
            failed_attempts: maybe::<u32>(id, "failures", take("failures"))?
                .unwrap_or(0)
                .saturating_add(maybe(id, "stuck", take("stuck"))?.unwrap_or(0)),
            avoid: json(id, "avoid", take("avoid"))?,
            failed_on: json(id, "failed_on", take("failed_on"))?,
            forced: take("forced").is_some(),
            moved: maybe(id, "moved", take("moved"))?,
            node: take("node"),
            slot_ms: maybe(id, "slot_ms", take("slot_ms"))?.unwrap_or(0),
            peak: maybe(id, "peak", take("peak"))?.unwrap_or(0),
            campaign: take("campaign"),
            recorded: false,
        })
    }

    /// A build of which nothing else is known than that it has ended.
    pub(crate) fn ended(id: BuildId, spec: BuildSpec, lane: Lane, state: BuildState, asked: u64) -> Self {
        Self {
            id,
            spec,
            sealed_for: None,
            lane,
            state,
            attempt: 1,
            seq: 0,
            people: 0,
            asked,
            due: asked,
            expected: 0,
            not_before: None,
            epoch: 0,
            worker: None,
            place: None,
            claimed: None,
            started: None,
            ended: None,
            push_since: None,
            push_go: None,
            note: None,
            class: None,
            cause: None,
            reason: None,
            log_tail: None,
            log_run: None,
            log_end: None,
            log_pruned: None,
            archived: false,
            cancelling: false,
            adoptions: 0,
            failed_attempts: 0,
            avoid: Vec::new(),
            failed_on: Vec::new(),
            forced: false,
            moved: None,
            node: None,
            slot_ms: 0,
            peak: 0,
            campaign: None,
            recorded: true,
        }
    }

    /// Whether its image is made and waits to be pushed.
    pub fn waits_to_push(&self) -> bool {
        self.push_since.is_some() && self.push_go.is_none()
    }

    /// How many attempts were made, of a build that has ended.
    pub fn attempts(&self) -> u32 {
        if self.epoch == 0 { 0 } else { self.attempt_shown() }
    }

    /// Adds the nodes of a cluster on which it failed to those it avoids.
    pub(crate) fn avoid_in(&mut self, place: &str) {
        let cluster = cluster_of(place);
        for (of, node) in self.failed_on.iter().filter_map(|entry| entry.rsplit_once('/')) {
            if of == cluster && !self.avoid.iter().any(|known| known == node) {
                self.avoid.push(node.to_owned());
            }
        }
    }

    /// The nodes on which it failed, for people; with the cluster if there are several clusters.
    pub fn avoided_names(&self) -> Vec<String> {
        let parts = || self.failed_on.iter().filter_map(|entry| entry.rsplit_once('/'));
        let first = parts().next().map(|(cluster, _)| cluster);
        let unambiguous = parts().all(|(cluster, _)| Some(cluster) == first);
        let mut names: Vec<String> = if unambiguous {
            parts().map(|(_, node)| node.to_owned()).collect()
        } else {
            self.failed_on.clone()
        };
        names.extend(self.avoid.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        names
    }

    /// The attempt number that people see: waiting for a full cluster, or losing the worker, is not a failed
    /// attempt.
    pub fn attempt_shown(&self) -> u32 {
        self.failed_attempts.saturating_add(1)
    }
}

/// The cluster that the runs of a place are in.
fn cluster_of(place: &str) -> &str {
    if place.starts_with("process:") {
        return crate::id::HOSTS;
    }
    place.rsplit_once('/').map_or(place, |(cluster, _)| cluster)
}

fn corrupt(id: BuildId, field: &str, why: impl fmt::Display) -> Error {
    Error::Corrupt(format!("build {id}: field {field}: {why}"))
}

fn need<T: FromStr<Err: fmt::Display>>(id: BuildId, field: &str, text: Option<String>) -> Result<T> {
    maybe(id, field, text)?.ok_or_else(|| corrupt(id, field, "is missing"))
}

fn maybe<T: FromStr<Err: fmt::Display>>(id: BuildId, field: &str, text: Option<String>) -> Result<Option<T>> {
    text.map(|text| text.parse().map_err(|e| corrupt(id, field, e))).transpose()
}

fn json<T: Default + serde::de::DeserializeOwned>(
    id: BuildId,
    field: &str,
    text: Option<String>,
) -> Result<T> {
    match text {
        Some(text) => serde_json::from_str(&text).map_err(|e| corrupt(id, field, e)),
        None => Ok(T::default()),
    }
}
