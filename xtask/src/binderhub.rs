//! The tests of the Python package for `BinderHub`, against the processes of this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::packages::{self, Package};
use crate::shell::{cargo, quiet, run, succeeds};

/// What the tests need; `BinderHub` itself is stood in for beside them.
const REQUIREMENTS: &[&str] =
    &["pytest==8.4.2", "pytest-xdist==3.8.0", "tornado==6.5.5", "traitlets==5.14.3"];
/// The Python that Debian's packages are for, whatever else is on the path.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";
/// The same from Debian, for where `PyPI` cannot be reached.
const FROM_DEBIAN: Package =
    Package::new("python3-pytest python3-pytest-xdist python3-tornado python3-traitlets", || {
        succeeds(Command::new(SYSTEM_PYTHON).args(["-c", "import pytest, tornado, traitlets, xdist"]))
    });

/// Runs the tests of `binderhub/`.
pub(crate) fn test(root: &Path) -> Result<()> {
    let Some(python) = python(root) else {
        println!(
            "\nSKIPPED: the tests of binderhub/, because neither PyPI nor Debian gives {}; \
             `pip install {}` brings them.",
            REQUIREMENTS.join(", "),
            REQUIREMENTS.join(" ")
        );
        return Ok(());
    };
    if let Err(error) = packages::ensure(&[packages::HAPROXY]) {
        println!("\nSKIPPED: the tests of binderhub/ that stand on HAProxy. {error:#}");
    }
    run(&mut cargo(root, &["build", "--package", "fairlane"]))?;
    let binary = root.join("target/debug/fairlane");
    run(Command::new(python)
        // They wait more than they work.
        // What is skipped is named.
        .args(["-m", "pytest", "binderhub", "-n", "4", "-rs"])
        .current_dir(root)
        // Nothing of ours writes below the sources.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("FAIRLANE_TEST_BINARY", binary))
}

/// A Python that has what the tests need: one of its own, else the system's.
fn python(root: &Path) -> Option<PathBuf> {
    let venv = root.join("target/binderhub-venv");
    let own = venv.join("bin/python");
    // Written last, so that an installation that broke off is made anew.
    let stamp = venv.join("requirements");
    let wanted = REQUIREMENTS.join("\n");
    if own.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Some(own);
    }
    println!("Installing {} in {}", REQUIREMENTS.join(", "), venv.display());
    match install(&venv, &own).and_then(|()| Ok(std::fs::write(&stamp, wanted)?)) {
        Ok(()) => Some(own),
        Err(error) => {
            println!("{error:#}\nTrying Debian's packages.");
            packages::ensure(&[FROM_DEBIAN]).ok().map(|()| PathBuf::from(SYSTEM_PYTHON))
        }
    }
}

fn install(venv: &Path, own: &Path) -> Result<()> {
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    quiet(Command::new(own).args(pip).args(REQUIREMENTS)).map(drop)
}
