//! How the program ends, as numbers that a script can go by.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, as `--help` shows them.
pub(crate) const HELP: &str = "\
Exit codes:
    0  it went well; a watched build succeeded
    1  a watched build failed, `doctor` found an error, or the command did not work
    2  bad input: an option, a setting, or something the dispatcher does not take
    3  a watched build was cancelled
    4  no dispatcher, or no Redis, could be reached
    5  refused: a ban, a full queue, or a token that may not do this
  130  interrupted; a watched build goes on

Settings come from options, then from the environment (FAIRLANE_…), then from fairlane.toml
in the current folder or the file of --config: `redis_url = \"…\"` for every command that has
the option, `[worker]` and the like for one command.";

/// Why the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It went well.
    Good,
    /// A build failed, or the command did not work.
    Failed,
    /// Bad input.
    Usage,
    /// The build was cancelled.
    Cancelled,
    /// Nobody answers.
    Unreachable,
    /// It may not be done.
    Refused,
    /// The user pressed Ctrl-C.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Cancelled => 3,
            Exit::Unreachable => 4,
            Exit::Refused => 5,
            Exit::Interrupted => 130,
        })
    }
}

/// An error that knows how the program ends.
#[derive(Debug)]
pub(crate) struct Stop {
    exit: Exit,
    message: String,
}

impl Stop {
    /// Ends the program with this message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Something in the command line or the settings cannot be taken.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message.to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// An error and its causes in one line, each said once.
pub(crate) fn in_full(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.iter().any(|before| before.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

/// How the program ends with this error.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return stop.exit;
        }
        match cause.downcast_ref::<fairlane_common::Error>() {
            Some(fairlane_common::Error::Invalid(_) | fairlane_common::Error::Setting(_)) => {
                return Exit::Usage;
            }
            Some(error) if error.is_transient() => return Exit::Unreachable,
            _ => {}
        }
    }
    Exit::Failed
}
