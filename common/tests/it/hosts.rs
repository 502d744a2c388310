//! Hosts of process workers on which builds fail, and nodes of several clusters with equal names.

use fairlane_common::queue::{BeatReply, Blame, Claimed, Cleared, Finish, Outcome};
use fairlane_common::{BuildId, BuildState, FailureClass, Token};

use crate::scene::{Scene, ask, beat_of, worker};

const MINUTE: u64 = 60_000;

async fn beat(scene: &Scene, name: &str, place: &str, nodes: usize, held: &[Token]) -> BeatReply {
    let mut beat = beat_of(name, place, 4, held);
    beat.nodes = nodes;
    scene.queue.renew(&beat).await.unwrap()
}

/// A heartbeat of the only process worker of a host.
async fn beat_host(scene: &Scene, host: &str) -> BeatReply {
    beat(scene, host, &format!("process:{host}"), 0, &[]).await
}

async fn claim_host(scene: &Scene, host: &str, free: usize) -> Vec<BuildId> {
    let claims = scene.claims_at(host, &format!("process:{host}"), free).await;
    claims.builds.iter().map(|one| one.build.id).collect()
}

async fn start(scene: &Scene, repo: &str, name: &str, place: &str) -> Claimed {
    scene.submit(&ask(repo, 1)).await;
    scene.claims_at(name, place, 1).await.builds.remove(0)
}

async fn fail(scene: &Scene, token: &Token, node: &str, blame: Blame) {
    let outcome = Outcome::Failed {
        class: FailureClass::Infrastructure,
        cause: fairlane_common::FailureCause::OTHER,
        reason: "it broke".to_owned(),
        blame,
    };
    let finish = Finish { node: Some(node.parse().unwrap()), ..Finish::of(outcome) };
    scene.queue.finish(token, &finish).await.unwrap();
    scene.check().await;
}

/// Builds of three lanes fail on a node because of the node, and are then cancelled.
async fn fails_thrice(scene: &Scene, name: &str, place: &str, node: &str) {
    for repo in ["f/a", "f/b", "f/c"] {
        let claimed = start(scene, repo, name, place).await;
        fail(scene, &claimed.token, node, Blame::Certain).await;
        scene.queue.cancel(claimed.build.id, "test", "").await.unwrap();
    }
}

async fn names(scene: &Scene) -> Vec<(String, String)> {
    scene.queue.nodes().await.unwrap().into_iter().map(|node| (node.cluster, node.name.to_string())).collect()
}

#[tokio::test]
async fn nodes_of_two_clusters_with_equal_names_are_two_nodes() {
    let scene = Scene::new().await;
    let (a, b) = ("k8s:a/builds", "k8s:b/builds");
    let both = async |nodes_of_b: usize| {
        (beat(&scene, "wa", a, 6, &[]).await, beat(&scene, "wb", b, nodes_of_b, &[]).await)
    };
    both(6).await;
    let first = start(&scene, "o/first", "wa", a).await;
    fail(&scene, &first.token, "node-1", Blame::Certain).await;
    fails_thrice(&scene, "wa", a, "node-1").await;
    assert_eq!(names(&scene).await, [("k8s:a".to_owned(), "node-1".to_owned())]);
    let (of_a, of_b) = both(1).await;
    assert_eq!(of_a.avoided.iter().map(ToString::to_string).collect::<Vec<_>>(), ["node-1"]);
    assert!(of_b.avoided.is_empty());
    // A result on `b`'s only node says nothing about `a`'s node of the same name.
    let other = start(&scene, "o/other", "wb", b).await;
    let finish = Finish { node: Some("node-1".parse().unwrap()), ..Finish::of(Outcome::Succeeded) };
    scene.queue.finish(&other.token, &finish).await.unwrap();
    assert_eq!(names(&scene).await.len(), 1, "a's node is still avoided");
    let other = start(&scene, "o/other2", "wb", b).await;
    fail(&scene, &other.token, "node-1", Blame::Certain).await;
    scene.queue.cancel(other.build.id, "test", "").await.unwrap();
    assert_eq!(names(&scene).await.len(), 1, "one failure on b's is not one more on a's");

    // The build that failed on `a`'s node may run on `b`'s, but not on `a`'s again.
    scene.pass(6000).await;
    both(6).await;
    let again = scene.claims_at("wb", b, 1).await.builds.remove(0);
    assert_eq!((again.build.id, again.build.avoid.len()), (first.build.id, 0));
    fail(&scene, &again.token, "node-2", Blame::Certain).await;
    let shown = scene.build(first.build.id).await.avoided_names();
    assert_eq!(shown, ["k8s:a/node-1", "k8s:b/node-2"]);
    scene.pass(20_000).await;
    both(6).await;
    let again = scene.claims_at("wa", a, 1).await.builds.remove(0);
    assert_eq!(again.build.avoid, ["node-1"]);

    fails_thrice(&scene, "wb", b, "node-1").await;
    assert_eq!(names(&scene).await.len(), 2);
    let node = "node-1".parse().unwrap();
    let clear = async |cluster| scene.queue.clear_node(&node, cluster, "ann").await.unwrap();
    let Cleared::Ambiguous(mut clusters) = clear(None).await else { panic!("two nodes have that name") };
    clusters.sort();
    assert_eq!(clusters, ["k8s:a", "k8s:b"]);
    assert_eq!(clear(Some("k8s:b")).await, Cleared::Cleared("k8s:b".to_owned()));
    assert_eq!(clear(None).await, Cleared::Cleared("k8s:a".to_owned()));
    assert!(names(&scene).await.is_empty());
    scene.check().await;
}

