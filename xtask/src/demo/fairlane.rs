//! `fairlane up`, which runs everything in one process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::http;
use crate::shell::terminate;

const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to stop. Once all builds have ended, it stops immediately.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running `fairlane up`.
pub(crate) struct Fairlane {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Fairlane {
    /// Starts it with an empty queue, and waits until it is ready.
    pub(crate) fn start(root: &Path, folder: &Path, slots: u32, template: &str) -> Result<Self> {
        Self::start_with(root, folder, slots, template, &[])
    }

    /// The same, with additional settings.
    pub(crate) fn start_with(
        root: &Path,
        folder: &Path,
        slots: u32,
        template: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let (data, temporary) = (folder.join("data"), folder.join("tmp"));
        for old in [&data, &temporary] {
            if old.exists() {
                std::fs::remove_dir_all(old)?;
            }
        }
        std::fs::create_dir_all(&temporary)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = folder.join("fairlane.log");
        let file = File::create(&log)?;
        let mut command = Command::new(target_folder(root).join("debug/fairlane"));
        command.args(["up", "--listen", &address.to_string(), "--slots", &slots.to_string()]);
        command.arg("--data").arg(&data).args(["--command", template]);
        // Settings of this host must not change what the demo shows: neither the environment's, nor those of a
        // fairlane.toml in the current folder.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FAIRLANE_") {
                command.env_remove(name);
            }
        }
        command.envs(settings.iter().copied());
        command.current_dir(folder);
        // Killed builds leave their clones behind; here, the next demo finds and removes them.
        command.env("TMPDIR", &temporary);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("cannot start fairlane")?;
        let mut fairlane = Self { child, address, log };
        fairlane.wait_until_ready()?;
        Ok(fairlane)
    }

    /// The file with its output.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks for a build, and returns its id.
    pub(crate) fn submit(&self, repo: &str, commit: &str, image: &str) -> Result<String> {
        let body = json!({ "repo": repo, "ref": commit, "image": image });
        let answer = http::json(self.address, "POST", "/v1/builds", Some(&body))?;
        let id = answer["id"].as_str().with_context(|| format!("no id in {answer}"))?;
        Ok(id.to_owned())
    }

    /// The build as the dispatcher shows it.
    pub(crate) fn build(&self, id: &str) -> Result<Value> {
        http::json(self.address, "GET", &format!("/v1/builds/{id}"), None)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while !http::status(self.address, "/readyz").is_ok_and(|status| status == 200) {
            if let Some(status) = self.child.try_wait()? {
                bail!("`fairlane up` ended with {status}: {}", std::fs::read_to_string(&self.log)?);
            }
            if start.elapsed() > START_LIMIT {
                bail!("`fairlane up` is not ready: {}", std::fs::read_to_string(&self.log)?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Fairlane {
    fn drop(&mut self) {
        // After the first signal it waits for running builds, which nobody needs any more; after the second it
        // does not.
        for _ in 0..2 {
            terminate(&self.child);
            let start = Instant::now();
            while start.elapsed() < STOP_LIMIT {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}
