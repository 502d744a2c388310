//! Redis that is away or restarted, behind Sentinel, or a Cluster; timeouts.

use std::time::Duration;

use fairlane_common::queue::{Beat, Claim, Finish, Finished, Outcome, Prune, Submitted};
use fairlane_common::{BuildState, Error, Queue};
use fairlane_testkit::{FaultProxy, RedisCluster, RedisServer, SentinelSet, Upstream, wait_for_eq};
use futures::StreamExt;
use uuid::Uuid;

use crate::scene::{ask, worker};

/// Requests a build, runs it and reads its log over one kind of connection.
async fn one_build(queue: &Queue) {
    let asked = ask("o/n", 1);
    assert!(matches!(queue.submit(&asked).await.unwrap(), Submitted::New(_)));
    let lease = Duration::from_secs(10);
    let beat = Beat {
        worker: worker("w"),
        host: "h".to_owned(),
        version: "0".to_owned(),
        place: "p".to_owned(),
        slots: 2,
        draining: false,
        paused: None,
        nodes: 0,
        lease,
        held: vec![],
    };
    queue.renew(&beat).await.unwrap();
    assert!(queue.waiter().wait(Duration::from_secs(2)).await.unwrap(), "the new slots wake somebody");
    let claim = Claim { worker: worker("w"), place: "p".to_owned(), free: 1, lease, request: Uuid::new_v4() };
    let claimed = queue.claim(&claim).await.unwrap().builds.remove(0);
    let mut log =
        fairlane_common::log::LogWriter::new(queue.clone(), claimed.token.clone(), 1, "0-0".to_owned());
    log.append(&[fairlane_common::log::LogLine { t: "1".to_owned(), text: "hello".to_owned() }])
        .await
        .unwrap();
    assert_eq!(queue.read_log(asked.id, 1, "0", 10).await.unwrap().entries[0].text, "hello");
    let log_bytes = queue.log_bytes(asked.id, 1).await.ok();
    let finish = Finish { log_end: Some(log.last().to_owned()), log_bytes, ..Finish::of(Outcome::Succeeded) };
    assert_eq!(queue.finish(&claimed.token, &finish).await.unwrap(), Finished::Ended(BuildState::Succeeded));
    assert_eq!(queue.build(asked.id).await.unwrap().unwrap().state, BuildState::Succeeded);
    assert!(!queue.waiter().wait(Duration::from_millis(50)).await.unwrap());
    assert!(queue.check(1000).await.unwrap().problems.is_empty());
    // The log is in another Cluster slot than the queue.
    let prune = Prune { older_than: Some(Duration::ZERO), ..Prune::default() };
    assert_eq!(queue.prune_logs(&prune, "ann").await.unwrap().logs, 1);
    assert!(queue.read_log(asked.id, 1, "0", 10).await.unwrap().entries.is_empty());
    assert!(queue.memory().await.unwrap().used > 0);
}

