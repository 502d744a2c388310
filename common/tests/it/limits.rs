//! Permits, burst, rules, shared limits and the background share.

use fairlane_common::queue::{Claimed, Outcome, Policy};
use fairlane_common::rule::Stop;
use fairlane_common::{BuildId, FailureClass, Rule};

use crate::scene::{Scene, ask, background, failed};

fn limit(limit: u32) -> Rule {
    Rule { limit: Some(limit), ..Rule::default() }
}

async fn ask_many(scene: &Scene, repo: &str, commits: std::ops::RangeInclusive<u32>) -> Vec<BuildId> {
    let mut ids = vec![];
    for commit in commits {
        ids.push(scene.submit(&ask(repo, commit)).await);
        scene.clock.advance_ms(1);
    }
    ids
}

#[tokio::test]
async fn a_lane_has_two_permits_and_borrows_a_third_while_half_is_free() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    ask_many(&scene, "o/slow", 1..=16).await;
    assert_eq!(scene.claim("w", 8).await.len(), 3);
    assert_eq!(
        scene.queue.lane(&"github.com/o/slow".parse().unwrap()).await.unwrap().at.as_deref(),
        Some("lanes:full")
    );
    let others = ask_many(&scene, "o/a", 1..=2).await;
    assert_eq!(scene.claim_ids("w", 5).await, others);
    // Five of eight slots are in use, so lanes can no longer borrow.
    ask_many(&scene, "o/b", 1..=3).await;
    assert_eq!(scene.claim("w", 3).await.len(), 2);
    scene.check().await;
}

#[tokio::test]
async fn with_few_slots_a_lane_has_one_permit_until_more_workers_come() {
    let scene = Scene::new().await;
    scene.beat("w", 3, &[]).await;
    ask_many(&scene, "o/slow", 1..=4).await;
    ask_many(&scene, "o/x", 1..=1).await;
    // The first lane gets its one permit and borrows another while more than half of the slots are free. Then
    // it is the other lane's turn.
    assert_eq!(scene.claim("w", 3).await.len(), 3);
    scene.beat("v", 5, &[]).await;
    scene.reap().await;
    scene.check().await;
    let lane = scene.queue.lane(&"github.com/o/slow".parse().unwrap()).await.unwrap();
    assert_eq!((lane.limit, lane.burst), (2, 3));
}

#[tokio::test]
async fn rules_change_limits_live() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.rule("github.com/o/slow", &limit(1)).await;
    ask_many(&scene, "o/slow", 1..=16).await;
    assert_eq!(scene.claim("w", 8).await.len(), 1, "a limit by rule is also the burst");
    scene.rule("github.com/o/slow", &limit(16)).await;
    assert_eq!(scene.claim("w", 7).await.len(), 7);
    scene.check().await;
    // The most specific rule wins, and the next reap re-sorts the lanes of a pattern.
    scene.rule("github.com/p/*", &limit(1)).await;
    scene.rule("github.com/*", &limit(5)).await;
    scene.beat("v", 20, &[]).await;
    for repo in ["p/a", "p/b", "q/c"] {
        ask_many(&scene, repo, 1..=8).await;
    }
    assert_eq!(
        scene.claim("v", 20).await.len(),
        8 + 1 + 1 + 5,
        "the rest of o/slow, and what the rules let through"
    );
    scene.queue.delete_rule(&"github.com/p/*".parse().unwrap(), "test").await.unwrap();
    assert!(scene.claim("v", 20).await.is_empty());
    scene.reap().await;
    assert_eq!(scene.claim("v", 20).await.len(), 4 + 4);
    scene.check().await;
}

#[tokio::test]
async fn a_limit_together_counts_all_lanes_of_a_pattern() {
    let scene = Scene::new().await;
    scene.beat("w", 20, &[]).await;
    scene.rule("github.com/o/*", &Rule { limit: Some(3), together: true, ..Rule::default() }).await;
    for repo in ["o/a", "o/b", "o/c", "p/d"] {
        ask_many(&scene, repo, 1..=3).await;
    }
    let claimed = scene.claim("w", 20).await;
    let of_owner = claimed.iter().filter(|c| c.build.lane.as_str().starts_with("github.com/o/")).count();
    assert_eq!((of_owner, claimed.len()), (3, 6));
    scene.check().await;
    let freed = claimed.iter().find(|c| c.build.lane.as_str().starts_with("github.com/o/")).unwrap();
    scene.finish(&freed.token, Outcome::Succeeded).await;
    assert_eq!(scene.claim("w", 14).await.len(), 1);
    scene.queue.delete_rule(&"github.com/o/*".parse().unwrap(), "test").await.unwrap();
    scene.reap().await;
    assert!(scene.claim("w", 13).await.len() >= 2, "its lanes are free again, each within its own limit");
    scene.check().await;
}

