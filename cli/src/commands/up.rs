//! `fairlane up`: a dispatcher, workers and a Redis on this machine, for this user.
//!
//! It runs the same code as `dispatcher` and `worker`, and parses command lines for them. So all their
//! settings from the environment and from `fairlane.toml` apply here, too.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::line::Line;
use fairlane_clikit::output::{Colors, Output, Tone, clean};
use fairlane_clikit::redis_server::{DataFolder, RedisServer, default_folder, socket_in};
use fairlane_common::build::BuildState;
use fairlane_common::events::Event;
use fairlane_common::{Build, Queue, RedisUrl};
use fairlane_worker::ExecutorKind;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::serve::{check_open, explain, finish, open, start_log};
use crate::args::{Cli, Command, Up};
use crate::otlp::Exporting;
use crate::repo2docker;
use crate::seal_key;

/// Pause after events could not be read.
const EVENTS_PAUSE: Duration = Duration::from_secs(2);
/// Time for streams to send the ends of the last builds.
const LAST_WORDS: Duration = Duration::from_millis(700);
/// A repository that can be built within minutes.
const FIRST_BUILD: &str = "https://github.com/binder-examples/requirements";

pub(crate) async fn run(args: Up, line: &Line, output: Output) -> Result<Exit> {
    start_log(&args.log, "warn", output)?;
    let traces = Exporting::start(&args.log.trace, "fairlane")?;
    let end = serve(args, line, output).await;
    finish(traces).await;
    end
}

async fn serve(args: Up, line: &Line, output: Output) -> Result<Exit> {
    let shutdown = fairlane_worker::shutdown_on_signals()?;
    let given = args.redis_url.as_deref().filter(|url| !url.is_empty());
    if let Some(url) = given {
        let plan = Plan::new(&args, line, url, None)?;
        return plan.serve(&args, None, &shutdown, output).await;
    }
    let folder = args.data.clone().map_or_else(default_folder, Ok)?;
    let url = |folder: &DataFolder| format!("unix://{}", socket_in(folder.path()).display());
    let folder = DataFolder::open(&folder)?;
    // Any error in the settings is reported before anything starts.
    let plan = Plan::new(&args, line, &url(&folder), Some(&seal_key::in_folder(folder.path())?))?;
    let mut redis = RedisServer::start(folder).await?;
    let socket = redis.socket().display().to_string();
    let done = CancellationToken::new();
    let result = tokio::select! {
        result = plan.serve(&args, Some(socket), &shutdown, output) => result,
        kept = redis.keep(&done, output) => kept.map(|()| Exit::Failed),
    };
    redis.stop().await;
    output.talk("Stopped. The queue is kept for the next `fairlane up`.");
    result
}

/// The checked settings of all parts.
struct Plan {
    dispatcher: fairlane_dispatcher::Settings,
    worker: fairlane_worker::Settings,
    url: RedisUrl,
    prefix: String,
    has_token: bool,
}

impl Plan {
    /// `key` seals secrets if the environment and the file set no key.
    fn new(args: &Up, line: &Line, url: &str, key: Option<&SecretString>) -> Result<Self> {
        let slots = args.slots.to_string();
        let words = ["fairlane", "dispatcher", "--redis-url", url, "--listen", &args.listen];
        let Command::Dispatcher { args: mut dispatcher, .. } = line.parse::<Cli>(words)?.command else {
            bail!("the dispatcher's settings cannot be read");
        };
        let mut words = vec!["fairlane", "worker", "--redis-url", url, "--slots", &slots];
        words.extend(args.command.iter().flat_map(|command| ["--command", command.as_str()]));
        let Command::Worker { args: mut worker, .. } = line.parse::<Cli>(words)?.command else {
            bail!("the worker's settings cannot be read");
        };
        if dispatcher.serve.seal_key.is_none() && worker.seal_key.is_none() {
            (dispatcher.serve.seal_key, worker.seal_key) = (key.cloned(), key.cloned());
        }
        // Only users of this machine can reach a loopback address, and they may use its folders.
        if dispatcher.serve.listen.ip().is_loopback() {
            (dispatcher.serve.allow_local_repos, worker.allow_local_repos) = (true, true);
        }
        let (prefix, url) = (worker.prefix.clone(), worker.redis_url.clone());
        let worker = worker.settings().map_err(|error| Stop::usage(format!("{error:#}")))?;
        if worker.executor == ExecutorKind::Process {
            find_command(&worker, args.command.is_none())?;
        }
        let serve = &dispatcher.serve;
        let has_token =
            [&serve.token, &serve.hub_token].into_iter().any(Option::is_some) || serve.tokens_file.is_some();
        let dispatcher = dispatcher.serve.settings().map_err(Stop::usage)?;
        check_open(&dispatcher)?;
        Ok(Self { dispatcher, worker, url, prefix, has_token })
    }

