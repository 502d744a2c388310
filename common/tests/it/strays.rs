//! What does not belong where a call finds it, and what an earlier release left: the call does the right thing at once.

use fairlane_common::queue::{
    ActFilter, Beat, DispatcherBeat, Finish, GiveBack, Order, Outcome, Policy, Submit,
};
use fairlane_common::rule::Stop;
use fairlane_common::{BuildId, BuildState, FailureClass, Lane, Priority, Rule};

use crate::scene::{K8S, Scene, ask, background, beat_of, failed, worker};

fn lane(name: &str) -> Lane {
    format!("github.com/{name}").parse().unwrap()
}

#[tokio::test]
async fn only_a_queued_build_of_its_lane_is_started() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.rule("github.com/held/n", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
    let ended = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    let running = scene.submit(&ask("o/n", 2)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let elsewhere = scene.submit(&ask("held/n", 1)).await;
    let broken = scene.submit(&ask("o/n", 3)).await;
    let good = scene.submit(&ask("o/n", 4)).await;
    let keys = scene.queue.keys();
    for id in [ended, running, elsewhere] {
        scene.redis::<()>(&["ZADD", &keys.lane(&lane("o/n")), "1", &id.to_string()]).await;
    }
    scene.redis::<()>(&["HDEL", &keys.build(broken), "image"]).await;
    assert_eq!(scene.claim_ids("w", 8).await, [good]);
    assert_eq!(scene.state(ended).await, BuildState::Succeeded);
    assert_eq!(scene.build(running).await.epoch, token.epoch);
    assert_eq!(scene.state(elsewhere).await, BuildState::Queued);
    let forgotten: Option<u64> = scene.redis(&["ZRANK", &keys.queued(), &broken.to_string()]).await;
    assert_eq!(forgotten, None);
}

#[tokio::test]
async fn a_run_that_was_adopted_already_is_no_orphan_any_more() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    // As an earlier release leaves it, which does not know places.
    let keys = scene.queue.keys();
    for set in [keys.orphans(), keys.orphans_at(K8S)] {
        scene.redis::<()>(&["ZADD", &set, "1", &id.to_string()]).await;
    }
    scene.beat("v", 1, &[]).await;
    assert!(scene.claim("v", 1).await.is_empty());
    assert_eq!(scene.build(id).await.epoch, token.epoch);
    let left: u64 = scene.redis(&["ZCARD", &keys.orphans_at(K8S)]).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_worker_that_an_earlier_release_drained_stays_drained() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    scene.redis::<()>(&["HSET", &scene.queue.keys().worker(&worker("w")), "drain", "1"]).await;
    assert!(scene.beat("w", 1, &[]).await.drained);
    assert_eq!(scene.queue.snapshot().await.unwrap().slots, 0);
}

#[tokio::test]
async fn requests_do_not_keep_a_dispatcher_that_sends_no_heartbeat() {
    let scene = Scene::new().await;
    let dispatcher = "d".parse().unwrap();
    let beat = DispatcherBeat { dispatcher, counts: vec![] };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    let mut asked = ask("o/n", 1);
    asked.dispatcher = Some(beat.dispatcher);
    let id = scene.submit(&asked).await;
    scene.pass(5000).await;
    scene.submit(&Submit { id: BuildId::new(), ..asked }).await;
    scene.pass(4999).await;
    assert_eq!(scene.build(id).await.people, 2);
    scene.pass(1).await;
    assert_eq!(scene.build(id).await.people, 0);
    scene.check().await;
}

#[tokio::test]
async fn the_policy_is_told_field_by_field() {
    let scene = Scene::new().await;
    let policy = Policy {
        limit: Some(7),
        burst: Some(9),
        order: Some(Order::FirstCome),
        overtake_max_ms: Some(11),
        people_max: Some(12),
        slow_after_ms: Some(13),
        slow_limit: Some(14),
        background_share: Some(0.5),
        push_limit: Some(15),
        push_limits: [("docker.io".to_owned(), 16)].into(),
    };
    scene.queue.set_policy(&policy, "ann").await.unwrap();
    let told = scene.queue.policy().await.unwrap();
    assert_eq!((&told.in_force, &told.set), (&policy, &policy));
    assert_eq!((told.by.as_deref(), told.at), (Some("ann"), Some(scene.clock.now_ms())));
    scene.queue.set_policy(&Policy::default(), "ann").await.unwrap();
    let told = scene.queue.policy().await.unwrap().in_force;
    assert_eq!(
        (told.limit, told.burst, told.slow_limit, told.people_max),
        (Some(1), Some(3), Some(1), Some(200))
    );
    assert_eq!((told.overtake_max_ms, told.slow_after_ms), (Some(14_400_000), Some(3_600_000)));
    assert_eq!((told.background_share, told.push_limit), (Some(0.75), None));
}

