//! The worker's command line and environment.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fairlane_common::AllowedArgs;
use fairlane_common::RedisUrl;
use fairlane_common::queue::{LogBudget, LogKeep, LogLimits};
use fairlane_common::seal::SealKeys;
use secrecy::SecretString;

use crate::build::registry_check::{RegistryCheck, RegistryCheckArgs};
use crate::kubernetes::pod::{KubernetesArgs, PodSettings};
use crate::settings::command::{CommandTemplate, TEMPLATE_DEFAULT};
use crate::settings::{ExecutorKind, Settings, SupervisorCommand};

/// Options of a worker.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Redis URL: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://
    #[arg(
        long,
        value_name = "URL",
        env = "FAIRLANE_REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379/0"
    )]
    pub redis_url: RedisUrl,
    /// Prefix of all keys
    #[arg(long, env = "FAIRLANE_PREFIX", default_value = "fairlane")]
    pub prefix: String,
    /// Name of this host, by which `fairlane drain` and `fairlane nodes` know it [default: its hostname]
    #[arg(long, env = "FAIRLANE_HOST")]
    pub host: Option<String>,
    /// Number of builds to run at once
    #[arg(long, env = "FAIRLANE_SLOTS", default_value = "2")]
    pub slots: NonZeroUsize,
    /// Where builds run
    #[arg(long, env = "FAIRLANE_EXECUTOR", value_enum, default_value_t)]
    pub executor: ExecutorKind,
    /// Build command, run without a shell; {repo} {ref} {image} {push} {args} are filled in, {{ and }} are braces
    #[arg(long, env = "FAIRLANE_COMMAND", default_value = TEMPLATE_DEFAULT, hide_default_value = true)]
    pub command: String,
    /// Allowed repo2docker argument (a trailing * matches a prefix); repeatable; replaces the default
    /// list
    #[arg(
        long = "allow-arg",
        value_name = "ARG",
        env = "FAIRLANE_ALLOW_ARGS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub allow_args: Option<Vec<String>>,
    /// Build file:// repositories, which are folders on this host
    #[arg(long, env = "FAIRLANE_ALLOW_LOCAL_REPOS")]
    pub allow_local_repos: bool,
    /// Keys that open builds' secrets, ID:HEX with 64 hex digits, comma-separated
    #[arg(long, env = "FAIRLANE_SEAL_KEY", hide_env_values = true, hide = true)]
    pub seal_key: Option<SecretString>,
    /// How long a lease lasts after its renewal
    #[arg(long, env = "FAIRLANE_LEASE", default_value = "10s")]
    pub lease: humantime::Duration,
    /// How often leases are renewed [default: 1s for processes, 3s on Kubernetes]
    #[arg(long, env = "FAIRLANE_HEARTBEAT")]
    pub heartbeat: Option<humantime::Duration>,
    /// A build whose pod has not started within this time is stuck
    #[arg(long, env = "FAIRLANE_PENDING_TIMEOUT", default_value = "15min")]
    pub pending_timeout: humantime::Duration,
    /// A build that has logged nothing within this time of its start is stuck
    #[arg(long, env = "FAIRLANE_START_TIMEOUT", default_value = "5min")]
    pub start_timeout: humantime::Duration,
    /// A build that logs nothing for this long is stuck
    #[arg(long, env = "FAIRLANE_SILENCE_TIMEOUT", default_value = "30min")]
    pub silence_timeout: humantime::Duration,
    /// A build that takes longer than this is stuck
    #[arg(long, env = "FAIRLANE_TIMEOUT", default_value = "12h")]
    pub timeout: humantime::Duration,
    /// How long running builds may take to finish when the worker shuts down
    #[arg(long, env = "FAIRLANE_DRAIN_TIMEOUT", default_value = "5min")]
    pub drain_timeout: humantime::Duration,
    /// How long to keep the pods of ended builds
    #[arg(long, env = "FAIRLANE_KEEP_PODS", default_value = "60s")]
    pub keep_pods: humantime::Duration,
    /// Memory for logs of ended builds, as a share of Redis's maxmemory or a size; beyond it, the oldest logs are
    /// shortened, then removed
    #[arg(long, env = "FAIRLANE_LOG_BUDGET", value_name = "SHARE|SIZE", default_value = "50%")]
    pub log_budget: LogBudget,
    /// How long logs of ended builds are kept, up to 24h
    #[arg(long, env = "FAIRLANE_LOG_KEEP", value_name = "TIME", default_value = "24h")]
    pub log_keep: LogKeep,
    /// Address for /healthz, /readyz and /metrics, without TLS or a token, such as 0.0.0.0:8601 [default: none]
    #[arg(long, value_name = "ADDRESS", env = "FAIRLANE_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Whether an image is there already.
    #[command(flatten)]
    pub registry_check: RegistryCheckArgs,
    /// How builds run on Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
}

