//! How a run ended: turns its exit and its log lines into an outcome, a class and a reason.

use std::collections::VecDeque;

use fairlane_common::queue::{Blame, Outcome};
use fairlane_common::{FailureCause, FailureClass};

use crate::build::log_cause::LogCause::{
    self, BuildFailed, Killed, NotRunnable, PushFailed, Signal, StepKilled, UnknownEnd,
};
use crate::build::log_rules::{cause_in, explains, may_be_survived};
use crate::executor::{Exit, StopCause};
use crate::log::lines::{self, Phase};

/// Last lines that are kept with a failed build.
const TAIL_LINES: usize = 20;
/// Longest such line, in bytes.
const TAIL_LINE_BYTES_MAX: usize = 400;
/// The build got over a cause that is further than this from the end.
const CAUSE_LINES: usize = 100;
/// The same for causes that tools often get over by retrying.
const SURVIVED_LINES: usize = 40;
/// A consequence comes within this many lines after its cause.
const CONSEQUENCE_LINES: usize = 20;
/// How much of a line is searched for causes.
const SEARCHED_BYTES_MAX: usize = 4096;
/// Longest message quoted in a reason, in bytes.
const QUOTE_BYTES_MAX: usize = 200;
/// What a shell returns for a command that was killed with SIGKILL.
const CODE_KILLED: i32 = 137;

/// Why the worker stopped a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody cancelled the build.
    Cancelled,
    /// A deadline of the run has passed: what it failed of, and the sentence that says so.
    Stuck(FailureCause, String),
    /// The run has to go for no fault of the build's; the sentence says why.
    Lost(String),
    /// Another worker has the lease.
    Stale,
}

/// What to report to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The attempt has ended.
    Finish(Outcome),
    /// The run was lost; the text says how. The build goes back into line.
    Lost(String),
    /// The run goes on and is handed over to another worker.
    HandOver,
    /// Nothing: another worker has the build.
    LetGo,
}

/// What the lines of a run have shown so far.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    phase: Phase,
    before_failure: Phase,
    count: usize,
    cause: Option<(usize, LogCause)>,
    step: Option<String>,
    failed: Option<String>,
    tail: VecDeque<String>,
}