    /// Runs everything until `shutdown`. Workers stop first, so that people can follow builds to the last
    /// line.
    async fn serve(
        self,
        args: &Up,
        socket: Option<String>,
        shutdown: &CancellationToken,
        output: Output,
    ) -> Result<Exit> {
        let Self { dispatcher, worker, url, prefix, has_token } = self;
        let queue = open(&url, &prefix).await?;
        try_command(&worker, output).await;
        let stop_dispatcher = CancellationToken::new();
        let (tell, listening) = oneshot::channel();
        // The receiver is only gone if the dispatcher has failed.
        let ready = move |address| _ = tell.send(address);
        let serve = fairlane_dispatcher::serve(dispatcher, queue.clone(), stop_dispatcher.clone(), ready);
        let mut dispatcher = tokio::spawn(serve);
        let address = tokio::select! {
            Ok(address) = listening => address,
            ended = &mut dispatcher => {
                ended?.map_err(explain)?;
                bail!("the dispatcher ended before it was ready");
            }
        };
        let stop_workers = shutdown.child_token();
        let mut workers = Workers::start(args.workers, &worker, &queue, &stop_workers).await?;
        if !shutdown.is_cancelled() {
            greet(args, address, socket.as_deref(), has_token, output);
        }
        let result = tokio::select! {
            ended = &mut dispatcher => {
                ended?.map_err(explain)?;
                bail!("the dispatcher has ended")
            }
            never = tell_builds(&queue, output) => match never {},
            result = workers.attend(shutdown, output) => result,
        };
        stop_workers.cancel();
        while workers.0.join_next().await.is_some() {}
        if result.is_ok() {
            tokio::time::sleep(LAST_WORDS).await;
        }
        stop_dispatcher.cancel();
        if !dispatcher.is_finished() {
            dispatcher.await?.map_err(explain)?;
        }
        result.map(|()| Exit::Good)
    }
}

/// The workers of this process.
struct Workers(JoinSet<Result<()>>);

impl Workers {
    /// Starts workers, and waits until the queue counts their slots.
    async fn start(
        count: u32,
        settings: &fairlane_worker::Settings,
        queue: &Queue,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let (tell, mut ready) = mpsc::channel::<()>(1);
        let mut workers = JoinSet::new();
        for _ in 0..count {
            let tell = tell.clone();
            workers.spawn(fairlane_worker::run(settings.clone(), queue.clone(), stop.clone(), move || {
                drop(tell);
            }));
        }
        drop(tell);
        tokio::select! {
            // The channel closes once each worker is ready or has ended.
            _ = ready.recv() => {}
            () = stop.cancelled() => {}
        }
        if !stop.is_cancelled()
            && let Some(ended) = workers.try_join_next()
        {
            ended??;
        }
        Ok(Self(workers))
    }

    /// Waits for a shutdown and the end of all workers, or until one fails.
    async fn attend(&mut self, shutdown: &CancellationToken, output: Output) -> Result<()> {
        let said = async {
            shutdown.cancelled().await;
            output.talk(
                "Shutting down after the running builds. Ctrl-C again stops them and puts them back in line.",
            );
            std::future::pending::<()>().await;
        };
        let ended = async {
            while let Some(ended) = self.0.join_next().await {
                ended??;
            }
            shutdown.cancelled().await;
            Ok(())
        };
        tokio::select! {
            () = said => Ok(()),
            result = ended => result,
        }
    }
}

