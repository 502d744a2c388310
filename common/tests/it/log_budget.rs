//! Logs of ended builds make room for new ones, oldest first.

use std::time::Duration;

use fairlane_common::log::{LogLine, LogWriter};
use fairlane_common::queue::{ActFilter, Finish, LogBudget, LogKeep, LogLimits, Outcome, Prune};
use fairlane_common::{BuildId, limits};

use crate::scene::{Scene, ask};

const MIB: u64 = 1024 * 1024;

/// A build that ended a minute after the previous one, with a log of about 1.5 MiB.
async fn ended(scene: &Scene, number: u32) -> BuildId {
    scene.beat("w", 8, &[]).await;
    scene.clock.advance_ms(60_000);
    scene.beat("w", 8, &[]).await;
    let id = scene.submit(&ask(&format!("o/n{number}"), 1)).await;
    let claimed = scene.claim("w", 1).await.remove(0);
    assert_eq!(claimed.build.id, id);
    let mut log = LogWriter::new(scene.queue.clone(), claimed.token.clone(), 1, "0-0".to_owned());
    for n in 0..96 {
        log.append(&[LogLine { t: String::new(), text: format!("{n} {}", "x".repeat(16_000)) }])
            .await
            .unwrap();
    }
    let log_bytes = scene.queue.log_bytes(id, 1).await.ok();
    let finish = Finish { log_bytes, log_end: Some(log.last().to_owned()), ..Finish::of(Outcome::Succeeded) };
    scene.queue.finish(&claimed.token, &finish).await.unwrap();
    id
}

async fn many(scene: &Scene, count: u32) -> Vec<BuildId> {
    let mut ids = vec![];
    for number in 0..count {
        ids.push(ended(scene, number).await);
    }
    ids
}

fn limits_of(budget: u64) -> LogLimits {
    LogLimits { budget: LogBudget::Bytes(budget), ..LogLimits::default() }
}

async fn total(scene: &Scene, ids: &[BuildId]) -> u64 {
    let mut sum = 0;
    for id in ids {
        sum += scene.queue.log_bytes(*id, 1).await.unwrap();
    }
    assert_eq!(scene.queue.snapshot().await.unwrap().logs_bytes, sum, "what is counted is what there is");
    sum
}

/// The numbers of the remaining lines, and the note about the gap.
async fn read(scene: &Scene, id: BuildId) -> (Vec<usize>, Option<String>) {
    let page = scene.queue.read_log(id, 1, "0", 500).await.unwrap();
    let number = |text: &str| text.split(' ').next().unwrap().parse().unwrap();
    (page.entries.iter().map(|entry| number(&entry.text)).collect(), page.gap())
}

#[tokio::test]
async fn logs_of_ended_builds_are_shortened_then_removed_the_oldest_first() {
    let scene = Scene::new().await;
    let ids = many(&scene, 6).await;
    let all = total(&scene, &ids).await;
    assert!(all > 8 * MIB, "{all}");
    scene.queue.tend_logs(&limits_of(all)).await.unwrap();
    assert_eq!(total(&scene, &ids).await, all, "they may stay");

    scene.clock.advance_ms(1000);
    let pruned = scene.queue.tend_logs(&limits_of(5 * MIB)).await.unwrap();
    let left = total(&scene, &ids).await;
    assert_eq!(pruned.bytes, all - left);
    assert!((3 * MIB..=5 * MIB).contains(&left), "{left}");
    let (lines, gap) = read(&scene, ids[0]).await;
    assert_eq!((lines[0], *lines.last().unwrap()), (0, 95), "its beginning and its end");
    assert!(lines.len() < 10, "{lines:?}");
    assert_eq!(gap.unwrap(), format!("{} lines were removed to free memory", 96 - lines.len()));
    assert_eq!(scene.build(ids[0]).await.log_pruned.as_deref(), Some("cut"));
    assert!(read(&scene, ids[5]).await.0.len() > 90, "the newest is whole");
    // No process checks again within a second.
    assert_eq!(scene.queue.tend_logs(&limits_of(1)).await.unwrap().logs, 0);

    scene.clock.advance_ms(1000);
    scene.queue.tend_logs(&limits_of(limits::LOG_SHORT_BYTES as u64 * 2)).await.unwrap();
    assert!(total(&scene, &ids).await <= limits::LOG_SHORT_BYTES as u64 * 2);
    assert_eq!(scene.build(ids[0]).await.log_pruned.as_deref(), Some("gone"));
    assert!(read(&scene, ids[0]).await.0.is_empty());
    assert_eq!(scene.build(ids[5]).await.log_pruned.as_deref(), Some("cut"));
    scene.check().await;
}

