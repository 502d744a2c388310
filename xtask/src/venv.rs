//! Virtual environments for Python, below `target`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell::quiet;

/// The Python of the virtual environment with this name, which has these packages.
pub(crate) fn python(root: &Path, name: &str, requirements: &[&str]) -> Result<PathBuf> {
    let venv = root.join("target").join(name);
    let own = venv.join("bin/python");
    // Written last, so that an interrupted installation is repeated. It names the folder, because the programs in a
    // virtual environment do: in a folder that was moved they cannot be started.
    let stamp = venv.join("requirements");
    let wanted = format!("{}\n{}", venv.display(), requirements.join("\n"));
    if own.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(own);
    }
    println!("Installing {} in {}", requirements.join(", "), venv.display());
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    quiet(Command::new(&own).args(pip).args(requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(own)
}
