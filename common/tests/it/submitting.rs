//! Requests for builds: new, joined, remembered, refused.

use fairlane_common::queue::{Cancelled, DispatcherBeat, Finished, Outcome, Submitted};
use fairlane_common::rule::Stop;
use fairlane_common::seal::{SealKeys, Secrets};
use fairlane_common::{BuildId, BuildState, DispatcherId, FailureClass, Rule};

use secrecy::{ExposeSecret, SecretString};

use crate::scene::{Scene, ask, failed};

#[tokio::test]
async fn one_image_is_one_build() {
    let scene = Scene::new().await;
    let first = ask("o/slow", 1);
    let Submitted::New(new) = scene.queue.submit(&first).await.unwrap() else { panic!("not new") };
    assert_eq!((new.id, new.position, new.attempt), (first.id, Some(1), 1));
    let Submitted::Joined(joined) = scene.queue.submit(&ask("o/slow", 1)).await.unwrap() else {
        panic!("not joined")
    };
    assert_eq!(joined.id, first.id);
    // If a call is repeated because its answer was lost, the answer is the same: a new build.
    assert!(
        matches!(scene.queue.submit(&first).await.unwrap(), Submitted::New(again) if again.id == first.id)
    );
    // Running builds are joined too.
    scene.beat("w", 4, &[]).await;
    assert_eq!(scene.claim_ids("w", 4).await, [first.id]);
    assert!(
        matches!(scene.queue.submit(&ask("o/slow", 1)).await.unwrap(), Submitted::Joined(b) if b.id == first.id)
    );
    scene.check().await;
}

#[tokio::test]
async fn a_live_image_of_another_commit_is_a_conflict() {
    let scene = Scene::new().await;
    let first = ask("o/n", 1);
    scene.submit(&first).await;
    let mut other = ask("o/n", 2);
    other.spec.image = first.spec.image.clone();
    match scene.queue.submit(&other).await.unwrap() {
        Submitted::Conflict { id, reference, .. } => assert_eq!((id, reference.as_str()), (first.id, "c1")),
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn outcomes_are_remembered_for_a_while() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    for (outcome, memory_s) in [
        (Outcome::Succeeded, Some(60)),
        (failed(FailureClass::Repository), Some(300)),
        (Outcome::Cancelled, None),
    ] {
        let asked = ask("o/n", memory_s.unwrap_or(0));
        let id = scene.submit(&asked).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        assert!(matches!(scene.finish(&token, outcome).await, Finished::Ended(_)));
        let ttl: i64 = scene.redis(&["TTL", &scene.queue.keys().image(&asked.spec.image)]).await;
        let mut again = asked.clone();
        again.id = BuildId::new();
        if let Some(seconds) = memory_s {
            assert!((i64::from(seconds) - 2..=i64::from(seconds)).contains(&ttl), "{ttl}");
            assert!(matches!(scene.queue.submit(&again).await.unwrap(), Submitted::Ended(b) if b.id == id));
            again.force = true;
        } else {
            assert_eq!(ttl, -2);
        }
        let next = scene.submit(&again).await;
        assert_ne!(next, id);
        scene.queue.cancel(next, "test", "").await.unwrap();
    }
    scene.check().await;
}

#[tokio::test]
async fn a_ban_refuses_all_but_operators_and_ends_when_built() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let running = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let ban = Stop { message: Some("too slow today".to_owned()), until_built: true, until: None };
    scene.clock.advance_ms(5);
    scene.rule("github.com/o/n", &Rule { ban: Some(ban), ..Rule::default() }).await;
    for commit in [1, 2] {
        match scene.queue.submit(&ask("o/n", commit)).await.unwrap() {
            Submitted::Banned { pattern, message, until } => {
                assert_eq!(
                    (pattern.as_str(), message.as_str(), until),
                    ("github.com/o/n", "too slow today", None)
                );
            }
            reply => panic!("{reply:?}"),
        }
    }
    let mut operator = ask("o/n", 2);
    operator.override_ban = Some("ada".to_owned());
    let allowed = scene.submit(&operator).await;
    // If a build requested before the ban succeeds, that does not end the ban.
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(scene.state(running).await, BuildState::Succeeded);
    assert!(matches!(scene.queue.submit(&ask("o/n", 3)).await.unwrap(), Submitted::Banned { .. }));
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(token.build, allowed);
    scene.finish(&token, Outcome::Succeeded).await;
    assert!(matches!(scene.queue.submit(&ask("o/n", 3)).await.unwrap(), Submitted::New(_)));
    assert!(scene.queue.rules().await.unwrap().is_empty());
    scene.check().await;
}

