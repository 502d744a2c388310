//! Which build is next, and which worker is woken for it.

use std::time::Duration;

use fairlane_common::queue::{DispatcherBeat, Order, Policy};

use crate::scene::{Scene, ask, background};

#[tokio::test]
async fn popular_builds_go_first_and_nobody_waits_without_bound() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let lonely = scene.submit(&ask("o/lonely", 1)).await;
    scene.clock.advance_ms(1000);
    let popular = scene.submit(&ask("o/popular", 1)).await;
    let beat = DispatcherBeat { dispatcher: "d".parse().unwrap(), counts: vec![(popular, 30)] };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    assert_eq!(scene.queue.position(popular).await.unwrap(), Some((1, 2)));
    assert_eq!(scene.claim_ids("w", 1).await, [popular]);
    // A build requested more than `overtake_max` after another does not overtake it, however popular it is.
    scene.queue.configure(&Policy { overtake_max_ms: Some(60_000), ..Policy::default() }).await.unwrap();
    scene.clock.advance_ms(3_600_000 * 5);
    let late = scene.submit(&ask("o/late", 1)).await;
    let beat = DispatcherBeat { dispatcher: "d".parse().unwrap(), counts: vec![(late, 200)] };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    assert_eq!(scene.claim_ids("w", 1).await, [lonely]);
}

#[tokio::test]
async fn first_come_is_first_served_where_the_policy_says_so() {
    let scene = Scene::new().await;
    scene.queue.configure(&Policy { order: Some(Order::FirstCome), ..Policy::default() }).await.unwrap();
    scene.beat("w", 8, &[]).await;
    let mut asked = vec![];
    for n in 0..5 {
        asked.push(scene.submit(&ask(&format!("o/n{n}"), 1)).await);
        scene.clock.advance_ms(1);
    }
    assert_eq!(scene.claim_ids("w", 5).await, asked);
}

#[tokio::test]
async fn as_many_workers_wake_as_there_is_work() {
    let scene = Scene::new().await;
    for name in ["a", "b", "c"] {
        scene.beat(name, 2, &[]).await;
    }
    let tokens = || async { scene.redis::<u64>(&["LLEN", &scene.queue.keys().wake()]).await };
    assert_eq!(tokens().await, 0);
    scene.submit(&ask("o/a", 1)).await;
    assert_eq!(tokens().await, 1);
    let mut waiter = scene.queue.waiter();
    assert!(waiter.wait(Duration::from_secs(1)).await.unwrap());
    assert_eq!(scene.claim("a", 2).await.len(), 1);
    assert_eq!(tokens().await, 0, "nothing is left to start");
    for n in 0..4 {
        scene.submit(&ask(&format!("o/b{n}"), 1)).await;
    }
    assert_eq!(tokens().await, 1, "while one lies there nobody waits for another");
    // Each worker that claims and leaves work behind wakes the next one.
    assert!(waiter.wait(Duration::from_secs(1)).await.unwrap());
    assert_eq!(scene.claim("b", 2).await.len(), 2);
    assert_eq!(tokens().await, 1);
    assert!(scene.beat("c", 2, &[]).await.startable);
    assert!(!waiter_gets_nothing(&scene).await);
}

#[tokio::test]
async fn an_idle_worker_is_woken_while_others_hold_more_than_their_slots() {
    let scene = Scene::new().await;
    scene.beat("old", 4, &[]).await;
    for n in 0..4 {
        scene.submit(&ask(&format!("o/a{n}"), 1)).await;
    }
    assert_eq!(scene.claim("old", 4).await.len(), 4);
    // It leaves without giving its builds back. Judged by the sum of slots, no slot is free.
    scene.queue.leave(&"old".parse().unwrap()).await.unwrap();
    scene.beat("idle", 4, &[]).await;
    scene.redis::<()>(&["DEL", &scene.queue.keys().wake()]).await;
    scene.submit(&ask("o/next", 1)).await;
    assert_eq!(scene.redis::<u64>(&["LLEN", &scene.queue.keys().wake()]).await, 1);
}

#[tokio::test]
async fn a_lane_that_nothing_remembers_blocks_nobody() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.redis::<()>(&["ZADD", &scene.queue.keys().lanes(), "1", "github.com/o/ghost"]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    assert_eq!(scene.claim_ids("w", 1).await, [id]);
    scene.check().await;
}

async fn waiter_gets_nothing(scene: &Scene) -> bool {
    scene.redis::<()>(&["DEL", &scene.queue.keys().wake()]).await;
    let mut waiter = scene.queue.waiter();
    waiter.wait(Duration::from_millis(20)).await.unwrap()
}

#[tokio::test]
async fn a_promoted_build_stands_where_people_would_have_put_it() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&background(ask("o/back", 1))).await;
    let twin = scene.submit(&ask("o/twin", 1)).await;
    scene.queue.promote(id, "ann").await.unwrap();
    let due = scene.build(twin).await.due;
    assert_eq!(scene.build(id).await.due, due);
    let score: f64 = scene.redis(&["ZSCORE", &scene.queue.keys().queued(), &id.to_string()]).await;
    assert!(
        (score - scene.redis::<f64>(&["ZSCORE", &scene.queue.keys().queued(), &twin.to_string()]).await)
            .abs()
            < 1.0
    );
    scene.check().await;
}
