//! Runs commands to their end, in a separate folder and without this machine's settings.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::temp_dir::TempDir;

/// `program` with these arguments, run in `home`, without Fairlane's settings of this machine.
pub fn command_in<'a>(
    home: &TempDir,
    program: &str,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = Command::new(program);
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
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub data: String,
    /// Standard error.
    pub talk: String,
}

impl Said {
    /// Standard output as JSON, one object a line.
    ///
    /// # Panics
    /// If a line is not JSON.
    pub fn json(&self) -> Vec<Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.data.lines().map(read).collect()
    }

    /// The exit code must be this one, and standard error must say this.
    ///
    /// # Panics
    /// If they are not.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "most tests look no further")]
    pub fn expect(self, code: i32, talk: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.talk.contains(talk), "no {talk:?} in {self:#?}");
        self
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not start, does not end within `limit`, or writes something other than text.
pub async fn run_within(limit: Duration, mut command: Command) -> Said {
    command.stdin(Stdio::null());
    let name = command.get_program().display().to_string();
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(limit, command.kill_on_drop(true).output());
    let output = output.await.unwrap_or_else(|_| panic!("{name} does not end within {limit:?}"));
    let output = output.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let text =
        |bytes| String::from_utf8(bytes).unwrap_or_else(|error| panic!("{name} writes no text: {error}"));
    Said { code: output.status.code().unwrap_or(-1), data: text(output.stdout), talk: text(output.stderr) }
}
