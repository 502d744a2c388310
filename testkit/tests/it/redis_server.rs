use std::time::Duration;

use fairlane_testkit::{AppendOnly, RedisServer, wait_for};
use redis::AsyncCommands as _;

#[tokio::test]
async fn two_servers_know_nothing_of_each_other() -> anyhow::Result<()> {
    let (one, other) = (RedisServer::start_default().await, RedisServer::start_default().await);
    one.connect().await.set::<_, _, ()>("key", "value").await?;
    assert_eq!(other.connect().await.get::<_, Option<String>>("key").await?, None);
    Ok(())
}

#[tokio::test]
async fn what_a_restart_keeps_is_what_the_append_only_file_keeps() -> anyhow::Result<()> {
    for (mode, kept) in [(AppendOnly::Off, None), (AppendOnly::Always, Some("value".to_owned()))] {
        let server = RedisServer::builder().append_only(mode).start().await;
        server.connect().await.set::<_, _, ()>("key", "value").await?;
        let pid = server.pid();
        server.restart().await;
        assert_ne!(server.pid(), pid);
        assert_eq!(server.connect().await.get::<_, Option<String>>("key").await?, kept, "{mode:?}");
        server.kill();
        server.start().await;
        assert_eq!(
            server.connect().await.get::<_, Option<String>>("key").await?,
            kept,
            "{mode:?} after a kill"
        );
    }
    Ok(())
}

#[tokio::test]
async fn tcp_and_a_password_are_in_force() -> anyhow::Result<()> {
    let server = RedisServer::builder().tcp().password("secret").start().await;
    let client = redis::Client::open(server.tcp_url())?;
    client.get_multiplexed_async_connection().await?.set::<_, _, ()>("key", "value").await?;
    let open = redis::Client::open(format!("redis://127.0.0.1:{}", server.port()))?;
    let refused = async { open.get_multiplexed_async_connection().await?.get::<_, String>("key").await };
    assert!(refused.await.is_err(), "no password, yet an answer");
    Ok(())
}

#[tokio::test]
async fn a_full_server_refuses_writes() -> anyhow::Result<()> {
    let server = RedisServer::builder().max_memory(1).start().await;
    let refusal = server.connect().await.set::<_, _, ()>("key", "value").await;
    assert!(refusal.is_err_and(|error| error.to_string().contains("OOM")));
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_answers_once_it_is_thawed() -> anyhow::Result<()> {
    let server = RedisServer::start_default().await;
    let mut connection = server.connect().await;
    server.freeze();
    let mut answer = tokio::spawn(async move { connection.set::<_, _, ()>("key", "value").await });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut answer).await;
    assert!(early.is_err(), "a frozen server has answered");
    server.thaw();
    answer.await??;
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_folder() {
    let server = RedisServer::start_default().await;
    let (pid, dir) = (server.pid(), server.dir().to_owned());
    assert!(dir.exists());
    drop(server);
    wait_for("the process to be gone", Duration::from_secs(5), async || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
    assert!(!dir.exists());
}
