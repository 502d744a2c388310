//! Finds and kills every process of a run, including those that left its process group.

use std::collections::HashMap;

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

/// A process as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    /// It has ended but was not waited for yet.
    zombie: bool,
}

/// Sends `signal` to the process group `leader` and to all descendants of this process. As the subreaper of its
/// run, this process inherits every orphaned process of it, so none can escape.
pub(super) fn signal_all(leader: Option<Pid>, signal: Signal) {
    for pid in descendants().into_iter().filter_map(Pid::from_raw) {
        // Fails only if the process is gone.
        let _ = kill_process(pid, signal);
    }
    if let Some(leader) = leader {
        let _ = kill_process_group(leader, signal);
    }
}

/// Whether the process has ended, even if it was not waited for yet.
pub(super) fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.ok().and_then(|text| parse(&text)).is_none_or(|stat| stat.zombie)
}

fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for folder in folders {
        let name = folder.file_name();
        if !name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let stat = std::fs::read_to_string(folder.path().join("stat")).ok();
        if let Some(stat) = stat.as_deref().and_then(parse) {
            children.entry(stat.parent).or_default().push(stat.pid);
        }
    }
    let mut found = children.remove(&getpid().as_raw_nonzero().get()).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Parses `pid (name) state parent …`; the name may contain spaces and parentheses.
fn parse(stat: &str) -> Option<Stat> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    let mut rest = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok()?;
    Some(Stat { pid, parent, zombie: matches!(state, "Z" | "X") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_of_a_process_is_read() {
        let stat = parse("12 (a) b (c) S 7 12 12 0 -1").unwrap();
        assert_eq!(stat, Stat { pid: 12, parent: 7, zombie: false });
        assert!(parse("13 (x) Z 7 12").unwrap().zombie);
        assert_eq!(parse("nonsense"), None);
    }
}