#[tokio::test]
async fn a_cancelled_image_can_be_asked_for_at_once() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let waiting = scene.submit(&ask("o/n", 1)).await;
    assert_eq!(scene.queue.cancel(waiting, "op", "wrong one").await.unwrap(), Cancelled::Ended);
    assert_eq!(
        scene.queue.cancel(waiting, "op", "").await.unwrap(),
        Cancelled::Before(BuildState::Cancelled)
    );
    assert_eq!(scene.queue.cancel(BuildId::new(), "op", "").await.unwrap(), Cancelled::Unknown);
    let running = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(scene.queue.cancel(running, "op", "").await.unwrap(), Cancelled::Stopping);
    let next = scene.submit(&ask("o/n", 1)).await;
    assert_ne!(next, running);
    // A run that is being stopped keeps its permit until it is gone.
    assert_eq!(scene.queue.lane(&"github.com/o/n".parse().unwrap()).await.unwrap().permits, 1);
    assert_eq!(
        scene.finish(&token, failed(FailureClass::Infrastructure)).await,
        Finished::Ended(BuildState::Cancelled)
    );
    // The end of the old build must not clear the image key of the newer one.
    assert!(
        matches!(scene.queue.submit(&ask("o/n", 1)).await.unwrap(), Submitted::Joined(b) if b.id == next)
    );
    scene.check().await;
}

#[tokio::test]
async fn people_are_counted_per_dispatcher_and_forgotten_with_it() {
    let scene = Scene::new().await;
    let (a, b): (DispatcherId, DispatcherId) = ("a".parse().unwrap(), "b".parse().unwrap());
    let count = |dispatcher: &DispatcherId, counts: Vec<(BuildId, u64)>| {
        let beat = DispatcherBeat { dispatcher: dispatcher.clone(), counts };
        let queue = scene.queue.clone();
        async move { queue.beat_dispatcher(&beat).await.unwrap() }
    };
    assert!(count(&a, vec![]).await.forgotten);
    let mut asked = ask("o/n", 1);
    asked.dispatcher = Some(a.clone());
    let id = scene.submit(&asked).await;
    assert_eq!(scene.build(id).await.people, 1);
    let alone = scene.build(id).await.due;
    count(&a, vec![(id, 20)]).await;
    count(&b, vec![(id, 10)]).await;
    let crowd = scene.build(id).await;
    assert_eq!(crowd.people, 30);
    assert_eq!(crowd.due - crowd.asked, (alone - crowd.asked) / 30_u64.pow(3));
    assert_eq!(scene.queue.snapshot().await.unwrap().people, 30);
    for _ in 0..12 {
        assert!(!count(&a, vec![]).await.forgotten);
        scene.pass(1000).await;
    }
    assert_eq!(scene.build(id).await.people, 20, "b's people went with b");
    assert!(count(&b, vec![]).await.forgotten);
    count(&a, vec![(id, 0)]).await;
    assert_eq!(scene.build(id).await.people, 0);
    scene.beat("w", 1, &[]).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    count(&a, vec![(id, 3)]).await;
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(scene.queue.snapshot().await.unwrap().people, 0);
    // A late count for an ended build changes nothing.
    count(&a, vec![(id, 5)]).await;
    assert_eq!(scene.queue.snapshot().await.unwrap().people, 0);
    scene.check().await;
}

#[tokio::test]
async fn a_joiners_fresh_secrets_open_for_the_build() {
    let scene = Scene::new().await;
    let keys = SealKeys::parse(&SecretString::from(format!("a:{}", "11".repeat(32)))).unwrap();
    let with_secret = |secret: &str| {
        let mut submit = ask("o/n", 1);
        let secrets = Secrets::from([("git_credentials".to_owned(), SecretString::from(secret))]);
        submit.spec.secrets = Some(keys.seal(&secrets, submit.id, &submit.spec.image).unwrap());
        submit
    };
    let id = scene.submit(&with_secret("old")).await;
    assert_eq!(scene.submit(&with_secret("fresh")).await, id);
    scene.beat("w", 1, &[]).await;
    let build = scene.claim("w", 1).await.remove(0).build;
    let sealed = build.spec.secrets.as_ref().unwrap();
    let opened = keys.open(sealed, build.sealed_for.unwrap_or(build.id), &build.spec.image).unwrap();
    assert_eq!(opened["git_credentials"].expose_secret(), "fresh");
}

