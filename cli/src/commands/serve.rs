//! `fairlane dispatcher` and `fairlane worker`: run one process until a signal.

use anyhow::Result;
use fairlane_clikit::exit::{self, Exit, Stop};
use fairlane_clikit::output::Output;
use fairlane_common::telemetry::{self, FILTER_DEFAULT};
use fairlane_common::{Queue, RedisUrl};
use fairlane_dispatcher::ServeError;

use crate::args::LogArgs;
use crate::otlp::Exporting;

pub(crate) async fn dispatcher(
    args: fairlane_dispatcher::Args,
    log: &LogArgs,
    output: Output,
) -> Result<Exit> {
    start_log(log, FILTER_DEFAULT, output)?;
    let traces = Exporting::start(&log.trace, "fairlane-dispatcher")?;
    let settings = args.serve.settings().map_err(Stop::usage)?;
    check_open(&settings)?;
    let url: RedisUrl = args.redis.redis_url.parse()?;
    let queue = open(&url, &args.redis.prefix).await?;
    let shutdown = fairlane_worker::shutdown_on_signals()?;
    let served = fairlane_dispatcher::serve(settings, queue, shutdown, |_| ()).await;
    finish(traces).await;
    served.map_err(explain)?;
    Ok(Exit::Good)
}

/// Adds what to do if a dispatcher cannot serve.
pub(crate) fn explain(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Open(_) => Stop::usage(error).into(),
        ServeError::Listen { address, source } if source.kind() == std::io::ErrorKind::AddrInUse => Stop::new(
            Exit::Failed,
            format!("{address} is in use, perhaps by another `fairlane up`; choose another address with --listen"),
        )
        .into(),
        other => other.into(),
    }
}

pub(crate) async fn worker(args: fairlane_worker::Args, log: &LogArgs, output: Output) -> Result<Exit> {
    start_log(log, FILTER_DEFAULT, output)?;
    let traces = Exporting::start(&log.trace, "fairlane-worker")?;
    let (url, prefix) = (args.redis_url.clone(), args.prefix.clone());
    let settings = args.settings().map_err(|error| Stop::usage(format!("{error:#}")))?;
    let queue = open(&url, &prefix).await?;
    let shutdown = fairlane_worker::shutdown_on_signals()?;
    let worked = fairlane_worker::run(settings, queue, shutdown, || ()).await;
    finish(traces).await;
    worked?;
    tracing::info!("the worker has ended");
    Ok(Exit::Good)
}

/// Sends the last spans to the collector.
pub(crate) async fn finish(traces: Option<Exporting>) {
    if let Some(traces) = traces {
        traces.finish().await;
    }
}

/// Starts logging; `usual` is the default filter.
pub(crate) fn start_log(log: &LogArgs, usual: &str, output: Output) -> Result<()> {
    let filter = log.filter.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(usual);
    Ok(telemetry::init(filter, log.log_format, output.talks_in_color()).map_err(Stop::usage)?)
}

pub(crate) async fn open(url: &RedisUrl, prefix: &str) -> Result<Queue> {
    Queue::open(url, prefix).await.map_err(|error| {
        let (passes, answers) = (error.is_transient(), error.is_answer());
        let why = exit::in_full(&error.into());
        let advice = if answers && (why.contains("NOAUTH") || why.contains("authentication")) {
            "\nThe password belongs in the address: redis://:PASSWORD@HOST:6379, or redis://USER:PASSWORD@HOST:6379."
        } else if answers {
            ""
        } else {
            "\nIs Redis running there? --redis-url or FAIRLANE_REDIS_URL names another."
        };
        let exit = if passes { Exit::Unreachable } else { Exit::Failed };
        Stop::new(exit, format!("{url}: {why}{advice}")).into()
    })
}

/// Refuses to listen without a token on anything but a loopback address.
pub(crate) fn check_open(settings: &fairlane_dispatcher::Settings) -> Result<()> {
    if settings.tokens.is_empty() && !settings.listen.ip().is_loopback() {
        return Err(explain(ServeError::Open(settings.listen)));
    }
    Ok(())
}
