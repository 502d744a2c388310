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
use redis::{Client, RedisResult, Value};
use tokio::sync::Mutex;

use crate::dialer::{CONNECT_TIMEOUT, ClusterNodes, Dialer, RESPONSE_TIMEOUT, timed_out};
use crate::error::{Error, Result};
use crate::redis_url::{RedisUrl, Shape};

/// How long a command may wait for the shared connection to be there again.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two tries of a call while a Cluster fails over; together they take [`RESPONSE_TIMEOUT`].
const CLUSTER_RETRY_MIN_MS: u64 = 50;
const CLUSTER_RETRY_MAX_MS: u64 = 500;
/// Connections for large reads per process. More would let readers crowd out the queue's scripts.
const BULK_CONNECTIONS: u32 = 4;

/// What a server says that another one may answer by now.
const PASSED_ON: [&str; 3] = ["READONLY", "MASTERDOWN", "UNBLOCKED"];

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
    Cluster(Box<ClusterConnection>, Arc<ClusterNodes>),
}

impl Link {
    /// Connects, and says at once when that is not possible.
    pub async fn open(url: &RedisUrl) -> Result<Self> {
        let dialer = Dialer::new(url)?;
        let shared = if url.shape == Shape::Cluster {
            let client = ClusterClientBuilder::new(url.nodes.clone())
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(RESPONSE_TIMEOUT)
                .min_retry_wait(CLUSTER_RETRY_MIN_MS)
                .max_retry_wait(CLUSTER_RETRY_MAX_MS)
                .build()?;
            Shared::Cluster(Box::new(client.get_async_connection().await?), ClusterNodes::new(url)?)
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
            Shared::Cluster(connection, _) => {
                Box::pin(cmd.query_async(&mut connection.as_ref().clone())).await
            }
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
        if let Shared::Cluster(connection, _) = &*self.shared {
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
        Ok(self.dialer_to(key)?.dial(None).await?)
    }

    /// The same way with a connection of its own, which is opened when it is first used. In a Cluster
    /// it leads to the node that serves `key`, and nowhere else.
    pub(crate) fn apart(&self, key: &str) -> Result<Self> {
        let shared = Shared::Node { dialer: self.dialer_to(key)?, current: Mutex::new((0, None)) };
        Ok(Self { url: self.url.clone(), shared: Arc::new(shared), bulk: self.bulk.clone() })
    }

    fn dialer_to(&self, key: &str) -> Result<Dialer> {
        match &*self.shared {
            Shared::Cluster(_, nodes) => Ok(Dialer::to_owner(Arc::clone(nodes), key)),
            Shared::Node { .. } => Dialer::new(&self.url),
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
            // No primary any more, or not the one that serves this slot.
            || error.is_cluster_error()
            || error.code().is_some_and(|code| PASSED_ON.contains(&code));
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
