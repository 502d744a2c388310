//! At most so many builds push to one registry at once.

use std::time::Duration;

use fairlane_common::queue::inspect::Snapshot;
use fairlane_common::queue::{
    Claimed, GiveBack, OrphanNews, Outcome, Policy, PushAnswer, PushAsk, PushLimits,
};
use fairlane_common::{FailureClass, Token};
use futures::StreamExt;

use crate::scene::{K8S, Scene, ask, background, failed, worker};

const R: &str = "r.example.org";
const PROCESS: &str = "process:w";

/// A queue in which two builds may push to a registry at once, and one to `one.example.org`.
async fn limited() -> Scene {
    let scene = Scene::new().await;
    limit(&scene, 2).await;
    scene
}

async fn limit(scene: &Scene, limit: u32) {
    let push_limits = [("one.example.org".to_owned(), 1)].into();
    let policy = Policy { push_limit: Some(limit), push_limits, limit: Some(20), ..Policy::default() };
    scene.queue.set_policy(&policy, "test").await.unwrap();
}

/// Builds that `w` runs at this place, the last `later` of them in the background.
async fn runs(scene: &Scene, place: &str, count: u32, later: u32) -> Vec<Token> {
    scene.beat_at("w", place, 40, &[]).await;
    for commit in 0..count {
        let request = ask("o/n", commit);
        scene.submit(&if commit < count - later { request } else { background(request) }).await;
        scene.clock.advance_ms(1);
    }
    let claimed = scene.claim_at("w", place, 40).await;
    assert_eq!(claimed.len(), count as usize);
    claimed.into_iter().map(|Claimed { token, .. }| token).collect()
}

fn wants(token: &Token, registry: &str) -> PushAsk {
    PushAsk { token: token.clone(), registry: registry.to_owned(), pushing: false }
}

/// The answer to one build.
async fn may_push(scene: &Scene, token: &Token) -> PushAnswer {
    push(scene, &[wants(token, R)]).await.remove(0)
}

async fn push(scene: &Scene, asks: &[PushAsk]) -> Vec<PushAnswer> {
    let name = asks[0].token.worker.clone();
    let answers = scene.queue.push(&name, asks).await.unwrap();
    scene.check().await;
    answers
}

fn waits(pushing: u64, ahead: u64) -> PushAnswer {
    PushAnswer::Wait { pushing, ahead }
}

async fn numbers(scene: &Scene) -> (u64, u64) {
    let Snapshot { pushing, push_waiting, .. } = scene.queue.snapshot().await.unwrap();
    (pushing, push_waiting)
}

#[tokio::test]
async fn a_registry_gets_its_limit_of_pushes_people_first_then_who_came_first() {
    let scene = limited().await;
    let tokens = runs(&scene, K8S, 5, 2).await;
    let [one, two, three, four, five] = [0, 1, 2, 3, 4].map(|at: usize| wants(&tokens[at], R));
    assert_eq!(push(&scene, &[one.clone(), four.clone()]).await, [PushAnswer::Go, PushAnswer::Go]);
    for (run, answer) in
        [(&five, waits(2, 0)), (&three, waits(2, 0)), (&two, waits(2, 1)), (&five, waits(2, 2))]
    {
        scene.clock.advance_ms(10);
        assert_eq!(push(&scene, std::slice::from_ref(run)).await, [answer]);
    }
    assert_eq!(numbers(&scene).await, (2, 3));
    assert_eq!(push(&scene, &[one.clone(), four]).await, [PushAnswer::Go; 2], "who has a permit keeps it");
    // Another registry has its own limit.
    let other = PushAsk { registry: "one.example.org".to_owned(), ..wants(&tokens[0], R) };
    assert_eq!(push_limits(&scene).await.of(&other.registry), Some(1));
    assert_eq!(push_limits(&scene).await.of(R), Some(2));

    scene.finish(&one.token, Outcome::Succeeded).await;
    assert_eq!(
        push(&scene, &[five.clone(), two.clone()]).await,
        [waits(1, 2), waits(1, 1)],
        "it is the third one's turn"
    );
    assert_eq!(push(&scene, std::slice::from_ref(&three)).await, [PushAnswer::Go]);
    scene.finish(&three.token, Outcome::Succeeded).await;
    assert_eq!(push(&scene, &[five.clone(), two.clone()]).await, [waits(1, 1), PushAnswer::Go]);
    // Somebody asks for a background build that waits: it is one of theirs now.
    scene.queue.promote(five.token.build, "ann").await.unwrap();
    limit(&scene, 3).await;
    assert_eq!(push(&scene, &[five]).await, [PushAnswer::Go], "a limit holds at once");
}

