//! How a run ended: from its exit and its lines to an outcome, a class and a reason.

use std::collections::VecDeque;

use fairlane_common::FailureClass;
use fairlane_common::queue::{Blame, Outcome};

use crate::executor::{Exit, StopCause};
use crate::lines::{self, Phase};

/// Lines kept for those who were not watching.
const TAIL_LINES: usize = 20;
/// Longest such line, in bytes.
const TAIL_LINE_BYTES_MAX: usize = 400;
/// A cause further than this from the end was survived.
const CAUSE_LINES: usize = 100;
/// How much of a line is searched for causes.
const SEARCHED_BYTES_MAX: usize = 4096;
/// Longest message quoted in a reason, in bytes.
const QUOTE_BYTES_MAX: usize = 200;
/// What a shell returns for a command that SIGKILL ended.
const CODE_KILLED: i32 = 137;

/// Why the worker stopped a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for the end of the build.
    Cancelled,
    /// A deadline of the run has passed; the sentence says which.
    Stuck(String),
    /// The run has to go for no fault of the build's; the sentence says why.
    Lost(String),
    /// The lease is another's.
    Stale,
}

/// What is to be told to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The attempt has ended.
    Finish(Outcome),
    /// The attempt was lost; the sentence says how. Back into line.
    Lost(String),
    /// Nothing: the build is another's.
    LetGo,
}

