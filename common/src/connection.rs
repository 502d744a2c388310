//! Connections to Redis: standalone, Sentinel and Cluster, TLS, unix sockets. No other module opens one.
//!
//! Commands share one multiplexed connection, which is replaced when it breaks. For a Cluster this is the
//! client's connection to all nodes, which is replaced when it stops answering. Blocking waits and
//! subscriptions get dedicated connections ([`Link::dedicated`], [`Link::subscription`]): a blocking command
//! on a shared connection delays everybody behind it, and one abandoned by its client still takes its
//! element. Large reads use a small pool ([`Link::bulk`]), so that they do not delay a heartbeat.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::ConnectionLike;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{Client, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use crate::dialer::{ClusterNodes, Dialed, Dialer};
use crate::error::{Error, Result};
use crate::redis_url::{RedisUrl, Shape};
use crate::server::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, timed_out};

/// How long a command may wait for the shared connection to be restored.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two tries of a call while a Cluster fails over; together they take [`RESPONSE_TIMEOUT`].
const CLUSTER_RETRY_MIN_MS: u64 = 50;
const CLUSTER_RETRY_MAX_MS: u64 = 500;
/// Connections for large reads per process. More would let readers crowd out the queue's scripts.
const BULK_CONNECTIONS: u32 = 4;

/// Error codes for requests that another server may be able to answer by now.
const PASSED_ON: [&str; 4] = ["READONLY", "MASTERDOWN", "UNBLOCKED", "MISCONF"];

/// A handle on Redis, cheap to clone. Reconnects by itself.
#[derive(Clone)]
pub struct Link {
    url: RedisUrl,
    shared: Arc<Shared>,
    bulk: bb8::Pool<Dialer>,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it, behind an Arc")]
enum Shared {
    /// To the primary.
    Node { dialer: Dialer, current: Current<MultiplexedConnection> },
    /// To all nodes of a Cluster.
    Cluster { client: ClusterClient, current: Current<ClusterConnection>, nodes: Arc<ClusterNodes> },
}

/// A connection.
struct Current<C>(Mutex<Slot<C>>);

struct Slot<C> {
    /// How many connections were made before it.
    serial: u64,
    /// The primary that it leads to; see [`Dialer::primary`].
    primary: u64,
    connection: Option<C>,
}

impl<C: ConnectionLike + Clone + Sync> Current<C> {
    fn new(first: Option<C>) -> Self {
        Self(Mutex::new(Slot { serial: 0, primary: 0, connection: first }))
    }

    /// Runs a command on the connection to this primary, and drops the connection if the answer shows that it is
    /// `broken`.
    async fn run<'a>(
        &self,
        cmd: &redis::Cmd,
        primary: u64,
        dial: impl FnOnce() -> BoxFuture<'a, RedisResult<C>>,
        broken: fn(&RedisError) -> bool,
    ) -> RedisResult<Value> {
        let (serial, mut connection) = self.get(primary, dial).await?;
        // Boxed: the client's futures nest deep, and so would all futures that await them.
        let answer = Box::pin(cmd.query_async(&mut connection)).await;
        if answer.as_ref().is_err_and(broken) {
            let mut slot = self.0.lock().await;
            if slot.serial == serial {
                slot.connection = None;
            }
        }
        answer
    }

    /// The connection, reopened by `dial` if there is none. Callers queue for one attempt to connect, not for
    /// each other's.
    async fn get<'a>(
        &self,
        primary: u64,
        dial: impl FnOnce() -> BoxFuture<'a, RedisResult<C>>,
    ) -> RedisResult<(u64, C)> {
        let get = async {
            let mut slot = self.0.lock().await;
            if slot.primary >= primary
                && let Some(connection) = &slot.connection
            {
                return Ok((slot.serial, connection.clone()));
            }
            let fresh = dial().await?;
            *slot = Slot { serial: slot.serial + 1, primary, connection: Some(fresh.clone()) };
            Ok((slot.serial, fresh))
        };
        let get = tokio::time::timeout(RECONNECT_TIMEOUT, get).await;
        get.map_err(|_| timed_out("connecting took too long"))?
    }
}

