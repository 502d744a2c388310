//! Containers as local processes, each in a separate process group.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::log::{ContainerLog, LINE_PART_BYTES, Piece};

/// Bytes read from a container at once.
const READ_BYTES: usize = 16 * 1024;
/// Added to the number of the signal that ended a process.
const SIGNAL_EXIT: i32 = 128;

/// Kills the remaining process groups when the guarded process is gone, for whatever reason: it reads them from a
/// pipe, which closes with its writer.
const GUARD: &str = r#"
trap '' INT TERM HUP
groups=
while read -r what group; do
  case $what in
    +) groups="$groups $group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// All process groups of one cluster; killed when it is dropped, or when the test's process dies.
#[derive(Debug)]
pub(in crate::kube) struct Groups {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    alive: HashSet<i32>,
    closed: bool,
    guard: Option<(std::process::Child, ChildStdin)>,
}

impl Groups {
    pub(in crate::kube) fn new() -> Self {
        Self { inner: Mutex::new(Inner { alive: HashSet::new(), closed: false, guard: None }) }
    }

    fn add(&self, group: i32) {
        let mut inner = self.lock();
        if inner.closed {
            kill_group(group);
            return;
        }
        inner.alive.insert(group);
        if inner.guard.is_none() {
            inner.guard = start_guard();
        }
        inner.tell('+', group);
    }

    fn remove(&self, group: i32) {
        let mut inner = self.lock();
        inner.alive.remove(&group);
        inner.tell('-', group);
    }

    /// Kills all of them, and any that come later.
    pub(in crate::kube) fn kill_all(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for group in inner.alive.drain() {
            kill_group(group);
        }
        if let Some((mut guard, pipe)) = inner.guard.take() {
            drop(pipe);
            let _ = guard.wait();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, what: char, group: i32) {
        if let Some((_, pipe)) = &mut self.guard {
            // Without its guard a group is still killed by `drop`.
            let _ = writeln!(pipe, "{what} {group}");
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn start_guard() -> Option<(std::process::Child, ChildStdin)> {
    use std::os::unix::process::CommandExt;
    let mut guard = std::process::Command::new("sh")
        .args(["-c", GUARD])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let pipe = guard.stdin.take()?;
    Some((guard, pipe))
}

/// What to run.
#[derive(Debug)]
pub(in crate::kube) struct Program<'a> {
    pub(in crate::kube) words: &'a [String],
    pub(in crate::kube) environment: &'a [(String, String)],
    pub(in crate::kube) folder: &'a Path,
}

/// A running container.
#[derive(Debug)]
pub(in crate::kube) struct Container {
    group: i32,
    exit: watch::Receiver<Option<i32>>,
}

impl Container {
    /// Starts it; its output goes to `log`. The error is that of `exec`.
    pub(in crate::kube) fn start(
        program: &Program<'_>,
        log: &Arc<ContainerLog>,
        groups: &Arc<Groups>,
    ) -> Result<Self, std::io::Error> {
        let (first, rest) = program.words.split_first().ok_or_else(|| std::io::Error::other("no command"))?;
        let mut child = Command::new(found(first, program.environment))
            .args(rest)
            .env_clear()
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(program.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        groups.add(group);
        let streams = (child.stdout.take(), child.stderr.take());
        let readers = [
            streams.0.map(|out| tokio::spawn(copy(out, Arc::clone(log)))),
            streams.1.map(|err| tokio::spawn(copy(err, Arc::clone(log)))),
        ];
        let (told, exit) = watch::channel(None);
        let (log, groups) = (Arc::clone(log), Arc::clone(groups));
        tokio::spawn(async move {
            let code = wait(child).await;
            // Processes that the first process leaves behind die with its container.
            kill_group(group);
            groups.remove(group);
            for reader in readers.into_iter().flatten() {
                let _ = reader.await;
            }
            log.close();
            told.send_replace(Some(code));
        });
        Ok(Self { group, exit })
    }

    /// Its exit code, once it has one.
    pub(in crate::kube) fn exit_code(&self) -> Option<i32> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub(in crate::kube) async fn exited(&self) -> i32 {
        let mut exit = self.exit.clone();
        let code = exit.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        code.unwrap_or(SIGNAL_EXIT)
    }

    /// Asks it to exit. Like the first process of a real container, it only gets the signal if it handles it.
    pub(in crate::kube) fn terminate(&self) {
        if self.exit_code().is_none()
            && let Some(pid) = Pid::from_raw(self.group)
            && handles_term(self.group)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Kills it with all its children.
    pub(in crate::kube) fn kill(&self) {
        if self.exit_code().is_none() {
            kill_group(self.group);
        }
    }
}

/// The file of a command's first word. If it is found here, the process can be created without copying this one's
/// memory.
fn found(word: &str, environment: &[(String, String)]) -> PathBuf {
    let path = environment.iter().rev().find(|(name, _)| name == "PATH");
    let folders = path.into_iter().flat_map(|(_, folders)| std::env::split_paths(folders));
    let mut files = folders.map(|folder| folder.join(word));
    let search = !word.contains('/');
    files.find(|file| search && file.is_file()).unwrap_or_else(|| PathBuf::from(word))
}

async fn wait(mut child: Child) -> i32 {
    child.wait().await.map_or(SIGNAL_EXIT, exit_code)
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| SIGNAL_EXIT + signal)).unwrap_or(SIGNAL_EXIT)
}

fn kill_group(group: i32) {
    // The process group is still ours: its leader has not been waited for before this, or was the last one.
    if let Some(group) = Pid::from_raw(group) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn handles_term(pid: i32) -> bool {
    let bit = 1_u64 << (Signal::TERM.as_raw() - 1);
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        })
        .is_some_and(|caught| caught & bit != 0)
}

/// Splits a stream into lines, each with the time at which its end was read.
async fn copy(mut stream: impl AsyncRead + Unpin, log: Arc<ContainerLog>) {
    let mut chunk = vec![0; READ_BYTES];
    let mut line = Vec::new();
    let mut starts = true;
    loop {
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        for &byte in &chunk[..count] {
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() == LINE_PART_BYTES {
                let ends = byte == b'\n';
                log.append(Piece { at: Timestamp::now(), bytes: std::mem::take(&mut line), starts, ends });
                starts = ends;
            }
        }
    }
    if !line.is_empty() {
        log.append(Piece { at: Timestamp::now(), bytes: line, starts, ends: false });
    }
}
