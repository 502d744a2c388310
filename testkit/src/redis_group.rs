//! Several servers that belong together: a cluster, and a master watched by a sentinel.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::redis_builder::RedisServerBuilder;
use crate::redis_server::RedisServer;
use crate::redis_users::USER_AT_HOST;
use crate::wait::wait_for;

/// Forming takes one to two seconds; this allows for a busy machine.
const FORM_DEADLINE: Duration = Duration::from_secs(40);
/// Masters of a cluster: the minimum that is allowed.
const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;

/// Three masters that share the slots, usually without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A first master that has nearly all slots, with a replica that takes over automatically. The two others have
    /// one slot each, because only masters with slots vote.
    ///
    /// # Panics
    /// If a node does not come up or the cluster does not form.
    pub async fn with_replica() -> Self {
        let mut cluster = Self::of(&[(0, SLOTS - 3), (SLOTS - 2, SLOTS - 2), (SLOTS - 1, SLOTS - 1)]).await;
        let replica = RedisServer::builder().cluster().start().await;
        let mut first = cluster.nodes[0].connect().await;
        let mut own = replica.connect().await;
        let bus = config_of(&mut own, "cluster-port").await;
        must(&mut first, &["CLUSTER", "MEET", "127.0.0.1", &replica.port().to_string(), &bus]).await;
        let id = must(&mut first, &["CLUSTER", "MYID"]).await;
        wait_for("the replica to know its master", FORM_DEADLINE, async || {
            let answer: redis::RedisResult<()> =
                redis::cmd("CLUSTER").arg("REPLICATE").arg(&id).query_async(&mut own).await;
            answer.map_err(|error| error.to_string())
        })
        .await;
        cluster.nodes.push(replica);
        cluster.in_step().await;
        cluster
    }

    /// The node that serves nearly all slots, and its replica.
    ///
    /// # Panics
    /// If neither or both of them call themselves master, or one does not answer.
    pub async fn holder_and_replica(&self) -> (&RedisServer, &RedisServer) {
        let (first, last) = (&self.nodes[0], &self.nodes[self.nodes.len() - 1]);
        match (is_master(first).await, is_master(last).await) {
            (true, false) => (first, last),
            (false, true) => (last, first),
            both => panic!("masters: {both:?}"),
        }
    }

    /// Waits until the replica is in sync with its master.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn in_step(&self) {
        wait_for("one master and a replica in step", FORM_DEADLINE, async || {
            let (first, last) = (&self.nodes[0], &self.nodes[self.nodes.len() - 1]);
            let states = (state_of(first).await, state_of(last).await);
            match (states.0.as_str(), states.1.as_str()) {
                ("master", "up") | ("up", "master") => Ok(()),
                _ => Err(format!("{states:?}")),
            }
        })
        .await;
    }

    /// Starts the nodes, and waits until all of them agree on the slots.
    ///
    /// # Panics
    /// If a node does not come up or the cluster does not form.
    pub async fn start() -> Self {
        let third = SLOTS / MASTERS;
        Self::of(&[(0, third - 1), (third, 2 * third - 1), (2 * third, SLOTS - 1)]).await
    }

    async fn of(ranges: &[(u16, u16)]) -> Self {
        let mut nodes = Vec::new();
        for _ in ranges {
            nodes.push(RedisServer::builder().cluster().start().await);
        }
        let cluster = Self { nodes };
        let mut first = cluster.nodes[0].connect().await;
        for (number, (node, (from, to))) in cluster.nodes.iter().zip(ranges).enumerate() {
            let mut own = node.connect().await;
            must(&mut own, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await;
            if number > 0 {
                let bus = config_of(&mut own, "cluster-port").await;
                must(&mut first, &["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus]).await;
            }
        }
        for node in &cluster.nodes {
            let mut own = node.connect().await;
            wait_for("the cluster to form", FORM_DEADLINE, async || {
                let info = must(&mut own, &["CLUSTER", "INFO"]).await;
                let all_known = format!("cluster_known_nodes:{MASTERS}");
                if info.contains("cluster_state:ok") && info.contains(&all_known) {
                    Ok(())
                } else {
                    Err(info)
                }
            })
            .await;
        }
        cluster
    }

    /// The nodes, each a separate server.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The URL of the cluster, for a user with the rights of dispatchers and workers.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{USER_AT_HOST}@{}", nodes.join(","))
    }

    /// The URLs of all nodes, for a user with all rights.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port())).collect()
    }
}

/// A master, its replica, and one sentinel that watches them and fails over automatically.
#[derive(Debug)]
pub struct SentinelSet {
    master: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

impl SentinelSet {
    /// The name under which the sentinel knows the master.
    pub const MASTER_NAME: &'static str = "fairlane";

