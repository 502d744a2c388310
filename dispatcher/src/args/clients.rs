//! Limits on clients: connections, streams, requests, people.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use fairlane_http::{Tls, TlsFiles};
use ipnet::IpNet;

use crate::access::address::parse_network;
use crate::settings::{BasePath, ClientLimits, ConnectionLimits, Rate, SettingError};

/// How clients are served, and the limits for one client.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// TLS certificate followed by its chain, PEM; reloaded when it changes and on SIGHUP
    #[arg(long, value_name = "FILE", env = "FAIRLANE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", env = "FAIRLANE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Trusted proxy, whose X-Forwarded-For is used: an address, or a network such as 10.0.0.0/8
    #[arg(
        long = "trusted-proxy",
        value_name = "NETWORK",
        env = "FAIRLANE_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = parse_network
    )]
    pub trusted_proxies: Vec<IpNet>,
    /// Path below which everything is served, too, such as /services/fairlane
    #[arg(long, value_name = "PATH", env = "FAIRLANE_BASE_PATH")]
    pub base_path: Option<BasePath>,
    /// Maximum number of connections; further ones get 503
    #[arg(long, value_name = "N", env = "FAIRLANE_MAX_CONNECTIONS", default_value = "25000")]
    pub max_connections: NonZeroUsize,
    /// Maximum number of connections from one address (trusted proxies are exempt); further ones get 429
    /// [default: no limit]
    #[arg(long, value_name = "N", env = "FAIRLANE_MAX_CONNECTIONS_PER_ADDRESS")]
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Maximum number of open event streams and followed logs; further ones get 503
    #[arg(long, value_name = "N", env = "FAIRLANE_MAX_STREAMS", default_value = "20000")]
    pub max_streams: NonZeroUsize,
    /// Rate limit per token across all dispatchers, such as 600/1m [default: no limit]
    #[arg(long, value_name = "N/TIME", env = "FAIRLANE_REQUESTS_PER_TOKEN")]
    pub requests_per_token: Option<Rate>,
    /// Rate limit per address across all dispatchers, such as 60/1m [default: no limit]
    #[arg(long, value_name = "N/TIME", env = "FAIRLANE_REQUESTS_PER_ADDRESS")]
    pub requests_per_address: Option<Rate>,
    /// Maximum number of people counted per token at this dispatcher, over all builds
    #[arg(long, value_name = "N", env = "FAIRLANE_PEOPLE_PER_TOKEN", default_value = "10000")]
    pub people_per_token: NonZeroU32,
}

impl ClientArgs {
    pub(super) fn tls(&self) -> Result<Option<TlsFiles>, SettingError> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
        // Any error is reported before anything starts.
        Tls::load(&files)?;
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
