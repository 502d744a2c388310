//! The supervisor of one run: a small process between the worker and the build command, so that no run outlives
//! its lease even if the worker is killed or frozen.
//!
//! It starts the command as the leader of a new process group and is the subreaper of all its descendants. It
//! kills all of them when the worker says so, when the pipe from the worker closes (the worker is gone), and when
//! the lease was not renewed by the time that the worker named (the worker is frozen, or cut off from Redis). It
//! reports the end only once all are gone.

mod family;
mod output;
pub(crate) mod protocol;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fairlane_common::limits::KILL_GRACE;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

pub(crate) use self::protocol::{Exit, StopCause};
use self::protocol::{Job, News, Order};
use crate::time::boot_time::BootTime;

/// Longest time between two checks of the lease and of the remaining processes.
const TICK: Duration = Duration::from_millis(100);
/// Shortest time between two rounds of killing remaining processes.
const KILL_PAUSE: Duration = Duration::from_millis(20);
/// The grace period if the worker is gone. The lease still lasts a while; its deadline may shorten this.
const GRACE_WORKER_GONE: Duration = Duration::from_secs(1);
/// How long the last lines and the report may take to reach the worker.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages in flight to the worker; when the channel is full, the command waits.
const NEWS_MAX: usize = 256;
/// Largest job: the secrets, and arguments of the largest allowed size.
const JOB_BYTES_MAX: u64 = 1024 * 1024;

/// Runs the supervisor: reads a job from standard input, writes messages to standard output. Returns when no
/// process of the run is left.
pub fn supervise_main() -> ExitCode {
    match supervise(BufReader::new(std::io::stdin()), std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("supervisor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one job: reads orders from `orders`, writes messages to `news`. The calling process becomes the subreaper
/// of what it starts and waits for all its children, so it must do nothing else.
///
/// # Errors
/// The job cannot be read, or the system refuses what a supervisor needs. If the command cannot be started, that
/// is not an error here: the worker is told.
fn supervise(
    mut orders: impl BufRead + Send + 'static,
    news: impl std::io::Write + Send + 'static,
) -> Result<()> {
    shield_from_signals()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become subreaper")?;
    let mut job = Vec::new();
    (&mut orders).take(JOB_BYTES_MAX).read_until(b'\n', &mut job).context("cannot read the job")?;
    let job: Job = serde_json::from_slice(&job).map_err(|_| anyhow::anyhow!("the job cannot be read"))?;

    let (news_in, news_out) = mpsc::sync_channel(NEWS_MAX);
    let (done_in, done_out) = mpsc::channel();
    thread::spawn(move || {
        output::report(&news_out, news);
        let _ = done_in.send(());
    });
    let folder = make_folder(&job.folder).then(|| job.folder.clone());
    let watch = start(&job, folder.as_ref(), &news_in).map(|run| Watch::new(run, job.deadline));
    drop(job);
    let last = match watch {
        Ok((mut watch, events_in)) => {
            thread::spawn(move || read_orders(orders, &events_in));
            News::Exit(watch.until_gone())
        }
        Err(error) => News::NotStarted(format!("{error:#}")),
    };
    if let Some(folder) = folder {
        // Remains of killed builds would fill the disk in the long run.
        let _ = std::fs::remove_dir_all(folder);
    }
    send_within(&news_in, last, REPORT_TIMEOUT);
    drop(news_in);
    let _ = done_out.recv_timeout(REPORT_TIMEOUT);
    Ok(())
}

/// Catches the signals that are meant for the worker, which decides what happens to the run: terminals and service
/// managers send them to every process. They are caught, not ignored, so that the command starts with the default
/// handlers.
fn shield_from_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // On a separate thread, because the caller may already be inside a runtime.
    let shield = thread::spawn(|| -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            for kind in
                [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()]
            {
                // The handler stays when the stream is dropped.
                let _ = signal(kind)?;
            }
            Ok(())
        })
    });
    shield.join().map_err(|_| anyhow::anyhow!("cannot catch signals"))?.context("cannot catch signals")
}

/// Creates the folder for the run's temporary files; without it, the command uses the system's.
fn make_folder(folder: &Path) -> bool {
    use std::os::unix::fs::DirBuilderExt;
    // Private repositories are cloned into it.
    std::fs::DirBuilder::new().mode(0o700).create(folder).is_ok()
}

/// A running command, and its events.
struct Run {
    leader: Pid,
    events_in: Sender<Event>,
    events: Receiver<Event>,
}

enum Event {
    Order(Order),
    WorkerGone,
    Exited(Pid, WaitStatus),
    /// No child is left; for a subreaper, that means no process of the run.
    NoneLeft,
    /// One of the command's outputs has been forwarded to its end.
    OutputEnd,
}