/// A general rule also moves lanes under a more specific shared limit, and leaves nothing to repair.
#[tokio::test]
async fn a_general_rule_reaches_lanes_that_share_a_limit() {
    let scene = Scene::new().await;
    scene.beat("w", 20, &[]).await;
    scene.rule("*", &Rule { limit: Some(3), ..Rule::default() }).await;
    for (pattern, limit) in [("github.com/o/*", 5), ("github.com/p/*", 5)] {
        scene.rule(pattern, &Rule { limit: Some(limit), together: true, ..Rule::default() }).await;
    }
    for repo in ["o/a", "p/b"] {
        ask_many(&scene, repo, 1..=1).await;
    }
    assert_eq!(scene.claim("w", 2).await.len(), 2);
    for repo in ["o/a", "p/b"] {
        ask_many(&scene, repo, 2..=2).await;
    }
    scene.reap().await;
    scene.rule("*", &Rule { limit: Some(1), ..Rule::default() }).await;
    scene.reap().await;
    let keys = scene.queue.keys();
    for lane in ["o/a", "p/b"] {
        let at: String =
            scene.redis(&["HGET", &keys.stats(&format!("github.com/{lane}").parse().unwrap()), "at"]).await;
        assert_eq!(at, "lanes:full", "{lane}");
    }
    scene.pass(5000).await;
    assert_eq!(scene.queue.snapshot().await.unwrap().repairs, 0);
    scene.check().await;
}

#[tokio::test]
async fn slow_lanes_share_half_of_the_slots() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene
        .queue
        .configure(&Policy { slow_after_ms: Some(1000), slow_limit: Some(1), ..Policy::default() })
        .await
        .unwrap();
    for repo in ["o/a", "o/b"] {
        scene.submit(&ask(repo, 1)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.clock.advance_ms(2000);
        scene.finish(&token, Outcome::Succeeded).await;
    }
    ask_many(&scene, "o/a", 2..=3).await;
    ask_many(&scene, "o/b", 2..=3).await;
    let quick = ask_many(&scene, "o/quick", 1..=1).await;
    let claimed = scene.claim("w", 4).await;
    assert_eq!(claimed.len(), 2);
    assert!(claimed.iter().any(|c| c.build.id == quick[0]));
    scene.check().await;
    scene.clock.advance_ms(2000);
    for one in claimed {
        scene.finish(&one.token, Outcome::Succeeded).await;
    }
    assert_eq!(scene.claim("w", 4).await.len(), 1);
    scene.check().await;
}

/// Slow lanes share one permit; a build is slow after a minute.
async fn with_slow_lanes() -> Scene {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let policy = Policy { slow_after_ms: Some(60_000), slow_limit: Some(1), ..Policy::default() };
    scene.queue.configure(&policy).await.unwrap();
    scene
}

/// Keeps builds running for a time.
async fn run_for(scene: &Scene, seconds: u64, held: &[&Claimed]) {
    let tokens: Vec<_> = held.iter().map(|one| one.token.clone()).collect();
    for _ in 0..seconds / 5 {
        scene.pass(5000).await;
        scene.beat("w", 8, &tokens).await;
    }
}

