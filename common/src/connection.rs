//! Connections to Redis: standalone, Sentinel and Cluster, TLS, unix sockets. Nothing else opens one.
//!
//! Commands share one multiplexed connection, which is replaced when it breaks. Blocking waits and
//! subscriptions get a connection of their own ([`Link::dedicated`], [`Link::subscription`]): a
//! blocking command on a shared connection holds up everybody behind it, and one abandoned by its
//! client still takes its element. Large reads go through a small pool ([`Link::bulk`]) so that
//! they do not delay a heartbeat.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult, TlsMode,
    Value,
};
use tokio::sync::Mutex;

use crate::error::{Error, Result};
use crate::redis_url::{RedisUrl, Shape};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. Shorter than half a lease, so that a stalled Redis is noticed while
/// a renewal can still be tried again.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a command may wait for the shared connection to be there again.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections for large reads per process. More would let readers crowd out the queue's scripts.
const BULK_CONNECTIONS: u32 = 4;

/// A way to Redis, cheap to clone. Reconnects by itself.
#[derive(Clone)]
pub struct Link {
    url: RedisUrl,
    shared: Arc<Shared>,
    bulk: bb8::Pool<Dialer>,
}

enum Shared {
    /// One connection to the primary, and the count of connections made, which names it.
    Node {
        dialer: Dialer,
        current: Mutex<(u64, Option<MultiplexedConnection>)>,
    },
    Cluster(Box<ClusterConnection>),
}

impl Link {
    /// Connects, and says at once when that is not possible.
    pub async fn open(url: &RedisUrl) -> Result<Self> {
        let dialer = Dialer::new(url)?;
        let shared = if url.shape == Shape::Cluster {
            let client = ClusterClientBuilder::new(url.nodes.clone())
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(RESPONSE_TIMEOUT)
                .build()?;
            Shared::Cluster(Box::new(client.get_async_connection().await?))
        } else {
            let first = dialer.dial(Some(RESPONSE_TIMEOUT)).await?;
            Shared::Node { dialer: dialer.clone(), current: Mutex::new((0, Some(first))) }
        };
        let bulk = bb8::Pool::builder()
            .max_size(BULK_CONNECTIONS)
            .min_idle(Some(0))
            .connection_timeout(RESPONSE_TIMEOUT)
            // A connection to a primary that was demoted still answers reads.
            .max_lifetime(Some(Duration::from_mins(1)))
            .build_unchecked(dialer);
        Ok(Self { url: url.clone(), shared: Arc::new(shared), bulk })
    }

    /// The URL, for people; it shows no password.
    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Runs one command on the shared connection.
    pub async fn run(&self, cmd: &redis::Cmd) -> RedisResult<Value> {
        match &*self.shared {
            // Boxed: the client's futures nest deep, and so would all that wait for them.
            Shared::Cluster(connection) => Box::pin(cmd.query_async(&mut connection.as_ref().clone())).await,
            Shared::Node { .. } => {
                // Callers wait in line for one attempt to connect, but not for each other's.
                let current = tokio::time::timeout(RECONNECT_TIMEOUT, self.current()).await;
                let (serial, mut connection) =
                    current.map_err(|_| timed_out("connecting took too long"))??;
                let answer = Box::pin(cmd.query_async(&mut connection)).await;
                self.judge(serial, &answer).await;
                answer
            }
        }
    }

