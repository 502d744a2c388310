//! Whether the host can build. After failures in a row, the worker checks its host before it claims again, and
//! then one build at a time shows whether it can build.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_common::queue::{Blame, Outcome};
use fairlane_common::{FailureClass, Lane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::build::judge::Verdict;
use crate::settings::command::CommandTemplate;
use crate::time::backoff::jittered;

/// If builds of this many lanes fail in a row, that is hardly the fault of all of them.
const LANES_MAX: usize = 3;
/// First pause before a build tries the host again.
const PAUSE_FIRST: Duration = Duration::from_secs(10);
/// Longest such pause: the same as between two builds on a cluster's only node.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// If there was no build to try with, the next attempt is allowed after this time.
const OFFER: Duration = Duration::from_secs(5);
/// How long the container engine, or `repo2docker --version`, may take to answer.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(5);
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);
/// With less free disk than this, no image can be built.
const DISK_MIN: u64 = 64 << 20;
/// The cause of failures for which the container engine is suspected.
const ENGINE_CAUSE: &str = "no-engine";

#[derive(Debug)]
enum Stage {
    /// Builds are claimed.
    Open,
    /// No builds are claimed; the host is checked after the pause.
    Resting { reason: String, pause: Duration, until: Instant },
    /// The host looks healthy: one build may try it.
    Ready { reason: String, pause: Duration },
    /// A build may have been claimed for that.
    Trying { reason: String, pause: Duration, until: Instant },
}

#[derive(Debug)]
struct State {
    stage: Stage,
    /// Lanes whose builds failed here since the last one that succeeded.
    lanes: BTreeSet<Lane>,
    /// Running builds.
    running: usize,
    /// Whether the container engine is suspected and must be checked, too.
    engine: bool,
}

