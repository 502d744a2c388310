//! After Redis was emptied, nothing starts until workers have reported what still runs.

use fairlane_common::Queue;
use fairlane_common::clock::Clock;
use fairlane_common::limits::REFILL;
use fairlane_common::queue::{Claimed, Registered, Registration, Renewal, Submitted};

use crate::scene::{K8S, Scene, ask, beat_of, worker};

/// The queue as a newly started process opens it.
async fn process(scene: &Scene) -> Queue {
    let url = scene.server.url().parse().unwrap();
    Queue::open_simulated(&url, "fairlane", Clock::Simulated(scene.clock.clone())).await.unwrap()
}

async fn wait_ms(queue: &Queue) -> Option<u64> {
    match queue.submit(&ask("o/new", 1)).await.unwrap() {
        Submitted::Refilling { wait_ms } => Some(wait_ms),
        Submitted::New(_) | Submitted::Joined(_) => None,
        other => panic!("{other:?}"),
    }
}

fn registration(claimed: &Claimed, by: &str) -> Registration {
    Registration {
        token: claimed.token.clone(),
        worker: worker(by),
        place: K8S.to_owned(),
        lease: std::time::Duration::from_secs(10),
        spec: claimed.build.spec.clone(),
        attempt: 1,
        asked: claimed.build.asked,
        claimed: claimed.build.claimed.unwrap(),
        started: None,
        node: None,
    }
}

#[tokio::test]
async fn a_queue_that_was_emptied_is_still_the_same_queue() {
    let scene = Scene::new().await;
    assert_eq!(scene.queue.identity().await.unwrap(), None);
    assert_eq!(scene.queue.identify("a1").await.unwrap(), "a1");
    assert_eq!(process(&scene).await.identify("b2").await.unwrap(), "a1", "the first one counts");
    scene.redis::<()>(&["FLUSHALL"]).await;
    assert_eq!(scene.queue.identity().await.unwrap().as_deref(), Some("a1"));
    // Two more queues on the same Redis, whose prefixes differ in one character only.
    let url = scene.server.url().parse().unwrap();
    let clock = Clock::Simulated(scene.clock.clone());
    let (dash, dot) = ("fair-lane", "fair.lane");
    let dash = Queue::open_simulated(&url, dash, clock.clone()).await.unwrap();
    let dot = Queue::open_simulated(&url, dot, clock).await.unwrap();
    assert_eq!(dash.identify("c3").await.unwrap(), "c3");
    assert_eq!(dot.identity().await.unwrap(), None);
    assert!(dot.identify("it's").await.is_err());
}

#[tokio::test]
async fn a_flushed_redis_takes_nothing_until_what_runs_is_known() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.beat("dead", 4, &[]).await;
    scene.submit(&ask("o/a", 1)).await;
    scene.submit(&ask("o/b", 1)).await;
    let (mine, orphan) = (scene.claim("w", 1).await.remove(0), scene.claim("dead", 1).await.remove(0));
    scene.redis::<()>(&["FLUSHALL"]).await;

    // The first process that knew the queue before reports it, and all others see it.
    let reply = scene.beat("w", 4, std::slice::from_ref(&mine.token)).await;
    assert_eq!((reply.renewals, reply.startable), (vec![Renewal::Unknown], false));
    let window = u64::try_from(REFILL.as_millis()).unwrap();
    let fresh = process(&scene).await;
    assert_eq!(wait_ms(&fresh).await, Some(window));
    assert_eq!(wait_ms(&scene.queue).await, Some(window));
    assert!(scene.claim("w", 4).await.is_empty());
    scene.check().await;
    assert!(matches!(scene.queue.register(&registration(&mine, "w")).await.unwrap(), Registered::Leased(_)));

    // The run of a dead holder may be registered by others once that holder has had one lease to do so
    // itself.
    let found = registration(&orphan, "w");
    let Registered::Wait(wait) = scene.queue.register(&found).await.unwrap() else {
        panic!("the holder may come")
    };
    assert_eq!(wait.as_secs(), 10);
    scene.pass(10_000).await;
    scene.beat("w", 4, std::slice::from_ref(&mine.token)).await;
    assert!(matches!(scene.queue.register(&found).await.unwrap(), Registered::Leased(_)));
    scene.check().await;

    scene.pass(4999).await;
    assert_eq!(wait_ms(&fresh).await, Some(1));
    scene.pass(1).await;
    let tokens: u64 = scene.redis(&["LLEN", "{fairlane}:wake"]).await;
    assert_eq!((wait_ms(&fresh).await, tokens), (None, 0));
    assert_eq!(scene.claim("w", 4).await.len(), 1);
    scene.check().await;
}

#[tokio::test]
async fn workers_are_woken_when_the_window_is_over() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let saved = ask("o/a", 1);
    scene.submit(&saved).await;
    let claimed = scene.claim("w", 1).await.remove(0);
    scene.redis::<()>(&["FLUSHALL"]).await;
    scene.beat("w", 4, &[]).await;
    // The run is lost during the refill window: its build goes back in line, and no worker is woken for it.
    let Registered::Leased(held) = scene.queue.register(&registration(&claimed, "w")).await.unwrap() else {
        panic!("it was not held")
    };
    let lost = fairlane_common::queue::GiveBack::Lost { reason: "gone".to_owned() };
    scene.queue.give_back(&held.token, &lost).await.unwrap();
    let tokens = || scene.redis::<u64>(&["LLEN", "{fairlane}:wake"]);
    assert_eq!(tokens().await, 0);
    scene.beat("w", 4, &[]).await;
    scene.pass(REFILL.as_millis().try_into().unwrap()).await;
    assert_eq!(tokens().await, 1);
}

#[tokio::test]
async fn a_new_queue_does_not_wait() {
    let scene = Scene::new().await;
    assert_eq!(wait_ms(&scene.queue).await, None);
    // The same holds if all processes started after Redis was emptied.
    scene.redis::<()>(&["FLUSHALL"]).await;
    let fresh = process(&scene).await;
    assert_eq!(wait_ms(&fresh).await, None);
}

#[tokio::test]
async fn who_comes_late_closes_nothing() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.redis::<()>(&["FLUSHALL"]).await;
    let fresh = process(&scene).await;
    scene.clock.advance_ms(4000);
    // A process that knew the queue before reports it after 4 s; only the rest of the window remains.
    scene.beat("w", 4, &[]).await;
    assert_eq!(wait_ms(&fresh).await, Some(11_000));
    scene.clock.advance_ms(11_000);
    assert_eq!(wait_ms(&fresh).await, None);
    // A process that was frozen meanwhile comes back an hour late.
    let frozen = process(&scene).await;
    scene.redis::<()>(&["FLUSHALL"]).await;
    let fresh = process(&scene).await;
    scene.clock.advance_ms(3_600_000);
    frozen.renew(&beat_of("thawed", K8S, 1, &[])).await.unwrap();
    assert_eq!(wait_ms(&fresh).await, None);
}
