//! Runs as processes on this host, each with a supervisor (see [`crate::process::supervisor`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use fairlane_common::log::LogLine;
use fairlane_common::{Lane, WorkerId};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::host::Host;
use crate::build::judge::Verdict;
use crate::executor::{Ended, Executor, Run, RunEvent, RunSpec};
use crate::process::supervisor::protocol::{Job, News, Order};
use crate::process::supervisor::{Exit, StopCause};
use crate::settings::command::CommandTemplate;
use crate::settings::push_gate;
use crate::settings::{Settings, SupervisorCommand};
use crate::time::boot_time::BootTime;

/// How long a supervisor may take to start the command.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages buffered for the build's task.
const NEWS_MAX: usize = 256;
/// Orders in flight; a supervisor that accepts no more is frozen, and no order would help.
const ORDERS_MAX: usize = 16;
/// Prefix of the worker's environment variables that builds must not see.
const OWN_VARIABLES: &str = "FAIRLANE_";

pub(crate) struct ProcessExecutor {
    supervisor: SupervisorCommand,
    template: CommandTemplate,
    program: PathBuf,
    host: Host,
}

impl ProcessExecutor {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let program = settings.command.find_program(std::env::var_os("PATH").as_deref())?;
        Ok(Self {
            supervisor: settings.supervisor.clone(),
            template: settings.command.clone(),
            program,
            host: Host::new(&settings.host, &settings.command),
        })
    }

    fn spawn(&self) -> Result<(Child, ChildStdin, ChildStdout)> {
        let mut command = Command::new(&self.supervisor.program);
        command.args(&self.supervisor.args).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A separate process group, so that Ctrl-C in a terminal does not reach it before it is ready.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(OWN_VARIABLES.as_bytes()) {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().context("cannot start the supervisor")?;
        let stdin = child.stdin.take().context("the supervisor has no standard input")?;
        let stdout = child.stdout.take().context("the supervisor has no standard output")?;
        Ok((child, stdin, stdout))
    }
}

#[async_trait]
impl Executor for ProcessExecutor {
    fn place(&self, worker: &WorkerId) -> String {
        format!("process:{worker}")
    }

    fn outlives(&self) -> bool {
        false
    }

    fn paused(&self) -> Option<String> {
        self.host.paused()
    }

    fn may_start(&self, free: usize) -> usize {
        self.host.may_start(free)
    }

    fn unused(&self) {
        self.host.unused();
    }

    async fn pause_changed(&self) {
        self.host.changed().await;
    }

    fn host(&self) -> Option<&str> {
        Some(&self.host.name)
    }

    async fn examine(&self, lane: &Lane, begun: bool, verdict: Verdict) -> Verdict {
        self.host.examine(lane, begun, verdict).await
    }

    async fn tend(&self) {
        self.host.tend().await;
    }

    async fn start(&self, spec: RunSpec<'_>) -> Result<Box<dyn Run>> {
        let folder =
            std::env::temp_dir().join(format!("fairlane-run-{}-{}", spec.build.id, spec.build.epoch));
        let (mut args, mut env) = (self.template.arguments(spec.build), spec.env);
        let mut files = BTreeMap::new();
        if spec.gated {
            args.insert(0, self.program.display().to_string());
            let gated = push_gate::gated(args, &folder.display().to_string());
            args = gated.words.into_iter().skip(1).collect();
            env.extend(gated.env);
            if gated.hooked {
                files.insert(push_gate::HOOK.to_owned(), push_gate::HOOK_TEXT.to_owned());
            }
        }
        let job = Job {
            program: self.program.clone(),
            args,
            env,
            folder: folder.clone(),
            files,
            deadline: spec.deadline,
        };
        let (child, mut stdin, stdout) = self.spawn()?;
        let mut line = serde_json::to_vec(&job).context("the job cannot be written")?;
        line.push(b'\n');
        let (orders, orders_out) = mpsc::channel(ORDERS_MAX);
        let (news_in, news) = mpsc::channel(NEWS_MAX);
        tokio::spawn(read_news(child, stdout, news_in).in_current_span());
        let kill = CancellationToken::new();
        let mut run =
            ProcessRun { orders, news, up: false, leader: None, folder, _pipe: kill.clone().drop_guard() };
        let starting = async {
            stdin.write_all(&line).await.context("the supervisor does not accept its job")?;
            tokio::spawn(write_orders(stdin, orders_out, kill).in_current_span());
            match run.news.recv().await {
                Some(News::Started(leader)) => Ok(leader),
                Some(News::NotStarted(why)) => bail!("{why}"),
                _ => bail!("the supervisor ended before it had started the command"),
            }
        };
        let leader = tokio::time::timeout(START_TIMEOUT, starting)
            .await
            .context("the supervisor does not answer")??;
        run.leader = Pid::from_raw(leader);
        self.host.begun();
        Ok(Box::new(run))
    }

