//! A former release, built from the Git history next to this one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, quiet, run};

/// The last commit before the arguments of queue operations were passed by name.
const FORMER: &str = "22688b14f4bf";
/// The variable that tells a test where the former release's program is.
pub(crate) const VARIABLE: &str = "FAIRLANE_FORMER";

/// The commit that `--former=COMMIT` names.
pub(crate) fn commit_of(word: &str) -> Option<&str> {
    word.strip_prefix("--former=").filter(|commit| !commit.is_empty())
}

/// Builds the release of this commit, or the usual former one, and returns its program.
pub(crate) fn build(root: &Path, commit: Option<&str>) -> Result<PathBuf> {
    let former = commit.unwrap_or(FORMER);
    let tree = root.join("target/former/tree");
    let git = |arguments: &[&str]| run(Command::new("git").args(arguments).current_dir(root));
    if !tree.exists() {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--detach", &tree.to_string_lossy(), former])?;
    }
    run(Command::new("git").args(["checkout", "--detach", former]).current_dir(&tree))?;
    let target = root.join("target/former");
    run(cargo(&tree, &["build", "--workspace", "--bin", "fairlane"]).env("CARGO_TARGET_DIR", &target))?;
    for (whose, folder) in [("former", tree.as_path()), ("this", root)] {
        let head = ["log", "-1", "--format=%h of %cs: %s"];
        let commit = quiet(Command::new("git").args(head).current_dir(folder))?;
        println!("{whose} release: {}", commit.trim());
    }
    Ok(target.join("debug/fairlane"))
}
