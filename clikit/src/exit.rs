//! How a program ends, as exit codes for scripts.

use std::fmt;
use std::process::ExitCode;

use crate::output::{Output, Tone};

/// Why the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
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
    /// Not allowed.
    Refused,
    /// A time limit is over.
    TimedOut,
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
            Exit::TimedOut => 6,
            Exit::Interrupted => 130,
        })
    }
}

/// An error with its exit code.
#[derive(Debug)]
pub struct Stop {
    exit: Exit,
    message: String,
}

impl Stop {
    /// Ends the program with this message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Something on the command line or in the settings is invalid.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message.to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// An error and its causes in one line, without repetition.
pub fn in_full(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.iter().any(|before| before.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

/// The exit code for this error.
pub fn of(error: &anyhow::Error) -> Exit {
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

/// Prints what went wrong, and returns the exit code for it.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let output = Output::new(false, false);
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        // Help goes to standard output, errors to standard error; if neither works, nobody is left to tell.
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage.into() } else { Exit::Good.into() };
    }
    // Our own messages are complete; other errors need their causes.
    let text = error.downcast_ref::<Stop>().map_or_else(|| in_full(error), ToString::to_string);
    output.talk(&format!("{} {text}", output.paint_talk(Tone::Bad, "error:")));
    of(error).into()
}
