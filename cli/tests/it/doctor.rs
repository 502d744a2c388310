//! `fairlane doctor` with healthy and unhealthy Redis servers.

use std::time::Duration;

use fairlane_common::Queue;
use fairlane_common::queue::Beat;
use fairlane_testkit::{AppendOnly, RedisServer, TempDir};

use crate::setup::{Up, fairlane, run};

#[tokio::test]
async fn all_is_well_beside_up() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let said = up.run(&home, ["doctor", "--command", "/bin/echo {repo}"]).await.expect(0, "");
    assert!(said.data.lines().all(|line| line.starts_with("ok ")), "{}", said.data);
    for about in [
        "redis",
        "eviction",
        "persistence",
        "schema",
        "queue",
        "workers",
        "dispatchers",
        "dispatcher",
        "command",
    ] {
        assert!(
            said.data.lines().any(|line| line.split_whitespace().nth(1) == Some(about)),
            "{about}: {}",
            said.data
        );
    }
    up.stop().await;
}

#[tokio::test]
async fn a_redis_that_evicts_and_keeps_nothing_is_warned_of() {
    let home = TempDir::new();
    let redis = RedisServer::builder().max_memory_policy("allkeys-lru").start().await;
    let said = run(fairlane(&home, ["doctor", "--json", "--redis-url", &redis.url()])).await.expect(0, "");
    let findings = said.json();
    let level = |about: &str| {
        let finding = findings.iter().find(|finding| finding["about"] == about);
        finding.unwrap_or_else(|| panic!("nothing about {about}: {findings:?}"))["level"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (level("redis"), level("eviction"), level("persistence"), level("queue")),
        ("ok".to_owned(), "warning".to_owned(), "warning".to_owned(), "warning".to_owned())
    );
    let eviction = findings.iter().find(|finding| finding["about"] == "eviction").unwrap();
    assert!(eviction["advice"].as_str().unwrap().contains("noeviction"), "{eviction}");
    // `doctor` changed nothing.
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut redis.connect().await).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn a_queue_that_does_not_fit_together_is_an_error() {
    let home = TempDir::new();
    let redis = RedisServer::builder().append_only(AppendOnly::EverySecond).start().await;
    let url: fairlane_common::RedisUrl = redis.url().parse().unwrap();
    fairlane_common::Queue::open(&url, "fairlane").await.unwrap();
    let mut connection = redis.connect().await;
    let stray = "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d";
    let () = redis::cmd("ZADD")
        .arg("{fairlane}:queued")
        .arg(1)
        .arg(stray)
        .query_async(&mut connection)
        .await
        .unwrap();
    let said = run(fairlane(&home, ["doctor", "--redis-url", &redis.url()])).await.expect(1, "");
    assert!(said.data.lines().any(|line| line.starts_with("error") && line.contains(stray)), "{}", said.data);
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let home = TempDir::new();
    let said =
        run(fairlane(&home, ["doctor", "--redis-url", "redis://:pass-word@127.0.0.1:1"])).await.expect(1, "");
    assert!(said.data.contains("Is it running") && !said.data.contains("pass-word"), "{}", said.data);
    run(fairlane(&home, ["doctor"])).await.expect(1, "");
}

/// A paused worker is not drained. `doctor` says why it is paused, and does not suggest undoing a drain.
#[tokio::test]
async fn workers_that_the_cluster_paused_are_not_called_drained() {
    const FULL: &str = "the cluster is full: exceeded quota: builds";
    let home = TempDir::new();
    let redis = RedisServer::builder().append_only(AppendOnly::EverySecond).start().await;
    let queue = Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap();
    let beat = Beat {
        worker: "one-7k3d".parse().unwrap(),
        host: "one".to_owned(),
        version: "0".to_owned(),
        place: "k8s:test/builds".to_owned(),
        slots: 4,
        draining: false,
        paused: Some(FULL.to_owned()),
        nodes: 0,
        lease: Duration::from_secs(100),
        held: Vec::new(),
    };
    queue.renew(&beat).await.unwrap();
    let look = async || run(fairlane(&home, ["doctor", "--redis-url", &redis.url()])).await.expect(0, "");
    let said = look().await.data;
    let says = |said: &str, words: &str| said.lines().any(|line| line.contains(words));
    assert!(says(&said, &format!("no worker claims builds: {FULL}")) && !says(&said, "drain"), "{said}");
    // If an operator drained it, `doctor` says so.
    queue.drain_worker(&"one".parse().unwrap(), true, "ann").await.unwrap();
    let said = look().await.data;
    assert!(says(&said, "no worker claims builds: an operator drained") && says(&said, "--undo"), "{said}");
}

#[tokio::test]
async fn the_users_that_it_prints_work_and_a_right_that_one_lacks_is_named() {
    let home = TempDir::new();
    let redis = RedisServer::builder().append_only(AppendOnly::EverySecond).start().await;
    let printed =
        run(fairlane(&home, ["doctor", "--print-acl", "--prefix", "here"])).await.expect(0, "").data;
    assert_eq!(printed.lines().count(), 3);
    for line in printed.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [word, name, rights @ ..] = &words[..] else { panic!("{line}") };
        assert_eq!(*word, "user");
        redis.command(&[&["ACL", "SETUSER", *name, "reset"], rights].concat()).await;
    }
    let url = |role: &str| {
        let password = role.to_uppercase();
        format!("{}?user=fairlane-{role}&pass={password}_PASSWORD", redis.bare_url())
    };
    let look = async |role: &str| {
        let arguments = ["doctor", "--prefix", "here", "--redis-url", &url(role)];
        run(fairlane(&home, arguments)).await
    };
    Queue::open(&url("worker").parse().unwrap(), "here").await.unwrap();
    for role in ["dispatcher", "worker", "reader"] {
        let said = look(role).await.expect(0, "");
        let expected = format!("'fairlane-{role}' has all rights that it needs");
        assert!(said.data.contains(&expected), "{}", said.data);
        assert!(said.data.contains("operations are sent as functions"), "{}", said.data);
    }
    redis.command(&["ACL", "SETUSER", "fairlane-worker", "-hset", "-zadd"]).await;
    let said = look("worker").await.expect(1, "");
    assert!(
        said.data.contains("'fairlane-worker' lacks rights that a worker needs: +hset +zadd"),
        "{}",
        said.data
    );
    let scripts = run(fairlane(&home, ["doctor", "--print-acl", "scripts"])).await.expect(0, "").data;
    assert!(scripts.contains("+evalsha") && !scripts.contains("fcall") && !scripts.contains("function"));
}

#[tokio::test]
async fn an_archive_that_is_away_or_set_wrong_is_an_error() {
    let (home, redis) = (TempDir::new(), RedisServer::builder().start().await);
    let there = home.join("logs");
    std::fs::create_dir(&there).unwrap();
    let (there, away) = (there.display().to_string(), home.join("away").display().to_string());
    for (place, code, level, words) in [
        (there.as_str(), 0, "ok", "logs answers"),
        (away.as_str(), 1, "error", "away does not exist"),
        ("logs", 1, "error", "neither an absolute path nor a URL"),
    ] {
        let arguments = ["doctor", "--json", "--redis-url", &redis.url(), "--log-archive", place];
        let said = run(fairlane(&home, arguments)).await.expect(code, "");
        let found = said.json().into_iter().find(|finding| finding["about"] == "archive").unwrap();
        assert_eq!(found["level"], level, "{found}");
        assert!(found["text"].as_str().unwrap().contains(words), "{found}");
    }
}
