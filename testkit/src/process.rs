//! Programs of ours as child processes.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::temp_dir::TempDir;
use crate::wait::wait_for;

/// A running program, its standard output and error each in a file; killed when dropped.
///
/// When the test panics, both are printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    output: TempDir,
}

impl Process {
    /// Starts `command`; `name` is its name in messages.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let output = TempDir::new();
        command
            .stdin(Stdio::null())
            .stdout(create(&output.join("stdout")))
            .stderr(create(&output.join("stderr")));
        match command.spawn() {
            Ok(child) => Self { name: name.to_owned(), child: Mutex::new(child), output },
            Err(error) => panic!("cannot start {name} ({}): {error}", command.get_program().display()),
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.output.join("stdout"))
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.output.join("stderr"))
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Asks it to exit: SIGTERM.
    ///
    /// # Panics
    /// If it has ended already.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Freezes it: SIGSTOP.
    ///
    /// # Panics
    /// If it has ended already.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes it: SIGCONT.
    ///
    /// # Panics
    /// If it has ended already.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it with SIGKILL, and waits until it is gone. Killing twice is harmless.
    pub fn kill(&self) {
        let mut child = self.child();
        // Both fail only if the process is gone, which is the goal.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process has ended already.
    pub fn signal(&self, signal: Signal) {
        // The lock and `try_wait` keep the process id ours: it is not reused before the process is waited for.
        let mut child = self.child();
        if let Ok(Some(status)) = child.try_wait() {
            panic!("{} has ended already ({status}), it cannot be sent {signal:?}", self.name);
        }
        if let Err(error) = send(child.id(), signal) {
            panic!("cannot send {signal:?} to {}: {error}", self.name);
        }
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When `deadline` has passed.
    pub async fn wait(&self, deadline: Duration) -> ExitStatus {
        wait_for(&format!("{} to end", self.name), deadline, async || {
            self.child()
                .try_wait()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "still running".to_owned())
        })
        .await
    }

    /// Waits for a line with `needle` on standard output or error, and returns the line.
    ///
    /// # Panics
    /// When `deadline` has passed.
    pub async fn wait_for_line(&self, needle: &str, deadline: Duration) -> String {
        wait_for(&format!("{} to write {needle:?}", self.name), deadline, async || {
            let (out, err) = (self.stdout(), self.stderr());
            let found = out.lines().chain(err.lines()).find(|line| line.contains(needle)).map(str::to_owned);
            found.ok_or_else(|| format!("running: {}, output:\n{out}{err}", self.is_running()))
        })
        .await
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            show(&format!("{}: standard output", self.name), &self.stdout());
            show(&format!("{}: standard error", self.name), &self.stderr());
        }
    }
}

/// A TCP port on the loopback interface that was free a moment ago.
///
/// Only for programs that cannot use port 0: another process may take the port in the meantime.
///
/// # Panics
/// If the system has no port left.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    match listener {
        Ok(address) => address.port(),
        Err(error) => panic!("no free TCP port on the loopback interface: {error}"),
    }
}

/// Sends a signal to a process of ours that has not been waited for.
pub(crate) fn send(pid: u32, signal: Signal) -> Result<(), String> {
    let pid =
        i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{pid} is no process id"))?;
    kill_process(pid, signal).map_err(|error| error.to_string())
}

/// Prints what a server or program left behind, for a test that has failed.
#[expect(clippy::print_stderr, reason = "the test runner shows it beside the panic")]
pub(crate) fn show(title: &str, text: &str) {
    eprintln!("---- {title} ----\n{text}");
}

pub(crate) fn create(path: &Path) -> File {
    match File::options().create(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => panic!("cannot write {}: {error}", path.display()),
    }
}

pub(crate) fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
