//! The command line, as a tree of types. The doc comments are the help texts.

#![expect(clippy::doc_markdown, reason = "the comments are the help, which people read as plain text")]

mod builds;
mod campaign;
mod doctor;
mod history;
mod import_binderhub;
mod logs;
mod nodes;
mod policy;
mod queue;
mod rule;
mod samples;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use fairlane_clikit::line::Everywhere;
use fairlane_clikit::redis_server::Guard;
use fairlane_common::build::{BuildState, Priority};
use fairlane_common::id::{GitRef, Image, Repo, WorkerId};
use fairlane_common::telemetry::LogFormat;
use secrecy::SecretString;

pub(crate) use builds::{BuildRef, Cancel, Retry};
pub(crate) use campaign::{
    Campaign, CampaignAct, CampaignPlan, CampaignReport, CampaignStart, CampaignWait, CampaignWatch,
};
pub(crate) use doctor::{AclFor, Doctor};
pub(crate) use history::{Audit, Events};
pub(crate) use import_binderhub::ImportBinderHub;
pub(crate) use logs::{Logs, LogsAct, LogsPrune};
pub(crate) use nodes::{Nodes, NodesAct, NodesProbe};
pub(crate) use policy::{PolicyAct, PolicyArgs};
pub(crate) use queue::{Lanes, Queue, Sort, Why};
pub(crate) use rule::{LimitArgs, PatternText, Rule, StopArgs};
pub(crate) use samples::History;
pub(crate) use top::Top;

/// The exit codes, as `--help` shows them.
const EXIT_CODES: &str = "\
Exit codes:
    0  success; a watched build succeeded
    1  a watched build failed, `doctor` found an error, or the command failed
    2  bad input: an option, a setting, or something the dispatcher does not accept
    3  a watched build was cancelled
    4  no dispatcher, or no Redis, could be reached
    5  refused: a ban, a full queue, or a token that may not do this
    6  the --timeout of `campaign wait` is over
  130  interrupted; a watched build goes on

Settings come from options, then from the environment (FAIRLANE_…), then from fairlane.toml in the
current folder, or from the file that --config names. In that file, `redis_url = \"…\"` at the top
applies to every command with that option; a table such as `[worker]` applies to one command.";

/// A build queue for BinderHub: no repository can hold up the builds of the others.
///
/// Try it: `fairlane up` in one terminal, and in another
/// `fairlane submit https://github.com/binder-examples/requirements --watch`.
#[derive(Debug, Parser)]
#[command(name = "fairlane", version, after_help = EXIT_CODES, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<Up>),
    /// Run a dispatcher: the HTTP API and its event streams
    ///
    /// Example: fairlane dispatcher --redis-url redis://redis:6379 --listen 127.0.0.1:8600
    #[command(display_order = 20)]
    Dispatcher {
        #[command(flatten)]
        args: Box<fairlane_dispatcher::Args>,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Run a worker: claims builds and runs them
    ///
    /// Example: fairlane worker --redis-url redis://redis:6379 --slots 4
    #[command(display_order = 21)]
    Worker {
        #[command(flatten)]
        args: Box<fairlane_worker::Args>,
        // The last options of a worker are below the heading of Kubernetes.
        #[command(flatten, next_help_heading = None::<&'static str>)]
        log: LogArgs,
    },
    Submit(Box<Submit>),
    Watch(Watch),
    Logs(Logs),
    Queue(Queue),
    Top(Top),
    Lanes(Lanes),
    Why(Why),
    /// Ban, hold or limit repositories
    ///
    /// A pattern is a lane (github.com/owner/name), a repository's address, or leading segments of a
    /// lane and a final * ('github.com/owner/*', in quotes). The most specific rule wins. Rules take
    /// effect at once.
    #[command(display_order = 9, subcommand_required = true, arg_required_else_help = true)]
    Rule {
        #[command(subcommand)]
        rule: Rule,
    },
    /// Build many images in the background, such as popular ones before an upgrade
    ///
    /// A campaign makes the builds of a plan while people need no slots. It is stored in Redis, so it survives restarts of
    /// everything, and goes on after this command has ended.
    #[command(display_order = 9, subcommand_required = true, arg_required_else_help = true)]
    Campaign {
        #[command(subcommand)]
        campaign: Campaign,
    },
    Policy(PolicyArgs),
    Workers(Workers),
    Drain(Drain),
    Nodes(Nodes),
    History(History),
    Events(Events),
    Audit(Audit),
    Cancel(Cancel),
    Retry(Retry),
    Doctor(Box<Doctor>),
    #[command(name = "import-binderhub")]
    ImportBinderHub(ImportBinderHub),
    /// Play a day of launches through the queue, in virtual time
    #[command(display_order = 22, disable_help_flag = true)]
    Replay(Passed),
    /// Measure what the queue costs, compared with a bare queue in the same run
    #[command(display_order = 14, disable_help_flag = true)]
    Bench(Passed),
    Completions(Completions),
    /// Turn into the redis-server of `up` (internal)
    #[command(hide = true)]
    RedisGuard(Guard),
}

