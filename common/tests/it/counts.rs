//! Each event is counted once, however often its call is repeated.

use fairlane_common::queue::{ChangeFilter, Counts, Finish, Finished, GiveBack, Outcome};
use fairlane_common::{BuildState, FailureCause, FailureClass, Priority};

use crate::scene::{Scene, ask, background, failed_for};

async fn counts(scene: &Scene) -> Counts {
    scene.queue.counts().await.unwrap()
}

#[tokio::test]
async fn each_event_is_counted_once_though_calls_are_repeated() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let pushing = FailureCause::of("push-failed");
    for (name, number) in [("o/good", 1), ("o/bad", 1), ("o/again", 1), ("o/stopped", 1)] {
        scene.submit(&ask(name, number)).await;
    }
    scene.submit(&background(ask("o/slow", 1))).await;
    assert_eq!(counts(&scene).await, Counts::default());
    let claimed = scene.claim("w", 8).await;
    let token = |name: &str| {
        let lane = format!("github.com/{name}");
        claimed.iter().find(|one| one.build.lane.as_str() == lane).unwrap().token.clone()
    };
    for (name, outcome) in [
        ("o/good", Outcome::Succeeded),
        ("o/bad", failed_for(FailureClass::Repository, FailureCause::of("package"))),
        ("o/again", failed_for(FailureClass::Infrastructure, pushing)),
        ("o/stopped", Outcome::Cancelled),
    ] {
        let finish = Finish { log_missing: 3, ..Finish::of(outcome) };
        let first = scene.queue.finish(&token(name), &finish).await.unwrap();
        // The same call again, as if its answer had been lost.
        assert_eq!(scene.queue.finish(&token(name), &finish).await.unwrap(), first, "{name}");
    }
    assert_eq!(scene.queue.snapshot().await.unwrap().log_lines_missing, 4 * 3);
    let mut expected = Counts { succeeded: 1, cancelled: 1, ..Counts::default() };
    expected.started = [(Priority::Interactive, 4), (Priority::Background, 1)].into();
    expected.failed = [((FailureClass::Repository, FailureCause::of("package")), 1)].into();
    expected.retried = [((FailureClass::Infrastructure, pushing), 1)].into();
    assert_eq!(counts(&scene).await, expected);

    // The worker dies: one lease is lost and one run adopted. Later calls count neither again.
    scene.pass(9000).await;
    scene.beat("other", 8, &[]).await;
    scene.pass(3000).await;
    scene.reap().await;
    let adopted = scene.claim("other", 0).await.remove(0);
    assert!(adopted.adopted);
    scene.claim("other", 0).await;
    expected.leases_lost = 1;
    expected.adopted = 1;
    assert_eq!(counts(&scene).await, expected);

    // Handing a run over does not count as a lost lease. Cancelling a queued build counts once.
    scene.queue.give_back(&adopted.token, &GiveBack::Handover).await.unwrap();
    let queued = scene.submit(&ask("o/queued", 1)).await;
    for _ in 0..2 {
        scene.queue.cancel(queued, "test", "because").await.unwrap();
    }
    expected.cancelled = 2;
    assert_eq!(counts(&scene).await, expected);
    assert_eq!(expected.ended(), 4);
}

#[tokio::test]
async fn a_cause_stays_with_its_build_and_its_events() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let finish = Finish::of(failed_for(FailureClass::Repository, FailureCause::of("package")));
    assert_eq!(scene.queue.finish(&token, &finish).await.unwrap(), Finished::Ended(BuildState::Failed));
    assert_eq!(scene.build(id).await.cause.as_deref(), Some("package"));
    let changes = scene.queue.changes(&ChangeFilter::default()).await.unwrap().items;
    let causes: Vec<_> = changes.iter().map(|change| change.cause.as_deref()).collect();
    assert_eq!(causes, [Some("package"), None, None]);
}

#[tokio::test]
async fn a_build_whose_workers_die_has_a_cause_of_its_own() {
    let scene = Scene::new().await;
    scene.submit(&ask("o/killer", 1)).await;
    for death in 0..6 {
        let name = format!("w{death}");
        scene.beat_at(&name, &format!("process:{name}"), 1, &[]).await;
        assert_eq!(scene.claim_at(&name, &format!("process:{name}"), 1).await.len(), 1);
        scene.pass(11_000).await;
    }
    let counts = counts(&scene).await;
    let key = (FailureClass::Stuck, FailureCause::of("workers-died"));
    assert_eq!((counts.failed, counts.leases_lost), ([(key, 1)].into(), 6));
}

/// A worker of another release may send any word, and somebody may have corrupted the counters by hand.
#[tokio::test]
async fn no_word_makes_a_new_counter_and_no_counter_stops_a_build() {
    let scene = Scene::new().await;
    scene.beat("w", 2, &[]).await;
    scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let library = scene.library().await;
    let (epoch, worker) = (token.epoch.to_string(), token.worker.to_string());
    let finish = format!("fairlane_finish_{library}");
    let key = scene.queue.keys().schema();
    let now = scene.clock.now_ms().to_string();
    let id = token.build.to_string();
    let mut call = vec!["FCALL", &finish, "1", &key, &now, "worker", &worker, "id", &id, "epoch", &epoch];
    call.extend(["outcome", "failed", "class", "repository", "reason", "r", "random", "0", "cause", "a:b"]);
    scene.redis::<redis::Value>(&call).await;
    let names: Vec<String> = scene.redis(&["HKEYS", &scene.queue.keys().counts()]).await;
    assert_eq!(names, ["started:interactive", "ended:failed:repository:other"]);

    scene.redis::<()>(&["DEL", &scene.queue.keys().counts()]).await;
    scene.redis::<()>(&["SET", &scene.queue.keys().counts(), "spoilt"]).await;
    scene.submit(&ask("o/n", 2)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(scene.finish(&token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
}
