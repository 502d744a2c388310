//! The start of a build: its run is started, or a live one is taken over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::log::{LogEntry, LogWriter};
use fairlane_common::queue::{Blame, Outcome};
use fairlane_common::{Build, FailureCause, FailureClass};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::build::ClaimedBuild;
use crate::build::end::EndedBuild;
use crate::build::judge::{Verdict, failed, failed_with};
use crate::build::task::RunningBuild;
use crate::claiming::leases::{Lease, Wanted};
use crate::claiming::state::Worker;
use crate::executor::{Run, RunSpec};
use crate::log::lines::{self, Phase};
use crate::log::pump::LogPump;
use crate::settings::Settings;
use crate::time::backoff::Backoff;

/// How long this worker may take to let go of an older run of the same build. Longer than a run that hangs in the
/// kernel keeps its slot.
const OLDER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for the renewal of a lease that is about to expire.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);

impl ClaimedBuild {
    pub(crate) async fn start(mut self) -> Result<RunningBuild, EndedBuild> {
        match self.bring_up().await {
            Ok((run, log, waits_to_push)) => {
                let Self { worker, lease, build, ran, .. } = self;
                Ok(RunningBuild::new(worker, lease, build, run, ran, log, waits_to_push))
            }
            Err(verdict) => {
                let Self { worker, lease, build, .. } = self;
                let verdict = worker.executor.examine(&build.lane, false, verdict).await;
                let node = worker.executor.host().map(str::to_owned);
                let run = build.attempt;
                Err(EndedBuild { worker, lease, verdict, run, node, log: None, tail: None, reporter: None })
            }
        }
    }

    async fn bring_up(&mut self) -> Result<(Box<dyn Run>, LogPump, bool), Verdict> {
        self.wait_for_lease().await?;
        let token = self.lease.token().clone();
        let (queue, run) = (self.worker.queue.clone(), self.build.attempt);
        let delays = self.worker.counts.log_delays();
        let (log, stored) = if self.worker.executor.outlives() {
            let (writer, stored) = self.take_log_over().await?;
            (LogPump::resume(writer, delays), stored)
        } else {
            (LogPump::start(queue, token, run, delays), Vec::new())
        };
        // The line by which the run says that it waits may be stored already, and is then not read again.
        let waits_to_push = self.adopted && waits_to_push(&stored);
        let run = if self.adopted { self.adopt(stored).await? } else { self.begin(stored).await? };
        Ok((run, log, waits_to_push))
    }

    async fn begin(&mut self, stored: Vec<LogEntry>) -> Result<Box<dyn Run>, Verdict> {
        let settings = &self.worker.settings;
        if let Some(arg) = settings.allowed_args.first_forbidden(&self.build.spec.args) {
            let allowed = settings.allowed_args.names().join(", ");
            let reason = format!(
                "the dispatcher allows the argument '{arg}', but this worker does not: the operator must give both \
                 the same --allow-arg (FAIRLANE_ALLOW_ARGS); this worker allows {allowed}"
            );
            return Err(failed(FailureClass::Infrastructure, FailureCause::NOT_ALLOWED, reason));
        }
        if let Some(folder) = self.build.spec.repo.folder() {
            self.check_folder(&folder)
                .map_err(|reason| failed(FailureClass::Infrastructure, FailureCause::NO_FOLDER, reason))?;
        }
        let env = secret_variables(settings, &self.build).map_err(|error| {
            let reason = format!("the build's secrets cannot be used: {error}");
            failed(FailureClass::Infrastructure, FailureCause::SECRETS, reason)
        })?;
        if settings.registry_check.skips(&self.build, &env).await {
            return Err(Verdict::Finish(Outcome::AlreadyThere));
        }
        let deadline = self.lease.deadline();
        let token = self.lease.token();
        let gated = self.build.spec.push && self.worker.pushes.are_limited(&self.build.spec.image);
        let avoided = &*self.avoided;
        let spec = RunSpec { build: &self.build, token, env, deadline, avoided, gated, stored };
        self.worker.executor.start(spec).await.map_err(|error| {
            if deadline.has_passed() {
                return Verdict::Lost("its lease expired before its run started".to_owned());
            }
            // If runs are processes, their host is to blame.
            let blame = if self.worker.executor.host().is_some() { Blame::Certain } else { Blame::Nobody };
            let reason = format!("the run cannot be started: {error:#}");
            failed_with(FailureClass::Infrastructure, FailureCause::CANNOT_RUN, reason, blame)
        })
    }