#[tokio::test]
async fn standalone_with_a_password_and_over_tcp() {
    let server = RedisServer::builder().tcp().password("hunter2").start().await;
    let queue = Queue::open(&server.tcp_url().parse().unwrap(), "a.prefix").await.unwrap();
    one_build(&queue).await;
    assert!(!format!("{queue:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_cluster_keeps_the_queue_in_one_slot() {
    let cluster = RedisCluster::start().await;
    let queue = Queue::open(&cluster.url().parse().unwrap(), "fairlane").await.unwrap();
    one_build(&queue).await;
    assert_eq!(
        queue.memory().await.unwrap().nodes,
        cluster.nodes().len() as u64,
        "its primaries, and no replicas"
    );
}

#[tokio::test]
async fn sentinel_leads_to_the_primary() {
    let set = SentinelSet::start().await;
    one_build(&Queue::open(&set.url().parse().unwrap(), "fairlane").await.unwrap()).await;
}

#[tokio::test]
async fn a_master_that_lives_on_after_a_failover_is_left_at_once() {
    // A master that Sentinel cannot make a replica, so that it takes writes for as long as the test runs.
    let stubborn = ["replicaof", "slaveof"].iter().fold(RedisServer::builder(), |server, name| {
        server.config_line(&format!("rename-command {name} \"\""))
    });
    let set = SentinelSet::of([stubborn, RedisServer::builder()], Duration::from_secs(1)).await;
    let queue = Queue::open(&set.url().parse().unwrap(), "fairlane").await.unwrap();
    let mut waiter = queue.waiter();
    let mut events = queue.events();
    let mut news = std::pin::pin!(queue.orphan_news().await.unwrap());
    let submit = |number| {
        let asked = ask("o/n", number);
        let queue = &queue;
        async move { queue.submit(&asked).await.map(|_| asked.id) }
    };
    submit(1).await.unwrap();
    assert!(events.next().await.unwrap().is_empty(), "only what happens from now on");
    assert!(waiter.wait(Duration::from_secs(2)).await.unwrap(), "a new build wakes somebody");
    set.sentinel().command(&["SENTINEL", "FAILOVER", SentinelSet::MASTER_NAME]).await;
    assert_eq!(news.next().await, None, "the subscription ends, as nothing will be published there any more");
    wait_for_eq("another master", Duration::from_secs(40), set.replica().port(), async || {
        set.master_port().await
    })
    .await;
    let id = submit(2).await.unwrap();
    let key = format!("{{fairlane}}:build:{id}");
    for (server, copies) in [(set.replica(), 1), (set.master(), 0)] {
        let found = redis::cmd("EXISTS").arg(&key).query_async(&mut server.connect().await).await;
        assert_eq!(found, Ok::<u8, _>(copies), "the new master has it, and the former one has not");
    }
    assert_eq!(queue.snapshot().await.unwrap().queued, 2, "large reads go there too");
    assert_eq!(events.next().await.unwrap()[0].build, id);
    set.replica().command(&["RPUSH", "{fairlane}:wake", "1"]).await;
    assert!(waiter.wait(Duration::from_secs(2)).await.unwrap());
}

#[tokio::test]
async fn a_service_that_sentinel_does_not_know_is_named() {
    let set = SentinelSet::start().await;
    let url = set.url().replace(SentinelSet::MASTER_NAME, "elsewhere");
    let error = Queue::open(&url.parse().unwrap(), "fairlane").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("Sentinel knows no such service") && text.contains("elsewhere"), "{text}");
    assert!(error.is_transient(), "it may be added: {error:?}");
}

#[tokio::test]
async fn redis_away_is_an_error_that_passes() {
    let server = RedisServer::builder().append_only(fairlane_testkit::AppendOnly::Always).start().await;
    let queue = Queue::open(&server.url().parse().unwrap(), "fairlane").await.unwrap();
    let asked = ask("o/n", 1);
    queue.submit(&asked).await.unwrap();
    server.shut_down().await;
    let error = queue.snapshot().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.is_transient(), "{error:?}");
    server.start().await;
    assert_eq!(queue.position(asked.id).await.unwrap(), Some((1, 1)), "the queue came back with its data");
    assert_eq!(queue.snapshot().await.unwrap().queued, 1);
}

