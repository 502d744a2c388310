//! Flags and environment of a dispatcher, checked before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use fairlane_common::AllowedArgs;
use fairlane_common::queue::{LogBudget, LogKeep, LogLimits, Policy};
use fairlane_common::seal::SealKeys;
use secrecy::SecretString;

use crate::access::scope::Scope;
use crate::access::tokens::Tokens;
use crate::archive::ArchiveArgs;
use crate::settings::{Bounds, SettingError, Settings};

mod clients;

pub use clients::ClientArgs;

/// All settings of a dispatcher process.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the queue is.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// How it is served.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Where the queue is.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisArgs {
    /// Redis URL: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://
    #[arg(
        long,
        env = "FAIRLANE_REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379/0"
    )]
    pub redis_url: String,
    /// Prefix of all keys.
    #[arg(long, env = "FAIRLANE_PREFIX", default_value = "fairlane")]
    pub prefix: String,
}

/// How the queue is served over HTTP.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; must be a loopback address if no token is set
    #[arg(long, env = "FAIRLANE_LISTEN", default_value = "127.0.0.1:8600")]
    pub listen: SocketAddr,
    /// Token that allows everything; prefer the environment, because other users can see flags
    #[arg(long, env = "FAIRLANE_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<SecretString>,
    #[expect(clippy::doc_markdown, reason = "the comment is the help")]
    /// A token for BinderHub: may submit and read, but not operate
    #[arg(long, env = "FAIRLANE_HUB_TOKEN", hide_env_values = true, value_parser = secret)]
    pub hub_token: Option<SecretString>,
    /// Tokens file, one token per line: name, scopes (submit,read,operate), token; reloaded when it
    /// changes and on SIGHUP
    #[arg(long, env = "FAIRLANE_TOKENS_FILE")]
    pub tokens_file: Option<PathBuf>,
    /// Keys that seal secrets, <id>:<64 hex digits>[,…]; without one, builds with secrets are refused
    #[arg(long, env = "FAIRLANE_SEAL_KEY", hide_env_values = true, value_parser = secret)]
    pub seal_key: Option<SecretString>,
    /// Allowed repo2docker argument (a trailing * matches a prefix); repeatable; replaces the default
    /// list
    #[arg(long = "allow-arg", env = "FAIRLANE_ALLOW_ARGS", value_delimiter = ',')]
    pub allow_args: Vec<String>,
    /// Default policy, used until an operator sets one: name=value; also the table [policy] in fairlane.toml
    #[arg(long, env = "FAIRLANE_POLICY", value_delimiter = ',', value_name = "NAME=VALUE")]
    pub policy: Vec<String>,
    /// Memory for logs of ended builds, as a share of Redis's maxmemory or a size; beyond it, the oldest logs are
    /// shortened, then removed
    #[arg(long, env = "FAIRLANE_LOG_BUDGET", value_name = "SHARE|SIZE", default_value = "50%")]
    pub log_budget: LogBudget,
    /// How long logs of ended builds are kept, up to 24h
    #[arg(long, env = "FAIRLANE_LOG_KEEP", value_name = "TIME", default_value = "24h")]
    pub log_keep: LogKeep,
    /// Where finished logs are archived.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Accept file:// repositories, which are folders on the workers' hosts
    #[arg(long, env = "FAIRLANE_ALLOW_LOCAL_REPOS")]
    pub allow_local_repos: bool,
    /// How clients are served, and the limits for one client.
    #[command(flatten)]
    pub clients: ClientArgs,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that clap calls")]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

impl ServeArgs {
    /// Checks the settings and reads the files that they name.
    ///
    /// # Errors
    /// Names the setting and says what it must be; never repeats a secret.
    pub fn settings(&self) -> Result<Settings, SettingError> {
        let Self {
            listen,
            token,
            hub_token,
            tokens_file,
            seal_key,
            allow_args,
            policy,
            log_budget,
            log_keep,
            archive,
            allow_local_repos,
            clients,
        } = self;
        let mut tokens = Tokens::default();
        if let Some(token) = token {
            tokens.add("token", &Scope::ALL, token)?;
        }
        if let Some(token) = hub_token {
            tokens.add("hub", &[Scope::Submit, Scope::Read], token)?;
        }
        if let Some(path) = tokens_file {
            tokens.add_file(path)?;
        }
        Ok(Settings {
            listen: *listen,
            base_path: clients.base_path.clone(),
            tokens,
            seal: seal_key.as_ref().map(SealKeys::parse).transpose()?,
            allowed_args: AllowedArgs::new(allow_args),
            policy: if policy.is_empty() { None } else { Some(Policy::of_words(policy)?) },
            log_limits: LogLimits { budget: *log_budget, keep: *log_keep },
            archive: archive.archive()?,
            allow_local_repos: *allow_local_repos,
            host: host_name(),
            tls: clients.tls()?,
            connections: clients.connections(),
            clients: clients.limits(),
            bounds: Bounds { streams_max: clients.max_streams.get(), ..Bounds::default() },
        })
    }
}

fn host_name() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
