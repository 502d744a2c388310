//! How runs are executed: as processes on this host, or as pods.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use fairlane_common::log::{LogEntry, LogLine};
use fairlane_common::queue::Blame;
use fairlane_common::{Build, BuildSpec, FailureCause, FailureClass, Lane, NodeName, Token, WorkerId};

use crate::build::judge::Verdict;
pub(crate) use crate::process::supervisor::{Exit, StopCause};
use crate::time::boot_time::BootTime;

/// Prefix of the reason for a pause if the runs cannot be seen.
pub(crate) const BLIND: &str = "it cannot see its pods: ";

/// What is needed to start a run.
pub(crate) struct RunSpec<'a> {
    /// The build.
    pub(crate) build: &'a Build,
    /// The lease under which it runs.
    pub(crate) token: &'a Token,
    /// Variables for the command, secrets among them; never shown.
    pub(crate) env: BTreeMap<String, String>,
    /// When the lease has to be given up if it is not renewed.
    pub(crate) deadline: BootTime,
    /// Nodes that all builds avoid at the moment.
    pub(crate) avoided: &'a [NodeName],
    /// Whether the run must wait before it pushes, until [`Run::open_gate`].
    pub(crate) gated: bool,
    /// The end of the run's log, as stored by an earlier holder.
    pub(crate) stored: Vec<LogEntry>,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunEvent {
    /// What it waits for before it is up, in words for people; empty when it no longer waits.
    Note(String),
    /// It is up; after so long, where that was seen: a pod since its creation.
    Up(Option<Duration>),
    /// Its lines cannot be had at present: that none comes says nothing.
    Unheard,
    /// Reading its lines has failed several times in a row, while the rest of the cluster answers.
    Unreadable,
    /// It wrote a line.
    Line(LogLine),
    /// An earlier holder has let it push.
    GateOpen,
    /// It has ended, and no process of it is left.
    Exited(Ended),
    /// There is no run, through no fault of the build; the text says why. The build goes back into line.
    Lost(String),
    /// It goes on without this worker, or may do so.
    HandedOver,
    /// Another holder has taken it over.
    Taken,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How its command ended.
    pub(crate) exit: Exit,
    /// What the executor knows about the failure; takes precedence over the log.
    pub(crate) failure: Option<RunFailure>,
    /// The node that it ran on.
    pub(crate) node: Option<String>,
    /// What kept it from starting, where it was stopped before it ran.
    pub(crate) kept_by: Option<FailureCause>,
    /// Its last lines, where they are known beside its log: that may not have come to its end.
    pub(crate) last_words: Option<String>,
}

/// Why a run failed, for reasons that its log cannot show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFailure {
    /// The class of the failure.
    pub(crate) class: FailureClass,
    /// What it failed of.
    pub(crate) cause: FailureCause,
    /// One sentence for people.
    pub(crate) reason: String,
    /// How far the node is to blame.
    pub(crate) blame: Blame,
}

/// An existing run that no task of this worker follows.
#[derive(Debug, Clone)]
pub(crate) struct FoundRun {
    /// The lease that its latest holder wrote on it.
    pub(crate) token: Token,
    /// Its number.
    pub(crate) number: u32,
    /// When its build was first requested, Unix milliseconds.
    pub(crate) asked: u64,
    /// When it was claimed, Unix milliseconds.
    pub(crate) claimed: u64,
    /// When it was first running, Unix milliseconds.
    pub(crate) started: Option<u64>,
    /// The request.
    pub(crate) spec: BuildSpec,
    /// The node that it runs on.
    pub(crate) node: Option<String>,
}

/// Executes runs.
#[async_trait]
pub(crate) trait Executor: Send + Sync {
    /// The place of the runs: only workers of the same place can adopt them.
    fn place(&self, worker: &WorkerId) -> String;

    /// Whether runs outlive their worker: they are then handed over instead of stopped.
    fn outlives(&self) -> bool;

    /// Starts a run. If runs outlive their worker, it may not be running yet.
    ///
    /// # Errors
    /// It cannot be started, and no process or pod of it is left.
    async fn start(&self, spec: RunSpec<'_>) -> Result<Box<dyn Run>>;

    /// Takes over the live run of a build; `None` if there is none any more.
    ///
    /// # Errors
    /// It is unknown whether there is one.
    async fn attach(&self, spec: RunSpec<'_>) -> Result<Option<Box<dyn Run>>>;

    /// How long the oldest pod has waited to start; zero where none waits, `None` where runs are no pods.
    fn oldest_pending(&self) -> Option<Duration> {
        None
    }

    /// Why no run can be started at present, in words for people.
    fn paused(&self) -> Option<String> {
        None
    }

    /// For how long it has been unable to see its runs, if so. Meanwhile it adopts nothing, and workers that can
    /// see the runs may take them.
    fn blind(&self) -> Option<Duration> {
        None
    }

    /// How many of `free` slots may be filled at present.
    fn may_start(&self, free: usize) -> usize {
        free
    }

    /// There was no build for the slots that [`Self::may_start`] allowed.
    fn unused(&self) {}

    /// Waits until the result of [`Self::may_start`] may have changed.
    async fn pause_changed(&self) {
        std::future::pending::<()>().await;
    }

    /// The host that all runs are on, if it is a single one; it can be to blame like a node.
    fn host(&self) -> Option<&str> {
        None
    }

    /// Records how a build of a lane ended (`begun`: whether its run had started), and examines failures that may
    /// be the host's fault.
    async fn examine(&self, _lane: &Lane, _begun: bool, verdict: Verdict) -> Verdict {
        verdict
    }

    /// How many nodes can have runs; 0 if unknown.
    fn nodes(&self) -> usize {
        0
    }

    /// Runs of this place that no task of this worker follows.
    fn found(&self) -> Vec<FoundRun> {
        Vec::new()
    }

    /// Does the executor's background work, as long as it is polled.
    async fn tend(&self) {
        std::future::pending::<()>().await;
    }
}

/// A run. When it is dropped, a process is killed and a pod is left to other workers.
#[async_trait]
pub(crate) trait Run: Send {
    /// The next event. Cancel-safe. Nothing follows an event that says that the run is over.
    async fn follow(&mut self) -> RunEvent;

    /// The lease was renewed: it has to be given up at `deadline`.
    fn renewed(&mut self, deadline: BootTime);

    /// Stops the run: asks it to exit at once, and kills it after `grace`. May be called again to shorten the
    /// grace.
    fn stop(&mut self, grace: Duration);

    /// Kills a run that did not end after a stop, without waiting for it.
    fn abandon(&mut self);

    /// Lets the run push.
    fn open_gate(&mut self);

    /// Leaves the run to another worker; [`RunEvent::HandedOver`] follows once no call is in progress.
    fn hand_over(&mut self) {}
}
