//! Requesting builds, and reading their state.

use std::collections::BTreeMap;

use fairlane_common::build::{BuildState, FailureClass, Priority};
use fairlane_common::id::{BuildId, Lane, WorkerId};
use fairlane_common::queue::Visitor;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SecretsBody;

/// A request for a build.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    /// What to build: a Git URL without user or password, a DOI, or a Software Heritage identifier.
    #[schema(
        example = "https://github.com/binder-examples/requirements",
        min_length = 1,
        max_length = 2000,
        pattern = "^[!#$%&()+,./0-9:;=?@A-Z_a-z~][!#$%&()+,./0-9:;=?@A-Z_a-z~-]*$"
    )]
    pub repo: String,
    /// The resolved commit, or the record's id.
    #[serde(rename = "ref")]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[!#$%&()+,./0-9:;=?@A-Z_a-z~][!#$%&()+,./0-9:;=?@A-Z_a-z~-]*$"
    )]
    pub reference: String,
    /// The image to be made. Two requests for the same image are one build.
    #[schema(
        example = "registry.example.org/binder-requirements:3f2a91c",
        min_length = 1,
        max_length = 384,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._:/-]*$"
    )]
    pub image: String,
    /// A display name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 255)]
    pub name: String,
    /// Whether somebody is waiting, or it is a background build. Default `interactive`.
    #[serde(default = "interactive")]
    pub priority: Priority,
    /// Extra arguments of repo2docker, each `--option=value`; only those on the dispatcher's list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub repo2docker_args: Vec<String>,
    /// Whether the image is pushed to its registry.
    #[serde(default)]
    pub push: bool,
    /// The requester's own labels for the build; only scope `read` sees them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Credentials for this build. They are sealed before they are stored, and never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretsBody>,
    /// Whether to ignore a remembered success or failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Build even if a rule bans the repository; needs scope `operate`, and is recorded in the audit log.
    /// Without this, a ban applies to every token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_ban: bool,
}

fn interactive() -> Priority {
    Priority::Interactive
}

impl BuildRequest {
    /// A plain request for an image of a repository at a ref: interactive, without extras.
    pub fn new(repo: String, reference: String, image: String) -> Self {
        Self {
            repo,
            reference,
            image,
            name: String::new(),
            priority: interactive(),
            repo2docker_args: Vec::new(),
            push: false,
            labels: BTreeMap::new(),
            secrets: None,
            force: false,
            override_ban: false,
        }
    }

    /// A request for what `build` was, whatever became of it. Its credentials are gone.
    pub fn again(build: &BuildView) -> Self {
        Self {
            name: build.name.clone().unwrap_or_default(),
            priority: build.priority,
            repo2docker_args: build.repo2docker_args.clone().unwrap_or_default(),
            push: build.push.unwrap_or_default(),
            labels: build.labels.clone().unwrap_or_default(),
            force: true,
            ..Self::new(build.repo.clone(), build.reference.clone(), build.image.clone())
        }
    }
}

/// The answer to a request for a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildAnswer {
    /// The build's id.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// Its state.
    pub state: BuildState,
    /// Whether an existing build answers the request: a live one was joined, or one ended so recently that
    /// its outcome still applies.
    pub joined: bool,
    /// All builds of the same repository.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// Its position in line, from 1; absent once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// People who wait for it.
    pub people: u64,
    /// Expected time until the image is ready, in seconds; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// The current or next attempt: one more than have failed.
    pub attempt: u32,
    /// How many seconds ago it ended, if the answer is a remembered outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_seconds_ago: Option<u64>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    /// The build's id.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// Its state.
    pub state: BuildState,
    /// All builds of the same repository.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// The repository.
    pub repo: String,
    /// The commit or record.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The image.
    pub image: String,
    /// Interactive or background.
    pub priority: Priority,
    /// The campaign that asked for it. Only for scope `read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The current or next attempt: one more than have failed. At most 3.
    pub attempt: u32,
    /// The number of its run: the live one, or the next. Also counts runs that led to nothing, because they
    /// were lost with their worker or found the cluster full.
    #[serde(default)]
    pub run: u32,
    /// How many of its attempts failed for a cause outside the repository; at the third, the build fails.
    #[serde(default)]
    pub failed_attempts: u32,
    /// Counts every change of the build.
    pub seq: u64,
    /// People who wait for it now, over all dispatchers; 0 if everybody who requested it has left.
    pub people: u64,
    /// Its position in line, from 1; absent once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The length of the line; absent once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Expected time until the image is ready, in seconds; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Why it is in its state: one sentence with all facts, for operators. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The same for the people who wait for it. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visitor: Option<Visitor>,
    /// When it was first requested.
    pub asked_ms: u64,
    /// How long it is expected to take, in seconds.
    pub expected_seconds: u64,
    /// During a backoff: it must not start before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<u64>,
    /// When its current run was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_ms: Option<u64>,
    /// When its current run was first seen alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Who holds its lease, or held the latest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub worker: Option<WorkerId>,
    /// Where its latest run lives, such as `process:<worker>` or `k8s:<cluster>/<namespace>`. Only for scope `read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What its run is waiting for outside the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The class of its latest failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The cause of its latest failure, a word of `docs/failures.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The reason of its latest failure, or of its cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether somebody has cancelled it; its run is being stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// Nodes and hosts on which it failed for causes outside the repository; as `<cluster>/<node>` if they
    /// are in several clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid_nodes: Vec<String>,
    /// The build that took over its run after Redis was emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub moved: Option<BuildId>,
    /// Once it has ended: how many attempts were made; 0 if it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Once it has ended: the node that its last run ended on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Once it has ended: how long its runs held a slot, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_seconds: Option<f64>,
    /// Once it has ended: the most people who waited for it at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_people: Option<u64>,
    /// Whether only a record of it is left, a day after its end: its log and the fields for scope `read` are gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// Its display name. Only for scope `read`, like `labels`, `repo2docker_args`, `push`, `log_tail` and
    /// `last_line`: somebody who joins a build must not see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The requester's own labels for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Extra arguments of repo2docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo2docker_args: Option<Vec<String>>,
    /// Whether the image is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// The last lines of its log, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// The last line that its current run has written. Absent in lists and streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<LastLine>,
}

/// The last line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastLine {
    /// When it came.
    pub at_ms: u64,
    /// Its first 2,000 bytes.
    pub text: String,
}

/// A page of builds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildPage {
    /// Those in line first, in their order, then live ones, then ended ones, latest first.
    pub builds: Vec<BuildView>,
    /// Builds that belong on this page, whatever the filter, but that this release cannot read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableView>,
    /// Where the next page starts; absent after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A build that cannot be read: changed by hand, or written by a newer release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnreadableView {
    /// The build's id.
    #[schema(value_type = String)]
    pub id: BuildId,
    /// What cannot be read.
    pub why: String,
}

/// What a cancellation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelAnswer {
    /// The build.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// Its state now.
    pub state: BuildState,
    /// Whether its run is being stopped; the build ends when the run is gone.
    pub stopping: bool,
}

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromoteAnswer {
    /// The build.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// Whether it was a background build until now.
    pub was_background: bool,
}

/// How many people a stream stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchersBody {
    /// The subscriber, as in the stream's first `state` event.
    pub subscriber: String,
    /// How many people; at most 200 count for one build.
    pub count: u64,
}

/// The count in effect for a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatchersAnswer {
    /// People who wait for the build through this dispatcher.
    pub people: u64,
}