/// The host that a process worker runs on.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    command: CommandTemplate,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Host {
    pub(crate) fn new(name: &str, command: &CommandTemplate) -> Self {
        let state = State { stage: Stage::Open, lanes: BTreeSet::new(), running: 0, engine: false };
        Self {
            name: name.to_owned(),
            command: command.clone(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        }
    }

    /// Why no builds are claimed, or one at a time.
    pub(crate) fn paused(&self) -> Option<String> {
        match &self.state().stage {
            Stage::Open => None,
            Stage::Resting { reason, .. } | Stage::Ready { reason, .. } | Stage::Trying { reason, .. } => {
                Some(reason.clone())
            }
        }
    }

    /// How many of `free` slots may be filled.
    pub(crate) fn may_start(&self, free: usize) -> usize {
        let mut state = self.state();
        match &state.stage {
            Stage::Open => free,
            Stage::Ready { reason, pause } if free > 0 && state.running == 0 => {
                let (reason, pause) = (reason.clone(), *pause);
                state.stage = Stage::Trying { reason, pause, until: Instant::now() + OFFER };
                drop(state);
                self.changed.send_replace(());
                1
            }
            _ => 0,
        }
    }

    /// There was no build to start: the next one may try at once.
    pub(crate) fn unused(&self) {
        let mut state = self.state();
        if let (Stage::Trying { reason, pause, .. }, 0) = (&state.stage, state.running) {
            state.stage = Stage::Ready { reason: reason.clone(), pause: *pause };
        }
    }

    /// Waits until the state may have changed.
    pub(crate) async fn changed(&self) {
        // A change that is missed here is found by the caller's own regular polling.
        let _ = self.changed.subscribe().changed().await;
    }

    /// A run has started.
    pub(crate) fn begun(&self) {
        self.state().running += 1;
    }

    /// Records how a run ended, and examines failures for which the host is suspected.
    pub(crate) async fn examine(&self, lane: &Lane, begun: bool, verdict: Verdict) -> Verdict {
        if begun {
            let mut state = self.state();
            state.running = state.running.saturating_sub(1);
        }
        match verdict {
            Verdict::Finish(Outcome::Succeeded) => {
                self.succeeded();
                Verdict::Finish(Outcome::Succeeded)
            }
            Verdict::Finish(Outcome::Failed {
                class: FailureClass::Infrastructure,
                cause,
                reason,
                mut blame,
            }) => {
                let engine = blame == Blame::Machine { cause: ENGINE_CAUSE.to_owned() };
                let fault = self.fault(engine).await;
                if fault.is_some() {
                    blame = Blame::Certain;
                } else if engine {
                    // The engine answers, so the build may have printed this message itself.
                    blame = Blame::Suspect { cause: ENGINE_CAUSE.to_owned() };
                }
                self.failed(lane, fault, &reason, engine);
                Verdict::Finish(Outcome::Failed { class: FailureClass::Infrastructure, cause, reason, blame })
            }
            Verdict::Finish(Outcome::Failed { class: FailureClass::Stuck, cause, reason, blame }) => {
                self.failed(lane, None, &reason, false);
                Verdict::Finish(Outcome::Failed { class: FailureClass::Stuck, cause, reason, blame })
            }
            other => other,
        }
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.lanes.clear();
        state.engine = false;
        if !matches!(state.stage, Stage::Open) {
            state.stage = Stage::Open;
            drop(state);
            tracing::info!("a build succeeded on this host: this worker claims builds normally again");
            self.changed.send_replace(());
        }
    }

    fn failed(&self, lane: &Lane, fault: Option<String>, why: &str, engine: bool) {
        let mut state = self.state();
        state.lanes.insert(lane.clone());
        state.engine |= engine;
        let reason = match fault {
            Some(fault) => fault,
            None if state.lanes.len() >= LANES_MAX => format!(
                "builds of {} repositories in a row failed on this host (the latest: {why}); trying one \
                 build at a time",
                state.lanes.len()
            ),
            None => return,
        };
        let pause = match &state.stage {
            Stage::Open => PAUSE_FIRST,
            // Builds that were claimed earlier do not lengthen the pause.
            Stage::Resting { .. } | Stage::Ready { .. } => return,
            Stage::Trying { pause, .. } => (*pause * 2).min(PAUSE_MAX),
        };
        if matches!(state.stage, Stage::Open) {
            tracing::error!(reason, "claiming is paused: builds fail on this host");
        }
        state.stage = Stage::Resting { reason, pause, until: Instant::now() + jittered(pause) };
        drop(state);
        self.changed.send_replace(());
    }

    /// Checks the host whenever a pause is over, as long as it is polled.
    pub(crate) async fn tend(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let until = match &self.state().stage {
                Stage::Resting { until, .. } | Stage::Trying { until, .. } => Some(*until),
                Stage::Open | Stage::Ready { .. } => None,
            };
            let Some(until) = until else {
                let _ = changed.changed().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => self.look().await,
                _ = changed.changed() => {}
            }
        }
    }

    async fn look(&self) {
        let engine = self.state().engine;
        let fault = self.fault(engine).await;
        let mut state = self.state();
        let now = Instant::now();
        let running = state.running > 0;
        let next = match &state.stage {
            Stage::Resting { pause, until, .. } if *until <= now => match fault {
                Some(reason) => {
                    let pause = (*pause * 2).min(PAUSE_MAX);
                    Stage::Resting { reason, pause, until: now + jittered(pause) }
                }
                None => Stage::Ready { reason: self.words_of(&state.stage), pause: *pause },
            },
            Stage::Trying { reason, pause, until } if *until <= now => {
                let (reason, pause) = (reason.clone(), *pause);
                if running {
                    Stage::Trying { reason, pause, until: now + OFFER }
                } else {
                    Stage::Ready { reason, pause }
                }
            }
            _ => return,
        };
        state.stage = next;
        drop(state);
        self.changed.send_replace(());
    }

    #[expect(clippy::unused_self, reason = "it speaks of this host")]
    fn words_of(&self, stage: &Stage) -> String {
        match stage {
            Stage::Resting { reason, .. } | Stage::Ready { reason, .. } | Stage::Trying { reason, .. } => {
                if reason.ends_with("trying one build at a time") {
                    reason.clone()
                } else {
                    "builds failed on this host; it looks healthy again: trying one build at a time"
                        .to_owned()
                }
            }
            Stage::Open => String::new(),
        }
    }

    /// What keeps this host from building, as far as can be checked here.
    async fn fault(&self, engine: bool) -> Option<String> {
        if let Err(error) = self.command.find_program(std::env::var_os("PATH").as_deref()) {
            return Some(error.to_string());
        }
        let folder = std::env::temp_dir();
        if let Some(fault) = disk_fault(&folder) {
            return Some(fault);
        }
        if let Some(fault) = self.program_fault().await {
            return Some(fault);
        }
        if engine { engine_fault().await } else { None }
    }

    /// repo2docker prints its version, or why it cannot. It is unknown what other commands would do.
    async fn program_fault(&self) -> Option<String> {
        let program = self.command.find_program(std::env::var_os("PATH").as_deref()).ok()?;
        let name = program.file_name()?.to_string_lossy().into_owned();
        if !["jupyter-repo2docker", "repo2docker"].contains(&name.as_str()) {
            return None;
        }
        let run = tokio::process::Command::new(&program)
            .arg("--version")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(VERSION_TIMEOUT, run).await {
            Ok(Ok(output)) if output.status.success() => None,
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.trim().lines().last().unwrap_or_default();
                let last: String = last.chars().take(200).collect();
                Some(format!("{name} --version fails on this host: {last}"))
            }
            Ok(Err(error)) => Some(format!("{name} cannot be started on this host: {error}")),
            Err(_) => Some(format!("{name} --version hangs on this host")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn disk_fault(folder: &Path) -> Option<String> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    (free < DISK_MIN).then(|| format!("the disk of {} has only {} MiB free", folder.display(), free >> 20))
}

/// Why the container engine that Docker clients use does not answer, if it does not.
async fn engine_fault() -> Option<String> {
    let address = std::env::var("DOCKER_HOST").ok().filter(|address| !address.is_empty());
    let address = address.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    let asked = async {
        if let Some(path) = address.strip_prefix("unix://") {
            ping(tokio::net::UnixStream::connect(PathBuf::from(path)).await?).await
        } else if let Some(host) = address.strip_prefix("tcp://") {
            tokio::net::TcpStream::connect(host.trim_end_matches('/')).await.map(drop)
        } else {
            // SSH or a named pipe, which is not checked.
            Ok(())
        }
    };
    match tokio::time::timeout(ENGINE_TIMEOUT, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the Docker daemon does not answer at {address}: {error}")),
        Err(_) => Some(format!("the Docker daemon does not answer at {address}")),
    }
}

async fn ping(mut stream: tokio::net::UnixStream) -> std::io::Result<()> {
    stream.write_all(b"GET /_ping HTTP/1.0\r\nhost: docker\r\n\r\n").await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    if answer.ends_with(b" 200") {
        return Ok(());
    }
    Err(std::io::Error::other(format!("its answer begins with '{}'", String::from_utf8_lossy(&answer))))
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
