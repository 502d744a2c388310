//! The redis-server that a program starts if it is given none.
//!
//! It lives in a data folder, listens only on a unix socket, and is started through the program's hidden command
//! `redis-guard` ([`Guard`]), which ties its life to ours: Linux ends it (with SIGTERM, so that it saves) however
//! we die, and a lock that it inherits shows the next one when it is gone.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use fairlane_common::redis_info::PACKED_BYTES;
use fairlane_common::{Link, RedisUrl};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::exit::Stop;
use crate::output::Output;
use crate::program;

/// A unix socket's path has at most 107 bytes; the socket's own name comes on top of the folder's.
const FOLDER_BYTES_MAX: usize = 90;
/// How long the server may take to read its append-only file.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a previous one may take to save its data and exit.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait for a PING before asking again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A server that exits by itself is restarted, but not forever.
const RESTARTS_MAX: u32 = 5;
/// After running this long, a server may use all its restarts again.
const STEADY_AFTER: Duration = Duration::from_mins(5);

/// A data folder that only this process uses while this value exists.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if necessary, and locks it.
    ///
    /// # Errors
    /// When another `fairlane up` uses it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot create the data folder {}; choose another with --data", path.display())
        })?;
        let path = path.canonicalize()?;
        if path.as_os_str().len() > FOLDER_BYTES_MAX {
            return Err(Stop::usage(format!(
                "the data folder's path has {} bytes; its unix socket allows {FOLDER_BYTES_MAX} at most. \
                 Choose a shorter one with --data",
                path.as_os_str().len()
            ))
            .into());
        }
        let lock = open_lock(&path.join("up.lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "another `fairlane up` is using {}; use it, stop it, or choose another folder with --data",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", path.display()))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its server listens.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.path)
    }
}

/// Where the server of a data folder listens.
pub fn socket_in(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// Where `up` keeps its data by default: `$XDG_DATA_HOME/fairlane`.
pub fn default_folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("fairlane"))
        .ok_or_else(|| {
            anyhow!("neither XDG_DATA_HOME nor HOME is set; say where to keep the data with --data")
        })
}

/// A running redis-server of ours.
#[derive(Debug)]
pub struct RedisServer {
    folder: DataFolder,
    program: PathBuf,
    child: Child,
    url: RedisUrl,
}

impl RedisServer {
    /// Starts one in `folder` and waits until it answers.
    ///
    /// Call this from the main thread: the server ends when the thread that started it ends.
    pub async fn start(folder: DataFolder) -> Result<Self> {
        let program = program::find("redis-server").or_else(|| program::find("valkey-server")).ok_or_else(|| {
            anyhow!(
                "there is no redis-server in PATH. Install it (Debian, Ubuntu: `sudo apt-get install redis-server`; \
                 Fedora: `sudo dnf install redis`; macOS: `brew install redis`), or name a running Redis with --redis-url"
            )
        })?;
        let url = format!("unix://{}", folder.socket().display()).parse()?;
        let child = spawn(&program, folder.path())?;
        let mut server = Self { folder, program, child, url };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.socket()
    }

    /// The same as a URL.
    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Restarts it when it exits by itself, until `stop`.
    ///
    /// # Errors
    /// When it ends again and again.
    pub async fn keep(&mut self, stop: &CancellationToken, output: Output) -> Result<()> {
        let mut restarts = 0;
        loop {
            let started = Instant::now();
            let status = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                status = self.child.wait() => status?,
            };
            if started.elapsed() > STEADY_AFTER {
                restarts = 0;
            }
            restarts += 1;
            if restarts > RESTARTS_MAX {
                bail!(
                    "redis-server ended {RESTARTS_MAX} times ({status}); its log is {}",
                    self.log().display()
                );
            }
            output.talk(&format!("redis-server ended ({status}); starting it again with its data"));
            self.child = spawn(&self.program, self.folder.path())?;
            self.wait_until_ready().await?;
        }
    }

    /// Asks it to save and exit, and waits up to a limit.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // This fails only if the process is gone.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(LEAVE_LIMIT, self.child.wait()).await.is_err() {
            tracing::warn!(
                "redis-server did not stop in time and was killed; the last second of writes may be lost"
            );
            let _ = self.child.kill().await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server did not start ({status}): {}", last_words(&self.log()));
            }
            let socket_is_new = self.folder.socket().exists();
            if socket_is_new && Link::open(&self.url).await.is_ok() {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                bail!(
                    "redis-server did not answer within {} s; its log is {}",
                    START_LIMIT.as_secs(),
                    self.log().display()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn spawn(program: &Path, folder: &Path) -> Result<Child> {
    // Not our path, because the file may have been replaced by another release.
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.arg("redis-guard").arg(std::process::id().to_string()).arg(program).arg(folder);
    // Its own process group: Ctrl-C in the terminal is for us, and Redis stops last.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().context("redis-server cannot be started")
}

/// The arguments of the process that becomes the redis-server of a folder: a hidden command of each program that
/// starts one.
#[derive(Debug, clap::Args)]
pub struct Guard {
    parent: u32,
    program: PathBuf,
    folder: PathBuf,
}

impl Guard {
    /// Turns this process into that redis-server, which ends with its parent.
    ///
    /// # Errors
    /// Always returns an error: on success, this process becomes another program.
    pub fn run(&self) -> Result<()> {
        let Self { parent, program, folder } = self;
        set_parent_process_death_signal(Some(Signal::TERM))
            .context("cannot watch for the death of the parent process")?;
        let parent_lives = getppid().is_some_and(|pid| u32::try_from(pid.as_raw_pid()) == Ok(*parent));
        if !parent_lives {
            bail!("`fairlane up` has ended in the meantime");
        }
        let lock = open_lock(&folder.join("redis.lock"))?;
        wait_for(&lock).with_context(|| format!("{} cannot be locked", folder.display()))?;
        // An inherited lock lasts exactly as long as the server, however it ends.
        rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?;
        let socket = socket_in(folder);
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("the old socket {} cannot be removed", socket.display()));
            }
            _ => {}
        }
        let mut command = Command::new(program);
        command
            .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""])
            .args(["--maxmemory-policy", "noeviction", "--daemonize", "no"])
            // The name that Redis 6.2 knows, too; later ones call it hash-max-listpack-value.
            .args(["--hash-max-ziplist-value", &PACKED_BYTES.to_string(), "--logfile"])
            .arg(folder.join("redis.log"));
        Err(command.exec()).with_context(|| format!("{} cannot be started", program.display()))
    }
}

fn wait_for(lock: &File) -> Result<()> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) if started.elapsed() > LEAVE_LIMIT => {
                bail!("an earlier redis-server is still using the folder after {} s", LEAVE_LIMIT.as_secs())
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

fn open_lock(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be written; choose another folder with --data", path.display()))
}

/// The end of a log, for an error.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    if lines.is_empty() {
        return "it wrote no log".to_owned();
    }
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
