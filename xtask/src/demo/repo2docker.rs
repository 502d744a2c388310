//! repo2docker in a virtual environment, and the command by which the queue calls it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::packages::Missing;
use crate::shell::{quiet, run, succeeds};

/// The repo2docker that the demo runs: the one that the docs recommend.
const REQUIREMENTS: &str = include_str!("../../../deploy/repo2docker/requirements.txt");
/// Only local Git: the other providers look up each address on the internet, or need Mercurial.
const CONFIG: &str = "\
from repo2docker.contentproviders import Git

c.Repo2Docker.content_providers = [Git]
";
/// The base image of the demo's images.
pub(crate) const BASE_IMAGE: &str = "fairlane-demo/base";

/// How to run a build.
pub(crate) struct BuildCommand {
    /// The command template for `fairlane up --command`.
    pub(crate) template: String,
    /// Whether there is a container engine, so that images are really built.
    pub(crate) builds_images: bool,
}

/// Installs repo2docker below `folder`, and checks whether images can be built.
pub(crate) fn prepare(folder: &Path) -> Result<BuildCommand> {
    let venv = folder.join("venv");
    let program = venv.join("bin/jupyter-repo2docker");
    if !succeeds(Command::new(&program).arg("--version")) {
        println!("Installing repo2docker in {}", venv.display());
        install(&venv)?;
    }
    let config = folder.join("repo2docker_config.py");
    std::fs::write(&config, CONFIG)?;
    let builds_images = succeeds(Command::new("docker").arg("info"));
    if builds_images {
        make_base_image(folder)?;
    } else {
        println!(
            "No container engine runs here: repo2docker fetches, checks and plans each image (--no-build), but \
             builds none. The slow repository is slow because its clone is throttled."
        );
    }
    let template = format!(
        "\"{}\" --config \"{}\" --json-logs --user-id 1000 --user-name jovyan --no-run{} --ref {{ref}} --image-name {{image}} \
         {{args}} {{repo}}",
        program.display(),
        config.display(),
        if builds_images { "" } else { " --no-build" },
    );
    Ok(BuildCommand { template, builds_images })
}

fn install(venv: &Path) -> Result<()> {
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv));
    let pip = venv.join("bin/pip");
    let done = made.and_then(|()| {
        run(Command::new(&pip)
            .args(["install", "--quiet"])
            .args(requirements())
            .env("PIP_PROGRESS_BAR", "off"))
    });
    done.map_err(|error| {
        eprintln!("{error:#}");
        let venv = venv.display();
        Missing(format!(
            "python3 -m venv --clear {venv} && {} install {}",
            pip.display(),
            requirements().collect::<Vec<_>>().join(" ")
        ))
        .into()
    })
}

fn requirements() -> impl Iterator<Item = &'static str> {
    REQUIREMENTS.lines().filter(|line| !line.starts_with('#'))
}

/// Makes an image from this machine's shell, so that nothing has to be pulled.
fn make_base_image(folder: &Path) -> Result<()> {
    println!(
        "A container engine runs here: images are really built, on a base made from this machine's shell."
    );
    let archive = folder.join("base.tar");
    let script = r#"
        set -eu
        programs="/bin/sh $(for name in date head sha256sum; do command -v $name; done)"
        libraries="$(ldd $programs | sed -n 's/.*[[:space:]]\(\/[^ ]*\) (0x.*/\1/p' | sort -u)"
        tar --create --dereference --hard-dereference --absolute-names --file "$1" $programs $libraries
        docker import "$1" "$2"
    "#;
    quiet(Command::new("sh").args(["-c", script, "sh"]).arg(&archive).arg(BASE_IMAGE))?;
    Ok(())
}
