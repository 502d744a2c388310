use std::time::Duration;

use fairlane_testkit::{RedisCluster, SentinelSet, wait_for_eq};
use redis::AsyncCommands as _;

#[tokio::test]
async fn a_cluster_takes_keys_of_every_slot() -> anyhow::Result<()> {
    let cluster = RedisCluster::start().await;
    let mut connection = redis::cluster::ClusterClient::new(cluster.urls())?.get_async_connection().await?;
    for number in 0..50 {
        connection.set::<_, _, ()>(format!("key-{number}"), number).await?;
    }
    let mut keys = Vec::new();
    for node in cluster.nodes() {
        keys.push(redis::cmd("DBSIZE").query_async::<u32>(&mut node.connect().await).await?);
    }
    assert_eq!(keys.iter().sum::<u32>(), 50);
    assert!(keys.iter().all(|keys| *keys > 0), "all keys on one node: {keys:?}");
    Ok(())
}

#[tokio::test]
async fn a_sentinel_makes_the_replica_master_when_the_master_dies() {
    let set = SentinelSet::start().await;
    assert_eq!(set.master_port().await, set.master().port());
    set.master().kill();
    wait_for_eq("the master's port", Duration::from_secs(30), set.replica().port(), async || {
        set.master_port().await
    })
    .await;
}
