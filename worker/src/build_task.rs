//! One build from claim to finish: [`ClaimedBuild`] becomes a [`RunningBuild`], which becomes an
//! [`EndedBuild`]. Each is moved into the next, so a build cannot be started or finished twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::queue::{Claimed, Held, Outcome};
use fairlane_common::{Build, FailureClass, Queue, Token};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::build_end::EndedBuild;
use crate::deadlines::Deadlines;
use crate::executor::{Exit, Run, RunEvent, RunSpec};
use crate::judge::{Cause, Facts, Verdict, failed, judge};
use crate::log_pump::LogPump;
use crate::registry::{Lease, Registry, Wanted};
use crate::runner::Worker;
use crate::settings::Settings;

/// From being asked to end to being killed.
const GRACE: Duration = Duration::from_secs(2);
/// The same when the lease is over: the supervisor does the same at the same moment.
const GRACE_LEASE_OVER: Duration = Duration::from_millis(500);
/// How long a killed run may take to be gone: what hangs in the kernel for longer keeps no slot.
const GONE_TIMEOUT: Duration = Duration::from_secs(20);
/// A lease with less left than this is renewed before a run is started under it.
const LEASE_LEFT_MIN: Duration = Duration::from_millis(500);
/// How long to wait for that renewal.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes a claimed build to its end.
pub(crate) async fn work_on(worker: Arc<Worker>, lease: Lease, claimed: Claimed) {
    let Claimed { token: _, build, adopted, avoided: _ } = claimed;
    let claimed = ClaimedBuild { worker, lease, build, adopted };
    // Boxed: each is large, and only one is alive at a time.
    let ended = match Box::pin(claimed.start()).await {
        Ok(running) => Box::pin(running.follow()).await,
        Err(ended) => ended,
    };
    Box::pin(ended.settle()).await;
}

/// A build under a lease, without a run.
struct ClaimedBuild {
    worker: Arc<Worker>,
    lease: Lease,
    build: Build,
    adopted: bool,
}

/// A build whose run is alive.
struct RunningBuild {
    worker: Arc<Worker>,
    lease: Lease,
    run: Box<dyn Run>,
    log: LogPump,
    facts: Facts,
    deadlines: Deadlines,
    stopping: Option<Stopping>,
    /// Tells the queue that the run is alive.
    announcing: JoinSet<()>,
}

struct Stopping {
    cause: Cause,
    give_up: Instant,
}

impl ClaimedBuild {
    async fn start(mut self) -> Result<RunningBuild, EndedBuild> {
        match self.bring_up().await {
            Ok(run) => Ok(self.running(run)),
            Err(verdict) => {
                let Self { worker, lease, .. } = self;
                Err(EndedBuild { worker, lease, verdict, log: None, tail: None, announcing: JoinSet::new() })
            }
        }
    }

    async fn bring_up(&mut self) -> Result<Box<dyn Run>, Verdict> {
        self.wait_for_lease().await?;
        if self.adopted {
            return self.adopt().await;
        }
        let settings = &self.worker.settings;
        if let Some(arg) = settings.allowed_args.first_forbidden(&self.build.spec.args) {
            let allowed = settings.allowed_args.names().join(", ");
            let reason = format!("the argument '{arg}' is not allowed on this worker; allowed are {allowed}");
            return Err(failed(FailureClass::Repository, reason));
        }
        let env = secret_variables(settings, &self.build).map_err(|error| {
            failed(FailureClass::Infrastructure, format!("the build's secrets cannot be used: {error}"))
        })?;
        let deadline = self.lease.deadline();
        let started = self.worker.executor.start(RunSpec { build: &self.build, env, deadline }).await;
        started.map_err(|error| {
            if deadline.has_passed() {
                return Verdict::Lost("its lease was over before its run had started".to_owned());
            }
            failed(FailureClass::Infrastructure, format!("the run cannot be started: {error:#}"))
        })
    }

    /// No run is started under a lease that is as good as over: a claim may have been answered late.
    async fn wait_for_lease(&mut self) -> Result<(), Verdict> {
        let give_up = Instant::now() + RENEWAL_TIMEOUT;
        while self.lease.deadline().remaining() < LEASE_LEFT_MIN {
            self.worker.beat_now.notify_one();
            let (wanted, deadline) = self.lease.signals();
            tokio::select! {
                wanted = Lease::wanted_anew(wanted) => if wanted == Wanted::LetGo { break },
                _ = Lease::renewed(deadline) => {}
                () = tokio::time::sleep_until(give_up) => {
                    return Err(Verdict::Lost("its lease was over before its run could start".to_owned()));
                }
            }
        }
        match self.lease.wanted() {
            Wanted::Run => Ok(()),
            Wanted::Drained => Err(Verdict::Lost("its worker ended".to_owned())),
            Wanted::Cancelled => Err(Verdict::Finish(Outcome::Cancelled)),
            Wanted::LetGo => Err(Verdict::LetGo),
        }
    }

    async fn adopt(&mut self) -> Result<Box<dyn Run>, Verdict> {
        self.worker.registry.older_gone(self.lease.token()).await;
        let deadline = self.lease.deadline();
        let spec = RunSpec { build: &self.build, env: BTreeMap::new(), deadline };
        match self.worker.executor.attach(spec).await {
            Ok(Some(run)) => Ok(run),
            Ok(None) => Err(Verdict::Lost("its run is gone".to_owned())),
            Err(error) => Err(Verdict::Lost(format!("its run cannot be found: {error:#}"))),
        }
    }

