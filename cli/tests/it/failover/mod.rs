//! Redis goes away and comes back again and again while builds of both executors run. No run is killed or
//! retried, and no log line is lost or repeated. `cargo xtask failover` runs many rounds; the test suite runs
//! one of each kind.

mod arena;
mod outage;
mod report;

use std::time::Duration;

use fairlane_testkit::{AppendOnly, RedisCluster, RedisServer, SentinelSet};

use self::arena::Arena;
use self::outage::{Kind, Redis};
use self::report::Report;

/// The variable that sets how many rounds of each kind to run.
const ROUNDS: &str = "FAIRLANE_FAILOVER_ROUNDS";
/// Shortest and longest outage in seconds. Redis may be away for 7 s (the lease minus 3 s), including its
/// start.
const SHORTEST: f64 = 1.0;
const LONGEST: f64 = 6.9;
/// How long Sentinel waits until it considers a silent master down.
const DOWN_AFTER: Duration = Duration::from_secs(3);

fn rounds() -> usize {
    std::env::var(ROUNDS).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The length of a round's outage: the lengths are spread evenly, and are the same in each run.
fn length(round: usize, rounds: usize) -> Duration {
    if rounds == 1 {
        return Duration::from_secs(5);
    }
    let share = f64::from(u32::try_from(round).unwrap()) * 0.618_034 % 1.0;
    Duration::from_secs_f64(SHORTEST + (LONGEST - SHORTEST) * share)
}

#[expect(clippy::print_stderr, reason = "the figures are what it is run for")]
async fn survive(kind: Kind, redis: Redis) {
    let rounds = rounds();
    let arena = Arena::start(&redis).await;
    let mut report = Report::new(kind);
    arena.another_starts().await;
    for round in 0..rounds {
        let away = arena.away(&redis, kind, length(round, rounds)).await;
        report.away(away);
        arena.all_go_on().await;
        arena.another_starts().await;
    }
    arena.end(&mut report).await;
    eprintln!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_survive_a_restart_of_redis() {
    let server = RedisServer::builder().append_only(AppendOnly::EverySecond).start().await;
    survive(Kind::Restart, Redis::One(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_survive_a_killed_redis() {
    let server = RedisServer::builder().append_only(AppendOnly::EverySecond).start().await;
    survive(Kind::Kill, Redis::One(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_survive_a_frozen_redis() {
    let server = RedisServer::builder().append_only(AppendOnly::EverySecond).start().await;
    survive(Kind::Freeze, Redis::One(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_survive_a_sentinel_failover() {
    survive(Kind::Sentinel, Redis::Sentinel(SentinelSet::with_down_after(DOWN_AFTER).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_survive_a_cluster_failover() {
    survive(Kind::Cluster, Redis::Cluster(RedisCluster::with_replica().await)).await;
}
