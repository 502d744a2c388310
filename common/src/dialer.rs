//! Opens connections to the primary, in whatever way it is found.

use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, Value,
};

use crate::error::Result;
use crate::redis_url::{RedisUrl, Shape};
use crate::sentinel::Sentinels;
use crate::server::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, beside, connect, first_node, timed_out};

/// Most nodes of a Cluster that are remembered.
const NODES_MAX: usize = 64;

/// Opens connections to the primary; as a bb8 manager it also fills the pool.
#[derive(Clone)]
pub(crate) struct Dialer {
    target: Target,
}

#[derive(Clone)]
enum Target {
    Node(Box<ConnectionInfo>),
    /// The master that Sentinel names.
    Sentinel(Arc<Sentinels>),
    /// The node of a Cluster that serves a key.
    Owner(Arc<ClusterNodes>, String),
}

impl Dialer {
    pub(crate) fn new(url: &RedisUrl) -> Result<Self> {
        let target = match url.shape {
            Shape::Sentinel => Target::Sentinel(Sentinels::new(url)?),
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
            // Boxed: callers' futures need not look into this.
            Target::Sentinel(sentinels) => Client::open(sentinels.master().boxed().await?),
            Target::Owner(nodes, key) => tokio::time::timeout(CONNECT_TIMEOUT, nodes.owner(key).boxed())
                .await
                .map_err(|_| timed_out("no cluster node answered"))?,
        }
    }

    pub(crate) async fn dial(&self, response: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        connect(&self.client().await?, response).await
    }

    /// Follows the primary from now on, where others decide which node that is.
    pub(crate) fn follow(&self) {
        if let Target::Sentinel(sentinels) = &self.target {
            sentinels.follow();
        }
    }

    /// The same, with which primary it leads to.
    pub(crate) async fn dial_primary(&self, response: Option<Duration>) -> RedisResult<Dialed> {
        // Noted first: if the primary changes meanwhile, the connection counts as one to the former.
        let primary = self.primary();
        Ok(Dialed { connection: self.dial(response).await?, primary, dialer: self.clone() })
    }

    /// A number that changes when another node is the primary: connections that were opened before lead to a former
    /// one.
    pub(crate) fn primary(&self) -> u64 {
        match &self.target {
            Target::Sentinel(sentinels) => sentinels.serial(),
            Target::Node(_) | Target::Owner(..) => 0,
        }
    }

    /// Returns once another node than this one is the primary.
    pub(crate) async fn moved(self, primary: u64) {
        match &self.target {
            Target::Sentinel(sentinels) => sentinels.moved(primary).await,
            Target::Node(_) | Target::Owner(..) => std::future::pending().await,
        }
    }
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

/// A connection to the primary, and which primary that was.
pub(crate) struct Dialed {
    pub(crate) connection: MultiplexedConnection,
    primary: u64,
    dialer: Dialer,
}

impl Dialed {
    /// Whether it still leads to the primary, as far as is known.
    pub(crate) fn is_current(&self) -> bool {
        self.primary == self.dialer.primary()
    }
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialed")
    }
}

impl bb8::ManageConnection for Dialer {
    type Connection = Dialed;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<Dialed> {
        self.dial_primary(Some(RESPONSE_TIMEOUT)).await
    }

    async fn is_valid(&self, dialed: &mut Dialed) -> RedisResult<()> {
        if !dialed.is_current() {
            return Err(RedisError::from((ErrorKind::Io, "another node is the primary")));
        }
        redis::cmd("PING").query_async(&mut dialed.connection).await
    }

    fn has_broken(&self, _: &mut Dialed) -> bool {
        false
    }
}