#[tokio::test]
async fn slow_lanes_share_a_quarter_of_the_slots_at_least_two_and_never_more_than_half() {
    let scene = Scene::new().await;
    scene.queue.configure(&Policy { slow_after_ms: Some(1000), ..Policy::default() }).await.unwrap();
    scene.beat("w", 1, &[]).await;
    scene.submit(&ask("o/a", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.clock.advance_ms(2000);
    scene.finish(&token, Outcome::Succeeded).await;
    for (slots, limit) in [(1, 1), (3, 1), (4, 2), (8, 2), (9, 3), (16, 4)] {
        scene.beat("w", slots, &[]).await;
        let lane = scene.queue.lane(&"github.com/o/a".parse().unwrap()).await.unwrap();
        assert_eq!(lane.shared, Some(("slow".to_owned(), limit, 0)), "of {slots} slots");
    }
}

#[tokio::test]
async fn a_build_that_runs_for_long_makes_its_lane_slow_at_once() {
    let scene = with_slow_lanes().await;
    for repo in ["o/a", "o/b"] {
        scene.submit(&ask(repo, 1)).await;
    }
    let first = scene.claim("w", 8).await;
    run_for(&scene, 90, &[&first[0], &first[1]]).await;
    scene.check().await;

    // Both lanes have a permit left, but the limit that slow lanes share is used up, by more than it allows.
    let waiting = ask_many(&scene, "o/a", 2..=2).await;
    ask_many(&scene, "o/b", 2..=2).await;
    let quick = ask_many(&scene, "o/quick", 1..=1).await;
    assert_eq!(scene.claim_ids("w", 8).await, quick);
    let lane = scene.queue.lane(&"github.com/o/a".parse().unwrap()).await.unwrap();
    assert_eq!(lane.shared, Some(("slow".to_owned(), 1, 2)));
    scene.finish(&first[0].token, Outcome::Succeeded).await;
    assert!(scene.claim("w", 8).await.is_empty());
    scene.finish(&first[1].token, failed(FailureClass::Repository)).await;
    assert_eq!(scene.claim_ids("w", 8).await, waiting);
    assert_eq!(scene.queue.snapshot().await.unwrap().repairs, 0);
    scene.check().await;
}

#[tokio::test]
async fn a_lane_is_slow_until_four_builds_in_a_row_were_quick() {
    let scene = with_slow_lanes().await;
    let lane = "github.com/o/a".parse().unwrap();
    let is_slow = async || scene.queue.lane(&lane).await.unwrap().shared.is_some();
    // However many quick builds there were, so that the mean stays far below a minute.
    for commit in 1..=10 {
        let id = scene.submit(&ask("o/a", commit)).await;
        let claimed = scene.claim("w", 1).await.remove(0);
        assert_eq!(claimed.build.id, id);
        let took = if commit == 5 { 61_000 } else { 1000 };
        scene.clock.advance_ms(took);
        scene.finish(&claimed.token, Outcome::Succeeded).await;
        assert_eq!(is_slow().await, (5..9).contains(&commit), "after build {commit}");
    }
    scene.queue.configure(&Policy { slow_after_ms: Some(0), ..Policy::default() }).await.unwrap();
    assert!(!is_slow().await);
    scene.check().await;
}

#[tokio::test]
async fn a_hold_queues_without_starting_and_ends_by_itself() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let until = scene.clock.now_ms() + 5000;
    let hold = Stop { message: Some("maintenance".to_owned()), until: Some(until), until_built: false };
    scene.rule("github.com/*", &Rule { hold: Some(hold), ..Rule::default() }).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    assert!(scene.claim("w", 4).await.is_empty());
    let lane = scene.queue.lane(&"github.com/o/n".parse().unwrap()).await.unwrap();
    assert_eq!(lane.held, Some(("github.com/*".to_owned(), "maintenance".to_owned(), Some(until))));
    scene.check().await;
    scene.pass(5000).await;
    assert!(scene.queue.rules().await.unwrap().is_empty());
    assert_eq!(scene.claim_ids("w", 4).await, [id]);
    scene.check().await;
}

#[tokio::test]
async fn background_builds_use_three_quarters_and_come_last() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    for n in 0..10 {
        scene.submit(&background(ask(&format!("o/bg{n}"), 1))).await;
    }
    let person = scene.submit(&ask("o/person", 1)).await;
    let first = scene.claim("w", 8).await;
    assert_eq!(first[0].build.id, person);
    assert_eq!(first.len(), 1 + 6);
    scene.check().await;
    // If a person requests a background build, it becomes interactive, even while it runs.
    let running = &first[1].build.spec;
    let joined = scene
        .submit(&fairlane_common::queue::Submit {
            spec: fairlane_common::BuildSpec {
                priority: fairlane_common::Priority::Interactive,
                ..running.clone()
            },
            ..ask("x/y", 1)
        })
        .await;
    assert_eq!(joined, first[1].build.id);
    assert_eq!(scene.queue.snapshot().await.unwrap().background, 5);
    assert_eq!(scene.claim("w", 1).await.len(), 1);
    scene.check().await;
}

#[tokio::test]
async fn the_slots_that_could_be_used_are_told() {
    let scene = Scene::new().await;
    let scale = async || {
        let of = scene.queue.scale().await.unwrap();
        (of.queued, of.startable, of.running, of.slots, of.wanted_slots)
    };
    // Without any slots, a lane may run one build.
    for commit in 1..=5 {
        scene.submit(&ask("o/many", commit)).await;
    }
    assert_eq!(scale().await, (5, 1, 0, 0, 1));
    scene.beat("w", 4, &[]).await;
    scene.reap().await;
    assert_eq!(scale().await, (5, 2, 0, 4, 2), "its limit is two now");
    // A build that is held or backing off needs no slot. A shared limit counts once.
    scene.rule("github.com/held/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
    scene.rule("github.com/both/*", &Rule { limit: Some(1), together: true, ..Rule::default() }).await;
    for repo in ["held/a", "both/a", "both/b", "o/one"] {
        scene.submit(&ask(repo, 1)).await;
    }
    scene.reap().await;
    assert_eq!(scale().await, (9, 4, 0, 4, 4));
    let claimed = scene.claim("w", 2).await;
    assert_eq!(scale().await, (7, 2, 2, 4, 4));
    scene.finish(&claimed[0].token, failed(FailureClass::Infrastructure)).await;
    let (queued, startable, running, ..) = scale().await;
    assert_eq!((queued, startable + running), (8, 4), "the permit it gave back is another's to take");
    // Background builds get three quarters of the slots, so six builds need eight slots.
    scene.begin_anew().await;
    for repo in 0..6 {
        scene.submit(&background(ask(&format!("bg/r{repo}"), 1))).await;
    }
    assert_eq!(scale().await, (6, 6, 0, 0, 8));
    // The policy sets the share: with a half, six builds need twelve slots; with 0, none may start.
    for (share, startable, wanted) in [("0.5", 6, 12), ("0", 0, 0)] {
        let policy = Policy::of_words(&[format!("background_share={share}")]).unwrap();
        scene.queue.set_policy(&policy, "ops").await.unwrap();
        assert_eq!(scale().await, (6, startable, 0, 0, wanted), "{share}");
    }
}
