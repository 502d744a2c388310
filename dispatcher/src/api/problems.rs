//! What is wrong with the queue now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A current problem of the queue, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CurrentProblem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// How serious it is.
    pub severity: Severity,
    /// What is wrong, for operators.
    pub sentence: String,
    /// The view of the web page that shows more, such as `#/workers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The command that shows more, or that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// How serious a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// People wait in vain.
    Bad,
    /// Somebody should look.
    Warning,
    /// Good to know.
    Note,
}

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// No worker is running.
    NoWorker,
    /// No worker accepts builds.
    NobodyTakes,
    /// More and more people wait, and no more builds run.
    Incident,
    /// Redis is short of memory.
    RedisMemory,
    /// A restart of Redis would lose builds.
    RedisAppendOnly,
    /// A build has waited long for nothing but a slot.
    LongWait,
    /// One lane has most of the people.
    OneLaneHasMostPeople,
    /// A worker stopped answering.
    WorkerLost,
    /// A worker has stopped accepting builds for now.
    WorkerPaused,
    /// Builds fail on a node, or on a host of process workers, so it gets none.
    NodeAvoided,
    /// Builds wait for another worker to adopt them.
    Orphans,
    /// A build takes much longer than expected.
    Overdue,
    /// Something could not be processed.
    SetAside,
    /// Logs of ended builds could not be archived.
    LogArchive,
    /// An operator has drained a worker.
    WorkerDrained,
    /// Rules hold lanes with waiting builds.
    LanesHeld,
}
