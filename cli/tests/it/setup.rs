//! The program in its own folder, without this machine's settings.

use std::process::Command;
use std::time::Duration;

use fairlane_common::Build;
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{Process, Said, TempDir, command_in, run_within};
use serde_json::Value;

/// Long enough for a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// A full commit, which is not looked up.
pub(crate) const COMMIT: &str = "3f2a91c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6";

/// `fairlane` with these arguments, run in `home`.
pub(crate) fn fairlane<'a>(home: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    command_in(home, env!("CARGO_BIN_EXE_fairlane"), arguments)
}

/// Lets a worker, whichever executor it has, build in pods of this cluster.
pub(crate) fn on_cluster<'a>(worker: &'a mut Command, cluster: &Cluster) -> &'a mut Command {
    worker
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["--docker-socket=none", "--replace-entrypoint"])
        .args(["--build-image=docker.io/library/busybox:1", "--namespace", cluster.namespace()])
}

/// Whether a build's run is a pod.
pub(crate) fn is_pod(build: &Build) -> bool {
    build.place.as_deref().is_some_and(|place| place.starts_with("k8s:"))
}

pub(crate) async fn run(command: Command) -> Said {
    run_within(LIMIT, command).await
}

/// The URL of a dispatcher, once it listens.
pub(crate) async fn address_of(dispatcher: &Process) -> String {
    let line = dispatcher.wait_for_line(" listens on ", LIMIT).await;
    let address = line.split(" listens on ").nth(1).unwrap().split_whitespace().next().unwrap();
    format!("http://{address}")
}

/// A running `fairlane up`.
pub(crate) struct Up {
    pub(crate) process: Process,
    pub(crate) url: String,
    /// The token of clients, if any.
    pub(crate) token: Option<&'static str>,
}

impl Up {
    /// Starts `fairlane up` in `home`; its builds run `template`.
    pub(crate) async fn start(home: &TempDir, template: &str) -> Self {
        Self::start_with(home, template, &[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(home: &TempDir, template: &str, more: &[&str]) -> Self {
        let mut arguments = vec!["up", "--command", template];
        if !more.contains(&"--listen") {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        arguments.extend(more);
        let mut command = fairlane(home, arguments);
        // Short times, so that tests of restarts and killed workers do not take long.
        command
            .env("FAIRLANE_DRAIN_TIMEOUT", "1s")
            .env("FAIRLANE_LEASE", "4s")
            .env("FAIRLANE_HEARTBEAT", "500ms");
        Self::of(Process::spawn("fairlane up", &mut command)).await
    }

    /// Waits until a started `fairlane up` is ready.
    pub(crate) async fn of(process: Process) -> Self {
        let line = process.wait_for_line("listens on http://", LIMIT).await;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
        Self { url: url.trim_end_matches([',', '.']).to_owned(), process, token: None }
    }

    /// `fairlane` with these arguments, connected to this dispatcher.
    pub(crate) fn command<'a>(
        &self,
        home: &TempDir,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Command {
        let mut command = fairlane(home, arguments);
        command.env("FAIRLANE_DISPATCHER_URL", &self.url);
        if let Some(token) = self.token {
            command.env("FAIRLANE_TOKEN", token);
        }
        command
    }

    pub(crate) async fn run<'a>(&self, home: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Said {
        run(self.command(home, arguments)).await
    }

    /// Requests a build of a repository of that name; returns the build's id.
    pub(crate) async fn submit(&self, home: &TempDir, name: &str) -> String {
        let repo = format!("https://git.example.org/owner/{name}");
        let said = self.run(home, ["submit", &repo, "--ref", COMMIT]).await.expect(0, "");
        said.data.trim().to_owned()
    }

    /// Stops it with SIGTERM, and waits until it has ended.
    pub(crate) async fn stop(self) {
        self.process.terminate();
        let status = self.process.wait(LIMIT).await;
        assert!(status.success(), "{status}: {}", self.process.stderr());
    }
}

/// A named pipe that a build reads from. The build lasts until somebody has opened the pipe for writing and
/// closed it.
pub(crate) struct Gate {
    path: std::path::PathBuf,
}

impl Gate {
    pub(crate) fn new(home: &TempDir) -> Self {
        let path = home.join("gate");
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        Self { path }
    }

    /// The command of builds that wait at this gate.
    pub(crate) fn template(&self) -> String {
        format!("/bin/cat {}", self.path.display())
    }

    /// Lets the waiting build write `line` and end.
    pub(crate) async fn open(&self, line: &str) {
        // Opening blocks until there is a reader.
        let (path, line) = (self.path.clone(), format!("{line}\n"));
        let write = tokio::task::spawn_blocking(move || std::fs::write(path, line));
        tokio::time::timeout(LIMIT, write).await.expect("a build waits at the gate").unwrap().unwrap();
    }
}

/// Checks that there is a finding with this level and subject that contains these words, and returns it.
#[track_caller]
pub(crate) fn says(said: &Said, level: &str, about: &str, words: &[&str]) -> Value {
    let is_it = |finding: &Value| {
        let text = format!("{} {}", finding["text"], finding["advice"]).replace("\\\"", "\"");
        finding["level"] == level && finding["about"] == about && words.iter().all(|word| text.contains(word))
    };
    let found = said.json().into_iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {level} about {about} with {words:?} in {said:#?}"))
}