fn start(job: &Job, folder: Option<&PathBuf>, news: &SyncSender<News>) -> Result<Run> {
    use std::os::unix::process::CommandExt;
    anyhow::ensure!(!job.deadline.has_passed(), "the lease expired before the command could start");
    for (name, text) in &job.files {
        let folder = folder.context("the run's folder cannot be created")?;
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let mut command = Command::new(&job.program);
    command.args(&job.args).envs(&job.env).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(folder) = folder {
        command.env("TMPDIR", folder);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", job.program.display()))?;
    let leader =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the command has no process id")?;
    let _ = news.send(News::Started(leader.as_raw_nonzero().get()));
    let (events_in, events) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    for pipe in [stdout.map(Pipe::Out), stderr.map(Pipe::Err)].into_iter().flatten() {
        let (news, events_in) = (news.clone(), events_in.clone());
        thread::spawn(move || {
            match pipe {
                Pipe::Out(pipe) => output::forward(pipe, &news),
                Pipe::Err(pipe) => output::forward(pipe, &news),
            }
            let _ = events_in.send(Event::OutputEnd);
        });
    }
    let reaper = events_in.clone();
    thread::spawn(move || reap(&reaper));
    Ok(Run { leader, events_in, events })
}

enum Pipe {
    Out(std::process::ChildStdout),
    Err(std::process::ChildStderr),
}

/// Waits for all children: the command and whatever it left behind.
fn reap(events: &Sender<Event>) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let _ = events.send(Event::Exited(pid, status));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    let _ = events.send(Event::NoneLeft);
}

fn read_orders(orders: impl BufRead, events: &Sender<Event>) {
    for line in orders.lines() {
        let Ok(line) = line else { break };
        if let Ok(order) = serde_json::from_str(&line) {
            let _ = events.send(Event::Order(order));
        }
    }
    let _ = events.send(Event::WorkerGone);
}

/// A stop in progress.
struct Stopping {
    cause: StopCause,
    kill_at: Instant,
}

/// Supervises a run until it is gone.
struct Watch {
    leader: Pid,
    events: Receiver<Event>,
    deadline: BootTime,
    stopping: Option<Stopping>,
    exit: Option<Exit>,
    outputs: usize,
    none_left: bool,
    worker_gone: bool,
}

impl Watch {
    fn new(run: Run, deadline: BootTime) -> (Self, Sender<Event>) {
        let Run { leader, events_in, events } = run;
        let watch = Self {
            leader,
            events,
            deadline,
            stopping: None,
            exit: None,
            outputs: 2,
            none_left: false,
            worker_gone: false,
        };
        (watch, events_in)
    }

    fn until_gone(&mut self) -> Exit {
        while !self.none_left {
            self.step();
            if self.deadline.has_passed() {
                self.stop(StopCause::Expired, KILL_GRACE);
            }
            let overdue = self.stopping.as_ref().is_some_and(|stopping| Instant::now() >= stopping.kill_at);
            // When the command ends, the run ends: processes that it left behind are not part of a build.
            if (overdue || self.exit.is_some()) && !self.none_left {
                family::signal_all(self.group(), Signal::KILL);
            }
        }
        // No process writes any more: the rest of the output is at most what the pipes hold.
        let end = Instant::now() + REPORT_TIMEOUT;
        while self.outputs > 0 && !self.worker_gone && Instant::now() < end {
            self.step();
        }
        self.exit.unwrap_or_default()
    }

    fn step(&mut self) {
        let ending = self.stopping.is_some() || self.exit.is_some();
        // A run that is being killed is checked again and again, but not more often than this.
        let shortest = if ending { KILL_PAUSE } else { Duration::from_millis(1) };
        let wait = self.deadline.remaining().clamp(shortest, TICK);
        match self.events.recv_timeout(wait) {
            Ok(Event::Order(Order::Deadline(deadline))) => self.deadline = self.deadline.max(deadline),
            Ok(Event::Order(Order::Stop(grace))) => self.stop(StopCause::Ordered, grace),
            Ok(Event::WorkerGone) => {
                self.worker_gone = true;
                self.stop(StopCause::WorkerGone, GRACE_WORKER_GONE);
            }
            Ok(Event::Exited(pid, status)) if pid == self.leader => self.exit = Some(self.exit_of(status)),
            Ok(Event::Exited(..)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::OutputEnd) => self.outputs = self.outputs.saturating_sub(1),
            Ok(Event::NoneLeft) | Err(RecvTimeoutError::Disconnected) => self.none_left = true,
        }
    }

    /// Stops the run, or shortens the grace period of a stop in progress.
    fn stop(&mut self, cause: StopCause, grace: Duration) {
        let kill_at = Instant::now() + grace;
        if let Some(stopping) = &mut self.stopping {
            stopping.kill_at = stopping.kill_at.min(kill_at);
            return;
        }
        // A command that has ended but was not waited for yet was not stopped by this.
        if self.exit.is_some() || family::has_ended(self.leader) {
            return;
        }
        self.stopping = Some(Stopping { cause, kill_at });
        let signal = if grace.is_zero() { Signal::KILL } else { Signal::TERM };
        family::signal_all(self.group(), signal);
    }

    fn exit_of(&self, status: WaitStatus) -> Exit {
        Exit {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            stopped: self.stopping.as_ref().map(|stopping| stopping.cause),
        }
    }

    /// The process group, until its leader has been waited for: after that, its id may be reused.
    fn group(&self) -> Option<Pid> {
        self.exit.is_none().then_some(self.leader)
    }
}

fn send_within(news: &SyncSender<News>, mut item: News, limit: Duration) {
    let end = Instant::now() + limit;
    loop {
        match news.try_send(item) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            Err(TrySendError::Full(back)) => item = back,
        }
        if Instant::now() >= end {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