/// Whatever is passed on to the program that reads it: see [`crate::commands::passed_on`].
#[derive(Debug, Args)]
pub(crate) struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS", value_hint = ValueHint::AnyPath)]
    _arguments: Vec<OsString>,
}

/// How to reach the dispatchers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Dispatcher")]
pub(crate) struct Reach {
    /// Dispatcher URLs, comma-separated; the first that answers is used
    #[arg(
        long,
        env = "FAIRLANE_DISPATCHER_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8600"
    )]
    pub(crate) dispatcher_url: Vec<String>,
    /// API token; prefer FAIRLANE_TOKEN or fairlane.toml to the command line
    #[arg(long, env = "FAIRLANE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<SecretString>,
    /// Your own certificate authority, in addition to the system's; a PEM file
    #[arg(long, env = "FAIRLANE_CA", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
}

/// Run everything on this machine: a dispatcher, a worker and a private redis-server
///
/// The data folder keeps the queue across restarts. Ctrl-C waits for running builds; a second one
/// stops them and puts them back in line.
///
/// Example: fairlane up --slots 2
#[derive(Debug, Args)]
#[command(display_order = 0)]
pub(crate) struct Up {
    /// Address that the dispatcher listens on
    #[arg(long, env = "FAIRLANE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8600")]
    pub(crate) listen: String,
    /// Builds that run at the same time, on each worker
    #[arg(long, env = "FAIRLANE_SLOTS", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) slots: u32,
    /// How many workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,
    /// Folder for the queue's data; ~/.local/share/fairlane by default
    #[arg(long, env = "FAIRLANE_DATA", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// The command that builds an image, with {repo}, {ref} and {image} in its arguments; it runs
    /// without a shell. Write {{ and }} for braces. Default: jupyter-repo2docker
    #[arg(long, env = "FAIRLANE_COMMAND", value_name = "TEMPLATE")]
    pub(crate) command: Option<String>,
    /// Use this running Redis instead of starting one
    #[arg(long, env = "FAIRLANE_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Log settings of a long-running process.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// What to log, as in RUST_LOG: info, warn, fairlane_worker=debug,info
    #[arg(long = "log", env = "FAIRLANE_LOG", value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// text, or json: one object a line
    #[arg(long, env = "FAIRLANE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
}

/// Where traces go.
#[derive(Debug, Clone, Args)]
pub(crate) struct TraceArgs {
    /// Send traces to this OpenTelemetry collector (OTLP over HTTP, JSON); off by default
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Headers for the collector, NAME=VALUE, comma-separated
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true, value_name = "HEADERS")]
    pub(crate) otlp_headers: Option<SecretString>,
}

