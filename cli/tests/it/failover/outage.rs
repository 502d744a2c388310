//! The kinds of outages of Redis.

use std::time::Duration;

use fairlane_testkit::{RedisCluster, RedisServer, SentinelSet, wait_for};

use crate::setup::LIMIT;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Restart,
    Kill,
    Freeze,
    Sentinel,
    Cluster,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum Redis {
    One(RedisServer),
    Sentinel(SentinelSet),
    Cluster(RedisCluster),
}

impl Redis {
    pub(super) fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Sentinel(set) => set.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Takes Redis away. Some time after `length`, it is back, or another server has taken its place.
    pub(super) async fn goes_away(&self, kind: Kind, length: Duration) {
        match (self, kind) {
            (Self::One(server), Kind::Restart) => {
                server.shut_down().await;
                tokio::time::sleep(length).await;
                server.start().await;
            }
            (Self::One(server), Kind::Kill) => {
                server.kill();
                tokio::time::sleep(length).await;
                server.start().await;
            }
            (Self::One(server), _) => {
                server.freeze();
                tokio::time::sleep(length).await;
                server.thaw();
            }
            // Here the failover itself determines the length.
            (Self::Sentinel(set), _) => {
                let (master, replica) = set.master_and_replica().await;
                master.kill();
                wait_for("the sentinel to name another master", LIMIT, async || {
                    set.master_port().await == replica.port()
                })
                .await;
            }
            (Self::Cluster(cluster), _) => {
                let (master, _) = cluster.holder_and_replica().await;
                master.kill();
            }
        }
    }

    /// Restarts the killed server as a replica of the new master.
    pub(super) async fn is_whole_again(&self) {
        match self {
            Self::One(_) => {}
            Self::Sentinel(set) => {
                let (_, old) = set.master_and_replica().await;
                old.start().await;
                set.rejoin(old).await;
            }
            Self::Cluster(cluster) => {
                for node in cluster.nodes() {
                    if !node.runs() {
                        node.start().await;
                    }
                }
                cluster.in_step().await;
            }
        }
    }
}