    /// Starts the three, and waits until the sentinel knows the replica and the replica is in sync.
    ///
    /// # Panics
    /// If one of them does not come up.
    pub async fn start() -> Self {
        Self::with_down_after(Duration::from_secs(1)).await
    }

    /// The same; the sentinel considers a master down after it was silent for this long.
    ///
    /// # Panics
    /// If one of them does not come up.
    pub async fn with_down_after(down_after: Duration) -> Self {
        Self::of([RedisServer::builder(), RedisServer::builder()], down_after).await
    }

    /// The same with a master and a replica that are configured otherwise.
    ///
    /// # Panics
    /// If one of them does not come up.
    pub async fn of([master, replica]: [RedisServerBuilder; 2], down_after: Duration) -> Self {
        let master = master.tcp().start().await;
        let follows = format!("replicaof 127.0.0.1 {}", master.port());
        let replica = replica.tcp().config_line(&follows).start().await;
        let mut connection = replica.connect().await;
        wait_for("the replica to be in step", FORM_DEADLINE, async || {
            let info = must(&mut connection, &["INFO", "replication"]).await;
            if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
        })
        .await;
        let name = Self::MASTER_NAME;
        let sentinel = RedisServer::builder()
            .sentinel()
            .config_line(&format!("sentinel monitor {name} 127.0.0.1 {} 1", master.port()))
            .config_line(&format!("sentinel down-after-milliseconds {name} {}", down_after.as_millis()))
            .config_line(&format!("sentinel failover-timeout {name} 4000"))
            .start()
            .await;
        let set = Self { master, replica, sentinel };
        let mut connection = set.sentinel.connect().await;
        wait_for("the sentinel to know the replica", FORM_DEADLINE, async || {
            let replicas: Vec<redis::Value> = redis::cmd("SENTINEL")
                .arg("REPLICAS")
                .arg(name)
                .query_async(&mut connection)
                .await
                .map_err(|error| error.to_string())?;
            if replicas.is_empty() { Err("no replica".to_owned()) } else { Ok(()) }
        })
        .await;
        set
    }

    /// The URL that leads to the master, for a user with the rights of dispatchers and workers.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{USER_AT_HOST}@127.0.0.1:{}/{}", self.sentinel.port(), Self::MASTER_NAME)
    }

    /// The server that is master at first: kill it to make the sentinel fail over.
    pub fn master(&self) -> &RedisServer {
        &self.master
    }

    /// The server that is replica at first.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// The sentinel.
    pub fn sentinel(&self) -> &RedisServer {
        &self.sentinel
    }

    /// The server that is master now, and the other one.
    ///
    /// # Panics
    /// If the sentinel does not answer.
    pub async fn master_and_replica(&self) -> (&RedisServer, &RedisServer) {
        let is_first = self.master_port().await == self.master.port();
        if is_first { (&self.master, &self.replica) } else { (&self.replica, &self.master) }
    }

    /// Makes a server that was master follow the new one, and waits until it does.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn rejoin(&self, old: &RedisServer) {
        let port = self.master_port().await.to_string();
        old.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        wait_for("the old master to follow the new one", FORM_DEADLINE, async || {
            let state = state_of(old).await;
            if state == "up" { Ok(()) } else { Err(state) }
        })
        .await;
    }

    /// The port of the server that the sentinel calls master now.
    ///
    /// # Panics
    /// If the sentinel does not answer.
    pub async fn master_port(&self) -> u16 {
        let mut connection = self.sentinel.connect().await;
        let address: redis::RedisResult<(String, u16)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(Self::MASTER_NAME)
            .query_async(&mut connection)
            .await;
        match address {
            Ok((_, port)) => port,
            Err(error) => panic!("the sentinel does not name its master: {error}"),
        }
    }
}

/// `master`, or the state of a replica's link (`up` or `down`), or the error if the server does not answer.
async fn state_of(server: &RedisServer) -> String {
    let info: redis::RedisResult<String> = match server.try_connect().await {
        Ok(mut connection) => redis::cmd("INFO").arg("replication").query_async(&mut connection).await,
        Err(error) => Err(error),
    };
    match info {
        Ok(info) if info.contains("role:master") => "master".to_owned(),
        Ok(info) if info.contains("master_link_status:up") => "up".to_owned(),
        Ok(_) => "down".to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn is_master(server: &RedisServer) -> bool {
    state_of(server).await == "master"
}

async fn must(connection: &mut MultiplexedConnection, words: &[&str]) -> String {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    match command.query_async(connection).await {
        Ok(answer) => answer,
        Err(error) => panic!("{words:?}: {error}"),
    }
}

async fn config_of(connection: &mut MultiplexedConnection, name: &str) -> String {
    let answer: redis::RedisResult<(String, String)> =
        redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await;
    match answer {
        Ok((_, value)) => value,
        Err(error) => panic!("CONFIG GET {name}: {error}"),
    }
}
