//! The protocol between a worker and a supervisor: one JSON object a line. The worker writes to the supervisor's
//! standard input, starting with the job; the supervisor writes to its standard output.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::boot_time::BootTime;

/// What to run. Contains secrets, so it is never printed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    /// The program's absolute path.
    pub(crate) program: std::path::PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Variables in addition to the supervisor's own.
    pub(crate) env: BTreeMap<String, String>,
    /// The run's folder for temporary files; created before the run and removed after it.
    pub(crate) folder: std::path::PathBuf,
    /// Files to create in that folder.
    pub(crate) files: BTreeMap<String, String>,
    /// When the lease has to be given up, unless another order comes.
    pub(crate) deadline: BootTime,
}

/// An order from the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The lease was renewed; it now has to be given up at this time.
    Deadline(BootTime),
    /// Stop the run: ask it to exit at once, kill it after this time.
    Stop(Duration),
}

/// A message from the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    /// The command runs, as the leader of this process group.
    Started(i32),
    /// The command could not be started; the text says why.
    NotStarted(String),
    /// The command wrote a line.
    Line {
        /// When, RFC 3339 with nanoseconds.
        t: String,
        /// The line.
        text: String,
    },
    /// No process of the run is left; this is the last message.
    Exit(Exit),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exit {
    /// The command's exit code, if it exited by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it was being stopped when it ended, if so.
    pub stopped: Option<StopCause>,
}

/// Why a run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The worker ordered it.
    Ordered,
    /// The worker is gone.
    WorkerGone,
    /// The lease was not renewed in time.
    Expired,
    /// The supervisor itself is gone, and the run was killed with it.
    SupervisorGone,
}
