//! Opens connections to the primary, in whatever way it is found.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    RedisResult, TlsMode, Value,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::error::Result;
use crate::redis_url::{RedisUrl, Shape};

/// How long a connection may take to open.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Response timeout. Shorter than half a lease, so that if Redis stalls, a renewal can still be retried.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
/// Most nodes of a Cluster that are remembered.
const NODES_MAX: usize = 64;

pub(crate) fn timed_out(why: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, why).into()
}

/// Opens connections to the primary; as a bb8 manager it also fills the pool.
#[derive(Clone)]
pub(crate) struct Dialer {
    target: Target,
}

#[derive(Clone)]
enum Target {
    Node(Box<ConnectionInfo>),
    /// Each Sentinel separately, so that one that does not answer does not hide the others.
    Sentinel(Arc<[Mutex<SentinelClient>]>),
    /// The node of a Cluster that serves a key.
    Owner(Arc<ClusterNodes>, String),
}

impl Dialer {
    pub(crate) fn new(url: &RedisUrl) -> Result<Self> {
        let target = match url.shape {
            Shape::Sentinel => Target::Sentinel(sentinels(url)?),
            _ => Target::Node(Box::new(first_node(url)?)),
        };
        Ok(Self { target })
    }

    /// A dialer for the node of a Cluster that currently serves `key`.
    pub(crate) fn to_owner(nodes: Arc<ClusterNodes>, key: &str) -> Self {
        Self { target: Target::Owner(nodes, key.to_owned()) }
    }

    pub(crate) async fn client(&self) -> RedisResult<Client> {
        match &self.target {
            Target::Node(info) => Client::open(info.as_ref().clone()),
            Target::Sentinel(sentinels) => {
                // Boxed: callers' futures need not look into these.
                let asked = sentinels
                    .iter()
                    .map(|sentinel| async move { sentinel.lock().await.async_get_client().await }.boxed());
                tokio::time::timeout(CONNECT_TIMEOUT, select_ok(asked))
                    .await
                    .map_err(|_| timed_out("no Sentinel answered"))?
                    .map(|(client, _)| client)
            }
            Target::Owner(nodes, key) => tokio::time::timeout(CONNECT_TIMEOUT, nodes.owner(key).boxed())
                .await
                .map_err(|_| timed_out("no cluster node answered"))?,
        }
    }

    pub(crate) async fn dial(&self, response: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        connect(&self.client().await?, response).await
    }
}

fn first_node(url: &RedisUrl) -> RedisResult<ConnectionInfo> {
    url.nodes.first().map(String::as_str).unwrap_or_default().into_connection_info()
}

fn sentinels(url: &RedisUrl) -> RedisResult<Arc<[Mutex<SentinelClient>]>> {
    let first = first_node(url)?;
    let build = |node: &String| {
        let mut data =
            SentinelNodeConnectionInfo::default().set_redis_connection_info(first.redis_settings().clone());
        if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
            data = data.set_tls_mode(TlsMode::Secure);
        }
        // The password is for the data nodes; Sentinels are queried without one.
        let sentinel =
            node.as_str().into_connection_info()?.set_redis_settings(redis::RedisConnectionInfo::default());
        let service = url.service.clone();
        let client = SentinelClient::build(vec![sentinel], service, Some(data), SentinelServerType::Master)?;
        Ok(Mutex::new(client))
    };
    url.nodes.iter().map(build).collect()
}

/// The nodes of a Cluster: those that the URL names, and those that were seen since.
pub(crate) struct ClusterNodes {
    first: ConnectionInfo,
    known: StdMutex<Vec<ConnectionAddr>>,
}

impl ClusterNodes {
    pub(crate) fn new(url: &RedisUrl) -> Result<Arc<Self>> {
        let nodes: RedisResult<Vec<ConnectionInfo>> =
            url.nodes.iter().map(|node| node.as_str().into_connection_info()).collect();
        let known = nodes?.iter().map(|node| node.addr().clone()).collect();
        Ok(Arc::new(Self { first: first_node(url)?, known: StdMutex::new(known) }))
    }

    /// The node that serves `key`. All are asked at once: one of them may be away or frozen.
    async fn owner(&self, key: &str) -> RedisResult<Client> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = known.iter().map(|node| self.ask(node, key).boxed());
        let ((owner, nodes), _) = select_ok(asked).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for node in nodes {
            if known.len() < NODES_MAX && !known.contains(&node) {
                known.push(node);
            }
        }
        drop(known);
        self.to(owner)
    }

    fn to(&self, node: ConnectionAddr) -> RedisResult<Client> {
        Client::open(self.first.clone().set_addr(node))
    }

    /// What one node says: who serves `key`, and which nodes there are.
    async fn ask(
        &self,
        node: &ConnectionAddr,
        key: &str,
    ) -> RedisResult<(ConnectionAddr, Vec<ConnectionAddr>)> {
        let mut connection = connect(&self.to(node.clone())?, Some(RESPONSE_TIMEOUT)).await?;
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("KEYSLOT").arg(key).cmd("CLUSTER").arg("SLOTS");
        let (slot, ranges): (u16, Vec<Vec<Value>>) = questions.query_async(&mut connection).await?;
        let mut owner = None;
        let mut nodes = Vec::new();
        for range in &ranges {
            let Some((from, to, holders)) = slot_range(range, node) else { continue };
            if (from..=to).contains(&slot) {
                owner = holders.first().cloned();
            }
            nodes.extend(holders);
        }
        let owner = owner.ok_or_else(|| timed_out("no cluster node serves the queue's slot"))?;
        Ok((owner, nodes))
    }
}

/// A range of slots and the addresses of those that hold it, its master first.
fn slot_range(range: &[Value], asked: &ConnectionAddr) -> Option<(u16, u16, Vec<ConnectionAddr>)> {
    let from = redis::from_redis_value_ref(range.first()?).ok()?;
    let to = redis::from_redis_value_ref(range.get(1)?).ok()?;
    let holder = |node: &Value| {
        let node: Vec<Value> = redis::from_redis_value_ref(node).ok()?;
        let host: Option<String> = redis::from_redis_value_ref(node.first()?).ok()?;
        let port = redis::from_redis_value_ref(node.get(1)?).ok()?;
        Some(beside(asked, host.unwrap_or_default(), port))
    };
    Some((from, to, range.get(2..)?.iter().filter_map(holder).collect()))
}

/// The address of a node, using the same scheme as the node that named it. A node that does not know its own
/// host has the address at which it was asked.
fn beside(asked: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
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

async fn connect(client: &Client, response: Option<Duration>) -> RedisResult<MultiplexedConnection> {
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

impl bb8::ManageConnection for Dialer {
    type Connection = MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.dial(Some(RESPONSE_TIMEOUT)).await
    }

    async fn is_valid(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        redis::cmd("PING").query_async(connection).await
    }

    fn has_broken(&self, _: &mut MultiplexedConnection) -> bool {
        false
    }
}
