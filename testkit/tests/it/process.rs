use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use fairlane_testkit::{Process, wait_for_eq};

const DEADLINE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Process {
    Process::spawn("the script", Command::new("sh").args(["-c", script]))
}

#[tokio::test]
async fn output_is_captured_and_so_is_the_exit_code() {
    let process = shell("echo hello; echo careful >&2; exit 3");
    assert_eq!(process.wait_for_line("hello", DEADLINE).await, "hello");
    assert_eq!(process.wait(DEADLINE).await.code(), Some(3));
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("hello\n", "careful\n"));
}

#[tokio::test]
async fn a_frozen_program_ends_only_when_thawed() {
    let process = shell("echo ready; exec tail -f /dev/null");
    process.wait_for_line("ready", DEADLINE).await;
    process.freeze();
    wait_for_eq("the state", DEADLINE, "T".to_owned(), async || state_of(process.pid())).await;
    process.terminate();
    assert!(process.is_running());
    process.thaw();
    assert_eq!(process.wait(DEADLINE).await.signal(), Some(15));
}

#[tokio::test]
async fn a_dropped_program_is_gone() {
    let process = shell("exec tail -f /dev/null");
    let pid = process.pid();
    assert!(!state_of(pid).is_empty());
    drop(process);
    assert_eq!(state_of(pid), "");
}

/// The one letter of `/proc/<pid>/stat`, or nothing for a process that is gone.
fn state_of(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned()
}