#[tokio::test]
async fn what_an_earlier_release_avoids_is_avoided_until_its_time_is_over() {
    let scene = Scene::new().await;
    let place = "k8s:a/builds";
    beat(&scene, "w", place, 6, &[]).await;
    let until = (scene.clock.now_ms() + 30 * MINUTE).to_string();
    for words in [
        &["ZADD", "{fairlane}:nodes", &until, "old"][..],
        &["ZADD", "{fairlane}:timers", &until, "node:old"],
        &["HSET", "{fairlane}:node:old", "cluster", "k8s:a", "reason", "no disk", "lanes", "3"],
        &["HINCRBY", "{fairlane}:totals", "avoided", "1"],
    ] {
        scene.redis::<redis::Value>(words).await;
    }
    let told = beat(&scene, "w", place, 6, &[]).await.avoided;
    assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), ["old"]);
    assert!(beat(&scene, "v", "k8s:b/builds", 6, &[]).await.avoided.is_empty());
    // Another failure counts against the same node.
    let claimed = start(&scene, "o/n", "w", place).await;
    fail(&scene, &claimed.token, "old", Blame::Certain).await;
    assert_eq!(names(&scene).await, [("k8s:a".to_owned(), "old".to_owned())]);
    scene.pass(31 * MINUTE).await;
    assert!(names(&scene).await.is_empty());
    scene.check().await;
}

#[tokio::test]
async fn a_build_that_failed_on_a_host_goes_to_another_one() {
    let scene = Scene::new().await;
    for host in ["a", "b"] {
        beat_host(&scene, host).await;
    }
    let first = start(&scene, "o/first", "a", "process:a").await;
    fail(&scene, &first.token, "a", Blame::Nobody).await;
    scene.pass(6000).await;
    for host in ["a", "b"] {
        beat_host(&scene, host).await;
    }
    let behind = scene.submit(&ask("o/first", 2)).await;
    let other = scene.submit(&ask("o/other", 1)).await;
    let mut got = claim_host(&scene, "a", 4).await;
    got.sort();
    let mut expected = vec![behind, other];
    expected.sort();
    assert_eq!(got, expected, "the others are not held up by it");
    let waits = claim_host(&scene, "a", 4).await;
    assert!(waits.is_empty());
    assert_eq!(claim_host(&scene, "b", 1).await, [first.build.id]);
    scene.check().await;

    // If no other host claims builds, the host where it failed gets it again.
    let second = start(&scene, "o/second", "a", "process:a").await;
    fail(&scene, &second.token, "a", Blame::Nobody).await;
    scene.queue.leave(&worker("b")).await.unwrap();
    scene.pass(6000).await;
    beat_host(&scene, "a").await;
    assert!(claim_host(&scene, "a", 4).await.contains(&second.build.id));
    scene.check().await;
}

#[tokio::test]
async fn a_build_is_kept_for_other_hosts_for_a_minute() {
    let scene = Scene::new().await;
    for host in ["a", "b"] {
        beat_host(&scene, host).await;
    }
    let first = start(&scene, "o/first", "a", "process:a").await;
    fail(&scene, &first.token, "a", Blame::Nobody).await;
    for _ in 0..9 {
        scene.pass(6000).await;
        for host in ["a", "b"] {
            beat_host(&scene, host).await;
        }
        assert!(claim_host(&scene, "a", 4).await.is_empty());
    }
    scene.pass(5999).await;
    beat_host(&scene, "a").await;
    assert!(claim_host(&scene, "a", 4).await.is_empty());
    scene.pass(1).await;
    assert_eq!(claim_host(&scene, "a", 4).await, [first.build.id]);
    scene.check().await;
}

