//! How runs end: retries, backoff, what the queue learns, and what it forgets.

use fairlane_common::build::ALREADY_THERE;
use fairlane_common::queue::{Blame, Finish, Finished, Outcome};
use fairlane_common::{BuildState, FailureClass};

use crate::scene::{START_MS, Scene, ask, failed};

#[tokio::test]
async fn infrastructure_is_retried_twice_behind_a_growing_backoff() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let mut waited = vec![];
    for attempt in 1..=2 {
        let claimed = scene.claim("w", 1).await.remove(0);
        assert_eq!(claimed.build.attempt, attempt);
        let outcome = Outcome::Failed {
            class: FailureClass::Infrastructure,
            cause: fairlane_common::FailureCause::OTHER,
            reason: "no space left".to_owned(),
            blame: Blame::Certain,
        };
        let node = Some(format!("node{attempt}").parse().unwrap());
        let finish = Finish { node, ..Finish::of(outcome) };
        let first = scene.queue.finish(&claimed.token, &finish).await.unwrap();
        let Finished::Retried { not_before, attempt: next } = first else { panic!("not retried") };
        assert_eq!(next, attempt + 1);
        // A repeated call gives the same answer.
        assert_eq!(scene.queue.finish(&claimed.token, &finish).await.unwrap(), first);
        assert!(scene.claim("w", 1).await.is_empty(), "it backs off");
        assert_eq!(scene.queue.snapshot().await.unwrap().queued, 1);
        scene.check().await;
        let wait = not_before - scene.clock.now_ms();
        waited.push(wait);
        // The worker stays alive meanwhile.
        scene.pass(wait).await;
        scene.beat("w", 4, &[]).await;
    }
    assert!((2500..=5000).contains(&waited[0]) && (10_000..=20_000).contains(&waited[1]), "{waited:?}");
    let claimed = scene.claim("w", 1).await.remove(0);
    assert_eq!(claimed.build.avoid, ["node1", "node2"]);
    assert_eq!(
        scene.finish(&claimed.token, failed(FailureClass::Infrastructure)).await,
        Finished::Ended(BuildState::Failed)
    );
    let build = scene.build(id).await;
    assert_eq!((build.class, build.attempt), (Some(FailureClass::Infrastructure), 3));
    scene.check().await;
}