impl Facts {
    /// Notes a line; returns the phase that it names or implies.
    pub(crate) fn note(&mut self, text: &str) -> Option<Phase> {
        self.count += 1;
        let parsed = lines::parse(text);
        if let Some(phase) = parsed.phase {
            if phase == Phase::Failed {
                self.note_last_word(&parsed.message);
            } else if self.before_failure != Phase::Pushing {
                // A push comes after the build, but since 2025.08 repo2docker reports it as building, too.
                self.before_failure = phase;
            }
            self.phase = phase;
        }
        let message = parsed.message.trim_end();
        let message = &message[..message.floor_char_boundary(SEARCHED_BYTES_MAX)];
        if let Some(found) = cause_in(message, self.before_failure) {
            let cause = match self.cause {
                Some((at, known)) if at + CONSEQUENCE_LINES > self.count && explains(known, found) => known,
                _ => found,
            };
            self.cause = Some((self.count, cause));
        }
        if STEP_FAILED.iter().any(|words| message.contains(words)) {
            self.step = Some(message.to_owned());
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(shortened(message, TAIL_LINE_BYTES_MAX));
        parsed.phase
    }

    /// Keeps repo2docker's last message, unless it only repeats the command that failed.
    fn note_last_word(&mut self, message: &str) {
        let word = shortened(message, QUOTE_BYTES_MAX);
        if !word.is_empty() && !word.contains("Error during build: Command '[") {
            self.failed = Some(word);
        }
    }

    /// Notes the last lines from another source, unless the last of them is already known. (The first of them may
    /// be cut off.)
    pub(crate) fn note_last_words(&mut self, words: &str) {
        let Some(last) = words.lines().rfind(|line| !line.trim().is_empty()) else { return };
        let last = shortened(lines::parse(last).message.trim_end(), TAIL_LINE_BYTES_MAX);
        if !self.tail.iter().rev().any(|known| *known == last) {
            words.lines().for_each(|line| {
                self.note(line);
            });
        }
    }

    /// Whether there was no line.
    pub(crate) fn is_silent(&self) -> bool {
        self.count == 0
    }

    /// The last lines, as people read them; `None` if there was none.
    pub(crate) fn tail(&self) -> Option<String> {
        (!self.is_silent()).then(|| self.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n"))
    }
}

/// Signs that a step of the build failed; the cause is in the lines before.
static STEP_FAILED: &[&str] =
    &["returned a non-zero code:", "did not complete successfully: exit code:", "executor failed running"];

/// Judges how a run ended. `cause` is why the worker stopped it; `None` if it did not.
pub(crate) fn judge(exit: Exit, cause: Option<&Cause>, facts: &Facts) -> Verdict {
    if cause == Some(&Cause::Stale) {
        return Verdict::LetGo;
    }
    // A run that succeeded before it was stopped has succeeded, whatever the reason for the stop.
    if exit.code == Some(0) && exit.stopped.is_none() {
        return Verdict::Finish(Outcome::Succeeded);
    }
    match (cause, exit.stopped) {
        (Some(Cause::Cancelled), _) => return Verdict::Finish(Outcome::Cancelled),
        (Some(Cause::Lost(reason)), _) => return Verdict::Lost(reason.clone()),
        (Some(Cause::Stuck(cause, reason)), _) => return failed(FailureClass::Stuck, *cause, reason.clone()),
        (_, Some(StopCause::Expired)) => {
            return Verdict::Lost(
                "the worker was frozen or cut off from Redis, so its run was killed before its lease expired"
                    .to_owned(),
            );
        }
        (_, Some(StopCause::SupervisorGone)) => {
            return Verdict::Lost("the run's supervisor was killed".to_owned());
        }
        _ => {}
    }
    let (cause, reason) = failure(exit, facts);
    failed_with(cause.class(), cause.cause(), reason, cause.blame())
}

/// A failed attempt that says nothing of its node.
pub(crate) fn failed(class: FailureClass, cause: FailureCause, reason: String) -> Verdict {
    failed_with(class, cause, reason, Blame::Nobody)
}

/// A failed attempt, and how far its node is to blame.
pub(crate) fn failed_with(class: FailureClass, cause: FailureCause, reason: String, blame: Blame) -> Verdict {
    Verdict::Finish(Outcome::Failed { class, cause, reason, blame })
}

fn failure(exit: Exit, facts: &Facts) -> (LogCause, String) {
    let says = |cause: LogCause, detail: &str| (cause, cause.says().replace("{detail}", detail));
    if let Some((at, cause)) = facts.cause {
        let lines = if may_be_survived(cause) { SURVIVED_LINES } else { CAUSE_LINES };
        if at + lines > facts.count {
            return says(cause, "");
        }
    }
    if facts.step.as_ref().is_some_and(|step| step.trim_end().ends_with("137")) {
        return says(StepKilled, "");
    }
    match exit {
        Exit { signal: Some(9), .. } | Exit { code: Some(CODE_KILLED), .. } => says(Killed, ""),
        Exit { signal: Some(signal), .. } => says(Signal, &signal.to_string()),
        Exit { code: Some(126 | 127), .. } if facts.phase == Phase::Starting => says(NotRunnable, ""),
        // Nothing from the repository runs during the push.
        Exit { code: Some(_), .. } if facts.before_failure == Phase::Pushing => says(PushFailed, ""),
        Exit { code: Some(code), .. } => {
            let said = facts.failed.as_ref().or(facts.step.as_ref());
            let said = said.map(|text| text.trim().trim_end_matches('.')).filter(|text| !text.is_empty());
            let quote =
                said.map_or_else(String::new, |text| format!(": {}", shortened(text, QUOTE_BYTES_MAX)));
            (BuildFailed, format!("the build failed (exit code {code}){quote}; see its log"))
        }
        Exit { code: None, signal: None, .. } => says(UnknownEnd, ""),
    }
}

/// The first line of `text`, cut to `bytes_max`.
fn shortened(text: &str, bytes_max: usize) -> String {
    let text = text.trim_end();
    let line = text.lines().next().unwrap_or_default();
    if line.len() <= bytes_max {
        return line.to_owned();
    }
    format!("{}…", &line[..line.floor_char_boundary(bytes_max)])
}

#[cfg(test)]
#[path = "real_messages_tests.rs"]
mod real_messages;
#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