/// Prints which builds start and end.
async fn tell_builds(queue: &Queue, output: Output) -> std::convert::Infallible {
    let mut events = queue.events();
    loop {
        let Ok(batch) = events.next().await else {
            // Other tasks report that Redis is away.
            tokio::time::sleep(EVENTS_PAUSE).await;
            continue;
        };
        for event in batch {
            let is_told = event.state == BuildState::Running || event.state.is_ended();
            if (is_told || event.state == BuildState::Queued)
                && let Ok(Some(build)) = queue.build(event.build).await
                && (is_told || build.attempt > 1)
            {
                output.talk(&told(&event, &build));
            }
        }
    }
}

fn told(event: &Event, build: &Build) -> String {
    let Build { id, spec, .. } = build;
    match event.state {
        BuildState::Running => format!("{id}  building {} from {}", spec.image, spec.repo),
        BuildState::Queued => {
            let reason = build.reason.as_deref().unwrap_or("its worker was lost");
            format!("{id}  will be retried: {}", clean(reason, Colors::Drop))
        }
        BuildState::Failed => {
            let reason = build.reason.as_deref().map(|reason| format!(": {}", clean(reason, Colors::Drop)));
            format!("{id}  failed{}; `fairlane logs {id}` shows its log", reason.unwrap_or_default())
        }
        state => format!("{id}  {state}"),
    }
}

/// Warns, before the first build, about anything that would make builds fail.
async fn try_command(worker: &fairlane_worker::Settings, output: Output) {
    if worker.executor != ExecutorKind::Process {
        return;
    }
    let Some(program) = repo2docker::in_command(&worker.command) else { return };
    if let Err(troubles) = repo2docker::check(&program).await {
        for trouble in troubles {
            output.talk(&output.paint_talk(Tone::Warning, &format!("Builds will fail: {}", trouble.what)));
            output.talk(&trouble.advice);
        }
    }
}

/// Reports a missing build command before anything starts.
fn find_command(worker: &fairlane_worker::Settings, is_default: bool) -> Result<()> {
    let path = std::env::var_os("PATH");
    match worker.command.find_program(path.as_deref()) {
        Ok(_) => Ok(()),
        Err(_) if is_default => Err(Stop::new(
            Exit::Failed,
            format!(
                "jupyter-repo2docker, which builds the images, is not in PATH.\n\
                 Install it:\n  {}\n\
                 Or name another command: fairlane up --command 'my-builder --repo {{repo}} --ref {{ref}} --image {{image}}'",
                repo2docker::how_to_install()
            ),
        )
        .into()),
        Err(error) => Err(Stop::usage(format!("{error:#}")).into()),
    }
}

fn greet(args: &Up, address: SocketAddr, socket: Option<&str>, has_token: bool, output: Output) {
    let each = if args.workers == 1 { "" } else { " each" };
    let (workers, slots) =
        (human::many(args.workers.into(), "worker"), human::many(args.slots.into(), "slot"));
    let machinery = format!("{workers}, {slots}{each}");
    let url = format!("http://{address}");
    output.talk(&output.paint_talk(Tone::Strong, &format!("Fairlane listens on {url} ({machinery}).")));
    let there =
        if url == "http://127.0.0.1:8600" { String::new() } else { format!(" --dispatcher-url {url}") };
    output.talk(&format!("  A first build:    fairlane submit{there} {FIRST_BUILD} --watch"));
    output.talk(&format!("  See the queue:    fairlane queue{there}, or open {url} in a browser"));
    if let Some(socket) = socket {
        output.talk(&format!("  Look into Redis:  redis-cli -s {socket}"));
    }
    if has_token {
        output.talk("  Clients need the token: set FAIRLANE_TOKEN for them too.");
    }
    output.talk("Ctrl-C stops it once running builds have ended; the queue is kept.");
}
