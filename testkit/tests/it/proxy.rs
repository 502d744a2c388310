use std::time::Duration;

use fairlane_testkit::{FaultProxy, RedisServer, Upstream, wait_for_eq};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(100);

async fn setup() -> anyhow::Result<(RedisServer, FaultProxy, MultiplexedConnection)> {
    let server = RedisServer::start_default().await;
    let proxy = FaultProxy::start(Upstream::Unix(server.socket().to_owned())).await;
    let connection = connect(&proxy).await?;
    Ok((server, proxy, connection))
}

async fn connect(proxy: &FaultProxy) -> redis::RedisResult<MultiplexedConnection> {
    let limits = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    redis::Client::open(format!("redis://{}", proxy.address()))?
        .get_multiplexed_async_connection_with_config(&limits)
        .await
}

#[tokio::test]
async fn a_stalled_connection_goes_on_where_it_stopped() -> anyhow::Result<()> {
    let (server, proxy, mut connection) = setup().await?;
    proxy.stall();
    let mut answer = tokio::spawn(async move { connection.set::<_, _, ()>("key", 1).await });
    assert!(timeout(MOMENT, &mut answer).await.is_err(), "an answer came through a stall");
    assert!(!server.connect().await.exists::<_, bool>("key").await?);
    proxy.resume();
    answer.await??;
    assert!(server.connect().await.exists::<_, bool>("key").await?);
    Ok(())
}

#[tokio::test]
async fn a_lost_reply_is_to_a_request_that_was_carried_out_once() -> anyhow::Result<()> {
    let (server, proxy, mut connection) = setup().await?;
    for lost in 1..=20 {
        proxy.drop_next_reply();
        assert!(connection.incr::<_, _, i64>("count", 1).await.is_err(), "a reply came through");
        wait_for_eq("replies lost", DEADLINE, lost, async || proxy.replies_lost()).await;
        connection = connect(&proxy).await?;
    }
    assert_eq!(server.connect().await.get::<_, i64>("count").await?, 20);
    Ok(())
}

#[tokio::test]
async fn only_the_reply_that_was_named_is_lost() -> anyhow::Result<()> {
    let (_server, proxy, mut connection) = setup().await?;
    proxy.drop_reply_to("second");
    connection.set::<_, _, ()>("first", 1).await?;
    assert!(connection.set::<_, _, ()>("second", 1).await.is_err());
    Ok(())
}

#[tokio::test]
async fn cut_connections_break_and_new_ones_work() -> anyhow::Result<()> {
    let (_server, proxy, mut connection) = setup().await?;
    connection.set::<_, _, ()>("first", 1).await?;
    proxy.cut();
    assert!(connection.set::<_, _, ()>("second", 1).await.is_err(), "an answer came through a cut");
    connect(&proxy).await?.set::<_, _, ()>("third", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_delay_holds_both_directions_up() -> anyhow::Result<()> {
    let (_server, proxy, mut connection) = setup().await?;
    proxy.delay(MOMENT);
    let asked = std::time::Instant::now();
    connection.set::<_, _, ()>("key", 1).await?;
    assert!(asked.elapsed() >= 2 * MOMENT, "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_renamed_port_is_what_the_client_reads() -> anyhow::Result<()> {
    let server = RedisServer::start_default().await;
    let upstream = Upstream::Unix(server.socket().to_owned());
    let proxy = FaultProxy::renaming(upstream, &[(40_001, 50_002)]).await;
    let mut connection = connect(&proxy).await?;
    connection.set::<_, _, ()>("port", "40001").await?;
    assert_eq!(connection.get::<_, String>("port").await?, "50002");
    assert_eq!(server.connect().await.get::<_, String>("port").await?, "40001");
    Ok(())
}
