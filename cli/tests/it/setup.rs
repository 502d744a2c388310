//! The program in a folder of its own, away from this machine's settings.

use std::process::Command;
use std::time::Duration;

use fairlane_testkit::{Process, Said, TempDir, command_in, run_within};

/// Generous: these machines do much else at the time.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// A commit that needs no looking up.
pub(crate) const COMMIT: &str = "3f2a91c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6";

/// `fairlane` with these arguments, run in `home`.
pub(crate) fn fairlane<'a>(home: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    command_in(home, env!("CARGO_BIN_EXE_fairlane"), arguments)
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Said {
    run_within(LIMIT, command).await
}

/// The address of a dispatcher that was started, once it listens.
pub(crate) async fn address_of(dispatcher: &Process) -> String {
    let line = dispatcher.wait_for_line(" listens on ", LIMIT).await;
    let address = line.split(" listens on ").nth(1).unwrap().split_whitespace().next().unwrap();
    format!("http://{address}")
}

/// A running `fairlane up`, and the folder that it keeps its data in.
pub(crate) struct Up {
    pub(crate) process: Process,
    pub(crate) url: String,
    /// What clients show, if anything.
    pub(crate) token: Option<&'static str>,
}

impl Up {
    /// Starts one in `home` whose builds run `template`.
    pub(crate) async fn start(home: &TempDir, template: &str) -> Self {
        Self::start_with(home, template, &[]).await
    }

    /// Starts one with further arguments.
    pub(crate) async fn start_with(home: &TempDir, template: &str, more: &[&str]) -> Self {
        let mut arguments = vec!["up", "--command", template];
        if !more.contains(&"--listen") {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        arguments.extend(more);
        let mut command = fairlane(home, arguments);
        // So that a test of a restart or a killed worker need not wait for long.
        command
            .env("FAIRLANE_DRAIN_TIMEOUT", "1s")
            .env("FAIRLANE_LEASE", "4s")
            .env("FAIRLANE_HEARTBEAT", "500ms");
        Self::of(Process::spawn("fairlane up", &mut command)).await
    }

    /// An `up` that was started, once it is ready.
    pub(crate) async fn of(process: Process) -> Self {
        let line = process.wait_for_line("listens on http://", LIMIT).await;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
        Self { url: url.trim_end_matches([',', '.']).to_owned(), process, token: None }
    }

    /// `fairlane` with these arguments, on this dispatcher.
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

    /// Runs a command on this dispatcher to its end.
    pub(crate) async fn run<'a>(&self, home: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Said {
        run(self.command(home, arguments)).await
    }

    /// Asks for a build of a repository of that name, and returns the build's id.
    pub(crate) async fn submit(&self, home: &TempDir, name: &str) -> String {
        let repo = format!("https://git.example.org/owner/{name}");
        let said = self.run(home, ["submit", &repo, "--ref", COMMIT]).await.expect(0, "");
        said.data.trim().to_owned()
    }

    /// Stops it as Ctrl-C would, and waits until it is gone.
    pub(crate) async fn stop(self) {
        self.process.terminate();
        let status = self.process.wait(LIMIT).await;
        assert!(status.success(), "{status}: {}", self.process.stderr());
    }
}

/// A pipe that a build reads from: the build lasts until the pipe is opened for writing and closed.
pub(crate) struct Gate {
    path: std::path::PathBuf,
}

impl Gate {
    /// Makes one in `home`.
    pub(crate) fn new(home: &TempDir) -> Self {
        let path = home.join("gate");
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        Self { path }
    }

    /// The command of builds that wait at it.
    pub(crate) fn template(&self) -> String {
        format!("/bin/cat {}", self.path.display())
    }

    /// Lets the build end that waits at it, after it has written `line`.
    pub(crate) async fn open(&self, line: &str) {
        // Opening blocks until there is a reader.
        let (path, line) = (self.path.clone(), format!("{line}\n"));
        let write = tokio::task::spawn_blocking(move || std::fs::write(path, line));
        tokio::time::timeout(LIMIT, write).await.expect("a build waits at the gate").unwrap().unwrap();
    }
}
