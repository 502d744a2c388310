//! A single bad entry stops nothing else: missing or unreadable records, rules that are not JSON, timers of
//! another release. Inconsistencies are repaired a few at a time.

use fairlane_common::queue::inspect::Filter;
use fairlane_common::queue::{DispatcherBeat, Outcome, Renewal};
use fairlane_common::{BuildId, BuildState, DispatcherId, Error, Lane};

use crate::scene::{K8S, Scene, ask, background};

/// How long the repair needs to check everything once.
const WALK_MS: u64 = 20_000;

fn lane(name: &str) -> Lane {
    format!("github.com/{name}").parse().unwrap()
}

async fn set(scene: &Scene, id: BuildId, field: &str, value: &str) {
    scene.redis::<()>(&["HSET", &scene.queue.keys().build(id), field, value]).await;
}

async fn delete(scene: &Scene, id: BuildId) {
    scene.redis::<()>(&["DEL", &scene.queue.keys().build(id)]).await;
}

async fn number(scene: &Scene, words: &[&str]) -> i64 {
    scene.redis::<Option<i64>>(words).await.unwrap_or(0)
}

#[tokio::test]
async fn a_build_that_cannot_be_read_costs_no_other() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let mut ids = vec![];
    for name in ["o/a", "o/b", "o/c", "o/d"] {
        ids.push(scene.submit(&ask(name, 1)).await);
        scene.clock.advance_ms(1);
    }
    set(&scene, ids[0], "priority", "urgent").await;
    // The unreadable build does not break any reading of builds, and is not reported as missing.
    let page = scene.queue.builds(&Filter::default()).await.unwrap();
    assert_eq!((page.items.len(), page.unreadable[0].id), (3, ids[0]));
    let loaded = scene.queue.load(&ids).await.unwrap();
    assert_eq!((loaded.builds.len(), loaded.unreadable.len()), (3, 1));
    let error = scene.queue.build(ids[0]).await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable(why) if why.contains("urgent")), "{error}");

    let claims = scene.claims_at("w", K8S, 4).await;
    assert_eq!(claims.builds.iter().map(|one| one.build.id).collect::<Vec<_>>(), ids[1..]);
    let bad = &claims.unreadable[0];
    assert!(bad.id == ids[0].to_string() && !bad.adopted && bad.why.contains("urgent"), "{bad:?}");
    for again in [true, false] {
        assert_eq!(scene.queue.set_aside(&"w".parse().unwrap(), bad).await.unwrap(), again);
    }
    scene.check().await;
    let aside = scene.queue.aside().await.unwrap();
    assert_eq!(aside[0].what, format!("build:{}", ids[0]));
    assert_eq!(scene.queue.snapshot().await.unwrap().aside, 1);
    assert_eq!(scene.queue.lane(&lane("o/a")).await.unwrap().permits, 0);

    // For a minute nobody gets it. Then it goes to a worker that can read it, still at its first attempt.
    let held: Vec<_> = claims.builds.into_iter().map(|one| one.token).collect();
    scene.beat("w", 4, &held).await;
    assert!(scene.claims_at("w", K8S, 1).await.unreadable.is_empty());
    set(&scene, ids[0], "priority", "interactive").await;
    scene.pass(61_000).await;
    scene.beat("v", 1, &[]).await;
    let all = scene.claims_at("v", K8S, 8).await.builds;
    let one = all.iter().find(|one| one.build.id == ids[0]).unwrap();
    assert_eq!((one.build.attempt, one.adopted), (1, false));
    scene.finish(&one.token, Outcome::Succeeded).await;
    scene.pass(700_000).await;
    assert!(scene.queue.aside().await.unwrap().is_empty(), "shown for a while after it was last met");
    scene.check().await;
}

