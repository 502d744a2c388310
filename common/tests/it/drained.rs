//! Workers that an operator has drained.

use fairlane_common::queue::{BeatReply, Outcome};
use fairlane_common::{BuildState, Token};

use crate::scene::{K8S, Scene, ask, beat_of, worker};

async fn beat(scene: &Scene, name: &str, host: &str, held: &[Token]) -> BeatReply {
    let mut beat = beat_of(name, K8S, 4, held);
    host.clone_into(&mut beat.host);
    scene.queue.renew(&beat).await.unwrap()
}

async fn drain(scene: &Scene, asked: &str, on: bool) -> Option<(String, Vec<String>)> {
    let change = scene.queue.drain_worker(&worker(asked), on, "ann").await.unwrap()?;
    Some((change.name, change.workers.iter().map(ToString::to_string).collect()))
}

fn of(name: &str, workers: &[&str]) -> (String, Vec<String>) {
    (name.to_owned(), workers.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn a_drained_host_is_drained_until_that_is_undone() {
    let scene = Scene::new().await;
    beat(&scene, "a-1", "a", &[]).await;
    beat(&scene, "a-2", "a", &[]).await;
    beat(&scene, "b-1", "b", &[]).await;
    assert_eq!(drain(&scene, "nobody", true).await, None);
    assert_eq!(drain(&scene, "a-1", true).await, Some(of("a", &["a-1", "a-2"])));
    let id = scene.submit(&ask("o/n", 1)).await;
    let reply = scene.claims_at("a-2", K8S, 1).await;
    assert!(reply.builds.is_empty() && reply.drained && !reply.unknown, "{reply:?}");
    let tokens: u64 = scene.redis(&["LLEN", "{fairlane}:wake"]).await;
    assert_eq!(tokens, 1, "the token that it took is another's");
    assert!(beat(&scene, "a-1", "a", &[]).await.drained && !beat(&scene, "b-1", "b", &[]).await.drained);
    let workers = scene.queue.workers().await.unwrap();
    let by = |at: usize| workers[at].drained.as_ref().map(|drained| drained.by.clone());
    assert_eq!((by(0).as_deref(), by(2)), (Some("ann"), None));

    // The worker processes of host `a` end, one by leaving and one by dying; later a new one starts there.
    scene.queue.leave(&worker("a-1")).await.unwrap();
    for _ in 0..3 {
        scene.pass(9000).await;
        beat(&scene, "b-1", "b", &[]).await;
    }
    assert_eq!(scene.queue.workers().await.unwrap().len(), 1);
    let drained = scene.queue.drained().await.unwrap();
    assert_eq!(drained.keys().collect::<Vec<_>>(), ["a"], "it is shown without a worker");
    assert!(beat(&scene, "a-3", "a", &[]).await.drained);
    assert!(scene.claims_at("a-3", K8S, 1).await.builds.is_empty());
    scene.check().await;

    // Worker `a-1` is gone, but its name still undoes the drain.
    assert_eq!(drain(&scene, "a-1", false).await, Some(of("a", &["a-3"])));
    assert!(!beat(&scene, "a-3", "a", &[]).await.drained);
    assert_eq!(scene.claim_ids("a-3", 1).await, [id]);
    assert_eq!(drain(&scene, "a", false).await, Some(of("a", &["a-3"])), "undone twice is undone");
    assert_eq!(drain(&scene, "a", true).await, Some(of("a", &["a-3"])), "a host can be named");
    scene.check().await;
}

#[tokio::test]
async fn a_host_is_undone_while_nobody_runs_there() {
    let scene = Scene::new().await;
    beat(&scene, "a-1", "a", &[]).await;
    drain(&scene, "a-1", true).await;
    scene.queue.leave(&worker("a-1")).await.unwrap();
    assert_eq!(drain(&scene, "a", false).await, Some(of("a", &[])));
    assert!(!beat(&scene, "a-2", "a", &[]).await.drained);
}

#[tokio::test]
async fn who_was_drained_while_it_stood_still_claims_nothing_when_it_goes_on() {
    let scene = Scene::new().await;
    beat(&scene, "a-1", "a", &[]).await;
    drain(&scene, "a-1", true).await;
    scene.submit(&ask("o/n", 1)).await;
    scene.pass(20_000).await;
    assert!(scene.queue.workers().await.unwrap().is_empty());
    // A claim before the worker's first heartbeat.
    let reply = scene.claims_at("a-1", K8S, 1).await;
    assert!(reply.builds.is_empty() && reply.unknown, "{reply:?}");
    assert!(beat(&scene, "a-1", "a", &[]).await.drained);
    let reply = scene.claims_at("a-1", K8S, 1).await;
    assert!(reply.builds.is_empty() && reply.drained, "{reply:?}");
}

#[tokio::test]
async fn a_drained_worker_follows_what_it_has_and_adopts_where_nobody_else_would() {
    let scene = Scene::new().await;
    for name in ["a", "b"] {
        beat(&scene, name, name, &[]).await;
    }
    let mine = scene.submit(&ask("o/mine", 1)).await;
    let token = scene.claims_at("a", K8S, 1).await.builds.remove(0).token;
    drain(&scene, "a", true).await;
    let held = std::slice::from_ref(&token);
    assert!(beat(&scene, "a", "a", held).await.drained);
    assert_eq!(scene.state(mine).await, BuildState::Starting);
    let slots = scene.queue.snapshot().await.unwrap().slots;
    assert_eq!(slots, 5, "what it runs counts, so that nobody borrows for it");

    // `b` adopts an orphan; the drained `a` leaves it to `b`.
    beat(&scene, "dead", "dead", &[]).await;
    let lost = scene.submit(&ask("o/lost", 1)).await;
    assert_eq!(scene.claim_ids("dead", 1).await, [lost]);
    scene.pass(8000).await;
    beat(&scene, "a", "a", held).await;
    beat(&scene, "b", "b", &[]).await;
    scene.pass(3000).await;
    assert_eq!(scene.state(lost).await, BuildState::Orphaned);
    assert!(scene.claims_at("a", K8S, 0).await.builds.is_empty());
    // If `b` is drained too, nobody else can adopt it, so `a` does.
    drain(&scene, "b", true).await;
    let adopted = scene.claims_at("a", K8S, 0).await.builds;
    assert_eq!(adopted.iter().map(|one| (one.build.id, one.adopted)).collect::<Vec<_>>(), [(lost, true)]);

    let waiting = scene.submit(&ask("o/waiting", 1)).await;
    for name in ["a", "b"] {
        beat(&scene, name, name, &[]).await;
    }
    let why = scene.queue.why(&scene.build(waiting).await).await.unwrap();
    assert!(why.text.contains("drained") && why.eta_ms.is_none(), "{}", why.text);
    scene.finish(&token, Outcome::Succeeded).await;
    scene.check().await;
}
