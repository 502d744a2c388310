//! A worker's settings, checked.
//!
//! Options come from the command line, then from the environment, then from a file. They are checked once, before
//! the queue is opened, so a worker that starts has consistent settings. Everything else in this crate uses these
//! plain types and does not know the options.

pub(crate) mod args;
pub mod command;
pub(crate) mod push_gate;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use fairlane_common::limits;
use fairlane_common::queue::LogLimits;
use fairlane_common::seal::SealKeys;

use crate::build::registry_check::RegistryCheck;
use crate::kubernetes::pod::PodSettings;
use crate::settings::command::CommandTemplate;

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host's name; worker ids start with it. Drains and failures are recorded under it.
    pub host: String,
    /// Number of builds to run at once.
    pub slots: NonZeroUsize,
    /// How runs are executed.
    pub executor: ExecutorKind,
    /// The build command.
    pub command: CommandTemplate,
    /// The settings of build pods, for the kubernetes executor.
    pub pods: PodSettings,
    /// Extra repo2docker arguments that builds may have (see [`fairlane_common::allow`]).
    pub allowed_args: fairlane_common::AllowedArgs,
    /// Whether builds may name folders of this host.
    pub allow_local_repos: bool,
    /// Keys that open builds' secrets. Without them, builds with secrets fail with a clear reason.
    pub seal_keys: Option<SealKeys>,
    /// How long a lease lasts after its renewal.
    pub lease: Duration,
    /// How often leases are renewed; each executor has its own default.
    pub heartbeat: Duration,
    /// How long a run may wait until it starts, if it has to wait.
    pub pending_timeout: Duration,
    /// How long a run may take until its first line.
    pub start_timeout: Duration,
    /// How long a run may be silent between two lines.
    pub silence_timeout: Duration,
    /// How long a run may take in total.
    pub total_timeout: Duration,
    /// How long runs may take to finish when the worker shuts down.
    pub drain_timeout: Duration,
    /// How long the pods of ended builds are kept.
    pub keep_pods: Duration,
    /// Limits on the logs of ended builds.
    pub log_limits: LogLimits,
    /// Address for health checks and metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// The check whether an image already exists, before it is built.
    pub registry_check: RegistryCheck,
    /// How the process executor starts a supervisor.
    pub supervisor: SupervisorCommand,
}

impl Settings {
    /// Checks what the types do not enforce.
    ///
    /// # Errors
    /// A lease is too short to be renewed in time, or a time limit is zero.
    pub fn check(&self) -> Result<()> {
        let usable = self.lease.saturating_sub(limits::LEASE_MARGIN);
        ensure!(
            !usable.is_zero(),
            "--lease must be longer than {:.1} s: runs are stopped that long before their lease ends",
            limits::LEASE_MARGIN.as_secs_f64(),
        );
        ensure!(
            !self.heartbeat.is_zero() && self.heartbeat * 2 <= usable,
            "--heartbeat must be at most {:.1} s: a lease of {:.1} s, less a margin of {:.1} s, must survive a lost renewal",
            usable.as_secs_f64() / 2.0,
            self.lease.as_secs_f64(),
            limits::LEASE_MARGIN.as_secs_f64(),
        );
        for (name, timeout) in [
            ("--pending-timeout", self.pending_timeout),
            ("--start-timeout", self.start_timeout),
            ("--silence-timeout", self.silence_timeout),
            ("--timeout", self.total_timeout),
        ] {
            ensure!(
                !timeout.is_zero(),
                "{name} must be longer than zero: every build would be killed at once"
            );
        }
        Ok(())
    }
}

/// The kinds of executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ExecutorKind {
    /// Commands on this host.
    #[default]
    Process,
    /// Pods of a Kubernetes cluster.
    Kubernetes,
}

impl ExecutorKind {
    /// How often leases are renewed by default.
    pub fn heartbeat(self) -> Duration {
        match self {
            Self::Process => limits::HEARTBEAT_MORTAL,
            Self::Kubernetes => limits::HEARTBEAT,
        }
    }
}

/// How to start a supervisor: a program that calls [`crate::supervise_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorCommand {
    /// The program.
    pub program: PathBuf,
    /// The arguments that make it a supervisor.
    pub args: Vec<String>,
}

impl Default for SupervisorCommand {
    /// This program, with the argument `supervise`.
    fn default() -> Self {
        // Not its path, because the file may have been replaced by another release since.
        Self { program: PathBuf::from("/proc/self/exe"), args: vec!["supervise".to_owned()] }
    }
}
