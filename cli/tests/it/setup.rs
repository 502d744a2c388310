//! The program in a folder of its own, away from this machine's settings.

use std::process::{Command, Stdio};
use std::time::Duration;

use fairlane_testkit::{Process, TempDir};
use serde_json::Value;

/// Generous: these machines do much else at the time.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// A commit that needs no looking up.
pub(crate) const COMMIT: &str = "3f2a91c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6";

/// `fairlane` with these arguments, run in `home`.
pub(crate) fn fairlane<'a>(home: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairlane"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("FAIRLANE_") || name_text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(home.path()).env("HOME", home.path()).env_remove("XDG_DATA_HOME");
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) data: String,
    /// Standard error.
    pub(crate) talk: String,
}

impl Said {
    /// Standard output as JSON, one object a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.data
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The exit code must be this one, and standard error must say this.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, talk: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.talk.contains(talk), "no {talk:?} in {self:#?}");
        self
    }
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Said {
    run_within(LIMIT, command).await
}

/// The same, of a command that has a lot to do.
pub(crate) async fn run_within(limit: Duration, mut command: Command) -> Said {
    command.stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(limit, command.kill_on_drop(true).output());
    let output = output.await.expect("the command ends in time").expect("the command starts");
    Said {
        code: output.status.code().unwrap_or(-1),
        data: String::from_utf8(output.stdout).expect("UTF-8"),
        talk: String::from_utf8(output.stderr).expect("UTF-8"),
    }
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