    /// Runs non-blocking reads that may be large, in one round trip, beside the shared connection.
    /// In a Cluster their keys may lie in different slots.
    pub async fn bulk(&self, commands: &redis::Pipeline) -> Result<Vec<Value>> {
        if let Shared::Cluster(connection) = &*self.shared {
            // A pipeline over several slots is refused; sent side by side they cost one round trip.
            let answers = commands.cmd_iter().map(|cmd| {
                let mut connection = connection.as_ref().clone();
                async move { cmd.query_async(&mut connection).await }
            });
            return Ok(futures::future::try_join_all(answers).await?);
        }
        let mut connection = self.bulk.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => Error::from(error),
            bb8::RunError::TimedOut => Error::Unavailable(timed_out("no connection became free")),
        })?;
        Ok(commands.query_async(&mut *connection).await?)
    }

    /// A connection of one's own for blocking commands, without a limit on how long an answer may
    /// take. Drop it whole to stop waiting: an abandoned blocking command still takes its element.
    /// `key` decides the node in a Cluster.
    pub async fn dedicated(&self, key: &str) -> Result<MultiplexedConnection> {
        let dialer = Dialer::new(&self.url)?;
        match &*self.shared {
            Shared::Node { .. } => Ok(dialer.dial(None).await?),
            Shared::Cluster(connection) => {
                Ok(dialer.dial_owner(key, &mut connection.as_ref().clone()).await?)
            }
        }
    }

    /// A connection of one's own for subscriptions.
    pub async fn subscription(&self) -> Result<PubSub> {
        if self.url.shape != Shape::Cluster {
            return Ok(subscribed(&Dialer::new(&self.url)?.client().await?).await?);
        }
        // Any node of a Cluster passes on what is published; one of them may be down.
        let mut last = timed_out("no cluster node answered");
        for node in &self.url.nodes {
            match subscribed(&Client::open(node.as_str())?).await {
                Ok(subscription) => return Ok(subscription),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Everything that this Redis is told, as it is told it. It slows Redis down: for benchmarks.
    pub(crate) async fn monitor(&self) -> Result<redis::aio::Monitor> {
        let client = Dialer::new(&self.url)?.client().await?;
        Ok(client.get_async_monitor().await?)
    }

    async fn current(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let Shared::Node { dialer, current } = &*self.shared else {
            return Err(timed_out("a cluster has no single connection"));
        };
        let mut slot = current.lock().await;
        if let (serial, Some(connection)) = &*slot {
            return Ok((*serial, connection.clone()));
        }
        let fresh = dialer.dial(Some(RESPONSE_TIMEOUT)).await?;
        *slot = (slot.0 + 1, Some(fresh.clone()));
        Ok((slot.0, fresh))
    }

    /// Gives the shared connection up when its answer shows that it is broken, stalled, or leads to
    /// a server that is no longer the primary.
    async fn judge<T>(&self, serial: u64, answer: &RedisResult<T>) {
        let Err(error) = answer else { return };
        let broken = error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_unrecoverable_error()
            || error.code() == Some("READONLY");
        if let (true, Shared::Node { current, .. }) = (broken, &*self.shared) {
            let mut slot = current.lock().await;
            if slot.0 == serial {
                slot.1 = None;
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.url)
    }
}

async fn subscribed(client: &Client) -> RedisResult<PubSub> {
    let open = tokio::time::timeout(CONNECT_TIMEOUT, client.get_async_pubsub());
    open.await.map_err(|_| timed_out("connecting took too long"))?
}

fn timed_out(why: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, why).into()
}

/// Opens connections to the primary; as a bb8 manager it also fills the pool.
#[derive(Clone)]
struct Dialer {
    target: Target,
}

#[derive(Clone)]
enum Target {
    Node(Box<ConnectionInfo>),
    Sentinel(Arc<Mutex<SentinelClient>>),
}

impl Dialer {
    fn new(url: &RedisUrl) -> Result<Self> {
        let first = url.nodes.first().map(String::as_str).unwrap_or_default().into_connection_info()?;
        let target = if url.shape == Shape::Sentinel {
            let mut node = SentinelNodeConnectionInfo::default()
                .set_redis_connection_info(first.redis_settings().clone());
            if matches!(first.addr(), redis::ConnectionAddr::TcpTls { .. }) {
                node = node.set_tls_mode(TlsMode::Secure);
            }
            // The password is the data nodes'; Sentinels themselves are asked without one.
            let sentinels: RedisResult<Vec<ConnectionInfo>> = url
                .nodes
                .iter()
                .map(|node| {
                    Ok(node
                        .as_str()
                        .into_connection_info()?
                        .set_redis_settings(redis::RedisConnectionInfo::default()))
                })
                .collect();
            let client = SentinelClient::build(
                sentinels?,
                url.service.clone(),
                Some(node),
                SentinelServerType::Master,
            )?;
            Target::Sentinel(Arc::new(Mutex::new(client)))
        } else {
            Target::Node(Box::new(first))
        };
        Ok(Self { target })
    }

    async fn client(&self) -> RedisResult<Client> {
        match &self.target {
            Target::Node(info) => Client::open(info.as_ref().clone()),
            Target::Sentinel(client) => {
                let mut client = client.lock().await;
                tokio::time::timeout(CONNECT_TIMEOUT, client.async_get_client())
                    .await
                    .map_err(|_| timed_out("no Sentinel answered"))?
            }
        }
    }

    async fn dial(&self, response: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        connect(&self.client().await?, response).await
    }

    /// Connects to the cluster node that serves `key`.
    async fn dial_owner(
        &self,
        key: &str,
        cluster: &mut ClusterConnection,
    ) -> RedisResult<MultiplexedConnection> {
        let slot: u16 = redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(cluster).await?;
        let ranges: Vec<(u16, u16, (String, u16))> = {
            let answer: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(cluster).await?;
            answer.iter().filter_map(|range| slot_range(range)).collect()
        };
        let owner = ranges.into_iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
        let (_, _, (host, port)) =
            owner.ok_or_else(|| timed_out("no cluster node serves the queue's slot"))?;
        let Target::Node(info) = &self.target else {
            return Err(timed_out("a cluster is not reached through Sentinel"));
        };
        let addr = match info.addr() {
            redis::ConnectionAddr::TcpTls { insecure, tls_params, .. } => redis::ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => redis::ConnectionAddr::Tcp(host, port),
        };
        connect(&Client::open(info.as_ref().clone().set_addr(addr))?, None).await
    }
}

fn slot_range(range: &[Value]) -> Option<(u16, u16, (String, u16))> {
    let from = redis::from_redis_value_ref(range.first()?).ok()?;
    let to = redis::from_redis_value_ref(range.get(1)?).ok()?;
    let node: Vec<Value> = redis::from_redis_value_ref(range.get(2)?).ok()?;
    let host = redis::from_redis_value_ref(node.first()?).ok()?;
    let port = redis::from_redis_value_ref(node.get(1)?).ok()?;
    Some((from, to, (host, port)))
}

async fn connect(client: &Client, response: Option<Duration>) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(response);
    client.get_multiplexed_async_connection_with_config(&config).await
}

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
