//! Where runs live: as processes of this host, or as pods.

mod kubernetes;
mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use fairlane_common::log::LogLine;
use fairlane_common::{Build, WorkerId};

pub use self::process::SupervisorCommand;
use crate::boot_time::BootTime;
use crate::settings::Settings;
pub use crate::supervisor::{Exit, StopCause};

/// What a run is made from.
pub struct RunSpec<'a> {
    /// The build.
    pub build: &'a Build,
    /// Variables for the command, secrets among them; never shown.
    pub env: BTreeMap<String, String>,
    /// When the lease has to be given up unless it is renewed.
    pub deadline: BootTime,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// It wrote a line.
    Line(LogLine),
    /// It has ended, and nothing of it is left.
    Exited(Exit),
}

/// Makes runs.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Where the runs live: only workers of the same place can adopt them.
    fn place(&self, worker: &WorkerId) -> String;

    /// Starts a run; when this returns, it is up.
    ///
    /// # Errors
    /// It cannot be started, and nothing of it is left.
    async fn start(&self, spec: RunSpec<'_>) -> Result<Box<dyn Run>>;

    /// Takes over the live run of a build; `None` where there is none any more.
    ///
    /// # Errors
    /// It cannot be told.
    async fn attach(&self, spec: RunSpec<'_>) -> Result<Option<Box<dyn Run>>>;
}

/// A run. Dropped, it is killed or left to others, as its place has it.
#[async_trait]
pub trait Run: Send {
    /// The next event; may be dropped and asked again. After [`RunEvent::Exited`] nothing comes.
    async fn follow(&mut self) -> RunEvent;

    /// The lease was renewed: it has to be given up at `deadline`.
    fn renewed(&mut self, deadline: BootTime);

    /// Ends the run: asked to at once, killed after `grace`. May be called again, to shorten it.
    fn stop(&mut self, grace: Duration);

    /// Kills what did not end after a stop, without waiting for it.
    fn abandon(&mut self);
}

/// The kinds of executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ExecutorKind {
    /// Commands on this host.
    #[default]
    Process,
    /// Pods of a Kubernetes cluster.
    #[value(hide = true)]
    Kubernetes,
}

/// Makes the executor that the settings name, and checks that it can work.
pub(crate) async fn connect(settings: &Settings) -> Result<Arc<dyn Executor>> {
    match settings.executor {
        ExecutorKind::Process => Ok(Arc::new(process::ProcessExecutor::new(settings)?)),
        ExecutorKind::Kubernetes => Err(kubernetes::look().await),
    }
}
