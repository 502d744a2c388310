//! The demo's Git repositories.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::repo2docker::BASE_IMAGE;
use crate::shell::quiet;

/// Size of the slow repository: it takes a minute over the throttled connection. Its data does not compress.
pub(crate) const SLOW_BYTES: u64 = 30_000_000;
/// How long the `RUN` of the slow image takes, in seconds.
const SLOW_RUN_SECONDS: u32 = 60;

/// What a repository demonstrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Takes about a minute, and many people wait for it.
    Slow,
    /// Takes a second or two.
    Small,
    /// Has an environment that cannot be read.
    Broken,
}

/// A repository and its commits, in the order in which they are requested.
pub(crate) struct Repository {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) commits: Vec<String>,
}

/// (name, file, what is in it): kinds of repositories that repo2docker plans without the network.
const SMALL: &[(&str, &str, &str)] = &[
    ("linear-algebra", "requirements.txt", "numpy\n"),
    ("statistics", "requirements.txt", "scipy\npandas\n"),
    ("maps", "environment.yml", "name: maps\ndependencies: [cartopy]\n"),
    ("galaxies", "environment.yml", "name: galaxies\ndependencies: [astropy]\n"),
    ("typesetting", "apt.txt", "texlive-base\n"),
    ("old-fortran", "apt.txt", "gfortran\n"),
    ("own-package", "setup.py", "from setuptools import setup\nsetup(name='own-package')\n"),
    ("downloads", "postBuild", "#!/bin/sh\necho done\n"),
    ("greeting", "start", "#!/bin/sh\nexec \"$@\"\n"),
    ("own-image", "Dockerfile", "FROM scratch\nCOPY index.ipynb /\n"),
    ("notebooks-only", "README.md", "Nothing but notebooks.\n"),
    ("python-course", "requirements.txt", "matplotlib\n"),
];

/// Creates all repositories from scratch below `folder`: the slow one, the small ones, the broken one.
pub(crate) fn make(folder: &Path, builds_images: bool) -> Result<Vec<Repository>> {
    let base = folder.join("repositories");
    if base.exists() {
        std::fs::remove_dir_all(&base)?;
    }
    let mut repositories = vec![slow(&base, builds_images)?];
    for (name, file, text) in SMALL {
        let (file, text) = if builds_images {
            ("Dockerfile", format!("FROM {BASE_IMAGE}\nRUN echo {name}\n"))
        } else {
            (*file, (*text).to_owned())
        };
        let commits = vec![create(&base, name, &[(file, text.as_bytes())])?];
        repositories.push(Repository { name, kind: Kind::Small, commits });
    }
    let commits = vec![create(&base, "broken", &[("environment.yml", b"name: [never closed\n")])?];
    repositories.push(Repository { name: "broken", kind: Kind::Broken, commits });
    Ok(repositories)
}

fn slow(base: &Path, builds_images: bool) -> Result<Repository> {
    let name = "popular-demo";
    let mut data = Vec::new();
    let text = if builds_images {
        // Different in each run of the demo, so that the engine's cache does not already have this layer.
        let nonce = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        format!(
            "FROM {BASE_IMAGE}\nRUN : {}; end=$(($(date +%s) + {SLOW_RUN_SECONDS})); while [ $(date +%s) -lt $end ]; do head \
             -c 400000000 /dev/urandom | sha256sum; done\n",
            nonce.trim()
        )
    } else {
        File::open("/dev/urandom")?.take(SLOW_BYTES).read_to_end(&mut data)?;
        "numpy\n".to_owned()
    };
    let file = if builds_images { "Dockerfile" } else { "requirements.txt" };
    let first = create(base, name, &[(file, text.as_bytes()), ("measurements.bin", &data)])?;
    let second = commit(&base.join(name), &[("CHANGES", b"One word corrected.\n")])?;
    Ok(Repository { name, kind: Kind::Slow, commits: vec![first, second] })
}

fn create(base: &Path, name: &str, files: &[(&str, &[u8])]) -> Result<String> {
    let folder = base.join(name);
    std::fs::create_dir_all(&folder)?;
    git(&folder, &["init", "--quiet"])?;
    // Compressing random bytes takes longer than serving them.
    git(&folder, &["config", "core.compression", "0"])?;
    let notebook = br#"{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"#;
    commit(&folder, &[&[("index.ipynb", notebook.as_slice())], files].concat())
}

fn commit(folder: &Path, files: &[(&str, &[u8])]) -> Result<String> {
    for (name, bytes) in files {
        File::create(folder.join(name))?.write_all(bytes)?;
    }
    git(folder, &["add", "--all"])?;
    git(folder, &["commit", "--quiet", "--message", "Change something"])?;
    Ok(git(folder, &["rev-parse", "HEAD"])?.trim().to_owned())
}

/// Git, without the user's settings.
fn git(folder: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(words);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "The Fairlane demo");
        command.env(format!("GIT_{role}_EMAIL"), "demo@fairlane.invalid");
    }
    quiet(command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1"))
}