#[tokio::test]
async fn a_run_whose_build_cannot_be_read_waits_for_a_worker_that_can() {
    let scene = Scene::new().await;
    scene.beat("old", 2, &[]).await;
    let (bad, good) = (scene.submit(&ask("o/bad", 1)).await, scene.submit(&ask("o/good", 1)).await);
    assert_eq!(scene.claim("old", 2).await.len(), 2);
    set(&scene, bad, "priority", "urgent").await;
    for round in 0..3 {
        scene.beat("new", 2, &[]).await;
        scene.pass(11_000).await;
        scene.beat("new", 2, &[]).await;
        let claims = scene.claims_at("new", K8S, 0).await;
        for bad in &claims.unreadable {
            assert!(bad.adopted);
            assert!(scene.queue.set_aside(&"new".parse().unwrap(), bad).await.unwrap());
        }
        if round == 0 {
            assert_eq!(claims.builds[0].build.id, good);
            scene.finish(&claims.builds[0].token, Outcome::Succeeded).await;
        } else {
            assert!(claims.unreadable.is_empty() && claims.orphans == 0, "it is tried once a minute");
        }
        scene.check().await;
    }
    set(&scene, bad, "priority", "interactive").await;
    assert_eq!(scene.build(bad).await.adoptions, 1, "whoever could not read it did not die of it");
    scene.pass(61_000).await;
    scene.beat("new", 2, &[]).await;
    let adopted = scene.claim("new", 0).await;
    assert!(adopted[0].adopted && adopted[0].build.id == bad && adopted[0].build.attempt == 1);
    scene.check().await;
}

#[tokio::test]
async fn what_is_deleted_by_hand_is_forgotten_and_counted_right() {
    let scene = Scene::new().await;
    let dispatcher: DispatcherId = "d".parse().unwrap();
    let beat = DispatcherBeat { dispatcher: dispatcher.clone(), counts: vec![] };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    scene.beat("w", 4, &[]).await;
    let mut ids = vec![];
    for name in ["o/orphan", "o/leased", "o/queued", "o/next"] {
        let mut request = background(ask(name, 1));
        request.dispatcher = Some(dispatcher.clone());
        ids.push(scene.submit(&request).await);
        scene.clock.advance_ms(1);
    }
    let held = scene.claim("w", 2).await;
    assert_eq!(held.len(), 2);
    scene.pass(9000).await;
    scene.beat("w", 4, std::slice::from_ref(&held[1].token)).await;
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    scene.pass(2000).await;
    assert_eq!(scene.state(ids[0]).await, BuildState::Orphaned);
    for id in &ids[..3] {
        delete(&scene, *id).await;
    }
    // The claim skips the missing orphan and the missing queued build, and returns the next build.
    scene.beat("v", 4, &[]).await;
    let claims = scene.claims_at("v", K8S, 2).await;
    assert_eq!(claims.builds.iter().map(|one| one.build.id).collect::<Vec<_>>(), ids[3..]);
    // The holder of the missing leased build is told that Redis has lost it.
    let held = [held[1].token.clone(), claims.builds[0].token.clone()];
    let beat = scene.beat("w", 4, &held[..1]).await;
    assert_eq!(beat.renewals, [Renewal::Unknown]);
    scene.pass(9000).await;
    scene.beat("v", 4, &held[1..]).await;
    scene.pass(9000).await;
    scene.beat("v", 4, &held[1..]).await;
    scene.pass(3000).await;
    let snapshot = scene.queue.snapshot().await.unwrap();
    assert_eq!((snapshot.queued, snapshot.leased, snapshot.orphaned), (0, 1, 0));
    assert_eq!(
        number(&scene, &["HLEN", &scene.queue.keys().people(ids[3])]).await,
        0,
        "its dispatcher is gone"
    );
    assert_eq!((snapshot.people, snapshot.background), (0, 1));
    scene.check().await;
    // Nothing tells which lane the missing build belonged to. Its permit is freed with the lane's next
    // request.
    scene.beat("x", 2, &[]).await;
    let next = scene.submit(&ask("o/leased", 2)).await;
    scene.check().await;
    assert!(scene.claim_ids("x", 2).await.contains(&next));
    scene.check().await;
}

