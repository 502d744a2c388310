use super::*;
use crate::build::log_cause::LogCause::DiskFull;

const INFRA: FailureClass = FailureClass::Infrastructure;
const REPO: FailureClass = FailureClass::Repository;

const FAILED: Exit = Exit { code: Some(1), signal: None, stopped: None };

fn facts(lines: &[&str]) -> Facts {
    let mut facts = Facts::default();
    for line in lines {
        facts.note(line);
    }
    facts
}

fn class_of(exit: Exit, lines: &[&str]) -> (FailureClass, String) {
    match judge(exit, None, &facts(lines)) {
        Verdict::Finish(Outcome::Failed { class, reason, .. }) => (class, reason),
        other => panic!("{other:?}"),
    }
}

const PUSH: &str = r#"{"message": "The push refers to repository [r/i]", "phase": "building"}"#;
const OLD_PUSH: &str = r#"{"message": "Pushing", "phase": "pushing", "progress": {}}"#;
const FETCH: &str = r#"{"message": "Cloning into x", "phase": "fetching"}"#;
const BUILD: &str = r#"{"message": "Step 3/9", "phase": "building"}"#;

/// The lines of a failed run, and what they mean.
static TABLE: &[(&[&str], FailureClass, &str)] = &[
    (&[BUILD, "write /x: No space left on device"], INFRA, "no space left"),
    (&["Cannot connect to the Docker daemon at unix:///var/run/docker.sock"], INFRA, "container engine"),
    (&[PUSH, "received unexpected HTTP status: 503 Service Unavailable"], INFRA, "registry did not accept"),
    (&[OLD_PUSH, "net/http: TLS handshake timeout"], INFRA, "registry did not accept"),
    (&[PUSH, "unauthorized: authentication required"], INFRA, "credentials"),
    (&[BUILD, "toomanyrequests: You have reached your pull rate limit"], INFRA, "base image"),
    (&[BUILD, "dial tcp: lookup x: Temporary failure in name resolution"], INFRA, "names could not be"),
    (&[BUILD, "pip: Read timed out. (read timeout=15)"], INFRA, "could not be reached"),
    (&[FETCH, "fatal: Could not resolve host: git.example.org"], INFRA, "could not be reached"),
    (&[FETCH, "remote: Repository not found."], REPO, "does not exist or is private"),
    (&[FETCH, "Failed to check out ref nope"], REPO, "ref does not exist"),
    (&[BUILD, "ERROR: No matching distribution found for nope==9"], REPO, "package"),
    (&[PUSH, BUILD, "anything at all"], INFRA, "registry did not accept"),
    (&[BUILD, "PackagesNotFoundError: x", "returned a non-zero code: 1"], REPO, "package"),
    (&[BUILD, "The command '/bin/sh -c make' returned a non-zero code: 137"], REPO, "out of memory"),
    (&[BUILD, "The command '/bin/sh -c make' returned a non-zero code: 2"], REPO, "non-zero code: 2"),
    (&[r#"{"message": "Error during build: boom", "phase": "failed"}"#], REPO, "boom"),
    (&[], REPO, "exit code 1"),
];

#[test]
fn lines_tell_what_failed() {
    for (lines, class, says) in TABLE {
        let (found, reason) = class_of(FAILED, lines);
        assert_eq!(found, *class, "{lines:?}: {reason}");
        assert!(reason.contains(says), "{lines:?}: {reason}");
    }
}

#[test]
fn the_exit_tells_what_the_lines_do_not() {
    let signal = |signal| Exit { signal: Some(signal), ..Exit::default() };
    let code = |code| Exit { code: Some(code), ..Exit::default() };
    for (exit, class, says) in [
        (signal(9), INFRA, "out of memory"),
        (signal(11), INFRA, "signal 11"),
        (code(137), INFRA, "out of memory"),
        (code(127), INFRA, "could not be run"),
        (Exit::default(), INFRA, "unknown way"),
        (code(2), REPO, "exit code 2"),
    ] {
        let (found, reason) = class_of(exit, &[]);
        assert_eq!(found, class, "{exit:?}");
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn a_cause_that_was_survived_does_not_count() {
    let mut lines = vec!["no space left on device"];
    lines.resize(CAUSE_LINES + 5, "all is well");
    assert_eq!(class_of(FAILED, &lines).0, REPO);
    assert_eq!(
        class_of(FAILED, &["no space left on device", "No matching distribution found for x"]).0,
        REPO
    );
}

#[test]
fn log_text_alone_makes_a_node_a_suspect_at_most() {
    let blame = |exit, lines: &[&str]| match judge(exit, None, &facts(lines)) {
        Verdict::Finish(Outcome::Failed { blame, .. }) => blame,
        other => panic!("{other:?}"),
    };
    let suspect = |cause: &str| Blame::Suspect { cause: cause.to_owned() };
    assert_eq!(blame(FAILED, &[BUILD, "write /x: no space left on device"]), suspect("disk-full"));
    let engine = Blame::Machine { cause: "no-engine".to_owned() };
    assert_eq!(blame(FAILED, &["Cannot connect to the Docker daemon"]), engine);
    assert_eq!(blame(Exit { code: Some(137), ..Exit::default() }, &[]), suspect("killed"));
    assert_eq!(blame(FAILED, &[PUSH, "unauthorized"]), Blame::Nobody);
    assert_eq!(blame(FAILED, &[]), Blame::Nobody);
}

#[test]
fn a_stop_decides_unless_the_run_had_succeeded() {
    let done = Exit { code: Some(0), ..Exit::default() };
    let stopped = Exit { signal: Some(15), stopped: Some(StopCause::Ordered), ..Exit::default() };
    let late = Exit { code: Some(0), stopped: Some(StopCause::Ordered), ..Exit::default() };
    let expired = Exit { signal: Some(9), stopped: Some(StopCause::Expired), ..Exit::default() };
    let stuck = Cause::Stuck(FailureCause::SILENT, "no output for 30 min".to_owned());
    let lost = Cause::Lost("drained".to_owned());
    let judged = |exit, cause: Option<&Cause>| judge(exit, cause, &Facts::default());
    assert_eq!(judged(done, None), Verdict::Finish(Outcome::Succeeded));
    assert_eq!(judged(done, Some(&Cause::Cancelled)), Verdict::Finish(Outcome::Succeeded));
    assert_eq!(judged(done, Some(&Cause::Stale)), Verdict::LetGo);
    assert_eq!(judged(stopped, Some(&Cause::Cancelled)), Verdict::Finish(Outcome::Cancelled));
    assert_eq!(judged(late, Some(&Cause::Cancelled)), Verdict::Finish(Outcome::Cancelled));
    assert_eq!(judged(stopped, Some(&lost)), Verdict::Lost("drained".to_owned()));
    assert_eq!(
        judged(stopped, Some(&stuck)),
        failed(FailureClass::Stuck, FailureCause::SILENT, "no output for 30 min".to_owned())
    );
    assert!(matches!(judged(expired, None), Verdict::Lost(_)));
    assert_eq!(judged(expired, Some(&Cause::Cancelled)), Verdict::Finish(Outcome::Cancelled));
}

#[test]
fn the_tail_is_what_people_read() {
    assert_eq!(Facts::default().tail(), None);
    let mut facts = facts(&[r#"{"message": "Step 1\n", "phase": "building"}"#, "plain"]);
    assert_eq!(facts.tail().unwrap(), "Step 1\nplain");
    for n in 0..50 {
        facts.note(&format!("line {n} {}", "x".repeat(1000)));
    }
    let tail = facts.tail().unwrap();
    assert_eq!(tail.lines().count(), TAIL_LINES);
    assert!(tail.len() < TAIL_LINES * (TAIL_LINE_BYTES_MAX + 8));
}

#[test]
fn last_words_count_where_the_log_broke_off() {
    let words = "ut off: \nStep 9/9\nwrite /x: no space left on device\n\n";
    let mut lost = facts(&[BUILD]);
    lost.note_last_words(words);
    assert_eq!(failure(FAILED, &lost).0, DiskFull);
    let mut whole = facts(&[BUILD, "write /x: no space left on device", r#"{"message": "bye\n"}"#]);
    let tail = whole.tail();
    whole.note_last_words("no space left on device\n{\"message\": \"bye\\n\"}\n");
    assert_eq!(whole.tail(), tail, "nothing is noted twice");
    let mut silent = Facts::default();
    silent.note_last_words(" \n");
    assert!(silent.is_silent());
}

/// What repo2docker 2024.07.0 wrote, of each failure the lines that matter.
#[test]
fn failures_of_a_real_repo2docker() {
    let begin = [
        r#"{"message": "Picked Git content provider.\n"}"#,
        r#"{"message": "Cloning into '/tmp/repo2docker5rxi1tfc'...\n", "phase": "fetching"}"#,
    ];
    let table: &[(&[&str], FailureClass, &str)] = &[
        (
            &[
                r#"{"message": "fatal: unable to access 'https://127.0.0.1:1/o/n/': Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect to server\n", "phase": "fetching"}"#,
                r#"{"message": "Error during build: Failed to clone repository from https://127.0.0.1:1/o/n (ref nope).", "exc_info": "Traceback", "phase": "failed"}"#,
            ],
            INFRA,
            "could not be reached",
        ),
        (
            &[
                r#"{"message": "fatal: Could not parse object '0123456789012345678901234567890123456789'.\n", "phase": "fetching"}"#,
                r#"{"message": "Error during build: Command '['git', 'reset', '--hard', '0123']' returned non-zero exit status 128.", "exc_info": "Traceback"}"#,
            ],
            REPO,
            "ref does not exist",
        ),
        (
            &[
                r#"{"message": "fatal: '/tmp/none.git' does not appear to be a git repository\n", "phase": "fetching"}"#,
            ],
            REPO,
            "does not exist or is private",
        ),
        (
            &[r#"{"message": "Subdirectory nodir does not exist", "phase": "failed"}"#],
            REPO,
            "Subdirectory nodir does not exist",
        ),
    ];
    for (lines, class, says) in table {
        let (found, reason) = class_of(FAILED, &[&begin, *lines].concat());
        assert_eq!(found, *class, "{lines:?}: {reason}");
        assert!(reason.contains(says), "{lines:?}: {reason}");
    }
}
