//! Settings of what clients may take up: connections, streams, requests, people.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::SettingError;
use crate::access::address::parse_network;
use crate::server::TlsFiles;

/// How clients are served, and how much one may take up.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// Certificate to serve TLS with, PEM, its chain after it; read again when it changes and at SIGHUP
    #[arg(long, value_name = "FILE", env = "FAIRLANE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", env = "FAIRLANE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A proxy whose X-Forwarded-For is believed: an address, or a network such as 10.0.0.0/8
    #[arg(
        long = "trusted-proxy",
        value_name = "NETWORK",
        env = "FAIRLANE_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = parse_network
    )]
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once; more are answered with 503
    #[arg(long, value_name = "N", env = "FAIRLANE_MAX_CONNECTIONS", default_value = "25000")]
    pub max_connections: NonZeroUsize,
    /// Connections at once from one address (trusted proxies excepted); more are answered with 429
    /// [default: no limit]
    #[arg(long, value_name = "N", env = "FAIRLANE_MAX_CONNECTIONS_PER_ADDRESS")]
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Event streams and followed logs at once; more are answered with 503
    #[arg(long, value_name = "N", env = "FAIRLANE_MAX_STREAMS", default_value = "20000")]
    pub max_streams: NonZeroUsize,
    /// Requests of one token at all dispatchers together, such as 600/1m [default: no limit]
    #[arg(long, value_name = "N/TIME", env = "FAIRLANE_REQUESTS_PER_TOKEN")]
    pub requests_per_token: Option<Rate>,
    /// Requests from one address at all dispatchers together, such as 60/1m [default: no limit]
    #[arg(long, value_name = "N/TIME", env = "FAIRLANE_REQUESTS_PER_ADDRESS")]
    pub requests_per_address: Option<Rate>,
    /// People who count for one token at this dispatcher, over all builds
    #[arg(long, value_name = "N", env = "FAIRLANE_PEOPLE_PER_TOKEN", default_value = "10000")]
    pub people_per_token: NonZeroU32,
}

/// How much one client may take up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests of one token, over all dispatchers.
    pub per_token: Option<Rate>,
    /// Requests from one address, over all dispatchers.
    pub per_address: Option<Rate>,
    /// People who count for one token at this dispatcher; `None` for as many as it says.
    pub people_per_token: Option<u64>,
}

/// Limits of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub total: usize,
    /// Connections at once from one address.
    pub per_address: Option<usize>,
    /// Proxies: exempt from `per_address`, and believed when they say whom they speak for.
    pub trusted: Vec<IpNet>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 25_000, per_address: None, trusted: Vec::new() }
    }
}

impl ConnectionLimits {
    /// Whether `address` is that of a trusted proxy.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// So many within such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; they may come all at once.
    pub count: u32,
    /// The time in which as many come back.
    pub per: Duration,
}

/// Longest time of a rate: what is counted stays in Redis for as long.
const PER_MAX: Duration = Duration::from_hours(24);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must read like 600/1m: a number, and a time from 1s to 24h".to_owned();
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count: NonZeroU32 = count.trim().parse().map_err(|_| wrong())?;
        // "600/m" is understood too.
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

impl ClientArgs {
    pub(super) fn tls(&self) -> Result<Option<TlsFiles>, SettingError> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
        // Whatever is wrong with them is said before anything starts.
        crate::server::Tls::load(&files)?;
        Ok(Some(files))
    }

    pub(super) fn connections(&self) -> ConnectionLimits {
        ConnectionLimits {
            total: self.max_connections.get(),
            per_address: self.max_connections_per_address.map(NonZeroUsize::get),
            trusted: self.trusted_proxies.clone(),
        }
    }

    pub(super) fn limits(&self) -> ClientLimits {
        ClientLimits {
            per_token: self.requests_per_token,
            per_address: self.requests_per_address,
            people_per_token: Some(self.people_per_token.get().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
