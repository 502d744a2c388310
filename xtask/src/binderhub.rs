//! The tests of the Python package for `BinderHub`, against the processes of this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::packages::{self, Package};
use crate::shell::{cargo, run, succeeds};
use crate::venv;

/// The tests' requirements. `BinderHub` itself is replaced by the stand-in beside the tests.
const REQUIREMENTS: &[&str] =
    &["pytest==8.4.2", "pytest-xdist==3.8.0", "tornado==6.5.5", "traitlets==5.14.3"];
/// The Python that Debian's packages are installed for, even if another one comes first in PATH.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";
/// The same requirements as Debian packages, in case `PyPI` cannot be reached.
const FROM_DEBIAN: Package =
    Package::new("python3-pytest python3-pytest-xdist python3-tornado python3-traitlets", || {
        succeeds(Command::new(SYSTEM_PYTHON).args(["-c", "import pytest, tornado, traitlets, xdist"]))
    });

/// Runs the tests of `binderhub/`.
pub(crate) fn test(root: &Path) -> Result<()> {
    let Some(python) = python(root) else {
        println!(
            "\nSKIPPED: the tests of binderhub/, because {} could not be installed from PyPI or Debian; \
             install them with `pip install {}`.",
            REQUIREMENTS.join(", "),
            REQUIREMENTS.join(" ")
        );
        return Ok(());
    };
    if let Err(error) = packages::ensure(&[packages::HAPROXY]) {
        println!("\nSKIPPED: the tests of binderhub/ that need HAProxy. {error:#}");
    }
    // With all tests, as they are run later: their dependencies have other features, and would be compiled again.
    run(&mut cargo(root, &["build", "--workspace", "--tests"]))?;
    let binary = root.join("target/debug/fairlane");
    run(Command::new(python)
        // The tests mostly wait, so four run at a time. `-rs` lists the skipped ones.
        .args(["-m", "pytest", "binderhub", "-n", "4", "-rs"])
        .current_dir(root)
        // Nothing is written into the source folders.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("FAIRLANE_TEST_BINARY", binary))
}

/// A Python with the tests' requirements: a virtual environment's, otherwise the system's.
fn python(root: &Path) -> Option<PathBuf> {
    match venv::python(root, "binderhub-venv", REQUIREMENTS) {
        Ok(own) => Some(own),
        Err(error) => {
            println!("{error:#}\nTrying Debian's packages.");
            packages::ensure(&[FROM_DEBIAN]).ok().map(|()| PathBuf::from(SYSTEM_PYTHON))
        }
    }
}