    /// Checks that a folder can be built here: it exists only on some hosts, and never in a pod.
    fn check_folder(&self, folder: &Path) -> Result<(), String> {
        let Worker { settings, executor, .. } = &*self.worker;
        let shown = folder.display();
        if !settings.allow_local_repos {
            return Err(format!(
                "this worker does not build folders such as {shown}: the operator can allow it with --allow-local-repos"
            ));
        }
        if executor.outlives() {
            return Err(format!(
                "the folder {shown} cannot be built: build pods do not see the folders of a host; push it to a Git server"
            ));
        }
        if !folder.is_dir() {
            return Err(format!(
                "there is no folder {shown} on the worker's host {}: a file:// repository must be at the same path \
                 on each worker's host",
                settings.host
            ));
        }
        Ok(())
    }

    /// Takes over the log of a run that another worker may have started: from then on nobody else can add to it.
    /// If Redis refuses the log, the build goes on without the lines stored so far.
    async fn take_log_over(&mut self) -> Result<(LogWriter, Vec<LogEntry>), Verdict> {
        let worker = Arc::clone(&self.worker);
        let (token, run) = (self.lease.token().clone(), self.build.attempt);
        let give_up = Instant::now() + worker.settings.pending_timeout;
        let (mut backoff, mut is_said) = (Backoff::new(), false);
        loop {
            let refused = match LogWriter::take_over(worker.queue.clone(), token.clone(), run).await {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => return Err(Verdict::LetGo),
                Err(error) => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(%error, "cannot take over the log of a build yet");
                    }
                    !error.is_transient()
                }
            };
            self.heed()?;
            if refused || self.lease.wanted() == Wanted::Cancelled {
                return Ok((LogWriter::new(worker.queue.clone(), token, run, "0-0".to_owned()), Vec::new()));
            }
            let (wanted, _) = self.lease.signals();
            tokio::select! {
                () = backoff.pause() => {}
                _ = Lease::wanted_anew(wanted) => {}
                () = tokio::time::sleep_until(give_up) => {
                    return Err(self.without_run("its log could not be taken over: Redis does not answer"));
                }
            }
        }
    }

    /// Waits until at least half of the lease is left: the claim may have been answered late, and Redis may go
    /// away again at any moment.
    async fn wait_for_lease(&mut self) -> Result<(), Verdict> {
        let give_up = Instant::now() + RENEWAL_TIMEOUT;
        while self.lease.deadline().remaining() < self.worker.settings.lease / 2 {
            self.worker.beat_now.notify_one();
            let (wanted, deadline) = self.lease.signals();
            tokio::select! {
                wanted = Lease::wanted_anew(wanted) => if wanted == Wanted::LetGo { break },
                _ = Lease::renewed(deadline) => {}
                () = tokio::time::sleep_until(give_up) => {
                    return Err(self.without_run("its lease expired before its run could start"));
                }
            }
        }
        self.heed()
    }

    /// Follows the orders for a build that this worker has not started anything for.
    fn heed(&mut self) -> Result<(), Verdict> {
        match self.lease.wanted() {
            Wanted::Run => Ok(()),
            Wanted::Drained => Err(self.without_run("its worker shut down")),
            // An adopted run has to be stopped first.
            Wanted::Cancelled if self.adopted => Ok(()),
            Wanted::Cancelled => Err(Verdict::Finish(Outcome::Cancelled)),
            Wanted::LetGo => Err(Verdict::LetGo),
        }
    }

    /// The verdict on a build that this worker has not started anything for.
    fn without_run(&self, reason: &str) -> Verdict {
        if self.adopted && self.worker.executor.outlives() {
            Verdict::HandOver
        } else {
            Verdict::Lost(reason.to_owned())
        }
    }

    async fn adopt(&mut self, stored: Vec<LogEntry>) -> Result<Box<dyn Run>, Verdict> {
        let token = self.lease.token().clone();
        tokio::select! {
            () = self.worker.leases.older_gone(&token) => {}
            wanted = self.lease.leaving() => return Err(match wanted {
                Wanted::LetGo => Verdict::LetGo,
                _ => self.without_run("its worker shut down"),
            }),
            () = tokio::time::sleep(OLDER_TIMEOUT) => {
                return Err(self.without_run("an earlier run of this build on the same worker did not end"));
            }
        }
        let deadline = self.lease.deadline();
        let token = self.lease.token();
        let (env, avoided) = (BTreeMap::new(), &*self.avoided);
        let gated = false;
        let spec = RunSpec { build: &self.build, token, env, deadline, avoided, gated, stored };
        match self.worker.executor.attach(spec).await {
            Ok(Some(run)) => Ok(run),
            Ok(None) => Err(Verdict::Lost("its run is gone".to_owned())),
            Err(error) => Err(Verdict::Lost(format!("its run cannot be found: {error:#}"))),
        }
    }
}

/// Whether a run's log ends where the run waits to push.
fn waits_to_push(stored: &[LogEntry]) -> bool {
    let phase = stored.iter().rev().find_map(|entry| lines::parse(&entry.text).phase);
    phase == Some(Phase::WaitingToPush)
}

/// The build's secrets, as the environment variables that repo2docker reads.
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
