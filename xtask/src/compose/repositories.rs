//! Repositories to build: a small one, and one that takes its time.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell::quiet;

/// Before the number of each line that a build prints.
pub(super) const LINE: &str = "This is line ";

/// Makes a bare repository that any web server can serve. Its Dockerfile prints numbered lines, with a pause after each.
const SCRIPT: &str = r#"
    set -eu
    rm -rf work bare.git
    git init --quiet work
    cd work
    cat > Dockerfile
    git add Dockerfile
    git -c user.name=Fairlane -c user.email=test@fairlane.invalid commit --quiet --message "Print lines"
    cd ..
    git clone --quiet --bare work bare.git
    git -C bare.git update-server-info
    git -C work rev-parse HEAD
"#;

/// One repository.
pub(super) struct Repository {
    /// Its address for workers.
    pub(super) url: String,
    pub(super) commit: String,
    /// How many lines its build prints.
    pub(super) lines: u32,
}

impl Repository {
    /// Creates it below `folder`, which the service `git` serves.
    pub(super) fn create(folder: &Path, name: &str, base: &str, lines: u32, pause: &str) -> Result<Self> {
        let own = folder.join(name);
        std::fs::create_dir_all(&own)?;
        // Different each time, so that the engine's cache does not already have this layer.
        let nonce = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let dockerfile = format!(
            "FROM {base}\nRUN : {}; for number in $(seq {lines}); do echo \"{LINE}$number\"; sleep {pause}; done\n",
            nonce.trim()
        );
        let text = own.join("Dockerfile");
        std::fs::write(&text, dockerfile)?;
        let mut git = Command::new("sh");
        git.args(["-c", &format!("exec < Dockerfile\n{SCRIPT}")]).current_dir(&own);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let printed = quiet(&mut git)?;
        let commit = printed.lines().last().context("no commit")?.to_owned();
        Ok(Self { url: format!("http://git:8000/{name}/bare.git"), commit, lines })
    }
}