    async fn attach(&self, _: RunSpec<'_>) -> Result<Option<Box<dyn Run>>> {
        // A supervisor belongs to the task that started it, and ends with it.
        Ok(None)
    }
}

struct ProcessRun {
    orders: mpsc::Sender<Order>,
    news: mpsc::Receiver<News>,
    /// Whether it was reported as running.
    up: bool,
    /// The command, which leads its process group.
    leader: Option<Pid>,
    /// Its folder for temporary files.
    folder: PathBuf,
    /// Closes the pipe to the supervisor when the run is dropped, however full the pipe is.
    _pipe: tokio_util::sync::DropGuard,
}

#[async_trait]
impl Run for ProcessRun {
    async fn follow(&mut self) -> RunEvent {
        if !std::mem::replace(&mut self.up, true) {
            return RunEvent::Up(None);
        }
        loop {
            match self.news.recv().await {
                Some(News::Line { t, text }) => return RunEvent::Line(LogLine { t, text }),
                Some(News::Exit(exit)) => {
                    self.leader = None;
                    return RunEvent::Exited(Ended { exit, ..Ended::default() });
                }
                Some(News::Started(_) | News::NotStarted(_)) => {}
                None => {
                    self.abandon();
                    // In place of its supervisor. Files that are still being written may remain.
                    let _ = tokio::fs::remove_dir_all(&self.folder).await;
                    let exit = Exit { stopped: Some(StopCause::SupervisorGone), ..Exit::default() };
                    return RunEvent::Exited(Ended { exit, ..Ended::default() });
                }
            }
        }
    }

    fn renewed(&mut self, deadline: BootTime) {
        // A lost message only shortens the lease; the next heartbeat sends another one.
        let _ = self.orders.try_send(Order::Deadline(deadline));
    }

    fn stop(&mut self, grace: Duration) {
        if self.orders.try_send(Order::Stop(grace)).is_err() {
            self.abandon();
        }
    }

    fn open_gate(&mut self) {
        let gate = self.folder.join(push_gate::GATE);
        if let Err(error) = std::fs::write(&gate, push_gate::OPEN) {
            // It then waits until its time is up.
            tracing::error!(%error, gate = %gate.display(), "cannot let the run push");
        }
    }

    fn abandon(&mut self) {
        if let Some(leader) = self.leader.take() {
            // Fails only when the group is gone.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn write_orders(mut pipe: ChildStdin, mut orders: mpsc::Receiver<Order>, kill: CancellationToken) {
    let writing = async {
        while let Some(order) = orders.recv().await {
            let mut line = serde_json::to_vec(&order).unwrap_or_default();
            line.push(b'\n');
            if pipe.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = kill.cancelled() => {}
    }
}

/// Reads a supervisor's messages until they end, and waits for the supervisor.
async fn read_news(mut child: Child, pipe: ChildStdout, news: mpsc::Sender<News>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Our own program writes these lines, and limits their length.
        match pipe.read_until(b'\n', &mut line).await {
            Ok(count) if count > 0 => {}
            _ => break,
        }
        match serde_json::from_slice(&line) {
            Ok(item) => {
                if news.send(item).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the supervisor wrote a line that cannot be read");
            }
        }
    }
    drop(news);
    // A broken pipe does not block the supervisor: it kills the run and exits.
    drop(pipe);
    let _ = child.wait().await;
}