#[tokio::test]
async fn logs_stay_as_long_as_the_settings_say() {
    let scene = Scene::new().await;
    let ids = many(&scene, 3).await;
    let keep = LogLimits { keep: LogKeep(Duration::from_secs(150)), ..limits_of(100 * MIB) };
    scene.clock.advance_ms(60_000);
    scene.queue.tend_logs(&keep).await.unwrap();
    assert_eq!(scene.build(ids[0]).await.log_pruned.as_deref(), Some("gone"));
    assert_eq!(scene.build(ids[1]).await.log_pruned, None);
    total(&scene, &ids).await;
}

#[tokio::test]
async fn logs_make_room_before_redis_refuses_anything() {
    let scene = Scene::new().await;
    let ids = many(&scene, 6).await;
    let used = scene.queue.memory().await.unwrap().used;
    let _: String = scene.redis(&["CONFIG", "SET", "maxmemory", &(used * 100 / 90).to_string()]).await;
    // Their budget alone would keep these logs.
    let fresh = fairlane_common::Queue::open_simulated(
        &scene.server.url().parse().unwrap(),
        "fairlane",
        fairlane_common::clock::Clock::Simulated(scene.clock.clone()),
    )
    .await
    .unwrap();
    assert!(fresh.memory().await.unwrap().percent() >= 85);
    let pruned = fresh.tend_logs(&limits_of(1000 * MIB)).await.unwrap();
    assert!(pruned.bytes > used / 12, "{pruned:?}");
    assert_eq!(read(&scene, ids[5]).await.1, None, "the newest is whole");
}

#[tokio::test]
async fn an_operator_prunes_logs_and_the_audit_says_so() {
    let scene = Scene::new().await;
    let ids = many(&scene, 3).await;
    let all = total(&scene, &ids).await;
    let older = Prune { older_than: Some(Duration::from_secs(90)), ..Prune::default() };
    let dry = scene.queue.prune_logs(&Prune { dry_run: true, ..older }, "ann").await.unwrap();
    assert_eq!((dry.logs, total(&scene, &ids).await), (1, all), "nothing is removed");
    let pruned = scene.queue.prune_logs(&older, "ann").await.unwrap();
    assert_eq!((pruned.logs, pruned.bytes), (1, dry.bytes));
    assert_eq!((pruned.left, pruned.more), (total(&scene, &ids).await, false));
    let to = Prune { to_bytes: Some(2 * MIB), ..Prune::default() };
    let pruned = scene.queue.prune_logs(&to, "ann").await.unwrap();
    assert_eq!(pruned.logs, 1, "one is shortened");
    assert!(total(&scene, &ids).await <= 2 * MIB);
    let acts = scene.queue.acts(&ActFilter::default()).await.unwrap();
    let acts: Vec<&str> = acts.items.iter().map(|act| act.act.as_str()).collect();
    assert_eq!(acts.iter().filter(|act| **act == "logs pruned").count(), 2, "{acts:?}");
}

#[tokio::test]
async fn an_index_that_was_deleted_by_hand_is_counted_anew() {
    let scene = Scene::new().await;
    ended(&scene, 1).await;
    let _: u64 = scene.redis(&["DEL", &scene.queue.keys().logs()]).await;
    scene.queue.tend_logs(&limits_of(1)).await.unwrap();
    assert_eq!(scene.queue.snapshot().await.unwrap().logs_bytes, 0);
}

#[tokio::test]
async fn where_no_log_is_left_the_oldest_records_of_builds_make_room() {
    let scene = Scene::new().await;
    let past = scene.queue.keys().past();
    let fill = "for n = 1, 3000 do redis.call('XADD', KEYS[1], n .. '-1', 'id', n) end";
    scene.redis::<()>(&["EVAL", fill, "1", &past]).await;
    let info: String = scene.redis(&["INFO", "memory"]).await;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let used: u64 = used.trim().parse().unwrap();
    scene.redis::<()>(&["CONFIG", "SET", "maxmemory", &(used * 11 / 10).to_string()]).await;
    scene.queue.tend_logs(&LogLimits::default()).await.unwrap();
    // Redis removes whole pages of a stream.
    let left: u64 = scene.redis(&["XLEN", &past]).await;
    assert!((2000..2200).contains(&left), "{left} are left");
    let first: Vec<(String, Vec<String>)> = scene.redis(&["XRANGE", &past, "-", "+", "COUNT", "1"]).await;
    assert_eq!(first[0].0, format!("{}-1", 3001 - left));
}
