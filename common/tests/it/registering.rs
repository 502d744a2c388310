//! Runs that Redis has lost are registered again. Each case: the state before, the call, the state after.

use std::time::Duration;

use fairlane_common::queue::{
    Claimed, Finish, Finished, GiveBack, Outcome, Registered, Registration, Renewal,
};
use fairlane_common::{BuildState, FailureClass, Priority, Token};

use crate::scene::{K8S, Scene, ask, background, failed, worker};

/// What `by` knows about a run from its pod.
fn run_of(claimed: &Claimed, by: &str) -> Registration {
    Registration {
        token: claimed.token.clone(),
        worker: worker(by),
        place: K8S.to_owned(),
        lease: Duration::from_secs(10),
        spec: claimed.build.spec.clone(),
        attempt: claimed.build.attempt,
        asked: claimed.build.asked,
        claimed: claimed.build.claimed.unwrap(),
        started: claimed.build.claimed,
        node: Some("n1".parse().unwrap()),
    }
}

async fn register(scene: &Scene, run: &Registration) -> Registered {
    let first = scene.queue.register(run).await.unwrap();
    let second = scene.queue.register(run).await.unwrap();
    assert_eq!(short(&first), short(&second), "said again, it is the same");
    scene.check().await;
    first
}

fn short(registered: &Registered) -> String {
    match registered {
        Registered::Leased(claimed) => format!("held {:?}", claimed.token),
        other => format!("{other:?}"),
    }
}

fn held(registered: Registered) -> Claimed {
    match registered {
        Registered::Leased(claimed) => *claimed,
        other => panic!("not held: {other:?}"),
    }
}

/// A build that worker `w` is running.
async fn running(scene: &Scene, repo: &str) -> Claimed {
    scene.beat("w", 4, &[]).await;
    scene.submit(&ask(repo, 1)).await;
    let claimed = scene.claim("w", 1).await.remove(0);
    scene.queue.report(&claimed.token, true, None).await.unwrap();
    claimed
}