    fn running(self, run: Box<dyn Run>) -> RunningBuild {
        let Self { worker, lease, build, adopted: _ } = self;
        let token = lease.token().clone();
        let mut announcing = JoinSet::new();
        announcing.spawn(announce(worker.queue.clone(), Arc::clone(&worker.registry), token.clone()));
        let log = LogPump::start(worker.queue.clone(), token, build.attempt);
        tracing::info!("running");
        RunningBuild {
            deadlines: Deadlines::new(&worker.settings),
            worker,
            lease,
            run,
            log,
            facts: Facts::default(),
            stopping: None,
            announcing,
        }
    }
}

/// The build's secrets as the variables that repo2docker reads them from.
fn secret_variables(settings: &Settings, build: &Build) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(sealed) = &build.spec.secrets else {
        return Ok(BTreeMap::new());
    };
    let Some(keys) = &settings.seal_keys else {
        anyhow::bail!("this worker has no seal key (FAIRLANE_SEAL_KEY)");
    };
    let names = [
        ("git_credentials", "GIT_CREDENTIAL_ENV"),
        ("registry_credentials", "CONTAINER_ENGINE_REGISTRY_CREDENTIALS"),
    ];
    let secrets = keys.open(sealed, build.sealed_for.unwrap_or(build.id), &build.spec.image)?;
    let variable = |(name, variable): (&str, &str)| {
        secrets.get(name).map(|secret| (variable.to_owned(), secret.expose_secret().to_owned()))
    };
    Ok(names.into_iter().filter_map(variable).collect())
}

/// Says that the run is alive, until Redis has heard it.
async fn announce(queue: Queue, registry: Arc<Registry>, token: Token) {
    let mut backoff = Backoff::new();
    loop {
        match queue.report(&token, true, None).await {
            Ok(Held::Held { cancelling: false }) => return,
            Ok(Held::Held { cancelling: true }) => return registry.want(&token, Wanted::Cancelled),
            Ok(Held::Stale) => return registry.want(&token, Wanted::LetGo),
            Err(error) if error.is_transient() => backoff.pause().await,
            Err(error) => return tracing::error!(%error, "the queue does not take that the run is alive"),
        }
    }
}

impl RunningBuild {
    async fn follow(mut self) -> EndedBuild {
        let exit = loop {
            if let Some(exit) = self.step().await {
                break exit;
            }
        };
        let Self { worker, lease, log, facts, stopping, announcing, .. } = self;
        let verdict = judge(exit, stopping.as_ref().map(|stopping| &stopping.cause), &facts);
        EndedBuild { worker, lease, verdict, log: Some(log), tail: facts.tail(), announcing }
    }

    /// Waits for what comes first. Deadlines are looked at before lines: a flood of lines holds
    /// none of them up.
    async fn step(&mut self) -> Option<Exit> {
        let lease_end = self.lease.peek_deadline();
        let run_end = self.deadlines.next();
        let give_up = self.stopping.as_ref().map(|stopping| stopping.give_up);
        let watched = give_up.is_none();
        let (wanted, renewals) = self.lease.signals();
        tokio::select! {
            biased;
            wanted = Lease::wanted_anew(wanted) => self.want(wanted),
            deadline = Lease::renewed(renewals) => self.run.renewed(deadline),
            () = lease_end.reached(), if watched => {
                let reason = "its lease could not be renewed, and its run was killed in time".to_owned();
                self.stop(Cause::Lost(reason), GRACE_LEASE_OVER);
            }
            () = tokio::time::sleep_until(run_end), if watched => {
                self.stop(Cause::Stuck(self.deadlines.passed()), GRACE);
            }
            () = tokio::time::sleep_until(give_up.unwrap_or(run_end)), if !watched => {
                tracing::error!("a run did not end though it was killed");
                self.run.abandon();
                return Some(Exit::default());
            }
            event = self.run.follow() => match event {
                RunEvent::Line(line) => {
                    self.facts.note(&line.text);
                    self.deadlines.line();
                    self.log.push(line);
                }
                RunEvent::Exited(exit) => return Some(exit),
            }
        }
        None
    }

    fn want(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Run => {}
            Wanted::Drained => self.stop(Cause::Lost("its worker ended".to_owned()), GRACE),
            Wanted::Cancelled => self.stop(Cause::Cancelled, GRACE),
            Wanted::LetGo => {
                tracing::info!("the lease is another's: the run is killed, and nothing else is touched");
                self.stop(Cause::Stale, Duration::ZERO);
            }
        }
    }

    /// Stops the run. A lease that is another's outweighs every earlier cause, a cancellation all
    /// but that one.
    fn stop(&mut self, cause: Cause, grace: Duration) {
        if let Some(stopping) = &mut self.stopping {
            if cause == Cause::Stale || (cause == Cause::Cancelled && stopping.cause != Cause::Stale) {
                stopping.cause = cause;
            }
        } else {
            tracing::info!(?cause, "stopping the run");
            self.stopping = Some(Stopping { cause, give_up: Instant::now() + grace + GONE_TIMEOUT });
        }
        self.run.stop(grace);
    }
}
