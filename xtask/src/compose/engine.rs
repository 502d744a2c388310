//! The container engine, and the Compose that talks to it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::packages::{self, Package};
use crate::shell::{quiet, succeeds, which};

const COMPOSE: Package =
    Package::new("docker-compose", || is_plugin("compose") || which("docker-compose").is_some());
/// Between two looks at something that takes its time.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// `docker` with these arguments.
pub(super) fn docker<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("docker");
    command.args(words);
    without_buildkit(&mut command);
    command
}

/// Makes a command use the classic builder where there is no other: Docker does so by itself, Compose 2 does not.
pub(super) fn without_buildkit(command: &mut Command) {
    if !is_plugin("buildx") {
        command.env("DOCKER_BUILDKIT", "0");
    }
}

/// What it prints, without the line's end.
pub(super) fn ask<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String> {
    Ok(quiet(&mut docker(words))?.trim().to_owned())
}

/// Why no engine can be used here, if none can.
pub(super) fn missing() -> Option<&'static str> {
    if which("docker").is_none() {
        return Some("`docker` is not on the path. On Debian: apt-get install docker.io");
    }
    let runs = succeeds(&mut docker(["info"]));
    (!runs).then_some("`docker info` fails. Start the engine, or join the group of /var/run/docker.sock")
}

/// The words that call Compose: version 2 if it is there, otherwise 1.29.
pub(super) fn compose() -> Result<&'static [&'static str]> {
    packages::ensure(&[COMPOSE])?;
    Ok(if is_plugin("compose") { &["docker", "compose"] } else { &["docker-compose"] })
}

/// Waits until `look` finds something.
pub(super) fn wait<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = look();
        if let Ok(Some(found)) = last {
            return Ok(found);
        }
        if start.elapsed() > limit {
            let Err(error) = last else { bail!("after {} s, {what} is still missing", limit.as_secs()) };
            return Err(error).context(format!("after {} s, {what} is still missing", limit.as_secs()));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn is_plugin(name: &str) -> bool {
    succeeds(Command::new("docker").args([name, "version"]))
}
