//! What a worker is told, checked.
//!
//! Options come from the command line, then from the environment, then from a file. They are checked once, before
//! the queue is opened: a worker that starts has settings that fit together. Everything else in this crate
//! takes these plain types and knows no options.

pub(crate) mod args;
pub mod command;

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
    /// The host's name; worker ids start with it. Draining and blame are remembered by it.
    pub host: String,
    /// Builds run at once.
    pub slots: NonZeroUsize,
    /// Where runs live.
    pub executor: ExecutorKind,
    /// What is run.
    pub command: CommandTemplate,
    /// How the kubernetes executor makes pods.
    pub pods: PodSettings,
    /// Extra repo2docker arguments that builds may bring along (see [`fairlane_common::allow`]).
    pub allowed_args: fairlane_common::AllowedArgs,
    /// Whether builds may name folders of this host.
    pub allow_local_repos: bool,
    /// Open builds' secrets. Without them a build with secrets fails, with a clear reason.
    pub seal_keys: Option<SealKeys>,
    /// How long a lease lasts after its renewal.
    pub lease: Duration,
    /// How often leases are renewed; each executor has its usual time.
    pub heartbeat: Duration,
    /// Longest wait of a run for its start, where it has to wait for one.
    pub pending_timeout: Duration,
    /// Longest wait for a run's first line.
    pub start_timeout: Duration,
    /// Longest silence between two lines.
    pub silence_timeout: Duration,
    /// Longest run.
    pub total_timeout: Duration,
    /// How long runs may go on when the worker shuts down.
    pub drain_timeout: Duration,
    /// How long the pods of ended builds stay.
    pub keep_pods: Duration,
    /// What logs of ended builds may take.
    pub log_limits: LogLimits,
    /// Where it answers for its health and metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether an image is there already, asked before it would be built.
    pub registry_check: RegistryCheck,
    /// How the process executor starts a supervisor.
    pub supervisor: SupervisorCommand,
}

impl Settings {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// A lease too short to be renewed in time, or a deadline of zero.
    pub fn check(&self) -> Result<()> {
        let usable = self.lease.saturating_sub(limits::LEASE_MARGIN);
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
    /// How often leases are renewed unless the settings say otherwise.
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
        // Not its path: the file may have been replaced by another release since.
        Self { program: PathBuf::from("/proc/self/exe"), args: vec!["supervise".to_owned()] }
    }
}