impl Args {
    /// The checked settings that result from these options.
    ///
    /// # Errors
    /// An option is invalid; the message says which, and what is allowed.
    pub fn settings(self) -> Result<Settings> {
        let Self {
            // The caller opens the queue.
            redis_url: _,
            prefix,
            host,
            slots,
            executor,
            command,
            allow_args,
            allow_local_repos,
            seal_key,
            lease,
            heartbeat,
            pending_timeout,
            start_timeout,
            silence_timeout,
            timeout,
            drain_timeout,
            keep_pods,
            log_budget,
            log_keep,
            metrics_listen,
            registry_check,
            kubernetes,
        } = self;
        let command = CommandTemplate::parse(&command).context("FAIRLANE_COMMAND")?;
        let settings = Settings {
            host: host.filter(|name| !name.is_empty()).map_or_else(|| Ok(host_name()), checked_host)?,
            slots,
            executor,
            pods: kubernetes.settings(&prefix, command.clone(), *timeout)?,
            command,
            allowed_args: AllowedArgs::new(&allow_args.unwrap_or_default()),
            allow_local_repos,
            seal_keys: seal_key.as_ref().map(SealKeys::parse).transpose().context("FAIRLANE_SEAL_KEY")?,
            lease: *lease,
            heartbeat: heartbeat.map_or_else(|| executor.heartbeat(), |heartbeat| *heartbeat),
            pending_timeout: *pending_timeout,
            start_timeout: *start_timeout,
            silence_timeout: *silence_timeout,
            total_timeout: *timeout,
            drain_timeout: *drain_timeout,
            keep_pods: *keep_pods,
            log_limits: LogLimits { budget: log_budget, keep: log_keep },
            metrics_listen,
            registry_check: registry_check.check()?,
            supervisor: SupervisorCommand::default(),
        };
        settings.check()?;
        Ok(settings)
    }
}

impl Default for Settings {
    /// The options of a worker that is started without any.
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            host: host_name(),
            slots: NonZeroUsize::MIN,
            executor: ExecutorKind::Process,
            command: CommandTemplate::default(),
            pods: PodSettings::default(),
            allowed_args: AllowedArgs::default(),
            allow_local_repos: false,
            seal_keys: None,
            lease: fairlane_common::limits::LEASE,
            heartbeat: ExecutorKind::Process.heartbeat(),
            pending_timeout: minutes(15),
            start_timeout: minutes(5),
            silence_timeout: minutes(30),
            total_timeout: minutes(12 * 60),
            drain_timeout: minutes(5),
            keep_pods: minutes(1),
            log_limits: LogLimits::default(),
            metrics_listen: None,
            registry_check: RegistryCheck::default(),
            supervisor: SupervisorCommand::default(),
        }
    }
}

/// Checks that a name is valid in keys and in URLs.
fn checked_host(name: String) -> Result<String> {
    ensure!(
        name.len() <= HOST_MAX && name.chars().all(is_host_char),
        "--host (FAIRLANE_HOST): '{name}' is not a host name: use at most {HOST_MAX} letters, digits, '-', '.' or '_'"
    );
    Ok(name)
}

/// Longest name of a host.
const HOST_MAX: usize = 100;

fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().map(|c| if is_host_char(c) { c } else { '-' }).take(HOST_MAX).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn settings(line: &[&str]) -> Result<Settings> {
        Line::try_parse_from([&["worker"], line].concat())?.args.settings()
    }

    #[test]
    fn options_and_defaults() {
        let found =
            settings(&["--slots=3", "--lease=4s", "--heartbeat=500ms", "--allow-arg=--x", "--allow-arg=--y"])
                .unwrap();
        assert_eq!((found.slots.get(), found.lease), (3, Duration::from_secs(4)));
        assert_eq!(found.allowed_args.names(), ["--x", "--y"]);
        let mut usual = Settings { slots: found.slots, ..Settings::default() };
        usual.lease = Duration::from_secs(10);
        assert_eq!(settings(&["--slots=3"]).unwrap().command, usual.command);
    }

    #[test]
    fn bad_options_say_what_is_allowed() {
        for (line, says) in [
            (&["--lease=4s", "--heartbeat=3s"][..], "--heartbeat must be at most 1.5 s"),
            (&["--lease=1s"], "--lease must be longer than 1.0 s"),
            (&["--timeout=0s"], "--timeout"),
            (&["--command=x {oops}"], "unknown placeholder"),
            (&["--seal-key=nonsense"], "seal key"),
            (&["--slots=0"], "--slots"),
            (&["--log-budget=lots"], "such as 50%"),
            (&["--log-keep=2d"], "up to 24h"),
            (&["--host=a host"], "'a host' is not a host name"),
        ] {
            let error = format!("{:#}", settings(line).unwrap_err());
            assert!(error.contains(says), "{line:?}: {error}");
        }
    }
}
