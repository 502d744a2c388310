//! Leases, orphans, adoption and fencing, with lost answers and with dead and frozen workers.

use fairlane_common::queue::{ActFilter, Finished, GiveBack, Outcome, Renewal, Reported};
use fairlane_common::{BuildState, FailureClass};

use crate::scene::{K8S, Scene, ask, claim_of, failed, worker};

#[tokio::test]
async fn a_lost_answer_to_a_claim_gives_the_same_builds_again() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    for commit in 1..=3 {
        scene.submit(&ask(&format!("o/n{commit}"), commit)).await;
    }
    let claim = claim_of("w", "p", 2);
    let first: Vec<_> =
        scene.queue.claim(&claim).await.unwrap().builds.into_iter().map(|c| c.token).collect();
    let again: Vec<_> =
        scene.queue.claim(&claim).await.unwrap().builds.into_iter().map(|c| c.token).collect();
    assert_eq!(first, again);
    assert_eq!(first.len(), 2);
    scene.finish(&first[0], Outcome::Succeeded).await;
    assert_eq!(
        scene.queue.claim(&claim).await.unwrap().builds.len(),
        1,
        "what was finished is not given again"
    );
    scene.check().await;
}

#[tokio::test]
async fn a_claim_that_is_answered_at_last_has_its_whole_lease() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.submit(&ask("o/n", 1)).await;
    let claim = claim_of("w", "p", 1);
    // The first answer is lost. The retry's answer arrives when the lease is nearly over.
    let first = scene.queue.claim(&claim).await.unwrap().builds.remove(0).token;
    scene.pass(9000).await;
    assert_eq!(scene.queue.claim(&claim).await.unwrap().builds.remove(0).token, first);
    let reaped = scene.pass(9000).await;
    assert_eq!((reaped.orphaned, reaped.lost), (0, 0));
    let reaped = scene.pass(2000).await;
    assert_eq!((reaped.orphaned, reaped.lost), (1, 0));
    scene.check().await;
}

