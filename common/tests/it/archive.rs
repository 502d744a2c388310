//! Which logs are archived when, by whom, and when one is given up.

use std::time::Duration;

use fairlane_common::BuildId;
use fairlane_common::queue::{ArchiveRound, ArchiveState, Archived, Outcome};

use crate::scene::{Scene, ask};

const PATIENCE: Duration = Duration::from_hours(1);

async fn round(scene: &Scene, results: &[(BuildId, Archived)]) -> ArchiveRound {
    let round = scene.queue.archive(results, 10, PATIENCE).await.unwrap();
    scene.check().await;
    round
}

async fn takes(scene: &Scene, results: &[(BuildId, Archived)]) -> Vec<BuildId> {
    round(scene, results).await.taken
}

async fn state(scene: &Scene) -> ArchiveState {
    scene.queue.archive_state().await.unwrap()
}

async fn ended(scene: &Scene, repo: &str) -> BuildId {
    let id = scene.submit(&ask(repo, 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    scene.clock.advance_ms(1);
    id
}

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene
}

fn again(seconds: u64, why: Option<&str>) -> Archived {
    Archived::Again { wait: Duration::from_secs(seconds), why: why.map(str::to_owned) }
}

#[tokio::test]
async fn each_log_is_taken_once_however_many_ask() {
    let scene = scene().await;
    assert_eq!(round(&scene, &[]).await, ArchiveRound::default());
    let (a, b) = (ended(&scene, "o/a").await, ended(&scene, "o/b").await);
    assert_eq!(takes(&scene, &[]).await, [], "the last lines may still arrive");
    scene.clock.advance_ms(1000);
    assert_eq!(scene.queue.archive(&[], 1, PATIENCE).await.unwrap().taken, [a]);
    assert_eq!(takes(&scene, &[]).await, [b]);
    assert_eq!(takes(&scene, &[]).await, []);
    assert_eq!(state(&scene).await.waiting, 2);
    let cancelled = scene.submit(&ask("o/c", 1)).await;
    scene.queue.cancel(cancelled, "ann", "").await.unwrap();
    scene.clock.advance_ms(1001);
    assert_eq!(takes(&scene, &[(a, Archived::Done), (b, Archived::Done)]).await, [cancelled]);
    round(&scene, &[(cancelled, Archived::None)]).await;
    assert_eq!(state(&scene).await, ArchiveState::default());
    let archived = async |id| scene.build(id).await.archived;
    assert_eq!((archived(a).await, archived(b).await, archived(cancelled).await), (true, true, false));
    // A repeated report changes nothing, and no build comes back.
    scene.pass(300_000).await;
    assert_eq!(round(&scene, &[(a, Archived::Done)]).await, ArchiveRound::default());
}

#[tokio::test]
async fn what_a_dead_process_has_taken_is_another_s_after_two_minutes() {
    let scene = scene().await;
    let id = ended(&scene, "o/a").await;
    scene.clock.advance_ms(1000);
    assert_eq!(takes(&scene, &[]).await, [id]);
    scene.clock.advance_ms(119_000);
    assert_eq!(takes(&scene, &[]).await, []);
    scene.clock.advance_ms(1000);
    assert_eq!(takes(&scene, &[]).await, [id]);
}

#[tokio::test]
async fn a_failure_is_tried_again_until_the_patience_is_over_and_is_told() {
    let scene = scene().await;
    let id = ended(&scene, "o/a").await;
    scene.clock.advance_ms(1000);
    assert_eq!(takes(&scene, &[]).await, [id]);
    assert_eq!(takes(&scene, &[(id, again(2, None))]).await, []);
    assert_eq!(state(&scene).await.error, None, "its last lines did not arrive yet, which is no failure");
    scene.clock.advance_ms(2000);
    assert_eq!(takes(&scene, &[]).await, [id]);
    round(&scene, &[(id, again(30, Some("the store is away")))]).await;
    let failing = state(&scene).await;
    assert_eq!((failing.waiting, failing.error.as_deref()), (1, Some("the store is away")));
    scene.clock.advance_ms(30_000);
    assert_eq!(takes(&scene, &[]).await, [id]);
    round(&scene, &[(id, again(30, Some("the store is away")))]).await;
    scene.clock.advance_ms(3_600_000);
    let over = round(&scene, &[]).await;
    assert_eq!((over.taken, over.lost, over.waiting), (vec![], vec![id], 0));
    let lost = state(&scene).await;
    assert_eq!((lost.lost, lost.lost_why.as_deref()), (1, Some("the store is away")));
    assert!(lost.lost_at.is_some());
    // A log that Redis has removed meanwhile is lost at once; a success ends the failure.
    let (gone, good) = (ended(&scene, "o/b").await, ended(&scene, "o/c").await);
    scene.clock.advance_ms(1000);
    assert_eq!(takes(&scene, &[]).await, [gone, good]);
    let over = round(&scene, &[(gone, Archived::Lost("removed".to_owned())), (good, Archived::Done)]).await;
    assert_eq!(over.lost, [gone]);
    let now = state(&scene).await;
    assert_eq!((now.error, now.lost, now.lost_why.as_deref()), (None, 2, Some("removed")));
}

#[tokio::test]
async fn more_ends_than_fit_into_one_page_are_all_taken() {
    let scene = scene().await;
    let mut ids = std::collections::BTreeSet::new();
    for commit in 0..520 {
        let id = scene.submit(&ask("o/many", commit)).await;
        scene.queue.cancel(id, "ann", "").await.unwrap();
        ids.insert(id);
        // Many of them end in the same millisecond.
        if commit % 50 == 0 {
            scene.clock.advance_ms(1);
        }
    }
    scene.clock.advance_ms(2000);
    let mut taken = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let round = scene.queue.archive(&[], 400, PATIENCE).await.unwrap();
        let results: Vec<_> = round.taken.iter().map(|id| (*id, Archived::None)).collect();
        for id in round.taken {
            assert!(taken.insert(id), "{id} is taken twice");
        }
        scene.queue.archive(&results, 0, PATIENCE).await.unwrap();
    }
    assert_eq!(taken, ids);
}
