//! The checked settings of a dispatcher. `args` makes them from flags and the environment; tests create them
//! directly.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use fairlane_common::AllowedArgs;
use fairlane_common::queue::{LogLimits, Policy};
use fairlane_common::seal::SealKeys;
use fairlane_http::{TlsError, TlsFiles};
use ipnet::IpNet;

use crate::access::tokens::{Tokens, TokensError};
use crate::archive::{ArchiveError, LogArchive};

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// A path below which everything is served, in addition to `/`.
    pub base_path: Option<BasePath>,
    /// Who may do what. If empty, everybody who can reach the loopback address may do everything.
    pub tokens: Tokens,
    /// Keys that seal secrets.
    pub seal: Option<SealKeys>,
    /// Arguments of repo2docker that requests may contain.
    pub allowed_args: AllowedArgs,
    /// The queue's policy until an operator sets one.
    pub policy: Option<Policy>,
    /// Limits on the logs of ended builds.
    pub log_limits: LogLimits,
    /// Where logs of ended builds are archived, if anywhere.
    pub archive: Option<LogArchive>,
    /// Whether requests may name folders on the workers' hosts.
    pub allow_local_repos: bool,
    /// This machine's name, for people.
    pub host: String,
    /// The certificate to serve TLS with.
    pub tls: Option<TlsFiles>,
    /// Limits of connections.
    pub connections: ConnectionLimits,
    /// Limits for one client.
    pub clients: ClientLimits,
    /// Limits that tests lower.
    pub bounds: Bounds,
}

/// Limits of one dispatcher.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How long one request may wait for Redis: longer than a short failover, but short enough for clients to
    /// try another dispatcher.
    pub redis_wait: Duration,
    /// A reader that has read nothing for this long and has fallen out of the ring is disconnected; it can
    /// resume with its cursor.
    pub slow_after: Duration,
    /// A connection whose peer accepts no byte for this long is closed.
    pub stall: Duration,
    /// How long a request's head may take to arrive, and how long a client may take to show its protocol.
    pub head_wait: Duration,
    /// A connection without a request for this long is closed. This is longer than the 60 s of proxies,
    /// because the proxy must close first; otherwise its next request may meet a closed connection.
    pub idle_wait: Duration,
    /// Send buffer per connection, in bytes. Without a limit, the kernel uses up to 4 MB for each reader that
    /// stops reading.
    pub send_buffer: u32,
    /// After this much silence on a stream, a comment is sent. Proxies close quiet connections after 30 s or
    /// 60 s.
    pub keepalive: Duration,
    /// How long a request for a build counts as a person if no stream follows it.
    pub post_counts: Duration,
    /// Most bytes of frames kept for the streams of one build. After a larger burst, readers fetch what they
    /// missed from Redis.
    pub ring_bytes: usize,
    /// Most streams at once; with 25 KB each, they take 500 MB.
    pub streams_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            redis_wait: Duration::from_millis(1500),
            slow_after: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            head_wait: Duration::from_secs(10),
            idle_wait: Duration::from_secs(75),
            send_buffer: 128 * 1024,
            keepalive: Duration::from_secs(15),
            post_counts: Duration::from_secs(30),
            ring_bytes: 256 * 1024,
            streams_max: 20_000,
        }
    }
}

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The tokens are invalid.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The policy is invalid.
    #[error(transparent)]
    Policy(#[from] fairlane_common::Invalid),
    /// The log archive is invalid.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The seal key is invalid.
    #[error(transparent)]
    Seal(#[from] fairlane_common::Error),
}

/// Limits for one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests of one token, over all dispatchers.
    pub per_token: Option<Rate>,
    /// Requests from one address, over all dispatchers.
    pub per_address: Option<Rate>,
    /// Most people that count for one token at this dispatcher; `None` for no limit.
    pub people_per_token: Option<u64>,
}

/// Limits of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub total: usize,
    /// Connections at once from one address.
    pub per_address: Option<usize>,
    /// Trusted proxies. They are exempt from `per_address`, and the client addresses that they forward are
    /// believed.
    pub trusted: Vec<IpNet>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 25_000, per_address: None, trusted: Vec::new() }
    }
}

/// A rate: this many requests in this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; they may come all at once.
    pub count: u32,
    /// The time in which that many are allowed again.
    pub per: Duration,
}

/// Longest period of a rate, because Redis keeps the count for that long.
const PER_MAX: Duration = Duration::from_hours(24);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must look like 600/1m: a number, and a time from 1s to 24h".to_owned();
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count: NonZeroU32 = count.trim().parse().map_err(|_| wrong())?;
        // "600/m" is accepted, too.
        let per = per.trim();
        let per =
            if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let per = humantime::parse_duration(&per).map_err(|_| wrong())?;
        if per < Duration::from_secs(1) || per > PER_MAX {
            return Err(wrong());
        }
        Ok(Self { count: count.get(), per })
    }
}

/// The path below which a reverse proxy serves a dispatcher. It begins with a slash and ends without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Removes the base path from a request; requests without it are left as they are.
    pub(crate) fn strip<B>(&self, mut request: axum::http::Request<B>) -> axum::http::Request<B> {
        let rest = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix(&self.0));
        let rest = rest.filter(|rest| rest.starts_with('/')).and_then(|rest| rest.parse().ok());
        if let Some(rest) = rest {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(rest);
            if let Ok(uri) = axum::http::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        request
    }
}

impl std::fmt::Display for BasePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '@');
        let is_good = bare.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | "..") && part.chars().all(plain))
        });
        if !is_good || bare == "/v1" || bare == "/page" {
            return Err("must be a path such as /services/fairlane".to_owned());
        }
        Ok(Self(bare.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_paths() {
        let base = |text: &str| text.parse::<BasePath>();
        for good in ["/services/fairlane", "/services/fairlane/", "/f", "/user/a@b.org/x_1~"] {
            assert_eq!(base(good).unwrap().as_str(), good.trim_end_matches('/'));
        }
        for wrong in ["", "/", "//", "f", "/a//b", "/a/../b", "/a b", "/{a}", "/a?b", "/v1", "https://h/a"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
        let stripped = |path: &str| {
            let request = axum::http::Request::get(path).body(()).unwrap();
            base("/f").unwrap().strip(request).uri().to_string()
        };
        assert_eq!(stripped("/f/v1/queue?a=b"), "/v1/queue?a=b");
        assert_eq!(stripped("/f/"), "/");
        assert_eq!(stripped("http://h/f/x"), "http://h/x");
        for other in ["/v1/queue", "/fx/v1", "/f"] {
            assert_eq!(stripped(other), other);
        }
    }

    #[test]
    fn rates() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("600/1m").unwrap(), Rate { count: 600, per: Duration::from_mins(1) });
        assert_eq!(rate("5 / s").unwrap(), Rate { count: 5, per: Duration::from_secs(1) });
        for wrong in ["", "5", "0/1m", "-1/1m", "5/0s", "5/100ms", "5/25h", "5/x", "99999999999/1m"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