#[tokio::test]
async fn a_dead_workers_run_is_adopted_and_its_old_holder_fenced_off() {
    let scene = Scene::new().await;
    scene.beat("old", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let old = scene.claim("old", 1).await.remove(0).token;
    assert_eq!(scene.queue.report(&old, true, None).await.unwrap(), Reported::Taken { cancelling: false });
    assert_eq!(scene.state(id).await, BuildState::Running);
    scene.pass(9000).await;
    assert_eq!(scene.state(id).await, BuildState::Running, "the lease is not over");
    assert_eq!(scene.pass(1000).await.orphaned, 1);
    assert_eq!(scene.state(id).await, BuildState::Orphaned);
    scene.check().await;

    // The orphan still holds its permit, the lane's only one while there are few slots.
    scene.submit(&ask("o/n", 2)).await;
    scene.beat("new", 1, &[]).await;
    // A worker adopts orphans even without a free slot.
    let adopted = scene.claim("new", 0).await;
    assert_eq!(adopted.len(), 1);
    assert!(adopted[0].adopted && adopted[0].token.build == id && adopted[0].token.epoch > old.epoch);
    assert_eq!(scene.state(id).await, BuildState::Running);

    // The old holder can no longer change anything.
    assert_eq!(scene.beat("old", 1, std::slice::from_ref(&old)).await.renewals, [Renewal::Stale]);
    assert_eq!(scene.finish(&old, failed(FailureClass::Repository)).await, Finished::Stale);
    assert_eq!(scene.queue.report(&old, true, None).await.unwrap(), Reported::Stale);
    assert_eq!(scene.queue.give_back(&old, &GiveBack::Handover).await.unwrap(), None);
    assert_eq!(
        scene.finish(&adopted[0].token, Outcome::Succeeded).await,
        Finished::Ended(BuildState::Succeeded)
    );
    assert_eq!(scene.build(id).await.attempt, 1, "nothing was built again");
    scene.check().await;
}

#[tokio::test]
async fn a_slow_holder_takes_its_orphan_back() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.pass(11_000).await;
    assert_eq!(scene.state(id).await, BuildState::Orphaned);
    assert_eq!(scene.beat("w", 1, std::slice::from_ref(&token)).await.renewals, [Renewal::Kept]);
    assert_eq!(scene.state(id).await, BuildState::Starting);
    assert_eq!(scene.finish(&token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    scene.check().await;
}

#[tokio::test]
async fn a_run_that_died_with_its_worker_goes_back_into_line() {
    let scene = Scene::new().await;
    let place = "process:old";
    scene.beat_at("old", place, 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let due = scene.build(id).await.due;
    let old = scene.claim_at("old", place, 1).await.remove(0).token;
    assert_eq!(scene.pass(10_000).await.lost, 1);
    let build = scene.build(id).await;
    assert_eq!((build.state, build.attempt, build.due, build.not_before), (BuildState::Queued, 2, due, None));
    scene.check().await;
    // Nobody can adopt a process's run, so the build starts again.
    scene.beat("new", 1, &[]).await;
    let again = scene.claim("new", 1).await.remove(0);
    assert!(!again.adopted && again.build.attempt == 2);
    assert_eq!(scene.finish(&old, Outcome::Succeeded).await, Finished::Stale);
    assert_eq!(scene.finish(&again.token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    scene.check().await;
}

#[tokio::test]
async fn work_done_by_a_holder_given_up_for_lost_is_kept() {
    let scene = Scene::new().await;
    let place = "process:w";
    scene.beat_at("w", place, 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim_at("w", place, 1).await.remove(0).token;
    scene.pass(10_000).await;
    assert_eq!(scene.state(id).await, BuildState::Queued);
    assert_eq!(scene.finish(&token, failed(FailureClass::Repository)).await, Finished::Stale);
    assert_eq!(scene.finish(&token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    assert_eq!(scene.finish(&token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    assert_eq!(scene.build(id).await.attempt, 1);
    assert!(scene.claim("x", 1).await.is_empty());
    scene.check().await;
}

#[tokio::test]
async fn a_run_that_kills_its_workers_is_stuck() {
    let scene = Scene::new().await;
    let id = scene.submit(&ask("o/n", 1)).await;
    for round in 1..=6 {
        let (name, place) = (format!("w{round}"), format!("process:w{round}"));
        scene.beat_at(&name, &place, 1, &[]).await;
        assert_eq!(scene.claim_at(&name, &place, 1).await.len(), 1, "round {round}");
        scene.pass(11_000).await;
    }
    let build = scene.build(id).await;
    assert_eq!((build.state, build.class), (BuildState::Failed, Some(FailureClass::Stuck)));
    assert!(build.reason.unwrap().contains("6 times"));
    scene.check().await;
}

#[tokio::test]
async fn letting_go_in_order_is_no_death() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    for _ in 0..8 {
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.queue.give_back(&token, &GiveBack::Lost { reason: "drained".to_owned() }).await.unwrap();
    }
    assert_eq!(scene.state(id).await, BuildState::Queued);
    // A run that survives its workers but kills six of them is `stuck`, too.
    for round in 0..6 {
        let name = format!("w{round}");
        scene.beat(&name, 1, &[]).await;
        assert_eq!(scene.claim(&name, 1).await.len(), 1, "round {round}");
        scene.pass(11_000).await;
    }
    scene.beat("w6", 1, &[]).await;
    assert!(scene.claim("w6", 1).await.is_empty(), "it is given to no seventh one");
    let build = scene.build(id).await;
    assert_eq!(build.class, Some(FailureClass::Stuck));
    assert!(build.reason.unwrap().contains("6 times"));
    scene.check().await;
}

#[tokio::test]
async fn after_a_silence_nothing_is_orphaned_for_one_lease() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.reap().await;
    // Redis was away for a minute, so no heartbeat arrived either.
    scene.clock.advance_ms(60_000);
    assert_eq!(scene.reap().await.orphaned, 0);
    assert_eq!(scene.queue.snapshot().await.unwrap().workers, 1, "nobody is forgotten either");
    scene.pass(9000).await;
    assert_eq!(scene.state(id).await, BuildState::Starting);
    assert_eq!(scene.beat("w", 1, std::slice::from_ref(&token)).await.renewals, [Renewal::Kept]);
    assert_eq!(scene.pass(5000).await.orphaned, 0);
    assert_eq!(scene.pass(6000).await.orphaned, 1);
    scene.check().await;
}

/// If a busy host's heartbeats are late again and again, that does not count as a run that kills its workers.
#[tokio::test]
async fn a_slow_holder_costs_its_builds_nothing_however_often_it_is_late() {
    let scene = Scene::new().await;
    for (name, place) in [("pods", K8S), ("own", "process:own")] {
        let id = scene.submit(&ask(&format!("o/{name}"), 1)).await;
        scene.beat_at(name, place, 1, &[]).await;
        let mut token = scene.claim_at(name, place, 1).await.remove(0).token;
        for lapse in 1..=9 {
            scene.pass(11_000).await;
            let renewal = scene.beat_at(name, place, 1, std::slice::from_ref(&token)).await.renewals[0];
            if renewal == Renewal::Stale {
                // A local process is dead by now, so the same worker starts a new run.
                token = scene.claim_at(name, place, 1).await.remove(0).token;
            }
            assert_eq!(scene.build(id).await.adoptions, 0, "{name}: lapse {lapse}");
        }
        assert_eq!(scene.finish(&token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    }
    scene.check().await;
}

/// Two slow workers take a run over from each other, but both are alive.
#[tokio::test]
async fn a_worker_that_comes_back_was_not_killed() {
    let scene = Scene::new().await;
    let id = scene.submit(&ask("o/n", 1)).await;
    scene.beat("w0", 1, &[]).await;
    let mut token = scene.claim("w0", 1).await.remove(0).token;
    for round in 1..=9 {
        scene.pass(11_000).await;
        let name = format!("w{}", round % 2);
        scene.beat(&name, 1, &[]).await;
        let next = scene.claim(&name, 0).await.remove(0).token;
        assert_eq!(scene.build(id).await.adoptions, 1, "round {round}");
        let late = scene.beat(token.worker.as_str(), 1, std::slice::from_ref(&token)).await;
        assert_eq!(late.renewals, [Renewal::Stale]);
        assert_eq!(scene.build(id).await.adoptions, 0, "round {round}: it lives");
        token = next;
    }
    scene.check().await;
}

/// A build is orphaned even if reaps are so far apart that the queue keeps assuming that Redis was away.
#[tokio::test]
async fn seldom_reaps_orphan_all_the_same() {
    for gaps in [[4000, 4000], [2000, 6000], [12_000, 12_000], [45_000, 1000]] {
        let scene = Scene::new().await;
        scene.beat("w", 1, &[]).await;
        let id = scene.submit(&ask("o/n", 1)).await;
        scene.claim("w", 1).await;
        scene.reap().await;
        let claimed = scene.clock.now_ms();
        for gap in gaps.into_iter().cycle().take(16) {
            scene.clock.advance_ms(gap);
            scene.queue.reap().await.unwrap();
            if scene.state(id).await == BuildState::Orphaned {
                break;
            }
        }
        let took = scene.clock.now_ms() - claimed;
        assert_eq!(scene.state(id).await, BuildState::Orphaned, "reaps {gaps:?} ms apart");
        assert!(
            took >= 14_000,
            "reaps {gaps:?} ms apart: after {took} ms, within a lease of the first silence"
        );
        scene.check().await;
    }
}

#[tokio::test]
async fn handing_over_and_letting_go() {
    let scene = Scene::new().await;
    scene.beat("w", 2, &[]).await;
    let (a, b) = (scene.submit(&ask("o/a", 1)).await, scene.submit(&ask("o/b", 1)).await);
    let held = scene.claim("w", 2).await;
    let token = |id| held.iter().find(|c| c.build.id == id).unwrap().token.clone();
    for _ in 0..2 {
        let state = scene.queue.give_back(&token(a), &GiveBack::Handover).await.unwrap();
        assert_eq!(state, Some(BuildState::Orphaned));
        let lost = GiveBack::Lost { reason: "its worker drained".to_owned() };
        assert_eq!(scene.queue.give_back(&token(b), &lost).await.unwrap(), Some(BuildState::Queued));
    }
    assert_eq!(scene.build(b).await.reason.as_deref(), Some("its worker drained"));
    scene.queue.leave(&worker("w")).await.unwrap();
    assert_eq!(scene.queue.snapshot().await.unwrap().slots, 0);
    scene.beat("x", 2, &[]).await;
    let taken = scene.claim("x", 2).await;
    assert_eq!(taken.iter().map(|c| (c.build.id, c.adopted)).collect::<Vec<_>>(), [(a, true), (b, false)]);
    scene.check().await;
}

#[tokio::test]
async fn a_worker_that_goes_silent_is_in_the_audit_log_and_one_that_leaves_is_not() {
    let scene = Scene::new().await;
    for name in ["silent", "leaving", "alive"] {
        scene.beat(name, 1, &[]).await;
    }
    scene.queue.leave(&worker("leaving")).await.unwrap();
    for _ in 0..3 {
        scene.pass(9000).await;
        scene.beat("alive", 1, &[]).await;
    }
    let filter = ActFilter { act: Some("worker lost".to_owned()), ..ActFilter::default() };
    let lost = scene.queue.acts(&filter).await.unwrap().items;
    let lost: Vec<_> = lost.iter().map(|act| (act.by.as_str(), act.what.as_str())).collect();
    assert_eq!(lost, [("fairlane", "silent")]);
}