#[tokio::test]
async fn ends_that_arrive_together_are_one_call_and_one_that_fails_spoils_no_other() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    for repo in ["o/a", "o/b", "o/c", "o/d"] {
        scene.submit(&ask(repo, 1)).await;
    }
    let tokens: Vec<_> = scene.claim("w", 4).await.into_iter().map(|claimed| claimed.token).collect();
    scene.redis::<()>(&["SET", "{fairlane}:permits:github.com/o/b", "by hand"]).await;
    let calls = async || {
        let info: String = scene.redis(&["INFO", "commandstats"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls=")).unwrap();
        line.split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let before = calls().await;
    let outcomes = [
        Outcome::Succeeded,
        Outcome::Succeeded,
        failed(FailureClass::Repository),
        failed(FailureClass::Infrastructure),
    ];
    let finishes: Vec<Finish> = outcomes.into_iter().map(Finish::of).collect();
    let ends = tokens.iter().zip(&finishes).map(|(token, finish)| scene.queue.finish(token, finish));
    let ends = futures::future::join_all(ends).await;
    assert_eq!(calls().await, before + 1);
    assert_eq!(ends[0].as_ref().unwrap(), &Finished::Ended(BuildState::Succeeded));
    assert!(ends[1].as_ref().unwrap_err().to_string().contains("WRONGTYPE"), "{ends:?}");
    assert_eq!(ends[2].as_ref().unwrap(), &Finished::Ended(BuildState::Failed));
    assert!(matches!(ends[3], Ok(Finished::Retried { attempt: 2, .. })), "{ends:?}");
    // The queue has learned from the one that succeeded.
    let mean: String = scene.redis(&["HGET", "{fairlane}:totals", "mean_of"]).await;
    assert_eq!(mean, "1");
}

#[tokio::test]
async fn stuck_is_retried_once_and_the_repositorys_own_failure_never() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.submit(&ask("o/stuck", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert!(matches!(scene.finish(&token, failed(FailureClass::Stuck)).await, Finished::Retried { .. }));
    scene.pass(6000).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(scene.finish(&token, failed(FailureClass::Stuck)).await, Finished::Ended(BuildState::Failed));
    scene.submit(&ask("o/broken", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(
        scene.finish(&token, failed(FailureClass::Repository)).await,
        Finished::Ended(BuildState::Failed)
    );
    let lane = scene.queue.lane(&"github.com/o/broken".parse().unwrap()).await.unwrap();
    assert_eq!(
        (lane.builds, lane.last_failure.unwrap().1.as_str(), lane.mean_ms),
        ((0, 1), "it broke", None)
    );
    assert!(lane.failed_mean_ms.is_some());
    scene.check().await;
}

#[tokio::test]
async fn one_outlier_among_durations_is_damped_and_failures_are_kept_apart() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let lane = "github.com/o/n".parse().unwrap();
    let broken = || failed(FailureClass::Repository);
    let ends = [
        (300, Outcome::Succeeded),
        (300, Outcome::Succeeded),
        (300, Outcome::Succeeded),
        // Ten times as long as the others, but it counts as at most eight times: 300 s × 8^(1/4).
        (3000, Outcome::Succeeded),
        (20, broken()),
        (80, broken()),
        // Each of these brings the mean a quarter of the way back, on a logarithmic scale.
        (300, Outcome::Succeeded),
        (300, Outcome::Succeeded),
    ];
    let mut means = vec![];
    for (commit, (takes_s, outcome)) in (1..).zip(ends) {
        scene.submit(&ask("o/n", commit)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.clock.advance_ms(takes_s * 1000);
        scene.finish(&token, outcome).await;
        let view = scene.queue.lane(&lane).await.unwrap();
        means.push((view.mean_ms.map(|ms| ms / 1000), view.failed_mean_ms.map(|ms| ms / 1000)));
    }
    assert_eq!(
        means,
        [
            (Some(300), None),
            (Some(300), None),
            (Some(300), None),
            (Some(504), None),
            (Some(504), Some(20)),
            (Some(504), Some(40)),
            (Some(443), Some(40)),
            (Some(401), Some(40)),
        ]
    );
    scene.check().await;
}

#[tokio::test]
async fn durations_are_learned_from_successes() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let mut expected = vec![];
    for (commit, takes_s) in [(1, 100), (2, 200)] {
        let id = scene.submit(&ask("o/n", commit)).await;
        expected.push(scene.build(id).await.expected);
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.clock.advance_ms(takes_s * 1000);
        scene.finish(&token, Outcome::Succeeded).await;
    }
    let id = scene.submit(&ask("o/n", 3)).await;
    expected.push(scene.build(id).await.expected);
    assert_eq!(expected, [180_000, 100_000, 141_421]);
    // A lane without a history uses the mean of all lanes.
    let id = scene.submit(&ask("o/new", 1)).await;
    assert_eq!(scene.build(id).await.expected, 150_000);
    scene.check().await;
}

#[tokio::test]
async fn secrets_leave_redis_when_the_build_ends_and_ended_builds_are_trimmed() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let mut asked = ask("o/n", 1);
    asked.spec.secrets = Some("ka:sealed".to_owned());
    let id = scene.submit(&asked).await;
    let claimed = scene.claim("w", 1).await.remove(0);
    assert_eq!(claimed.build.spec.secrets.as_deref(), Some("ka:sealed"));
    scene.finish(&claimed.token, Outcome::Succeeded).await;
    let build = scene.build(id).await;
    assert_eq!((build.spec.secrets, build.ended), (None, Some(START_MS)));
    let ttl: i64 = scene.redis(&["TTL", &scene.queue.keys().build(id)]).await;
    assert!((86_390..=86_400).contains(&ttl));
    assert_eq!(scene.queue.snapshot().await.unwrap().ended, 1);
    // Their records can be found for seven days.
    for (day, left) in [(1, 1), (7, 0)] {
        scene.clock.set_ms(START_MS + day * 86_400_000 + 1);
        scene.reap().await;
        assert_eq!(scene.queue.snapshot().await.unwrap().ended, left, "day {day}");
    }
}

#[tokio::test]
async fn an_image_that_was_there_ends_its_build_and_teaches_nothing() {
    let scene = Scene::new().await;
    scene.beat("w", 2, &[]).await;
    let first = scene.submit(&ask("o/n", 1)).await;
    let run = scene.claim("w", 1).await.remove(0);
    scene.clock.advance_ms(100_000);
    scene.finish(&run.token, Outcome::Succeeded).await;
    let mean = scene.queue.lane(&run.build.lane).await.unwrap().mean_ms;
    assert_eq!(mean, Some(100_000));

    let mut forced = ask("o/n", 2);
    forced.force = true;
    for submit in [ask("o/n", 3), forced] {
        let id = scene.submit(&submit).await;
        let run = scene.claim("w", 1).await.remove(0);
        assert_eq!(run.build.forced, submit.force);
        assert_eq!(
            scene.finish(&run.token, Outcome::AlreadyThere).await,
            Finished::Ended(BuildState::Succeeded)
        );
        let again = scene.finish(&run.token, Outcome::AlreadyThere).await;
        assert_eq!(again, Finished::Ended(BuildState::Succeeded), "said twice, it is the same");
        let build = scene.build(id).await;
        assert_eq!((build.state, build.reason.as_deref()), (BuildState::Succeeded, Some(ALREADY_THERE)));
    }
    assert_eq!(scene.queue.lane(&run.build.lane).await.unwrap().mean_ms, mean);
    assert_eq!(scene.build(first).await.reason, None);
    scene.check().await;
}