async fn push_limits(scene: &Scene) -> PushLimits {
    scene.beat("other", 1, &[]).await.push_limits
}

#[tokio::test]
async fn without_a_limit_everybody_pushes_and_who_pushes_already_is_counted() {
    let scene = Scene::new().await;
    scene.queue.set_policy(&Policy { limit: Some(20), ..Policy::default() }, "test").await.unwrap();
    assert_eq!(push_limits(&scene).await, PushLimits::default());
    let tokens = runs(&scene, K8S, 4, 0).await;
    assert_eq!(may_push(&scene, &tokens[0]).await, PushAnswer::Go);
    limit(&scene, 1).await;
    let already = PushAsk { pushing: true, ..wants(&tokens[1], R) };
    assert_eq!(push(&scene, &[already]).await, [PushAnswer::Go]);
    assert_eq!(may_push(&scene, &tokens[2]).await, waits(2, 0));
    let already = PushAsk { pushing: true, ..wants(&tokens[2], R) };
    assert_eq!(push(&scene, &[already]).await, [PushAnswer::Go], "it did not wait");
    assert_eq!((may_push(&scene, &tokens[3]).await, numbers(&scene).await), (waits(3, 0), (3, 1)));
    // A limit that cannot be read limits nothing.
    scene.redis::<()>(&["HSET", &scene.queue.keys().totals(), "push_limits", "{nonsense"]).await;
    limit(&scene, 20).await;
    assert_eq!(may_push(&scene, &tokens[3]).await, PushAnswer::Go);
}

#[tokio::test]
async fn every_end_of_a_run_frees_its_push() {
    for (place, end) in [
        (K8S, "success"),
        (K8S, "failure"),
        (K8S, "retry"),
        (K8S, "cancel"),
        (K8S, "lost"),
        (K8S, "orphan given up"),
        (PROCESS, "lease over"),
    ] {
        let scene = limited().await;
        let tokens = runs(&scene, place, 5, 0).await;
        let mut asks: Vec<PushAsk> = tokens.iter().map(|token| wants(token, R)).collect();
        push(&scene, &asks).await;
        assert_eq!(numbers(&scene).await, (2, 3), "{end}");
        // One that pushes and one that waits.
        for gone in [&tokens[0], &tokens[2]] {
            let build = gone.build;
            match end {
                "success" => {
                    scene.finish(gone, Outcome::Succeeded).await;
                }
                "failure" => {
                    scene.finish(gone, failed(FailureClass::Repository)).await;
                }
                "retry" => {
                    scene.finish(gone, failed(FailureClass::Infrastructure)).await;
                }
                "cancel" => {
                    scene.queue.cancel(build, "test", "why").await.unwrap();
                    scene.finish(gone, Outcome::Cancelled).await;
                }
                "lost" => {
                    let lost = GiveBack::Lost { reason: "gone".to_owned() };
                    scene.queue.give_back(gone, &lost).await.unwrap();
                }
                _ => {}
            }
        }
        if end == "lease over" || end == "orphan given up" {
            // Its worker dies; another one lives elsewhere.
            scene.beat_at("v", "k8s:other/builds", 1, &[]).await;
            for _ in 0..if place == K8S { 80 } else { 2 } {
                scene.pass(8000).await;
                scene.beat_at("v", "k8s:other/builds", 1, &[]).await;
            }
            asks.clear();
        } else {
            asks.retain(|ask| ask.token != tokens[0] && ask.token != tokens[2]);
        }
        let (left, waiting) = if asks.is_empty() { (0, 0) } else { (1, 2) };
        assert_eq!(numbers(&scene).await, (left, waiting), "{end}");
        if !asks.is_empty() {
            assert_eq!(push(&scene, &asks).await, [PushAnswer::Go, PushAnswer::Go, waits(2, 0)], "{end}");
        }
        scene.check().await;
    }
}

