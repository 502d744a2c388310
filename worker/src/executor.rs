//! Where runs live: as processes of this host, or as pods.

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

/// How the reason of a pause begins where the runs cannot be seen.
pub(crate) const BLIND: &str = "it cannot see its pods: ";

/// What a run is made from.
pub(crate) struct RunSpec<'a> {
    /// The build.
    pub(crate) build: &'a Build,
    /// The lease that it is run under.
    pub(crate) token: &'a Token,
    /// Variables for the command, secrets among them; never shown.
    pub(crate) env: BTreeMap<String, String>,
    /// When the lease has to be given up unless it is renewed.
    pub(crate) deadline: BootTime,
    /// Nodes that no build should go to at the moment.
    pub(crate) avoided: &'a [NodeName],
    /// The end of the run's log, as an earlier holder left it.
    pub(crate) stored: Vec<LogEntry>,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunEvent {
    /// What it waits for before it is up, in words for people; empty when it waits no more.
    Note(String),
    /// It is up; after so long, where that was seen: a pod since its creation.
    Up(Option<Duration>),
    /// Its lines cannot be had at present: that none comes says nothing.
    Unheard,
    /// It wrote a line.
    Line(LogLine),
    /// It has ended, and nothing of it is left that does anything.
    Exited(Ended),
    /// There is none, for no fault of the build's; the sentence says why. Back into line.
    Lost(String),
    /// It lives on, or may, without this worker.
    HandedOver,
    /// Another holder has it.
    Taken,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// What its command left.
    pub(crate) exit: Exit,
    /// What those who ran it know of the failure: they are asked before the log is.
    pub(crate) failure: Option<RunFailure>,
    /// The node that it ran on.
    pub(crate) node: Option<String>,
    /// What kept it from starting, where it was stopped before it ran.
    pub(crate) kept_by: Option<FailureCause>,
    /// Its last lines, where they are known beside its log: that may not have come to its end.
    pub(crate) last_words: Option<String>,
}

/// Why a run failed, for reasons that its log cannot tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFailure {
    /// What it is put down to.
    pub(crate) class: FailureClass,
    /// What it failed of.
    pub(crate) cause: FailureCause,
    /// One sentence for people.
    pub(crate) reason: String,
    /// How far the node is to blame.
    pub(crate) blame: Blame,
}

/// A run that is there, and that nobody of this worker sees to.
#[derive(Debug, Clone)]
pub(crate) struct FoundRun {
    /// The lease that its latest holder wrote on it.
    pub(crate) token: Token,
    /// Its number.
    pub(crate) number: u32,
    /// When its build was first asked for, Unix milliseconds.
    pub(crate) asked: u64,
    /// When it was begun, Unix milliseconds.
    pub(crate) claimed: u64,
    /// When it was up, Unix milliseconds.
    pub(crate) started: Option<u64>,
    /// What was asked for.
    pub(crate) spec: BuildSpec,
    /// The node that it is on.
    pub(crate) node: Option<String>,
}

/// Makes runs.
#[async_trait]
pub(crate) trait Executor: Send + Sync {
    /// Where the runs live: only workers of the same place can adopt them.
    fn place(&self, worker: &WorkerId) -> String;

    /// Whether runs outlive their worker: they are then handed over where others are ended.
    fn outlives(&self) -> bool;

    /// Starts a run. One that outlives its worker may still have to come up.
    ///
    /// # Errors
    /// It cannot be started, and nothing of it is left.
    async fn start(&self, spec: RunSpec<'_>) -> Result<Box<dyn Run>>;

    /// Takes over the live run of a build; `None` where there is none any more.
    ///
    /// # Errors
    /// It cannot be told.
    async fn attach(&self, spec: RunSpec<'_>) -> Result<Option<Box<dyn Run>>>;

    /// How long the oldest pod has waited to start; zero where none waits, `None` where runs are no pods.
    fn oldest_pending(&self) -> Option<Duration> {
        None
    }

    /// Why no run can be started at present, in words for people.
    fn paused(&self) -> Option<String> {
        None
    }

    /// For how long it has not been able to see its runs, where that is so: nothing is adopted meanwhile, and others
    /// that see may have them.
    fn blind(&self) -> Option<Duration> {
        None
    }

    /// How many of `free` slots may be filled at present.
    fn may_start(&self, free: usize) -> usize {
        free
    }

    /// Nothing was there to be started with what [`Self::may_start`] allowed.
    fn unused(&self) {}

    /// Waits until [`Self::may_start`] may give another answer.
    async fn pause_changed(&self) {
        std::future::pending::<()>().await;
    }

    /// The host that all runs are on, where they are on one: it is to blame as a node is.
    fn host(&self) -> Option<&str> {
        None
    }

    /// Takes note of how a build of a lane ended (`begun`: its run had been started), and looks into failures that
    /// may be the host's.
    async fn examine(&self, _lane: &Lane, _begun: bool, verdict: Verdict) -> Verdict {
        verdict
    }

    /// How many nodes runs can be on; 0 where that cannot be told.
    fn nodes(&self) -> usize {
        0
    }

    /// Runs of this place that nobody of this worker sees to.
    fn found(&self) -> Vec<FoundRun> {
        Vec::new()
    }

    /// Does what is to be done beside the runs, for as long as it is polled.
    async fn tend(&self) {
        std::future::pending::<()>().await;
    }
}

/// A run. Dropped, it is killed or left to others, as its place has it.
#[async_trait]
pub(crate) trait Run: Send {
    /// The next event; may be dropped and asked again. After one that says that it is over nothing
    /// comes.
    async fn follow(&mut self) -> RunEvent;

    /// The lease was renewed: it has to be given up at `deadline`.
    fn renewed(&mut self, deadline: BootTime);

    /// Ends the run: asked to at once, killed after `grace`. May be called again, to shorten it.
    fn stop(&mut self, grace: Duration);

    /// Kills what did not end after a stop, without waiting for it.
    fn abandon(&mut self);

    /// Leaves the run to another worker; [`RunEvent::HandedOver`] follows once nothing is under way.
    fn hand_over(&mut self) {}
}
