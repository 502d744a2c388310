//! The scripts and `keys.rs` use the same keys, and the schema is checked.

use std::time::Duration;

use fairlane_common::queue::campaigns::Pacing;
use fairlane_common::queue::{DispatcherBeat, GiveBack, SCHEMA, Spend};
use fairlane_common::rule::Stop;
use fairlane_common::{DispatcherId, Error, Queue, Rule};

use crate::campaigns::items;
use crate::cookbook::bad_node;
use crate::scene::{K8S, Scene, ask, background, worker};

#[tokio::test]
async fn scripts_write_only_keys_that_are_named() {
    let scene = Scene::new().await;
    let keys = scene.queue.keys().clone();
    bad_node(&scene).await;
    scene.beat("w", 2, &[]).await;
    let d: DispatcherId = "d".parse().unwrap();
    scene.queue.beat_dispatcher(&DispatcherBeat { dispatcher: d.clone(), counts: vec![] }).await.unwrap();
    let mut first = ask("o/a", 1);
    first.dispatcher = Some(d.clone());
    let second = background(ask("o/b", 1));
    let (a, b) = (scene.submit(&first).await, scene.submit(&second).await);
    scene.rule("github.com/o/*", &Rule { limit: Some(1), together: true, ..Rule::default() }).await;
    scene.rule("github.com/h/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
    scene.reap().await;
    scene.submit(&ask("h/h", 1)).await;
    let of_campaign = campaign_keys(&scene).await;
    let handed = scene.claim("w", 2).await.remove(0);
    scene.queue.give_back(&handed.token, &GiveBack::Handover).await.unwrap();
    let limit = Spend { whose: "token:hub".to_owned(), count: 2, per: Duration::from_mins(1) };
    scene.queue.spend(&[limit]).await.unwrap();
    let lane = |name: &str| format!("github.com/{name}").parse().unwrap();
    let mut named = vec![
        keys.schema(),
        keys.born(),
        keys.simulation(),
        keys.queued(),
        keys.lanes(),
        keys.lanes_held(),
        keys.leases(),
        keys.timers(),
        keys.workers(),
        keys.dispatchers(),
        keys.totals(),
        keys.rules(),
        keys.events(),
        keys.audit(),
        keys.wake(),
        keys.build(a),
        keys.build(b),
        keys.image(&first.spec.image),
        keys.image(&second.spec.image),
        keys.permits(&lane("o/a")),
        keys.permits_shared("github.com/o/*"),
        keys.lanes_shared("github.com/o/*"),
        keys.worker(&worker("w")),
        keys.watched(&d),
        keys.people(a),
        keys.stats(&lane("o/a")),
        keys.stats(&lane("o/b")),
        keys.stats(&lane("h/h")),
        keys.spent("token:hub"),
        keys.orphans(),
        keys.orphans_at(K8S),
        keys.places(),
        keys.place(K8S),
        keys.ended(),
        keys.libraries(),
        keys.lanes_burst(),
        keys.lanes_full(),
    ];
    named.extend(["o/a", "o/b", "h/h"].map(|name| keys.lane(&lane(name))));
    named.extend(of_campaign.into_iter().chain(bad_node_keys(&scene).await));
    named.sort();
    let mut found: Vec<String> = scene.redis(&["KEYS", "*"]).await;
    found.retain(|key| !key.contains(":build:") && !key.contains(":image:") && !key.contains("people:"));
    for key in &found {
        assert!(named.contains(key), "{key} is not named in keys.rs");
    }
    assert!(found.len() >= 20, "{found:?}");
}

/// The keys of a campaign that has put one of its builds into line, and those of the past.
async fn campaign_keys(scene: &Scene) -> Vec<String> {
    scene.campaign("spring", &items(2), Pacing::default()).await;
    scene.feed().await;
    let keys = scene.queue.keys();
    let mut named =
        vec![keys.campaigns(), keys.campaigns_open(), keys.campaign_images(), keys.campaign("spring")];
    named.extend([keys.counts(), keys.history(), keys.past()]);
    named.extend(["todo", "items", "open"].map(|part| keys.campaign_part("spring", part)));
    named.extend(["o/n0", "o/n1"].map(|name| keys.lane(&format!("github.com/{name}").parse().unwrap())));
    named.extend(["o/n0", "o/n1"].map(|name| keys.stats(&format!("github.com/{name}").parse().unwrap())));
    named
}

/// The keys of a node on which builds failed.
async fn bad_node_keys(scene: &Scene) -> Vec<String> {
    let (keys, node) = (scene.queue.keys(), "n1".parse().unwrap());
    let mut named = vec![keys.nodes(), keys.node("k8s:test", &node), keys.node_failures("k8s:test", &node)];
    for key in &named {
        assert_eq!(scene.redis::<u64>(&["EXISTS", key]).await, 1, "{key}");
    }
    named.extend([keys.worker(&worker("w2")), keys.logs()]);
    named.extend((0..3).map(|n| keys.stats(&format!("github.com/o/bad{n}").parse().unwrap())));
    named
}

#[tokio::test]
async fn another_major_is_refused_a_newer_minor_is_not() {
    let scene = Scene::new().await;
    let open = || async { Queue::open(&scene.server.url().parse().unwrap(), "fairlane").await };
    scene.redis::<()>(&["SET", &scene.queue.keys().schema(), "1.7"]).await;
    open().await.unwrap();
    scene.redis::<()>(&["SET", &scene.queue.keys().schema(), "2.0"]).await;
    let says = open().await.unwrap_err().to_string();
    assert!(says.contains("2.0") && says.contains(SCHEMA) && says.contains("--prefix"), "{says}");
    assert!(matches!(scene.queue.submit(&ask("o/n", 1)).await.unwrap_err(), Error::Schema { .. }));
}

#[tokio::test]
async fn a_real_queue_takes_no_time_from_outside() {
    let server = fairlane_testkit::RedisServer::start_default().await;
    let url = server.url().parse().unwrap();
    Queue::open(&url, "fairlane").await.unwrap();
    let clock = fairlane_common::clock::Clock::Simulated(fairlane_common::clock::SimulatedClock::new(1));
    let simulated = Queue::open_simulated(&url, "fairlane", clock).await.unwrap();
    let refused = simulated.submit(&ask("o/n", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("not simulated"), "{refused}");
}

#[tokio::test]
async fn an_emptied_redis_is_a_queue_again() {
    let scene = Scene::new().await;
    scene.submit(&ask("o/n", 1)).await;
    scene.begin_anew().await;
    let id = scene.submit(&ask("o/n", 1)).await;
    assert_eq!(scene.queue.position(id).await.unwrap(), Some((1, 1)));
    scene.check().await;
}