#[tokio::test]
async fn whose_pod_goes_on_keeps_its_push_and_its_place() {
    let scene = limited().await;
    limit(&scene, 1).await;
    let tokens = runs(&scene, K8S, 3, 0).await;
    let [pushes, first, second] = [0, 1, 2].map(|at: usize| tokens[at].clone());
    assert_eq!(may_push(&scene, &pushes).await, PushAnswer::Go);
    assert_eq!(may_push(&scene, &first).await, waits(1, 0));
    scene.clock.advance_ms(100);
    assert_eq!(may_push(&scene, &second).await, waits(1, 1));
    for token in [&pushes, &first] {
        scene.queue.give_back(token, &GiveBack::Handover).await.unwrap();
    }
    scene.beat("v", 4, &[]).await;
    scene.check().await;
    let adopted: Vec<Token> = scene.claim("v", 4).await.into_iter().map(|claimed| claimed.token).collect();
    assert_eq!(adopted.len(), 2);
    let of = |token: &Token| adopted.iter().find(|new| new.build == token.build).unwrap().clone();
    assert_eq!(may_push(&scene, &of(&first)).await, waits(1, 0), "it came before the second");
    assert_eq!(may_push(&scene, &pushes).await, PushAnswer::Stale, "an older holder");
    assert_eq!(may_push(&scene, &of(&pushes)).await, PushAnswer::Go);
    // Nobody asks for the first any more: it stops nobody, and keeps its place.
    scene.finish(&of(&pushes), Outcome::Succeeded).await;
    assert_eq!(may_push(&scene, &second).await, waits(0, 1));
    scene.clock.advance_ms(5001);
    assert_eq!(may_push(&scene, &second).await, PushAnswer::Go);
    assert_eq!(may_push(&scene, &of(&first)).await, waits(1, 0));
}

#[tokio::test]
async fn workers_hear_of_the_end_of_a_push_that_others_wait_for() {
    let scene = limited().await;
    limit(&scene, 1).await;
    let tokens = runs(&scene, K8S, 2, 0).await;
    let mut news = std::pin::pin!(scene.queue.orphan_news().await.unwrap());
    assert_eq!(may_push(&scene, &tokens[0]).await, PushAnswer::Go);
    assert_eq!(may_push(&scene, &tokens[1]).await, waits(1, 0));
    scene.finish(&tokens[0], Outcome::Succeeded).await;
    let heard = tokio::time::timeout(Duration::from_secs(10), news.next()).await.unwrap();
    assert_eq!(heard, Some(OrphanNews::Push(R.to_owned())));
}

#[tokio::test]
async fn pushes_that_are_left_behind_are_removed_by_the_repair() {
    let scene = limited().await;
    let tokens = runs(&scene, K8S, 3, 0).await;
    let keys = scene.queue.keys().clone();
    let nobody = "8fae8c5c-0000-7000-8000-000000000000";
    let asks: Vec<PushAsk> = tokens.iter().map(|token| wants(token, R)).collect();
    push(&scene, &asks).await;
    let waiting = scene.submit(&ask("o/waits", 1)).await.to_string();
    for words in [
        vec!["ZADD", &keys.pushes_to(R), "1", nobody, "2", &waiting],
        vec!["ZADD", &keys.push_line(R), "1", nobody],
        vec!["ZADD", &keys.pushes(), "1", "old.example.org"],
        vec!["ZREM", &keys.pushes_to(R), &tokens[0].build.to_string()],
    ] {
        scene.redis::<()>(&words).await;
    }
    assert!(!scene.queue.check(1000).await.unwrap().problems.is_empty());
    for _ in 0..3 {
        scene.pass(8000).await;
        scene.beat("w", 40, &tokens).await;
    }
    scene.check().await;
    let known: Vec<String> = scene.redis(&["ZRANGE", &keys.pushes(), "0", "-1"]).await;
    assert_eq!((known, numbers(&scene).await), (vec![R.to_owned()], (1, 1)));
    assert_eq!(scene.queue.push(&worker("w"), &asks[2..]).await.unwrap(), [PushAnswer::Go]);
}
