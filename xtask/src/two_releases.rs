//! `two-releases`: processes of this release and of the previous one on one Redis.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::{cargo, run};

/// The last commit before the arguments of queue operations were passed by name.
const FORMER: &str = "22688b14f4bf";

/// Builds the previous release from the Git history, next to this one, and runs the test.
pub(crate) fn run_scene(root: &Path, words: &[String]) -> Result<()> {
    let former = match words {
        [] => FORMER,
        [word] => match word.strip_prefix("--former=") {
            Some(commit) => commit,
            None => bail!("unknown option '{word}'; the only option is --former=COMMIT"),
        },
        _ => bail!("the only option is --former=COMMIT"),
    };
    packages::ensure(&[packages::REDIS])?;
    let tree = root.join("target/former/tree");
    let git = |arguments: &[&str]| run(Command::new("git").args(arguments).current_dir(root));
    if !tree.exists() {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--detach", &tree.to_string_lossy(), former])?;
    }
    run(Command::new("git").args(["checkout", "--detach", former]).current_dir(&tree))?;
    let target = root.join("target/former");
    run(cargo(&tree, &["build", "--workspace", "--bin", "fairlane"]).env("CARGO_TARGET_DIR", &target))?;
    let mut command = cargo(root, &["test", "--workspace", "--test", "it", "--"]);
    command.args([
        "two_releases::a_hundred_kube_and_process_builds_by_two_releases",
        "--exact",
        "--nocapture",
    ]);
    run(command.env("FAIRLANE_FORMER", target.join("debug/fairlane")))
}
