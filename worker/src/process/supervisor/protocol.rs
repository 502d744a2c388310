//! What a worker and a supervisor say to each other: one JSON object a line. The worker writes to
//! the supervisor's standard input, first the job; the supervisor to its standard output.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::boot_time::BootTime;

/// What is to be run. Carries secrets, so it is never shown.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    /// The program's absolute path.
    pub(crate) program: std::path::PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Variables set beside those that the supervisor has.
    pub(crate) env: BTreeMap<String, String>,
    /// The run's folder for temporary files; made before it and removed after it.
    pub(crate) folder: std::path::PathBuf,
    /// When the lease has to be given up, if no other order comes.
    pub(crate) deadline: BootTime,
}

/// What the worker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The lease was renewed: it has to be given up then.
    Deadline(BootTime),
    /// The run is to end: asked to at once, killed after this long.
    Stop(Duration),
}

/// What the supervisor tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    /// The command runs, as the leader of this process group.
    Started(i32),
    /// The command could not be started; why.
    NotStarted(String),
    /// The command wrote a line.
    Line {
        /// When, RFC 3339 with nanoseconds.
        t: String,
        /// What.
        text: String,
    },
    /// No process of the run is left; nothing comes after it.
    Exit(Exit),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exit {
    /// The command's exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it was being stopped when it ended, if it was.
    pub stopped: Option<StopCause>,
}

/// Why a run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The worker said so.
    Ordered,
    /// The worker is gone.
    WorkerGone,
    /// The lease was not renewed in time.
    Expired,
    /// The supervisor itself is gone, and the run was killed with it.
    SupervisorGone,
}