#[tokio::test]
async fn each_act_says_who_did_what_to_what() {
    let scene = Scene::new().await;
    let queue = &scene.queue;
    scene.beat("w", 4, &[]).await;
    let pattern = "github.com/o/n".parse().unwrap();
    let until_built = Stop { until_built: true, ..Stop::default() };
    let ban = Rule { ban: Some(until_built), ..Rule::default() };
    queue.set_rule(&pattern, &ban, "ann").await.unwrap();
    let mut asked = background(ask("o/n", 1));
    asked.override_ban = Some("bob".to_owned());
    let id = scene.submit(&asked).await;
    queue.promote(id, "cy").await.unwrap();
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    let hold = Rule { hold: Some(Stop::default()), ..Rule::default() };
    queue.set_rule(&pattern, &hold, "dan").await.unwrap();
    queue.delete_rule(&pattern, "eve").await.unwrap();
    queue.delete_rule(&pattern, "eve").await.unwrap();
    let until = Some(scene.clock.now_ms() + 1000);
    queue.set_rule(&pattern, &Rule { limit: Some(1), until, ..Rule::default() }, "fay").await.unwrap();
    scene.pass(1000).await;
    let stopped = scene.submit(&ask("o/n", 2)).await;
    scene.claim("w", 1).await;
    for _ in 0..2 {
        queue.cancel(stopped, "gus", "enough").await.unwrap();
    }
    let gone = scene.submit(&ask("o/gone", 1)).await;
    scene.redis::<()>(&["DEL", &queue.keys().build(gone)]).await;
    scene.claim("w", 1).await;
    let acts = queue.acts(&ActFilter::default()).await.unwrap().items;
    let told: Vec<_> = acts.iter().rev().map(|act| [&act.by, &act.act, &act.what, &act.detail]).collect();
    let (id, stopped, gone) = (id.to_string(), stopped.to_string(), gone.to_string());
    let (overridden, built) = (format!("rule github.com/o/n, build {id}"), format!("built by {id}"));
    let lane = "github.com/o/n";
    let expected = [
        ["ann", "rule set", lane, "until_built"],
        ["bob", "ban overridden", lane, &overridden],
        ["cy", "promote", &id, lane],
        ["fairlane", "rule ended", lane, &built],
        ["dan", "rule set", lane, "hold"],
        ["eve", "rule removed", lane, "hold"],
        ["fay", "rule set", lane, "limit"],
        ["fairlane", "rule ended", lane, "it expired"],
        ["gus", "cancel", &stopped, "enough"],
        ["fairlane", "build forgotten", &gone, "its record in Redis is gone"],
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told[..3] == expected[..3] && told[3].contains(expected[3]), "{told:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn an_orphan_among_the_leases_is_an_orphan() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.queue.give_back(&token, &GiveBack::Handover).await.unwrap();
    scene.redis::<()>(&["ZADD", &scene.queue.keys().leases(), "1", &id.to_string()]).await;
    scene.reap().await;
    assert_eq!(scene.state(id).await, BuildState::Orphaned);
    assert_eq!(scene.queue.snapshot().await.unwrap().aside, 0);
    scene.check().await;
}

#[tokio::test]
async fn the_people_of_a_build_that_is_gone_are_forgotten_with_the_next_count() {
    let scene = Scene::new().await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let count = async |name: &str, people| {
        let beat = DispatcherBeat { dispatcher: name.parse().unwrap(), counts: vec![(id, people)] };
        scene.queue.beat_dispatcher(&beat).await.unwrap();
        scene.queue.snapshot().await.unwrap().people
    };
    assert_eq!((count("d", 4).await, count("e", 2).await), (4, 6));
    scene.redis::<()>(&["DEL", &scene.queue.keys().build(id)]).await;
    assert_eq!(count("d", 5).await, 0);
    assert_eq!(scene.queue.snapshot().await.unwrap().queued, 0);
    scene.check().await;
}

#[tokio::test]
async fn a_drained_worker_that_ends_adopts_nothing() {
    let scene = Scene::new().await;
    scene.beat("old", 1, &[]).await;
    scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("old", 1).await.remove(0).token;
    scene.queue.give_back(&token, &GiveBack::Handover).await.unwrap();
    scene.queue.leave(&worker("old")).await.unwrap();
    scene.beat("w", 1, &[]).await;
    scene.queue.drain_worker(&worker("w"), true, "ann").await.unwrap();
    scene.queue.renew(&Beat { draining: true, ..beat_of("w", K8S, 1, &[]) }).await.unwrap();
    assert!(scene.claim("w", 1).await.is_empty());
    scene.beat("w", 1, &[]).await;
    assert_eq!(scene.claim("w", 1).await.len(), 1, "nobody else would");
}

#[tokio::test]
async fn what_is_set_aside_is_said_in_the_words_of_redis() {
    let scene = Scene::new().await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let keys = scene.queue.keys();
    scene.redis::<()>(&["SET", &keys.build(id), "spoilt"]).await;
    scene.redis::<()>(&["ZADD", &keys.leases(), "1", &id.to_string()]).await;
    scene.queue.reap().await.unwrap();
    let why: String = scene.redis(&["HGET", "{fairlane}:aside", &format!("build:{id}")]).await;
    assert!(why.contains("WRONGTYPE"), "{why}");
}

#[tokio::test]
async fn only_a_person_who_joins_makes_a_build_interactive() {
    let scene = Scene::new().await;
    let id = scene.submit(&background(ask("o/n", 1))).await;
    for (asked, priority) in [
        (background(ask("o/n", 1)), Priority::Background),
        (ask("o/n", 1), Priority::Interactive),
        (background(ask("o/n", 1)), Priority::Interactive),
    ] {
        assert_eq!(scene.submit(&asked).await, id);
        assert_eq!(scene.build(id).await.spec.priority, priority);
    }
}

#[tokio::test]
async fn an_end_without_a_node_leaves_the_node_of_the_attempt_before() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let node = Some("n1".parse().unwrap());
    let finish = Finish { node, ..Finish::of(failed(FailureClass::Infrastructure)) };
    scene.queue.finish(&token, &finish).await.unwrap();
    scene.pass(6000).await;
    scene.beat("w", 1, &[]).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    let build = scene.build(id).await;
    assert_eq!((build.state, build.node.as_deref()), (BuildState::Succeeded, Some("n1")));
}
