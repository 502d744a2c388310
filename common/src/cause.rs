//! Causes of failures. Each has one word, the same in Redis, HTTP, metrics and `docs/failures.md`.

use std::fmt;
use std::str::FromStr;

/// Every word. A test of the worker compares them with its tables of causes and with `docs/failures.md`.
pub const CAUSES: &[&str] = &[
    // What happens to pods.
    "own-disk",
    "own-memory",
    "node-pressure",
    "node-memory",
    "node-lost",
    "node-shutdown",
    "drained",
    "tainted",
    "preempted",
    "deleted",
    "rejected",
    "deadline",
    "init-failed",
    "cannot-start",
    "cannot-create",
    "image-absent",
    "image-pull",
    "image-name",
    "missing-object",
    "no-socket",
    "mount-failed",
    "no-sandbox",
    "unschedulable",
    "pending",
    "unexplained",
    // What the log and the exit code show.
    "disk-full",
    "no-engine",
    "no-names",
    "push-failed",
    "push-denied",
    "base-image",
    "git-network",
    "no-base-image",
    "download",
    "unreachable",
    "no-version",
    "no-folder",
    "incomplete",
    "no-such-option",
    "no-repository",
    "no-ref",
    "package",
    "step-killed",
    "killed",
    "signal",
    "not-runnable",
    "build-failed",
    "unknown-end",
    // What workers and the queue see themselves.
    "too-long",
    "silent",
    "workers-died",
    "not-allowed",
    "secrets",
    "cannot-run",
    "pod-refused",
    "pod-exists",
    "other",
];

/// One of [`CAUSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FailureCause(&'static str);

impl FailureCause {
    /// None of the others, or unknown.
    pub const OTHER: Self = Self("other");
    /// Its run did not start in time.
    pub const PENDING: Self = Self("pending");
    /// Its run took too long.
    pub const TOO_LONG: Self = Self("too-long");
    /// Its run wrote nothing for too long.
    pub const SILENT: Self = Self("silent");
    /// The worker does not allow what was asked for.
    pub const NOT_ALLOWED: Self = Self("not-allowed");
    /// The folder of its repository is not there.
    pub const NO_FOLDER: Self = Self("no-folder");
    /// Its credentials cannot be used.
    pub const SECRETS: Self = Self("secrets");
    /// Its run cannot be started.
    pub const CANNOT_RUN: Self = Self("cannot-run");
    /// The cluster refuses its pod.
    pub const POD_REFUSED: Self = Self("pod-refused");
    /// Something else has the name of its pod.
    pub const POD_EXISTS: Self = Self("pod-exists");

    /// The cause of that word; [`Self::OTHER`] if there is none.
    pub fn of(word: &str) -> Self {
        word.parse().unwrap_or(Self::OTHER)
    }

    /// The word.
    pub fn word(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl FromStr for FailureCause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = CAUSES.iter().find(|word| **word == text);
        known.map(|word| Self(word)).ok_or_else(|| format!("'{text}' is not one of {}", CAUSES.join(", ")))
    }
}
