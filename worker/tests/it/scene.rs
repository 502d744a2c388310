//! A queue, a build command written for the test, and workers in this process or in separate ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fairlane_common::queue::{Submit, Submitted};
use fairlane_common::telemetry::{self, LogFormat};
use fairlane_common::{Build, BuildId, BuildSpec, BuildState, Queue};
use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, redis_url_for, wait_for};
use fairlane_worker::{Settings, SupervisorCommand};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_fairlane-test-worker");
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// As short as the margin of 2 s allows.
pub(crate) const LEASE: Duration = Duration::from_secs(4);

pub(crate) struct Scene {
    pub(crate) redis: RedisServer,
    pub(crate) queue: Queue,
    pub(crate) dir: TempDir,
    next: std::cell::Cell<u32>,
}

/// A worker in the test's own process.
pub(crate) struct Worker {
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.ended().await
    }

    async fn ended(self) -> anyhow::Result<()> {
        tokio::time::timeout(SOON, self.task).await.expect("the worker did not end").unwrap()
    }
}

impl Scene {
    pub(crate) async fn start() -> Self {
        telemetry::init("fairlane_worker=debug,warn", LogFormat::Text, false).unwrap();
        let redis = RedisServer::builder().append_only(AppendOnly::Always).start().await;
        let queue = Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap();
        Self { redis, queue, dir: TempDir::new(), next: std::cell::Cell::new(0) }
    }

    /// Writes the build command: a shell script, which is only acceptable in tests.
    pub(crate) fn script(&self, body: &str) -> PathBuf {
        let path = self.dir.join("build");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A worker in this process, ready to claim.
    pub(crate) async fn worker(&self, settings: Settings) -> Worker {
        self.worker_of(self.queue.clone(), settings).await
    }

    /// The same, with a separate connection to Redis.
    pub(crate) async fn worker_of(&self, queue: Queue, settings: Settings) -> Worker {
        let shutdown = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let token = shutdown.clone();
        let task = tokio::spawn(async move {
            Box::pin(fairlane_worker::run(settings, queue, token, || ready.send(()).unwrap())).await
        });
        is_ready.await.expect("the worker did not start");
        Worker { shutdown, task }
    }

    /// A worker in a separate process, ready to claim.
    pub(crate) async fn process(&self, name: &str, script: &Path) -> Process {
        let template = format!("--command='{}' {{repo}} {{ref}}", script.display());
        let worker = self.spawn(name, &["--slots=1", "--lease=4s", "--heartbeat=500ms", &template]);
        worker.wait_for_line("worker is ready", SOON).await;
        worker
    }

    pub(crate) fn spawn(&self, name: &str, line: &[&str]) -> Process {
        let mut command = Command::new(PROGRAM);
        command.args(["--redis-url", &redis_url_for("worker", &self.redis.url()), "--host", name]).args(line);
        Process::spawn(name, &mut command)
    }

    pub(crate) fn spec(&self) -> BuildSpec {
        let number = self.next.replace(self.next.get() + 1);
        BuildSpec::new(
            format!("https://git.example.org/owner/name{number}").parse().unwrap(),
            "0123abc".parse().unwrap(),
            format!("r.example.org/image{number}:0123abc").parse().unwrap(),
        )
    }

    pub(crate) async fn submit(&self) -> BuildId {
        self.submit_spec(BuildId::new(), self.spec()).await
    }

    pub(crate) async fn submit_spec(&self, id: BuildId, spec: BuildSpec) -> BuildId {
        let submit = Submit { id, spec, force: false, override_ban: None, dispatcher: None };
        match self.queue.submit(&submit).await.unwrap() {
            Submitted::New(admitted) => admitted.id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn build(&self, id: BuildId) -> Build {
        self.queue.build(id).await.unwrap().expect("the build is gone")
    }

    /// Waits until `fits` is true for the build.
    pub(crate) async fn build_that(&self, id: BuildId, what: &str, fits: impl Fn(&Build) -> bool) -> Build {
        wait_for(what, SOON, async || {
            let build = self.queue.build(id).await.map_err(|e| e.to_string())?;
            let build = build.ok_or_else(|| "no such build".to_owned())?;
            if fits(&build) { Ok(build) } else { Err(format!("{build:?}")) }
        })
        .await
    }

    pub(crate) async fn build_in(&self, id: BuildId, state: BuildState) -> Build {
        self.build_that(id, &format!("the build to be {state}"), |build| build.state == state).await
    }

    /// Drains the workers of a host, or lets them claim builds again.
    pub(crate) async fn drain(&self, host: &str, on: bool) {
        let host = host.parse().unwrap();
        assert!(self.queue.drain_worker(&host, on, "ann").await.unwrap().is_some());
    }

    /// The whole log of a run, as text.
    pub(crate) async fn log(&self, id: BuildId, run: u32) -> Vec<String> {
        let (mut after, mut lines) = ("0".to_owned(), Vec::new());
        loop {
            let page = self.queue.read_log(id, run, &after, 500).await.unwrap();
            let Some(last) = page.entries.last() else { return lines };
            after.clone_from(&last.id);
            lines.extend(page.entries.into_iter().map(|entry| entry.text));
        }
    }

    /// Waits for a line of a run's log, and returns what follows `start` in it.
    pub(crate) async fn line(&self, id: BuildId, run: u32, start: &str) -> String {
        wait_for(&format!("a line '{start}…'"), SOON, async || {
            let lines = self.log(id, run).await;
            lines.iter().find_map(|line| line.strip_prefix(start).map(str::to_owned)).ok_or(lines)
        })
        .await
    }

    /// The queue's own check must find nothing.
    pub(crate) async fn check(&self) {
        let report = self.queue.check(1000).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

/// Whether a process is alive; one that has ended but was not waited for is not.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The settings of a worker that runs this script.
pub(crate) fn settings(script: &Path) -> Settings {
    let template = format!("'{}' --ref={{ref}} {{push}} {{args}} {{repo}}", script.display());
    Settings {
        host: "test".to_owned(),
        command: template.parse().unwrap(),
        lease: LEASE,
        heartbeat: Duration::from_millis(500),
        supervisor: SupervisorCommand { program: PROGRAM.into(), args: vec!["supervise".to_owned()] },
        ..Settings::default()
    }
}
