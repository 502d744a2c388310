//! Running other programs, and printing what is run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Prints a command and runs it; its output is shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("+ {}", describe(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs a command without showing anything; if it fails, the error contains its output.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("`{}` failed: {}\n{out}{err}", describe(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be run and succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// `cargo` with these arguments, in the workspace's folder.
pub(crate) fn cargo(root: &Path, words: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command.args(words).current_dir(root);
    command
}

/// The command that runs the tests whose names begin like this, one after the other, also ignored ones, and shows what they
/// print.
///
/// It builds all tests of the workspace, like `cargo xtask test`: Cargo would compile most dependencies again for a
/// part of them.
pub(crate) fn live(root: &Path, release: bool, name: &str) -> Command {
    let release = release.then_some("--release");
    let mut command = if succeeds(&mut cargo(root, &["nextest", "--version"])) {
        let mut command =
            cargo(root, &["nextest", "run", "--workspace", "--profile", "long", "--no-capture"]);
        command.args(release).args(["--run-ignored", "all", "-E"]).arg(format!("test(/^{name}/)"));
        command
    } else {
        let mut command = cargo(root, &["test", "--workspace", "--tests", "--quiet"]);
        command.args(release).args(["--", name, "--nocapture", "--include-ignored", "--test-threads=1"]);
        command
    };
    command.env("RUST_LOG", "off");
    command
}

/// The path of a program found in `PATH`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Asks a process to exit: SIGTERM.
pub(crate) fn terminate(child: &Child) {
    // The standard library can only send SIGKILL; every shell has `kill`.
    let _ = quiet(Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]));
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
