//! Opening connections to the primary, whichever way leads there.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult, TlsMode,
    Value,
};
use tokio::sync::Mutex;

use crate::error::Result;
use crate::redis_url::{RedisUrl, Shape};

/// How long a connection may take to open.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. Shorter than half a lease, so that a stalled Redis is noticed while
/// a renewal can still be tried again.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

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
    Sentinel(Arc<Mutex<SentinelClient>>),
}

impl Dialer {
    pub(crate) fn new(url: &RedisUrl) -> Result<Self> {
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

    pub(crate) async fn client(&self) -> RedisResult<Client> {
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

    pub(crate) async fn dial(&self, response: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        connect(&self.client().await?, response).await
    }

    /// Connects to the cluster node that serves `key`.
    pub(crate) async fn dial_owner(
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
