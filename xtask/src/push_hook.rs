//! Whether repo2docker's own code waits before it pushes, in releases that push in either way.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell::run;
use crate::venv;

/// The release that the docs recommend, and one that builds and pushes in one step.
const RELEASES: [&[&str]; 2] =
    [&["jupyter-repo2docker==2024.7.0", "chardet==5.2.0"], &["jupyter-repo2docker==2026.4.0"]];

/// Runs the test with each release.
pub(crate) fn test(root: &Path) -> Result<()> {
    for (number, release) in RELEASES.iter().enumerate() {
        match venv::python(root, &format!("repo2docker-venv-{number}"), release) {
            Ok(python) => run(Command::new(python)
                .arg(root.join("worker/tests/push_hook.py"))
                .env("PYTHONDONTWRITEBYTECODE", "1"))?,
            Err(error) => println!("\nSKIPPED: {} before a push. {error:#}", release[0]),
        }
    }
    Ok(())
}
