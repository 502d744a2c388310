//! The numbers for an autoscaler, where something besides free slots decides what may start.

use fairlane_common::queue::Policy;
use fairlane_common::queue::inspect::Scale;
use fairlane_common::{BuildState, FailureClass, Rule, Token};

use crate::scene::{K8S, Scene, ask, background, beat_of, failed, worker};

/// Queued, startable, running, slots, wanted.
async fn scale(scene: &Scene) -> (u64, u64, u64, u64, u64) {
    let Scale { queued, startable, running, slots, wanted_slots } = scene.queue.scale().await.unwrap();
    (queued, startable, running, slots, wanted_slots)
}

async fn pause(scene: &Scene, name: &str, held: &[Token]) {
    let mut beat = beat_of(name, K8S, 4, held);
    beat.paused = Some("the cluster is full".to_owned());
    scene.queue.renew(&beat).await.unwrap();
}

#[tokio::test]
async fn a_paused_or_drained_worker_takes_its_free_slots_away_and_nothing_from_what_is_wanted() {
    let scene = Scene::new().await;
    for name in ["a", "b"] {
        scene.beat(name, 4, &[]).await;
    }
    for repo in 0..6 {
        scene.submit(&ask(&format!("o/r{repo}"), 1)).await;
    }
    let held: Vec<Token> = scene.claim("a", 2).await.into_iter().map(|one| one.token).collect();
    assert_eq!(scale(&scene).await, (4, 4, 2, 8, 6));
    pause(&scene, "a", &held).await;
    assert_eq!(scale(&scene).await, (4, 4, 2, 6, 6), "its two builds go on in two slots");
    // With every worker paused, the slots in use are all there are; six are wanted all the same.
    pause(&scene, "b", &[]).await;
    assert_eq!(scale(&scene).await, (4, 4, 2, 2, 6));
    scene.beat("a", 4, &held).await;
    scene.beat("b", 4, &[]).await;
    scene.queue.drain_worker(&worker("b"), true, "ann").await.unwrap();
    scene.beat("b", 4, &[]).await;
    assert_eq!(scale(&scene).await, (4, 4, 2, 4, 6));
    scene.queue.drain_worker(&worker("b"), false, "ann").await.unwrap();
    scene.beat("b", 4, &[]).await;
    // Its runs are orphans until another worker adopts them: they run, so they still need a slot each.
    scene.queue.leave(&worker("a")).await.unwrap();
    scene.pass(11_000).await;
    let (.., running, _, wanted) = scale(&scene).await;
    assert_eq!((running, wanted), (2, 6));
    scene.check().await;
}

#[tokio::test]
async fn a_build_needs_no_slot_until_its_backoff_is_over() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(scale(&scene).await, (0, 0, 1, 4, 1));
    scene.finish(&token, failed(FailureClass::Infrastructure)).await;
    assert_eq!(scene.state(id).await, BuildState::Queued);
    assert_eq!(scale(&scene).await, (1, 0, 0, 4, 0));
    // Meanwhile the lane's permit is free for another of its builds.
    scene.submit(&ask("o/n", 2)).await;
    assert_eq!(scale(&scene).await, (2, 1, 0, 4, 1));
    for _ in 0..60 {
        scene.beat("w", 4, &[]).await;
        scene.pass(5000).await;
    }
    assert_eq!(scale(&scene).await, (2, 2, 0, 4, 2));
    scene.check().await;
}

#[tokio::test]
async fn a_shared_limit_counts_what_its_lanes_may_start_together() {
    let scene = Scene::new().await;
    scene.beat("w", 16, &[]).await;
    let three = Rule { limit: Some(3), together: true, ..Rule::default() };
    scene.rule("github.com/both/*", &three).await;
    for commit in 1..=3 {
        scene.submit(&ask("both/a", commit)).await;
        scene.submit(&ask("both/b", commit)).await;
    }
    // Two for the first lane, which is its own limit, and what is left of the shared one for the other.
    assert_eq!(scale(&scene).await, (6, 3, 0, 16, 3));
    assert_eq!(scene.claim("w", 2).await.len(), 2);
    assert_eq!(scale(&scene).await, (4, 1, 2, 16, 3));
    assert_eq!(scene.claim("w", 4).await.len(), 1);
    assert_eq!(scale(&scene).await, (3, 0, 3, 16, 3));
    // Slow lanes share a limit as well: however many there are, they ask for no more slots than that.
    scene.begin_anew().await;
    scene.beat("w", 16, &[]).await;
    let policy = Policy { slow_after_ms: Some(1000), slow_limit: Some(2), ..Policy::default() };
    scene.queue.configure(&policy).await.unwrap();
    for repo in 0..4 {
        scene.submit(&ask(&format!("slow/r{repo}"), 1)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.clock.advance_ms(2000);
        scene.beat("w", 16, std::slice::from_ref(&token)).await;
        scene.finish(&token, fairlane_common::queue::Outcome::Succeeded).await;
    }
    for repo in 0..4 {
        scene.submit(&ask(&format!("slow/r{repo}"), 2)).await;
    }
    scene.submit(&ask("quick/a", 1)).await;
    assert_eq!(scale(&scene).await, (5, 3, 0, 16, 3));
    scene.check().await;
}

#[tokio::test]
async fn the_slots_that_background_builds_want_are_enough_and_not_too_many() {
    let scene = Scene::new().await;
    scene.submit(&background(ask("bg/first", 1))).await;
    assert_eq!(scale(&scene).await, (1, 1, 0, 0, 1), "one may always run");
    // 29 builds with a share of 29 %: a hundred slots, of which the share is rounded down to 28, are not enough.
    let policy = Policy::of_words(&["background_share=0.29".to_owned()]).unwrap();
    scene.queue.set_policy(&policy, "ops").await.unwrap();
    for repo in 1..29 {
        scene.submit(&background(ask(&format!("bg/r{repo}"), 1))).await;
    }
    let (queued, startable, running, slots, wanted) = scale(&scene).await;
    assert_eq!((queued, startable, running, slots, wanted), (29, 29, 0, 0, 101));
    scene.beat("w", usize::try_from(wanted).unwrap(), &[]).await;
    scene.reap().await;
    assert_eq!(scene.claim("w", 101).await.len(), 29);
    scene.check().await;
}