#[tokio::test]
async fn a_submit_said_again_later_revives_nothing() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let (running, waiting) = (ask("o/a", 1), ask("o/b", 1));
    scene.submit(&running).await;
    scene.claim("w", 1).await;
    scene.submit(&waiting).await;
    for asked in [&running, &waiting] {
        scene.queue.cancel(asked.id, "op", "").await.unwrap();
        assert_eq!(scene.submit(asked).await, asked.id);
    }
    assert_eq!(scene.state(running.id).await, BuildState::Starting);
    assert_eq!(scene.state(waiting.id).await, BuildState::Cancelled);
    assert!(scene.claim("w", 4).await.is_empty());
    scene.check().await;
}

#[tokio::test]
async fn people_who_came_while_it_ran_count_when_it_goes_back_into_line() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let asked = crate::scene::background(ask("o/n", 1));
    let id = scene.submit(&asked).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.submit(&ask("o/n", 1)).await;
    let beat = DispatcherBeat { dispatcher: "d".parse().unwrap(), counts: vec![(id, 10)] };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    assert!(matches!(
        scene.finish(&token, failed(FailureClass::Infrastructure)).await,
        Finished::Retried { .. }
    ));
    let build = scene.build(id).await;
    // An average build in a short line: 1/5 of the 4 h with one person, 1/1000 of that with ten people.
    assert_eq!(build.due - build.asked, 2880);
    scene.check().await;
}

#[tokio::test]
async fn people_of_a_dispatcher_that_said_goodbye_are_forgotten() {
    let scene = Scene::new().await;
    let mut asked = ask("o/n", 1);
    asked.dispatcher = Some("gone".parse().unwrap());
    let id = scene.submit(&asked).await;
    assert_eq!(scene.build(id).await.people, 1);
    scene.pass(11_000).await;
    assert_eq!(scene.build(id).await.people, 0);
    let watched: u64 = scene.redis(&["EXISTS", "{fairlane}:watched:gone"]).await;
    assert_eq!(watched, 0);
    scene.check().await;
}

#[tokio::test]
async fn a_burst_of_requests_does_not_push_out_what_happened_before() {
    let scene = Scene::new().await;
    let before = scene.submit(&ask("first/one", 1)).await;
    let fill = "for i = 1, 20000 do redis.call('XADD', KEYS[1], '*', 'build', 'x', 'lane', 'l', 'state', 'queued', \
                'seq', '1') end";
    scene.redis::<()>(&["EVAL", fill, "1", "{fairlane}:events"]).await;
    scene.submit(&ask("last/one", 1)).await;
    let oldest: Vec<redis::Value> =
        scene.redis(&["XRANGE", "{fairlane}:events", "-", "+", "COUNT", "1"]).await;
    assert!(format!("{oldest:?}").contains(&before.to_string()), "{oldest:?}");
}

#[tokio::test]
async fn people_of_a_dispatcher_that_died_with_five_hundred_watched_builds_are_forgotten() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    for number in 0..500 {
        let mut asked = ask(&format!("o/n{number}"), 1);
        asked.dispatcher = Some("gone".parse().unwrap());
        ids.push(scene.submit(&asked).await);
    }
    let counts: Vec<_> = ids.iter().map(|id| (*id, 3)).collect();
    let beat = DispatcherBeat { dispatcher: "gone".parse().unwrap(), counts };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    assert_eq!(scene.queue.snapshot().await.unwrap().people, 1500);
    scene.pass(11_000).await;
    for _ in 0..10 {
        scene.reap().await;
    }
    assert_eq!(scene.queue.snapshot().await.unwrap().people, 0);
    for id in ids {
        assert_eq!(scene.build(id).await.people, 0);
    }
    scene.check().await;
}