/// Request a build of a repository
///
/// Examples:
///   fairlane submit https://github.com/binder-examples/requirements --watch
///   fairlane submit 10.5281/zenodo.3242074 --watch
///   fairlane submit ./notebooks --watch
///   fairlane submit https://github.com/owner/name --ref 3f2a91c --image registry.example.org/owner-name:3f2a91c --push
#[derive(Debug, Args)]
#[command(display_order = 1, verbatim_doc_comment)]
pub(crate) struct Submit {
    /// A Git URL, a DOI such as 10.5281/zenodo.3242074, or a folder with a Git repository, such as ./notebooks
    #[arg(value_parser = crate::source::repo, value_hint = ValueHint::AnyPath)]
    pub(crate) repo: Repo,
    /// The commit, branch or tag (`git ls-remote` resolves branches and tags here); HEAD by default
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) reference: Option<GitRef>,
    /// The image to build; by default named after the repository and the commit
    #[arg(long)]
    pub(crate) image: Option<Image>,
    /// A display name for the build
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// interactive: somebody is waiting; background: after all builds that people are waiting for
    #[arg(long, default_value = "interactive", value_name = "PRIORITY", value_parser = words(Priority::ALL, Priority::word))]
    pub(crate) priority: Priority,
    /// Argument for repo2docker, such as --arg=--subdir=demo; repeatable
    #[arg(long = "arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
    /// Push the image to its registry
    #[arg(long)]
    pub(crate) push: bool,
    /// A label, NAME=VALUE; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Build even if the image was just built, or just failed
    #[arg(long)]
    pub(crate) force: bool,
    /// Build even if a rule bans the repository; needs scope operate and is recorded in the audit log
    #[arg(long)]
    pub(crate) override_ban: bool,
    /// Credentials for the repository, as Git's credential helpers write them (or set FAIRLANE_GIT_CREDENTIALS)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) git_credentials_file: Option<PathBuf>,
    /// A Docker configuration with the registry's credentials (or set FAIRLANE_REGISTRY_CREDENTIALS)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) registry_credentials_file: Option<PathBuf>,
    /// Follow the build until it ends; the exit code says how it ended
    #[arg(long, short)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Follow a build until it ends; the exit code says how it ended
///
/// If the connection breaks, it reconnects to any dispatcher, and gives up after 5 minutes without success.
///
/// Example: fairlane watch 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d
#[derive(Debug, Args)]
#[command(display_order = 2)]
pub(crate) struct Watch {
    /// The build: its id, or 6 or more characters of its beginning or end
    pub(crate) id: BuildRef,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// List the workers
///
/// Example: fairlane workers
#[derive(Debug, Args)]
#[command(display_order = 10)]
pub(crate) struct Workers {
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Keep a worker from claiming builds until you undo this
///
/// Its running builds go on, and its process stays up. If it restarts on the same
/// host or in the same pod, it is still drained. To stop a worker, send it SIGTERM.
///
/// Examples:
///   fairlane drain node-3-5f1c09aa
///   fairlane drain node-3 --undo
#[derive(Debug, Args)]
#[command(display_order = 11, verbatim_doc_comment)]
pub(crate) struct Drain {
    /// The worker, or its host or pod, as listed by `fairlane workers`
    pub(crate) worker: WorkerId,
    /// Let it claim builds again
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Write a completion script for your shell
///
/// Example: fairlane completions bash > ~/.local/share/bash-completion/completions/fairlane
#[derive(Debug, Args)]
#[command(display_order = 30)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// A parser for one of these words, which a shell can complete.
pub(crate) fn words<T: FromStr<Err = String> + Copy + Send + Sync + 'static>(
    all: &'static [T],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|one| word(*one))).try_map(|word| word.parse())
}

/// A build's state.
pub(crate) fn states() -> impl TypedValueParser<Value = BuildState> {
    words(BuildState::ALL, BuildState::word)
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a label looks like name=value".to_owned()),
    }
}