impl Link {
    /// Connects, or fails at once if that is not possible.
    pub async fn open(url: &RedisUrl) -> Result<Self> {
        let dialer = Dialer::new(url)?;
        let shared = if url.shape == Shape::Cluster {
            let client = ClusterClientBuilder::new(url.nodes.clone())
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(RESPONSE_TIMEOUT)
                .min_retry_wait(CLUSTER_RETRY_MIN_MS)
                .max_retry_wait(CLUSTER_RETRY_MAX_MS)
                .build()?;
            let first = client.get_async_connection().await?;
            Shared::Cluster { client, current: Current::new(Some(first)), nodes: ClusterNodes::new(url)? }
        } else {
            let first = dialer.dial(Some(RESPONSE_TIMEOUT)).await?;
            dialer.follow();
            Shared::Node { dialer: dialer.clone(), current: Current::new(Some(first)) }
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

    /// The URL, for people; it does not show the password.
    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Runs one command on the shared connection.
    pub async fn run(&self, cmd: &redis::Cmd) -> RedisResult<Value> {
        match &*self.shared {
            Shared::Node { dialer, current } => {
                let dial = || dialer.dial(Some(RESPONSE_TIMEOUT)).boxed();
                current.run(cmd, dialer.primary(), dial, is_broken).await
            }
            Shared::Cluster { client, current, .. } => {
                current.run(cmd, 0, || client.get_async_connection().boxed(), is_stuck).await
            }
        }
    }

    /// Runs non-blocking reads that may be large, in one round trip, beside the shared connection.
    /// In a Cluster their keys may lie in different slots.
    pub async fn bulk(&self, commands: &redis::Pipeline) -> Result<Vec<Value>> {
        if matches!(*self.shared, Shared::Cluster { .. }) {
            // A pipeline over several slots is refused; sent in parallel, the commands still take one round
            // trip.
            let answers = commands.cmd_iter().map(|cmd| self.run(cmd));
            return Ok(futures::future::try_join_all(answers).await?);
        }
        let mut connection = self.bulk.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => Error::from(error),
            bb8::RunError::TimedOut => Error::Unavailable(timed_out("no connection became free")),
        })?;
        Ok(commands.query_async(&mut connection.connection).await?)
    }

    /// A dedicated connection for blocking commands, without a response timeout. To stop waiting, drop the
    /// connection: an abandoned blocking command still takes its element. In a Cluster, `key` decides the
    /// node.
    pub(crate) async fn dedicated(&self, key: &str) -> Result<Dialed> {
        Ok(self.dialer_to(key).dial_primary(None).await?)
    }

    /// The same link over a separate connection, opened on first use. In a Cluster it only reaches the node
    /// that serves `key`.
    pub(crate) fn apart(&self, key: &str) -> Self {
        let shared = Shared::Node { dialer: self.dialer_to(key), current: Current::new(None) };
        Self { url: self.url.clone(), shared: Arc::new(shared), bulk: self.bulk.clone() }
    }

    fn dialer_to(&self, key: &str) -> Dialer {
        match &*self.shared {
            Shared::Cluster { nodes, .. } => Dialer::to_owner(Arc::clone(nodes), key),
            Shared::Node { dialer, .. } => dialer.clone(),
        }
    }

    /// A dedicated connection for subscriptions, and what returns once it leads to a former primary, where nothing
    /// is published any more.
    pub(crate) async fn subscription(&self) -> Result<(PubSub, BoxFuture<'static, ()>)> {
        if let Shared::Node { dialer, .. } = &*self.shared {
            let primary = dialer.primary();
            let subscription = subscribed(&dialer.client().await?).await?;
            return Ok((subscription, dialer.clone().moved(primary).boxed()));
        }
        // Any node of a Cluster forwards what is published; one of them may be down.
        let mut last = timed_out("no cluster node answered");
        for node in &self.url.nodes {
            match subscribed(&Client::open(node.as_str())?).await {
                Ok(subscription) => return Ok((subscription, futures::future::pending().boxed())),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Every command that this Redis receives (`MONITOR`). It slows Redis down: only for benchmarks.
    pub async fn monitor(&self) -> Result<redis::aio::Monitor> {
        let client = Dialer::new(&self.url)?.client().await?;
        Ok(client.get_async_monitor().await?)
    }
}

/// Whether a connection is broken, stalled, or leads to a server that is no longer the primary.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        // No primary any more, or not the one that serves this slot.
        || error.is_cluster_error()
        || error.code().is_some_and(|code| PASSED_ON.contains(&code))
}

/// The Cluster client looks for the nodes itself while one fails over. But it may search forever and stop
/// answering (seen after a dozen failovers in a row); then a new client is better.
fn is_stuck(error: &RedisError) -> bool {
    error.is_timeout() || error.is_unrecoverable_error()
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