/// The record of an orphan that is given up after ten minutes is missing. A reap once stopped there, and so did
/// every later one.
#[tokio::test]
async fn a_stranded_orphan_without_a_record_stops_no_reap() {
    let scene = Scene::new().await;
    scene.beat_at("old", "k8s:dead/builds", 2, &[]).await;
    let (gone, kept) = (scene.submit(&ask("o/gone", 1)).await, scene.submit(&ask("o/kept", 1)).await);
    scene.claim_at("old", "k8s:dead/builds", 2).await;
    scene.pass(20_000).await;
    delete(&scene, gone).await;
    scene.clock.advance_ms(2000);
    for _ in 0..70 {
        scene.beat("new", 1, &[]).await;
        scene.pass(9000).await;
    }
    scene.beat("new", 1, &[]).await;
    assert_eq!(scene.claim_ids("new", 1).await, [kept]);
    scene.check().await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_read_is_skipped_and_shown() {
    let scene = Scene::new().await;
    let rules = scene.queue.keys().rules();
    for (pattern, text) in [
        ("github.com/o/n", "not JSON"),
        ("github.com/o/*", r#"{"limit":"two"}"#),
        ("github.com/*", r#"{"hold":true,"until":5}"#),
        ("*", r#"{"limit":1,"until":null}"#),
    ] {
        scene.redis::<()>(&["HSET", &rules, pattern, text]).await;
    }
    let due = scene.clock.now_ms().to_string();
    let timer = "rule:github.com/o/n";
    scene.redis::<()>(&["ZADD", &scene.queue.keys().timers(), &due, timer]).await;
    scene.beat("w", 8, &[]).await;
    for commit in 1..=3 {
        scene.submit(&ask("o/n", commit)).await;
    }
    let claimed = scene.claim("w", 8).await;
    assert_eq!(claimed.len(), 1, "the one that can be read limits each lane to one");
    scene.finish(&claimed[0].token, Outcome::Succeeded).await;
    scene.pass(WALK_MS).await;
    let all = scene.queue.all_rules().await.unwrap();
    assert_eq!((all.rules.len(), all.unreadable.len()), (1, 3), "{all:?}");
    let aside: Vec<_> = scene.queue.aside().await.unwrap().into_iter().map(|one| one.what).collect();
    for what in ["rule:*", "rule:github.com/o/*", "rule:github.com/o/n", "timer:rule:github.com/o/n"] {
        assert_eq!(aside.contains(&what.to_owned()), what != "rule:*", "{what}: {aside:?}");
    }
    assert_eq!(number(&scene, &["HLEN", &rules]).await, 4, "and none of them is removed");
    scene.check().await;
}

#[tokio::test]
async fn timers_of_another_release_are_kept_and_hold_up_nothing() {
    let scene = Scene::new().await;
    let timers = scene.queue.keys().timers();
    let due = (scene.clock.now_ms() - 5000).to_string();
    for number in 0..150 {
        scene.redis::<()>(&["ZADD", &timers, &due, &format!("campaign:{number}")]).await;
    }
    // An earlier release numbered the sets whose lanes it re-sorted.
    scene.redis::<()>(&["ZADD", &timers, &due, "replace:3:0:github.com/*"]).await;
    scene.redis::<()>(&["ZADD", &timers, &due, "nobody knows"]).await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.pass(11_000).await;
    assert_eq!(scene.state(id).await, BuildState::Orphaned);
    let left: Vec<String> = scene.redis(&["ZRANGE", &timers, "0", "-1"]).await;
    assert_eq!(left.iter().filter(|timer| timer.starts_with("campaign:")).count(), 150);
    assert_eq!(left.len(), 151, "{left:?}");
    assert_eq!(scene.beat("w", 1, &[token]).await.renewals, [Renewal::Kept]);
    scene.check().await;
}

/// Whatever becomes inconsistent, by a call that failed halfway or by hand, is repaired automatically.
#[tokio::test]
async fn drift_is_mended_within_a_walk() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let running = scene.submit(&ask("o/runs", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let waiting = scene.submit(&ask("o/waits", 1)).await;
    let other = scene.submit(&ask("o/other", 1)).await;
    scene.pass(8000).await;
    scene.beat("w", 4, std::slice::from_ref(&token)).await;
    let keys = scene.queue.keys().clone();
    let (waits, other_lane) = (lane("o/waits"), lane("o/other"));
    assert_eq!(scene.queue.snapshot().await.unwrap().repairs, 0);
    for words in [
        vec!["HSET", &keys.totals(), "people", "99", "slots", "17", "background", "7", "avoided", "2"],
        vec!["ZADD", &keys.permits(&waits), "1", &running.to_string()],
        vec!["ZADD", &keys.permits(&waits), "1", "8fae8c5c-0000-7000-8000-000000000000"],
        vec!["ZREM", &keys.lanes(), waits.as_str()],
        vec!["ZADD", &keys.lanes_full(), "5", waits.as_str()],
        vec!["HSET", &keys.stats(&waits), "at", "lanes:full"],
        vec!["ZREM", &keys.lane(&other_lane), &other.to_string()],
        vec!["ZREM", &keys.permits(&lane("o/runs")), &running.to_string()],
        vec!["ZADD", &keys.queued(), "5", "8fae8c5c-0000-7000-8000-000000000001"],
    ] {
        scene.redis::<()>(&words).await;
    }
    // One thing is not repaired: a permit of this lane held by a live build of another lane. Only that build's
    // end would free it, so the test removes it.
    scene.redis::<()>(&["ZREM", &keys.permits(&waits), &running.to_string()]).await;
    assert!(!scene.queue.check(1000).await.unwrap().problems.is_empty());
    for _ in 0..4 {
        scene.pass(8000).await;
        scene.beat("w", 4, std::slice::from_ref(&token)).await;
    }
    scene.check().await;
    let snapshot = scene.queue.snapshot().await.unwrap();
    assert_eq!((snapshot.people, snapshot.slots, snapshot.background, snapshot.queued), (0, 4, 0, 2));
    assert!(snapshot.repairs >= 7, "{} repairs", snapshot.repairs);
    let mut next = scene.claim_ids("w", 3).await;
    next.sort_unstable();
    assert_eq!(next, [waiting, other]);
}

/// The build that has waited longest may be last in line, because it takes long.
#[tokio::test]
async fn the_longest_wait_is_found_wherever_it_stands() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    for (name, ms) in [("o/slow", 7_000_000), ("o/quick", 1000)] {
        scene.submit(&ask(name, 1)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.clock.advance_ms(ms);
        scene.finish(&token, Outcome::Succeeded).await;
    }
    let asked = scene.clock.now_ms();
    let first = scene.submit(&ask("o/slow", 2)).await;
    scene.clock.advance_ms(600_000);
    for commit in 2..=350 {
        scene.submit(&ask("o/quick", commit)).await;
    }
    let behind = scene.submit(&background(ask("o/back", 1))).await;
    assert_eq!(scene.queue.position(first).await.unwrap(), Some((350, 351)));
    assert_eq!(scene.queue.position(behind).await.unwrap(), Some((351, 351)));
    scene.pass(2 * WALK_MS).await;
    assert_eq!(scene.queue.snapshot().await.unwrap().oldest_asked, Some(asked));
    scene.queue.cancel(first, "test", "enough").await.unwrap();
    let now = scene.queue.snapshot().await.unwrap().oldest_asked;
    assert!(now > Some(asked), "one that waits no more is not counted");
}

/// Calls that meet a build in a newer release's state leave its lease, its permit and its position alone.
#[tokio::test]
async fn a_build_in_a_state_of_a_newer_release_keeps_what_it_has() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let lane = lane("o/n");
    let mut ids = vec![];
    for commit in 1..=3 {
        ids.push(scene.submit(&ask("o/n", commit)).await);
        scene.clock.advance_ms(1);
    }
    let runs = scene.claim("w", 1).await.remove(0);
    assert_eq!(runs.build.id, ids[0]);
    let keys = scene.queue.keys().clone();
    set(&scene, ids[0], "state", "resting").await;
    // This build is also out of line, in a way that only the newer release knows.
    set(&scene, ids[1], "state", "parked").await;
    // The newer release renews its lease, which this release knows nothing about.
    let far = (scene.clock.now_ms() + 3_600_000).to_string();
    scene.redis::<()>(&["ZADD", &keys.leases(), &far, &ids[0].to_string()]).await;
    for _ in 0..6 {
        scene.pass(8000).await;
        scene.beat("w", 4, &[]).await;
    }
    let has = async |set: &str, id: BuildId| {
        scene.redis::<Option<String>>(&["ZSCORE", set, &id.to_string()]).await.is_some()
    };
    assert!(has(&keys.leases(), ids[0]).await);
    assert!(has(&keys.permits(&lane), ids[0]).await, "its permit");
    assert!(has(&keys.lane(&lane), ids[1]).await, "its place in the lane");
    assert_eq!(scene.queue.snapshot().await.unwrap().repairs, 0);
}
