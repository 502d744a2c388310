//! A local Git server, and a throttled connection to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::repositories::SLOW_BYTES;
use crate::shell::quiet;

/// How long a clone of the slow repository takes over the throttled connection.
const SLOW_CLONE: Duration = Duration::from_mins(1);
/// The throttled connection forwards chunks this small, so that its rate is steady.
const PORTION_BYTES: usize = 16 * 1024;
const START_LIMIT: Duration = Duration::from_secs(10);
/// A free port may be taken by another process before the server binds it.
const PORT_TRIES_MAX: usize = 5;

/// `git daemon` on a loopback port, and a throttled connection to it on another one.
pub(crate) struct GitServer {
    child: Child,
    port: u16,
    slow_port: u16,
}

impl GitServer {
    /// Serves all repositories below `folder`. If images are really built, nothing is throttled: the slow build is
    /// then slow by itself.
    pub(crate) fn start(folder: &Path, builds_images: bool) -> Result<Self> {
        for _ in 0..PORT_TRIES_MAX {
            let port = free_port()?;
            let mut child = daemon(folder, port)?;
            if answers(&mut child, port)? {
                let slow_port = if builds_images { port } else { narrow_line(port)? };
                return Ok(Self { child, port, slow_port });
            }
        }
        bail!("git daemon found no free port in {PORT_TRIES_MAX} tries")
    }

    /// The URL of a repository.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// The URL of a repository over the throttled connection.
    pub(crate) fn slow_url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.slow_port)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        // Both fail only for a server that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn daemon(folder: &Path, port: u16) -> Result<Child> {
    // Not started with `git daemon`: if that is killed, the real daemon, its child, keeps running.
    let programs = PathBuf::from(quiet(Command::new("git").arg("--exec-path"))?.trim());
    let mut command = Command::new(programs.join("git-daemon"));
    command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"]).arg(format!("--port={port}"));
    command.arg(format!("--base-path={}", folder.display()));
    // The repositories may be owned by another user, for example in a container.
    for (name, value) in
        [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]
    {
        command.env(name, value);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.context("cannot start git-daemon; Debian's package `git` has it")
}

/// Waits until the server answers; false if it has exited, for example because the port is taken.
fn answers(child: &mut Child, port: u16) -> Result<bool> {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if start.elapsed() > START_LIMIT {
            bail!("git-daemon does not answer on port {port}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(child.try_wait()?.is_none())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Listens on another port and forwards connections, throttled so that a clone takes [`SLOW_CLONE`].
fn narrow_line(to: u16) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || pass_on(client, SocketAddr::from((Ipv4Addr::LOCALHOST, to))));
        }
    });
    Ok(port)
}

fn pass_on(mut client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to)?;
    let (mut requests, mut onward) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut requests, &mut onward);
        let _ = onward.shutdown(Shutdown::Write);
    });
    let result = trickle(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    result
}

/// Copies at the rate that makes the slow repository take [`SLOW_CLONE`].
fn trickle(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let bytes_per_second = SLOW_BYTES / SLOW_CLONE.as_secs();
    let mut portion = vec![0; PORTION_BYTES];
    let (start, mut passed) = (Instant::now(), 0u64);
    loop {
        let bytes = from.read(&mut portion)?;
        if bytes == 0 {
            return Ok(());
        }
        to.write_all(&portion[..bytes])?;
        passed += bytes as u64;
        // Measured from the start, so that the rate holds even if a sleep ends late.
        let due = Duration::from_micros(passed * 1_000_000 / bytes_per_second);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
}
