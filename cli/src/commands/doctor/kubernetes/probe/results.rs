//! What the checks inside the pod wrote to its log, and what it means.

use fairlane_clikit::output::{Colors, clean};
use fairlane_worker::pod::quantity::shown;

use crate::commands::doctor::findings::Findings;
use crate::commands::doctor::kubernetes::nodes::DISK;

/// The script that makes these results.
pub(super) const CHECK: &str = include_str!("check.sh");
/// What each result begins with.
const MARK: &str = "fairlane-probe ";
const KIB: f64 = 1024.0;
const GIVE_DISK: &str =
    "Give the node the disk that builds need (docs/nodes.md), or remove it from the pool.";
const NO_SPACE: &str = "no space left on device";

/// Reports the results in a log. `socket` is the engine's socket on the nodes.
pub(super) fn judge(log: &str, exit_code: Option<i32>, socket: Option<&str>, findings: &mut Findings) {
    let mut any = false;
    for line in log.lines().filter_map(|line| line.strip_prefix(MARK)) {
        let mut words = line.splitn(3, ' ');
        let (what, how) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let detail = clean(words.next().unwrap_or_default(), Colors::Drop);
        any |= one(what, how, &detail, socket, findings);
    }
    if any {
        return;
    }
    let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("they wrote nothing");
    let code = exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
    let advice = if last.to_lowercase().contains(NO_SPACE) {
        GIVE_DISK
    } else {
        "Builds would fail there, too: look at the node, its runtime and the build image."
    };
    findings.error("checks", format!("they ended{code}: {}", clean(last, Colors::Drop)), advice);
}

/// Reports one result; returns whether it is one.
fn one(what: &str, how: &str, detail: &str, socket: Option<&str>, findings: &mut Findings) -> bool {
    let socket = socket.unwrap_or_default();
    let free = || detail.parse::<f64>().map_or_else(|_| detail.to_owned(), |kib| shown(DISK, kib * KIB));
    let (host, why) = detail.split_once(' ').unwrap_or((detail, ""));
    match (what, how) {
        ("disk", "ok") => findings.ok("disk", format!("{} free", free())),
        ("disk", "bad") => {
            findings.error("disk", format!("only {} free: a build needs more", free()), GIVE_DISK);
        }
        ("write", "ok") => findings.ok("disk", "files can be written"),
        ("write", "bad") => findings.error("disk", format!("files cannot be written: {detail}"), GIVE_DISK),
        ("socket", "ok") => findings.ok("socket", format!("the container engine answers on {socket}")),
        ("socket", "bad") => findings.error(
            "socket",
            format!("the container engine does not answer on {socket}: {detail}"),
            "Look at the engine's daemon on that node (Docker, or the pods of dind or pink).",
        ),
        ("network", "ok") => findings.ok("network", format!("{host} can be reached")),
        ("network", "bad") => findings.error(
            "network",
            format!("{host} cannot be reached: {why}"),
            "Look at the node's network and DNS, and at the network policies for build pods. If builds need \
             another host, name it with --connect.",
        ),
        ("disk" | "socket" | "network", "unknown") => {
            let about = if what == "network" { why } else { detail };
            let what = match what {
                "disk" => "disk",
                "socket" => "socket",
                _ => "network",
            };
            findings.warning(what, format!("not checked: {about}"), "");
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::findings::Level;

    fn said(log: &str) -> Vec<(Level, String)> {
        let mut findings = Findings::default();
        judge(log, Some(1), Some("/run/d.sock"), &mut findings);
        findings.0.iter().map(|one| (one.level, format!("{}: {}", one.about, one.in_full()))).collect()
    }

    #[test]
    fn each_result_is_a_sentence_and_each_failure_has_a_remedy() {
        for (line, level, words) in [
            ("disk ok 20971520", Level::Ok, "disk: 20 GiB free"),
            ("disk bad 102400", Level::Error, "only 100 MiB free"),
            ("disk unknown df is away", Level::Warning, "disk: not checked: df is away"),
            ("write bad dd: No space left on device", Level::Error, "No space left on device Give the node"),
            ("socket ok", Level::Ok, "answers on /run/d.sock"),
            ("socket bad Connection refused", Level::Error, "on /run/d.sock: Connection refused"),
            ("network ok a.b:443", Level::Ok, "a.b:443 can be reached"),
            ("network bad a.b:443 timed out", Level::Error, "a.b:443 cannot be reached: timed out"),
            ("network unknown a.b:443 no tools", Level::Warning, "network: not checked: no tools"),
        ] {
            let found = said(&format!("noise\nfairlane-probe {line}\n"));
            assert!(matches!(&found[..], [(of, text)] if *of == level && text.contains(words)), "{found:?}");
        }
    }

    #[test]
    fn checks_without_a_result_have_failed() {
        let found = said("write /x: no space left on device\n\n");
        assert!(
            matches!(&found[..], [(Level::Error, text)] if text.contains("exit code 1") && text.contains("Give the node")),
            "{found:?}"
        );
        assert!(matches!(&said("")[..], [(Level::Error, text)] if text.contains("wrote nothing")));
        assert!(matches!(&said("fairlane-probe odd ok\n")[..], [(Level::Error, _)]));
    }
}
