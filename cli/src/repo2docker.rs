//! repo2docker on this machine: whether it works, and how to install one that does.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fairlane_clikit::program;
use fairlane_common::limits;
use fairlane_worker::command::CommandTemplate;

/// The packages of an installation that works; the images and the demo use the same list.
const REQUIREMENTS: &str = include_str!("../../deploy/repo2docker/requirements.txt");
/// How long one check may take: Python starts slowly on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
/// Contacts the daemon the way repo2docker does, including `DOCKER_HOST`.
const PING: &str = "import docker; docker.from_env(timeout=10).ping()";
/// Reads a file in the way repo2docker reads requirements.
const READ: &str = "\
import sys
try:
    from repo2docker.utils import open_guess_encoding
except ImportError:
    sys.exit(0)
with open_guess_encoding(sys.argv[1]) as file:
    file.read()
";

/// Something that makes builds fail.
pub(crate) struct Trouble {
    /// What is wrong.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) advice: String,
}

/// How to install it, as commands to paste.
pub(crate) fn how_to_install() -> String {
    let packages: Vec<&str> = REQUIREMENTS.lines().filter(|line| !line.starts_with('#')).collect();
    format!(
        "sudo apt-get install git mercurial python3-venv docker.io\n  \
         python3 -m venv ~/repo2docker && ~/repo2docker/bin/pip install {}\n  \
         export PATH=~/repo2docker/bin:$PATH",
        packages.join(" ")
    )
}

/// The repo2docker that a command runs; `None` if it runs something else, or if it is not installed.
pub(crate) fn in_command(command: &CommandTemplate) -> Option<std::path::PathBuf> {
    let program = command.find_program(std::env::var_os("PATH").as_deref()).ok()?;
    let is_it =
        program.file_name().is_some_and(|name| name == "jupyter-repo2docker" || name == "repo2docker");
    is_it.then_some(program)
}

/// Checks an installation: returns its version, or everything that would make builds fail.
pub(crate) async fn check(program: &Path) -> Result<String, Vec<Trouble>> {
    let mut troubles = Vec::new();
    let mut trouble = |what: String, advice: String| troubles.push(Trouble { what, advice });
    let install = || format!("Install one that works:\n  {}", how_to_install());
    let shown = program.display();
    let version = run(program, &["--version"]).await;
    if let Err(why) = &version {
        trouble(format!("`{shown} --version` fails: {why}"), install());
    }
    for (tool, package) in [("git", "git"), ("hg", "mercurial")] {
        if program::find(tool).is_none() {
            let advice = format!("Install it: sudo apt-get install {package}");
            trouble(format!("'{tool}' is not in PATH; repo2docker runs it to fetch repositories"), advice);
        }
    }
    let python = interpreter(program);
    if let (Ok(_), Some(python)) = (&version, &python) {
        let python = Path::new(python);
        let readme = program.to_string_lossy();
        if let Err(why) = run(python, &["-c", READ, &readme]).await {
            trouble(format!("{shown} cannot read requirements files: {why}"), install());
        }
        if let Err(why) = run(python, &["-c", PING]).await {
            let advice = "Start Docker (or Podman's socket, with DOCKER_HOST set), and let this user use \
                          it: sudo usermod -aG docker $USER";
            trouble(format!("the Docker daemon does not answer: {why}"), advice.to_owned());
        }
    }
    if version.as_deref().is_ok_and(builds_with_buildx)
        && let Err(why) = run(Path::new("docker"), &["buildx", "version"]).await
    {
        let advice = "Install Docker's buildx plugin: sudo apt-get install docker-buildx (docker-buildx-plugin from \
                      Docker's own packages), or repo2docker 2024.07, which does not need it";
        trouble(format!("repo2docker builds with `docker buildx`, which fails: {why}"), advice.to_owned());
    }
    match version {
        Ok(version) if troubles.is_empty() => Ok(version),
        _ => Err(troubles),
    }
}

/// Whether this version builds with Docker's command line, as 2025.08 and later do.
fn builds_with_buildx(version: &str) -> bool {
    let number = version.split_whitespace().next_back().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2025, 8)
}

/// The Python interpreter in a script's first line.
fn interpreter(program: &Path) -> Option<String> {
    let text = std::fs::read(program).ok()?;
    let text = String::from_utf8_lossy(&text[..text.len().min(limits::REPO_BYTES_MAX)]).into_owned();
    let first = text.lines().next()?.strip_prefix("#!")?.trim();
    (first.contains("python") && !first.contains(' ')).then(|| first.to_owned())
}

/// A program's output, or the last line of its error output if it fails.
async fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let answer = match tokio::time::timeout(LIMIT, command.output()).await {
        Err(_) => return Err(format!("no answer within {} s", LIMIT.as_secs())),
        Ok(answer) => answer.map_err(|error| error.to_string())?,
    };
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
    };
    if answer.status.success() {
        return Ok(last(&answer.stdout));
    }
    let why = last(&answer.stderr);
    Err(if why.is_empty() { answer.status.to_string() } else { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_need_buildx() {
        for (version, needs) in [
            ("2024.07.0", false),
            ("2025.7", false),
            ("2025.08.0", true),
            ("jupyter-repo2docker 2026.4.0", true),
            ("2025.12.0.dev1", true),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(builds_with_buildx(version), needs, "{version}");
        }
    }
}