#[tokio::test]
async fn a_host_on_which_three_lanes_fail_gets_no_builds_for_half_an_hour() {
    let scene = Scene::new().await;
    let all = async || {
        for host in ["b", "c"] {
            beat_host(&scene, host).await;
        }
        beat_host(&scene, "a").await
    };
    all().await;
    fails_thrice(&scene, "a", "process:a", "a").await;
    assert_eq!(names(&scene).await, [("process".to_owned(), "a".to_owned())]);
    let reply = all().await;
    assert!(reply.host_avoided && !reply.startable);
    let workers = scene.queue.workers().await.unwrap();
    assert!(workers[0].avoided.is_some() && workers[1].avoided.is_none());
    let snapshot = scene.queue.snapshot().await.unwrap();
    assert_eq!((snapshot.slots, snapshot.taking, snapshot.avoided), (8, 2, 1));
    let id = scene.submit(&ask("o/n", 1)).await;
    let refused = scene.claims_at("a", "process:a", 4).await;
    assert!(refused.builds.is_empty() && refused.avoided);
    assert_eq!(claim_host(&scene, "b", 1).await, [id]);

    // At most a third of the hosts are avoided.
    fails_thrice(&scene, "c", "process:c", "c").await;
    assert_eq!(names(&scene).await.len(), 1);

    // An operator clears the host.
    let cleared = scene.queue.clear_node(&"a".parse().unwrap(), None, "ann").await.unwrap();
    assert_eq!(cleared, Cleared::Cleared("process".to_owned()));
    let id = scene.submit(&ask("o/m", 1)).await;
    assert!(!all().await.host_avoided);
    assert_eq!(claim_host(&scene, "a", 1).await, [id]);
    scene.check().await;
}

#[tokio::test]
async fn a_lone_host_gets_one_build_a_minute() {
    let scene = Scene::new().await;
    beat_host(&scene, "a").await;
    fails_thrice(&scene, "a", "process:a", "a").await;
    let ids = [scene.submit(&ask("o/d", 1)).await, scene.submit(&ask("o/e", 1)).await];
    assert!(!beat_host(&scene, "a").await.host_avoided);
    let probe = scene.claims_at("a", "process:a", 4).await.builds;
    assert_eq!(probe.iter().map(|one| one.build.id).collect::<Vec<_>>(), [ids[0]]);
    assert!(claim_host(&scene, "a", 4).await.is_empty());
    let why = scene.queue.why(&scene.build(ids[1]).await).await.unwrap();
    assert!(why.text.contains("a, the only host"), "{}", why.text);
    let finish = Finish { node: Some("a".parse().unwrap()), ..Finish::of(Outcome::Succeeded) };
    scene.queue.finish(&probe[0].token, &finish).await.unwrap();
    assert!(names(&scene).await.is_empty());
    assert_eq!(claim_host(&scene, "a", 4).await, [ids[1]]);
    scene.check().await;
}

#[tokio::test]
async fn words_alone_count_against_a_host_once_the_build_succeeded_on_another() {
    let scene = Scene::new().await;
    let all = async || {
        for host in ["a", "b", "c"] {
            beat_host(&scene, host).await;
        }
    };
    all().await;
    let suspect = || Blame::Suspect { cause: "no-engine".to_owned() };
    for repo in ["o/a", "o/b", "o/c"] {
        let claimed = start(&scene, repo, "a", "process:a").await;
        fail(&scene, &claimed.token, "a", suspect()).await;
    }
    assert!(names(&scene).await.is_empty());
    scene.pass(6000).await;
    all().await;
    for one in scene.claims_at("b", "process:b", 3).await.builds {
        let finish = Finish { node: Some("b".parse().unwrap()), ..Finish::of(Outcome::Succeeded) };
        scene.queue.finish(&one.token, &finish).await.unwrap();
    }
    assert_eq!(names(&scene).await, [("process".to_owned(), "a".to_owned())]);
    // If a repository prints the suspicious lines itself, it fails in the same way on two hosts.
    let first = start(&scene, "o/own", "b", "process:b").await;
    fail(&scene, &first.token, "b", suspect()).await;
    scene.pass(6000).await;
    all().await;
    let second = scene.claims_at("c", "process:c", 1).await.builds.remove(0);
    fail(&scene, &second.token, "c", suspect()).await;
    let build = scene.build(first.build.id).await;
    assert_eq!((build.state, build.class), (BuildState::Failed, Some(FailureClass::Repository)));
    assert!(build.reason.unwrap().contains("host b"));
    scene.check().await;
}