/// What the lines of a run have shown so far.
#[derive(Debug, Default)]
pub struct Facts {
    phase: Phase,
    before_failure: Phase,
    count: usize,
    cause: Option<(usize, &'static Rule)>,
    step: Option<String>,
    failed: Option<String>,
    tail: VecDeque<String>,
}

impl Facts {
    /// Takes note of a line.
    pub fn note(&mut self, text: &str) {
        self.count += 1;
        let parsed = lines::parse(text);
        if let Some(phase) = parsed.phase {
            if phase == Phase::Failed {
                self.failed = Some(shortened(&parsed.message, QUOTE_BYTES_MAX));
            } else {
                self.before_failure = phase;
            }
            self.phase = phase;
        }
        let message = parsed.message.trim_end();
        let message = &message[..message.floor_char_boundary(SEARCHED_BYTES_MAX)];
        if let Some(rule) = RULES.iter().find(|rule| rule.fits(message, self.before_failure)) {
            self.cause = Some((self.count, rule));
        }
        if STEP_FAILED.iter().any(|words| message.contains(words)) {
            self.step = Some(message.to_owned());
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(shortened(message, TAIL_LINE_BYTES_MAX));
    }

    /// Whether any line has come.
    pub fn is_silent(&self) -> bool {
        self.count == 0
    }

    /// The last lines, as people read them; `None` when there was none.
    pub fn tail(&self) -> Option<String> {
        (!self.is_silent()).then(|| self.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n"))
    }
}

/// Text that tells why a run failed.
#[derive(Debug)]
struct Rule {
    /// All of these are in the message, in any case of letters.
    words: &'static [&'static str],
    /// The phase in which it means that; `None` for all.
    phase: Option<Phase>,
    class: FailureClass,
    reason: &'static str,
}

impl Rule {
    fn fits(&self, message: &str, phase: Phase) -> bool {
        self.phase.is_none_or(|needed| needed == phase)
            && self.words.iter().all(|word| contains(message, word))
    }
}

const fn rule(
    words: &'static [&'static str],
    phase: Option<Phase>,
    class: FailureClass,
    reason: &'static str,
) -> Rule {
    Rule { words, phase, class, reason }
}

const INFRA: FailureClass = FailureClass::Infrastructure;
const REPO: FailureClass = FailureClass::Repository;
const FETCHING: Option<Phase> = Some(Phase::Fetching);
const PUSHING: Option<Phase> = Some(Phase::Pushing);

const NO_SPACE: &str = "no space left on the disk of the build host";
const NO_DAEMON: &str = "the container engine of the build host cannot be reached";
const PUSH: &str = "the registry did not take the image; a push is tried again";
const PUSH_DENIED: &str = "the registry refused the push: the operator must check its credentials and name";
const PULL: &str = "a base image could not be pulled";
const GIT_NETWORK: &str = "the host of the repository could not be reached";
const NO_REPO: &str = "the repository does not exist or is private: check its address, or give access to it";
const NO_REF: &str = "the ref does not exist in the repository: check the branch, tag or commit";
const PACKAGE: &str =
    "a package that the repository asks for cannot be installed: check its names and versions";

/// The first rule that fits a line is its cause; of all lines, the last one with a cause decides.
static RULES: &[Rule] = &[
    rule(&["no space left on device"], None, INFRA, NO_SPACE),
    rule(&["disk quota exceeded"], None, INFRA, NO_SPACE),
    rule(&["cannot connect to the docker daemon"], None, INFRA, NO_DAEMON),
    rule(&["is the docker daemon running"], None, INFRA, NO_DAEMON),
    rule(&["error while fetching server api version"], None, INFRA, NO_DAEMON),
    rule(&["docker client initialization error"], None, INFRA, NO_DAEMON),
    rule(&["container engine initialization error"], None, INFRA, NO_DAEMON),
    rule(&["docker.sock", "connection refused"], None, INFRA, NO_DAEMON),
    rule(&["rpc error: code = unavailable"], None, INFRA, NO_DAEMON),
    rule(&["unauthorized"], PUSHING, INFRA, PUSH_DENIED),
    rule(&["authentication required"], PUSHING, INFRA, PUSH_DENIED),
    rule(&["denied:"], PUSHING, INFRA, PUSH_DENIED),
    rule(&["no basic auth credentials"], PUSHING, INFRA, PUSH_DENIED),
    rule(&["unexpected http status: 5"], PUSHING, INFRA, PUSH),
    rule(&["internal server error"], PUSHING, INFRA, PUSH),
    rule(&["bad gateway"], PUSHING, INFRA, PUSH),
    rule(&["service unavailable"], PUSHING, INFRA, PUSH),
    rule(&["gateway time"], PUSHING, INFRA, PUSH),
    rule(&["unexpected status", "5"], PUSHING, INFRA, PUSH),
    rule(&["timeout"], PUSHING, INFRA, PUSH),
    rule(&["timed out"], PUSHING, INFRA, PUSH),
    rule(&["connection refused"], PUSHING, INFRA, PUSH),
    rule(&["connection reset"], PUSHING, INFRA, PUSH),
    rule(&["broken pipe"], PUSHING, INFRA, PUSH),
    rule(&["no such host"], PUSHING, INFRA, PUSH),
    rule(&[": eof"], PUSHING, INFRA, PUSH),
    rule(&["toomanyrequests"], None, INFRA, PULL),
    rule(&["failed to resolve source metadata"], None, INFRA, PULL),
    rule(&["repository not found"], FETCHING, REPO, NO_REPO),
    rule(&["could not read username"], FETCHING, REPO, NO_REPO),
    rule(&["authentication failed"], FETCHING, REPO, NO_REPO),
    rule(&["fatal: repository", "not found"], FETCHING, REPO, NO_REPO),
    rule(&["does not appear to be a git repository"], FETCHING, REPO, NO_REPO),
    rule(&["failed to check out ref"], None, REPO, NO_REF),
    rule(&["couldn't find remote ref"], FETCHING, REPO, NO_REF),
    rule(&["could not parse object"], FETCHING, REPO, NO_REF),
    rule(&["reference is not a tree"], FETCHING, REPO, NO_REF),
    rule(&["unadvertised object"], FETCHING, REPO, NO_REF),
    rule(&["could not resolve host"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["failed to connect to"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["unable to connect to"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["connection timed out"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["connection refused"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["requested url returned error: 5"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["early eof"], FETCHING, INFRA, GIT_NETWORK),
    rule(&["rpc failed"], FETCHING, INFRA, GIT_NETWORK),
    rule(
        &["temporary failure in name resolution"],
        None,
        INFRA,
        "names could not be resolved on the build host",
    ),
    rule(&["no matching distribution found"], None, REPO, PACKAGE),
    rule(&["could not find a version that satisfies"], None, REPO, PACKAGE),
    rule(&["packagesnotfounderror"], None, REPO, PACKAGE),
    rule(&["resolvepackagenotfound"], None, REPO, PACKAGE),
    rule(&["libmambaunsatisfiableerror"], None, REPO, PACKAGE),
    rule(&["unable to locate package"], None, REPO, PACKAGE),
];

/// A step of the build returned a failure; what it was stands in the lines before.
static STEP_FAILED: &[&str] =
    &["returned a non-zero code:", "did not complete successfully: exit code:", "executor failed running"];

/// Says how a run ended that the worker stopped for `cause`, or did not stop.
pub fn judge(exit: Exit, cause: Option<&Cause>, facts: &Facts) -> Verdict {
    if cause == Some(&Cause::Stale) {
        return Verdict::LetGo;
    }
    // A run that had succeeded before the stop is succeeded, whatever the stop was for.
    if exit.code == Some(0) && exit.stopped.is_none() {
        return Verdict::Finish(Outcome::Succeeded);
    }
    match (cause, exit.stopped) {
        (Some(Cause::Cancelled), _) => return Verdict::Finish(Outcome::Cancelled),
        (Some(Cause::Lost(reason)), _) => return Verdict::Lost(reason.clone()),
        (Some(Cause::Stuck(reason)), _) => return failed(FailureClass::Stuck, reason.clone()),
        (_, Some(StopCause::Expired)) => {
            return Verdict::Lost(
                "the worker was frozen or cut off from Redis, and its run was killed in time".to_owned(),
            );
        }
        (_, Some(StopCause::SupervisorGone)) => {
            return Verdict::Lost("the run's supervisor was killed".to_owned());
        }
        _ => {}
    }
    let (class, reason) = failure(exit, facts);
    failed(class, reason)
}

/// A failed attempt.
pub fn failed(class: FailureClass, reason: String) -> Verdict {
    Verdict::Finish(Outcome::Failed { class, reason, blame: Blame::Nobody })
}

fn failure(exit: Exit, facts: &Facts) -> (FailureClass, String) {
    if let Some((at, rule)) = facts.cause
        && at + CAUSE_LINES > facts.count
    {
        return (rule.class, rule.reason.to_owned());
    }
    if facts.step.as_ref().is_some_and(|step| step.trim_end().ends_with("137")) {
        return (
            REPO,
            "a step of the build was killed, most likely because it needs more memory than it may have"
                .to_owned(),
        );
    }
    match exit {
        Exit { signal: Some(9), .. } | Exit { code: Some(CODE_KILLED), .. } => (
            INFRA,
            "the build command was killed, most likely because the build host ran out of memory".to_owned(),
        ),
        Exit { signal: Some(signal), .. } => {
            (INFRA, format!("the build command was ended by signal {signal}"))
        }
        Exit { code: Some(126 | 127), .. } if facts.phase == Phase::Starting => (
            INFRA,
            "the build command could not be run: the operator must check it on the build host".to_owned(),
        ),
        Exit { code: Some(code), .. } => {
            let said = facts.failed.as_ref().or(facts.step.as_ref()).or(facts.tail.back());
            let said = said.map(|text| text.trim()).filter(|text| !text.is_empty());
            let quote =
                said.map_or_else(String::new, |text| format!(": {}", shortened(text, QUOTE_BYTES_MAX)));
            (REPO, format!("the build failed (exit code {code}){quote}; see its log"))
        }
        Exit { code: None, signal: None, .. } => {
            (INFRA, "the build command ended in an unknown way".to_owned())
        }
    }
}

/// The first line of `text`, within a bound.
fn shortened(text: &str, bytes_max: usize) -> String {
    let text = text.trim_end();
    let line = text.lines().next().unwrap_or_default();
    if line.len() <= bytes_max {
        return line.to_owned();
    }
    format!("{}…", &line[..line.floor_char_boundary(bytes_max)])
}

/// Whether `text` has `word` in it, in any case of ASCII letters.
fn contains(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