#[tokio::test]
async fn the_holder_keeps_its_token_and_everything_fits_again() {
    let scene = Scene::new().await;
    scene.submit(&background(ask("o/n", 1))).await;
    scene.beat("w", 4, &[]).await;
    let lost = scene.claim("w", 1).await.remove(0);
    scene.clock.advance_ms(60_000);
    scene.begin_anew().await;
    let held = held(register(&scene, &run_of(&lost, "w")).await);
    assert_eq!(held.token, lost.token);
    assert!(held.adopted);
    let (before, after) = (&lost.build, scene.build(lost.build.id).await);
    assert_eq!(after.spec, before.spec);
    assert_eq!(
        (after.state, after.attempt, after.asked, after.claimed, after.lane.as_str(), after.place.as_deref()),
        (BuildState::Running, 1, before.asked, before.claimed, "github.com/o/n", Some(K8S))
    );
    let snapshot = scene.queue.snapshot().await.unwrap();
    assert_eq!((snapshot.leased, snapshot.queued, snapshot.background), (1, 0, 1));
    assert_eq!(scene.queue.lane(&after.lane).await.unwrap().permits, 1);
    // The build is renewed and finished as usual. Its duration counts from the original claim.
    assert_eq!(scene.beat("w", 4, std::slice::from_ref(&held.token)).await.renewals, [Renewal::Kept]);
    assert_eq!(scene.finish(&held.token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    assert_eq!(scene.queue.lane(&after.lane).await.unwrap().mean_ms, Some(80_000));
    scene.check().await;
}

#[tokio::test]
async fn a_registered_run_holds_its_permits() {
    let scene = Scene::new().await;
    let lost = running(&scene, "o/n").await;
    scene.begin_anew().await;
    scene.beat("w", 2, &[]).await;
    let limit = fairlane_common::Rule { limit: Some(1), together: true, ..fairlane_common::Rule::default() };
    scene.rule("github.com/o/*", &limit).await;
    register(&scene, &run_of(&lost, "w")).await;
    let next = [scene.submit(&ask("o/n", 2)).await, scene.submit(&ask("o/other", 1)).await];
    assert!(scene.claim("w", 2).await.is_empty(), "its lane and its shared limit are used up");
    scene.finish(&lost.token, Outcome::Succeeded).await;
    assert_eq!(scene.claim_ids("w", 2).await, next[..1]);
    scene.check().await;
}

#[tokio::test]
async fn who_takes_over_from_the_holder_gets_a_later_token() {
    let scene = Scene::new().await;
    let lost = running(&scene, "o/n").await;
    scene.begin_anew().await;
    let mut run = run_of(&lost, "heir");
    run.started = None;
    let adopted = held(register(&scene, &run).await);
    assert!(adopted.token.epoch > lost.token.epoch && adopted.token.worker == worker("heir"));
    assert_eq!(scene.state(lost.build.id).await, BuildState::Starting);
    // The holder was only slow; now it is fenced off.
    assert!(matches!(register(&scene, &run_of(&lost, "w")).await, Registered::Stale));
    assert_eq!(scene.beat("w", 4, std::slice::from_ref(&lost.token)).await.renewals, [Renewal::Stale]);
    assert_eq!(scene.finish(&lost.token, Outcome::Succeeded).await, Finished::Stale);
    // A third worker does not get it either while the heir is alive.
    assert!(matches!(register(&scene, &run_of(&lost, "third")).await, Registered::Stale));
    assert_eq!(
        scene.finish(&adopted.token, Outcome::Succeeded).await,
        Finished::Ended(BuildState::Succeeded)
    );
    assert!(matches!(register(&scene, &run).await, Registered::Ended(BuildState::Succeeded)));
}

#[tokio::test]
async fn a_build_that_waits_for_the_same_image_takes_the_run_over() {
    let scene = Scene::new().await;
    let lost = running(&scene, "o/n").await;
    scene.begin_anew().await;
    let asked = ask("o/n", 1);
    let new = scene.submit(&asked).await;
    let held = held(register(&scene, &run_of(&lost, "w")).await);
    assert_eq!((held.token.build, held.build.id), (new, new));
    let old = scene.build(lost.build.id).await;
    assert_eq!((old.state, old.moved), (BuildState::Cancelled, Some(new)));
    assert_eq!(old.reason, Some(format!("Redis had lost it; its run was taken over by {new}")));
    let new = scene.build(new).await;
    assert_eq!((new.state, new.attempt, new.claimed), (BuildState::Running, 1, lost.build.claimed));
    assert_eq!(scene.queue.snapshot().await.unwrap().queued, 0);
    assert_eq!(scene.queue.build_of_image(&asked.spec.image).await.unwrap(), Some(new.id));
    // The old token is no longer valid.
    assert_eq!(scene.finish(&lost.token, Outcome::Succeeded).await, Finished::Stale);
    assert_eq!(scene.finish(&held.token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    assert!(matches!(register(&scene, &run_of(&lost, "w")).await, Registered::Taken(id) if id == new.id));
}

#[tokio::test]
async fn a_second_run_of_an_image_is_not_taken() {
    let scene = Scene::new().await;
    let lost = running(&scene, "o/n").await;
    scene.begin_anew().await;
    scene.beat("other", 1, &[]).await;
    let new = scene.submit(&ask("o/n", 1)).await;
    let begun = scene.claim("other", 1).await.remove(0);
    assert!(matches!(register(&scene, &run_of(&lost, "w")).await, Registered::Taken(id) if id == new));
    let old = scene.build(lost.build.id).await;
    assert_eq!(old.moved, Some(new));
    assert_eq!(old.reason, Some(format!("Redis had lost it; its image is being built by {new}")));
    assert_eq!(scene.beat("other", 1, &[begun.token]).await.renewals, [Renewal::Kept]);
}

#[tokio::test]
async fn an_image_asked_for_from_elsewhere_takes_no_run_over() {
    let scene = Scene::new().await;
    let lost = running(&scene, "o/n").await;
    scene.begin_anew().await;
    let mut other = ask("o/fork", 1);
    other.spec.image = lost.build.spec.image.clone();
    let new = scene.submit(&other).await;
    assert!(matches!(register(&scene, &run_of(&lost, "w")).await, Registered::Taken(id) if id == new));
    assert_eq!(scene.state(new).await, BuildState::Queued);
}

#[tokio::test]
async fn an_image_that_ended_is_live_again() {
    let scene = Scene::new().await;
    let lost = running(&scene, "o/n").await;
    scene.begin_anew().await;
    scene.beat("w", 4, &[]).await;
    scene.submit(&ask("o/n", 1)).await;
    let failed_once = scene.claim("w", 1).await.remove(0);
    scene.finish(&failed_once.token, failed(FailureClass::Repository)).await;
    held(register(&scene, &run_of(&lost, "w")).await);
    assert_eq!(scene.submit(&ask("o/n", 1)).await, lost.build.id, "who asks now joins the live build");
}

#[tokio::test]
async fn a_claim_that_a_failover_lost_is_made_good() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let saved = scene.server.save().await.unwrap();
    let claimed = scene.claim("w", 1).await.remove(0);
    scene.server.restore(&saved).await.unwrap();
    assert_eq!(scene.state(id).await, BuildState::Queued);
    // The answer is not `Stale`, which would stop the run: nobody else has the build.
    assert_eq!(scene.beat("w", 4, std::slice::from_ref(&claimed.token)).await.renewals, [Renewal::Unknown]);
    let again = held(register(&scene, &run_of(&claimed, "w")).await);
    assert_eq!((again.token, scene.state(id).await), (claimed.token, BuildState::Running));
    assert!(scene.claim("w", 4).await.is_empty());
}

#[tokio::test]
async fn a_build_that_a_failover_lost_is_made_good() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let saved = scene.server.save().await.unwrap();
    let id = scene.submit(&ask("o/n", 1)).await;
    let claimed = scene.claim("w", 1).await.remove(0);
    scene.server.restore(&saved).await.unwrap();
    assert_eq!(scene.beat("w", 4, std::slice::from_ref(&claimed.token)).await.renewals, [Renewal::Unknown]);
    // Redis was not emptied and lacks only the last second, so there is no refill window.
    assert_eq!(scene.queue.snapshot().await.unwrap().refill_until, None);
    held(register(&scene, &run_of(&claimed, "w")).await);
    assert_eq!(scene.state(id).await, BuildState::Running);
}

#[tokio::test]
async fn an_adoption_that_a_failover_lost_is_made_good() {
    let scene = Scene::new().await;
    let first = running(&scene, "o/n").await;
    scene.queue.give_back(&first.token, &GiveBack::Handover).await.unwrap();
    let saved = scene.server.save().await.unwrap();
    scene.beat("heir", 4, &[]).await;
    let adopted = scene.claim("heir", 1).await.remove(0);
    scene.server.restore(&saved).await.unwrap();
    assert_eq!(
        scene.beat("heir", 4, std::slice::from_ref(&adopted.token)).await.renewals,
        [Renewal::Unknown]
    );
    let again = held(register(&scene, &run_of(&adopted, "heir")).await);
    assert_eq!(again.token, adopted.token);
    assert_eq!(scene.queue.snapshot().await.unwrap().orphaned, 0);
}

#[tokio::test]
async fn what_redis_knows_better_stays() {
    let scene = Scene::new().await;
    let first = running(&scene, "o/n").await;
    let id = first.build.id;
    // Nothing was lost: registering changes nothing, or takes an orphan back.
    let epoch = held(register(&scene, &run_of(&first, "w")).await).token.epoch;
    assert_eq!(epoch, first.token.epoch);
    scene.queue.give_back(&first.token, &GiveBack::Handover).await.unwrap();
    held(register(&scene, &run_of(&first, "w")).await);
    assert_eq!(scene.state(id).await, BuildState::Running);
    assert_eq!(scene.queue.snapshot().await.unwrap().orphaned, 0);
    // Another worker that finds the pod does not get a live lease.
    assert!(matches!(register(&scene, &run_of(&first, "thief")).await, Registered::Stale));
    // An older run does not get the token of the same worker's later run either.
    scene.queue.give_back(&first.token, &GiveBack::Handover).await.unwrap();
    let first_run = run_of(&first, "w");
    let first = scene.claim("w", 1).await.remove(0);
    assert!(first.adopted && first.token.epoch > first_run.token.epoch);
    assert!(matches!(register(&scene, &first_run).await, Registered::Stale));
    // The build was given up as lost and is back in line, so the run must stop.
    let lost = GiveBack::Lost { reason: "gone".to_owned() };
    scene.queue.give_back(&first.token, &lost).await.unwrap();
    assert!(matches!(register(&scene, &run_of(&first, "w")).await, Registered::Stale));
    assert_eq!(scene.state(id).await, BuildState::Queued);
    let seq = scene.build(id).await.seq;
    let ghost = Token { epoch: 1, ..first.token.clone() };
    let run = Registration { token: ghost, ..run_of(&first, "w") };
    assert!(matches!(register(&scene, &run).await, Registered::Stale));
    assert_eq!(scene.build(id).await.seq, seq, "nothing was changed");
    // The build has ended, so its run can be removed.
    scene.queue.cancel(id, "test", "").await.unwrap();
    assert!(matches!(register(&scene, &run_of(&first, "w")).await, Registered::Ended(BuildState::Cancelled)));
}

#[tokio::test]
async fn a_finish_that_was_lost_is_found_again() {
    let scene = Scene::new().await;
    // For Redis the build is still running, so the finish counts as usual.
    let first = running(&scene, "o/known").await;
    let saved = scene.server.save().await.unwrap();
    scene.finish(&first.token, Outcome::Succeeded).await;
    scene.server.restore(&saved).await.unwrap();
    assert_eq!(scene.state(first.build.id).await, BuildState::Running);
    assert_eq!(scene.finish(&first.token, Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    // Redis does not know the build: its run is registered first, and then its end.
    let second = running(&scene, "o/unknown").await;
    scene.begin_anew().await;
    assert_eq!(scene.finish(&second.token, Outcome::Succeeded).await, Finished::Unknown);
    let held = held(register(&scene, &run_of(&second, "w")).await);
    let finish = Finish::of(Outcome::Succeeded);
    let finished = scene.queue.finish(&held.token, &finish).await.unwrap();
    assert_eq!(finished, Finished::Ended(BuildState::Succeeded));
    assert_eq!(scene.build(second.build.id).await.spec.priority, Priority::Interactive);
    scene.check().await;
}