#[tokio::test]
async fn a_full_redis_still_lets_builds_end() {
    let server = RedisServer::start_default().await;
    let queue = Queue::open(&server.url().parse().unwrap(), "fairlane").await.unwrap();
    let lease = Duration::from_secs(10);
    queue.submit(&ask("o/n", 1)).await.unwrap();
    let beat = Beat {
        worker: worker("w"),
        host: "h".to_owned(),
        version: "0".to_owned(),
        place: "p".to_owned(),
        slots: 1,
        draining: false,
        paused: None,
        nodes: 0,
        lease,
        held: vec![],
    };
    queue.renew(&beat).await.unwrap();
    let claim = Claim { worker: worker("w"), place: "p".to_owned(), free: 1, lease, request: Uuid::new_v4() };
    let claimed = queue.claim(&claim).await.unwrap().builds.remove(0);
    let mut connection = server.connect().await;
    let _: () =
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").query_async(&mut connection).await.unwrap();
    let refused = queue.submit(&ask("o/n", 2)).await.unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory(_)), "{refused:?}");
    let beat = Beat { held: vec![claimed.token.clone()], ..beat };
    queue.renew(&beat).await.unwrap();
    queue.reap().await.unwrap();
    let finish = Finish::of(Outcome::Succeeded);
    assert_eq!(queue.finish(&claimed.token, &finish).await.unwrap(), Finished::Ended(BuildState::Succeeded));
}

#[tokio::test]
async fn what_a_server_refuses_for_a_while_is_transient() {
    let server = RedisServer::start_default().await;
    let queue = Queue::open(&server.url().parse().unwrap(), "fairlane").await.unwrap();
    let mut connection = server.connect().await;
    for (setting, bad, good) in [("min-replicas-to-write", "1", "0"), ("maxmemory", "1", "0")] {
        for value in [bad, good] {
            if value == good {
                let error = queue.submit(&ask("o/n", 1)).await.unwrap_err();
                assert!(error.is_transient(), "{error:?}");
            }
            let mut set = redis::cmd("CONFIG");
            let _: () = set.arg("SET").arg(setting).arg(value).query_async(&mut connection).await.unwrap();
        }
    }
    let _: () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg("1").query_async(&mut connection).await.unwrap();
    let error = queue.submit(&ask("o/n", 1)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_redis_that_hangs_keeps_no_caller_for_long() {
    let server = RedisServer::builder().tcp().start().await;
    let proxy = FaultProxy::start(Upstream::Tcp(([127, 0, 0, 1], server.port()).into())).await;
    let queue = Queue::open(&proxy.redis_url().parse().unwrap(), "fairlane").await.unwrap();
    let mut events = queue.events();
    proxy.stall();
    queue.snapshot().await.unwrap_err();
    // Each caller has its own limit, however many wait: 4 s for an answer, 4 s for a connection.
    let limit = Duration::from_secs(15);
    let callers = futures::future::join_all((0..10).map(|_| queue.snapshot()));
    let answers = tokio::time::timeout(limit, callers).await.expect("ten callers are told in time");
    assert!(answers.iter().all(Result::is_err));
    tokio::time::timeout(limit, events.next())
        .await
        .expect("a first wait for events has a limit")
        .unwrap_err();
    assert!(
        tokio::time::timeout(limit, queue.orphan_news()).await.expect("subscribing has a limit").is_err()
    );
}

/// A server that sends `words` to each client and closes the connection without reading what the client sent.
async fn hangs_up_with(words: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, words.as_bytes()).await.unwrap();
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn what_a_server_says_before_it_hangs_up_is_heard() {
    let protected = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
                     set for the default user. In this mode connections are only accepted from the loopback interface.\r\n";
    for (words, says) in [
        (
            protected,
            "it is in protected mode, which accepts connections from its own host only; set a password",
        ),
        ("-ERR max number of clients reached\r\n", "max number of clients reached"),
    ] {
        let url = hangs_up_with(words).await.parse().unwrap();
        let error = Queue::open(&url, "fairlane").await.unwrap_err();
        assert!(error.is_transient() && error.is_answer(), "{error}");
        let error = error.to_string();
        assert!(error.starts_with("Redis rejects requests for now: ") && error.contains(says), "{error}");
    }
    let url = hangs_up_with("").await.parse().unwrap();
    let error = Queue::open(&url, "fairlane").await.unwrap_err().to_string();
    assert!(error.starts_with("Redis does not answer: "), "{error}");
}
