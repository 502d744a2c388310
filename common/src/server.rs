//! Opens a connection to one Redis server.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    RedisResult,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::redis_url::RedisUrl;

/// How long a connection may take to open.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Response timeout. Shorter than half a lease, so that if Redis stalls, a renewal can still be retried.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
pub(crate) fn timed_out(why: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, why).into()
}

pub(crate) fn first_node(url: &RedisUrl) -> RedisResult<ConnectionInfo> {
    url.nodes.first().map(String::as_str).unwrap_or_default().into_connection_info()
}

/// The address of a node, using the same scheme as the node that named it. A node that does not know its own
/// host has the address at which it was asked.
pub(crate) fn beside(asked: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    let unnamed = host.is_empty() || host == "?";
    match asked {
        ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host: if unnamed { own.clone() } else { host },
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        ConnectionAddr::Tcp(own, _) if unnamed => ConnectionAddr::Tcp(own.clone(), port),
        _ => ConnectionAddr::Tcp(host, port),
    }
}

pub(crate) async fn connect(
    client: &Client,
    response: Option<Duration>,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(response);
    match client.get_multiplexed_async_connection_with_config(&config).await {
        Err(error) if error.code() == Some("DENIED") => Err(said(PROTECTED).unwrap_or(error)),
        Err(error) if error.is_io_error() && !error.is_timeout() && !error.is_connection_refusal() => {
            Err(Box::pin(parting_words(client)).await.unwrap_or(error))
        }
        done => done,
    }
}

/// What a server says before it closes a new connection, such as Redis in protected mode. Our own first
/// command crosses this message, and then we only see a broken pipe.
async fn parting_words(client: &Client) -> Option<RedisError> {
    let ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr() else { return None };
    let listen = async {
        let mut said = Vec::new();
        let stream = TcpStream::connect((host.as_str(), *port)).await.ok()?;
        stream.take(WORDS_MAX).read_to_end(&mut said).await.ok()?;
        Some(said)
    };
    let words = tokio::time::timeout(LISTEN, listen).await.ok()??;
    said(if words.starts_with(b"-DENIED") { PROTECTED } else { &words })
}

/// Parses a server's reply as an error.
fn said(words: &[u8]) -> Option<RedisError> {
    redis::parse_redis_value(words).ok()?.extract_error().err()
}

/// Instead of Redis's own paragraph on the subject.
const PROTECTED: &[u8] =
    b"-DENIED it is in protected mode, which accepts connections from its own host only; \
set a password (requirepass), or protected-mode no where nobody else can reach it\r\n";
/// How long to wait for a server's reason for hanging up, and how many bytes of it to read.
const LISTEN: Duration = Duration::from_secs(1);
const WORDS_MAX: u64 = 4096;
