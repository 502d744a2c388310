//! Nodes on which builds fail.

use fairlane_common::queue::inspect::NodeView;
use fairlane_common::queue::{Blame, Claimed, Cleared, Finish, Finished, Outcome};
use fairlane_common::{BuildState, FailureClass, Token};

use crate::scene::{K8S, Scene, ask, beat_of};

const MINUTE: u64 = 60_000;
const DISK: &str = "no space left on device";

/// A queue with one worker, whose cluster has this many nodes.
async fn scene(nodes: usize) -> Scene {
    let scene = Scene::new().await;
    beat(&scene, nodes).await;
    scene
}

/// The nodes to avoid according to the reply to a heartbeat, and whether it tells the worker to claim.
async fn beat(scene: &Scene, nodes: usize) -> (Vec<String>, bool) {
    let mut beat = beat_of("w", K8S, 20, &[]);
    beat.nodes = nodes;
    let reply = scene.queue.renew(&beat).await.unwrap();
    (reply.avoided.iter().map(ToString::to_string).collect(), reply.startable)
}

fn suspect() -> Blame {
    Blame::Suspect { cause: "disk full".to_owned() }
}

fn failure(node: &str, blame: Blame) -> Finish {
    let outcome = Outcome::Failed {
        class: FailureClass::Infrastructure,
        cause: fairlane_common::FailureCause::OTHER,
        reason: DISK.to_owned(),
        blame,
    };
    Finish { node: Some(node.parse().unwrap()), ..Finish::of(outcome) }
}

fn success(node: &str) -> Finish {
    Finish { node: Some(node.parse().unwrap()), ..Finish::of(Outcome::Succeeded) }
}

async fn finish(scene: &Scene, token: &Token, finish: &Finish) -> Finished {
    let finished = scene.queue.finish(token, finish).await.unwrap();
    assert_eq!(scene.queue.finish(token, finish).await.unwrap(), finished, "said again, it is the same");
    scene.check().await;
    finished
}

async fn start(scene: &Scene, repo: &str) -> Claimed {
    scene.submit(&ask(repo, 1)).await;
    scene.claim("w", 1).await.remove(0)
}

/// Claims the next attempt of a build after its backoff.
async fn again(scene: &Scene, nodes: usize) -> Claimed {
    scene.pass(20_000).await;
    beat(scene, nodes).await;
    scene.claim("w", 1).await.remove(0)
}

/// A build of `repo` fails on `node` because of the node, and is then cancelled.
async fn fails(scene: &Scene, repo: &str, node: &str) {
    let claimed = start(scene, repo).await;
    finish(scene, &claimed.token, &failure(node, Blame::Certain)).await;
    scene.queue.cancel(claimed.build.id, "test", "").await.unwrap();
}

async fn names(scene: &Scene) -> Vec<String> {
    scene.queue.nodes().await.unwrap().iter().map(|node| node.name.to_string()).collect()
}

#[tokio::test]
async fn three_lanes_take_a_node_away_for_half_an_hour() {
    let scene = scene(6).await;
    for repo in ["o/a", "o/b", "o/b"] {
        fails(&scene, repo, "bad").await;
        assert!(names(&scene).await.is_empty(), "one repository alone proves nothing");
    }
    let began = scene.clock.now_ms();
    fails(&scene, "o/c", "bad").await;
    let expected = NodeView {
        name: "bad".parse().unwrap(),
        until: began + 30 * MINUTE,
        since: began,
        cluster: "k8s:test".to_owned(),
        reason: DISK.to_owned(),
        lanes: 3,
        probed: None,
    };
    assert_eq!(scene.queue.nodes().await.unwrap(), [expected]);
    assert_eq!(beat(&scene, 6).await.0, ["bad"]);
    assert_eq!(
        start(&scene, "o/d").await.avoided,
        ["bad".parse().unwrap()],
        "also before the next heartbeat"
    );
    let elsewhere = beat_of("other", "k8s:another/builds", 1, &[]);
    assert!(
        scene.queue.renew(&elsewhere).await.unwrap().avoided.is_empty(),
        "another cluster has other nodes"
    );
    let audit: Vec<(String, Vec<String>)> = scene.redis(&["XREVRANGE", "{fairlane}:audit", "+", "-"]).await;
    let said = |(_, fields): &&(String, Vec<String>)| fields.contains(&"node avoided".to_owned());
    assert_eq!(audit.iter().filter(said).count(), 1, "{audit:?}");
    // A build that still ran there fails as well, so the node is avoided for longer.
    scene.pass(10 * MINUTE).await;
    beat(&scene, 6).await;
    fails(&scene, "o/e", "bad").await;
    scene.pass(29 * MINUTE).await;
    assert_eq!(names(&scene).await, ["bad"]);
    scene.pass(MINUTE).await;
    assert!(names(&scene).await.is_empty() && beat(&scene, 6).await.0.is_empty());
    let left: Vec<String> = scene.redis(&["KEYS", "{fairlane}:node:*"]).await;
    assert!(left.is_empty(), "{left:?}");
    scene.check().await;
}

#[tokio::test]
async fn failures_far_apart_take_no_node_away() {
    let scene = scene(6).await;
    for repo in ["o/a", "o/b", "o/c", "o/d"] {
        fails(&scene, repo, "n").await;
        scene.pass(5 * MINUTE + 1).await;
        beat(&scene, 6).await;
    }
    assert!(names(&scene).await.is_empty());
}

#[tokio::test]
async fn at_most_a_third_of_the_nodes_are_avoided() {
    for (nodes, most) in [(0, 0), (2, 1), (5, 1), (6, 2), (9, 3)] {
        let scene = scene(nodes).await;
        for node in ["n1", "n2", "n3", "n4"] {
            for repo in ["o/a", "o/b", "o/c"] {
                fails(&scene, repo, node).await;
            }
        }
        assert_eq!(names(&scene).await.len(), most, "of {nodes}");
        assert_eq!(beat(&scene, nodes).await.0.len(), most);
        if most > 1 {
            // The cluster has shrunk; the remaining nodes must suffice.
            assert_eq!(beat(&scene, 3).await.0.len(), 1);
        }
    }
}

#[tokio::test]
async fn an_operator_clears_a_node() {
    let scene = scene(3).await;
    for repo in ["o/a", "o/b", "o/c"] {
        fails(&scene, repo, "n").await;
    }
    let node = "n".parse().unwrap();
    let cleared = Cleared::Cleared("k8s:test".to_owned());
    assert_eq!(scene.queue.clear_node(&node, None, "ann").await.unwrap(), cleared);
    let again = scene.queue.clear_node(&node, None, "ann").await.unwrap();
    assert_eq!(again, Cleared::Unknown, "it is cleared already");
    assert!(names(&scene).await.is_empty());
    scene.check().await;
    // The earlier failures are forgotten, so the next one counts as the first.
    fails(&scene, "o/d", "n").await;
    assert!(names(&scene).await.is_empty());
    let audit: Vec<(String, Vec<String>)> = scene.redis(&["XRANGE", "{fairlane}:audit", "-", "+"]).await;
    assert!(
        audit
            .iter()
            .any(|(_, fields)| fields.contains(&"node cleared".to_owned())
                && fields.contains(&"ann".to_owned()))
    );
}

#[tokio::test]
async fn three_repositories_that_print_no_space_themselves_take_no_node_away() {
    let scene = scene(6).await;
    for repo in ["o/a", "o/b", "o/c"] {
        let first = start(&scene, repo).await;
        assert!(matches!(
            finish(&scene, &first.token, &failure("n1", suspect())).await,
            Finished::Retried { .. }
        ));
        let second = again(&scene, 6).await;
        assert_eq!(second.build.avoid, ["n1"]);
        let finished = finish(&scene, &second.token, &failure("n2", suspect())).await;
        assert_eq!(finished, Finished::Ended(BuildState::Failed), "no third attempt");
        let build = scene.build(first.build.id).await;
        assert_eq!(build.class, Some(FailureClass::Repository));
        let reason = build.reason.unwrap();
        assert!(reason.starts_with(DISK) && reason.contains("node n1"), "{reason}");
    }
    assert!(names(&scene).await.is_empty());
    let left: Vec<String> = scene.redis(&["KEYS", "{fairlane}:node-failures:*"]).await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_no_repository_answers_for_is_put_down_to_none() {
    let scene = scene(6).await;
    let machine = || Blame::Machine { cause: "no-engine".to_owned() };
    let first = start(&scene, "o/a").await;
    finish(&scene, &first.token, &failure("n1", machine())).await;
    for (node, last) in [("n2", false), ("n3", true)] {
        let next = again(&scene, 6).await;
        let finished = finish(&scene, &next.token, &failure(node, machine())).await;
        assert_eq!(finished == Finished::Ended(BuildState::Failed), last, "{node}: {finished:?}");
    }
    assert_eq!(scene.build(first.build.id).await.class, Some(FailureClass::Infrastructure));
    // If the build finally succeeds, the failure counts against each node on which it failed.
    for repo in ["o/b", "o/c", "o/d"] {
        let first = start(&scene, repo).await;
        finish(&scene, &first.token, &failure("n1", machine())).await;
        let second = again(&scene, 6).await;
        finish(&scene, &second.token, &failure("n2", machine())).await;
        let third = again(&scene, 6).await;
        finish(&scene, &third.token, &success("n3")).await;
    }
    let mut avoided = names(&scene).await;
    avoided.sort();
    assert_eq!(avoided, ["n1", "n2"]);
}

#[tokio::test]
async fn a_suspect_counts_once_the_build_has_succeeded_elsewhere() {
    let scene = scene(6).await;
    let mut retried = vec![];
    for repo in ["o/a", "o/b", "o/c"] {
        let first = start(&scene, repo).await;
        finish(&scene, &first.token, &failure("bad", suspect())).await;
        retried.push(first.build.id);
    }
    assert!(names(&scene).await.is_empty(), "words in a log prove nothing");
    scene.pass(20_000).await;
    beat(&scene, 6).await;
    let second = scene.claim("w", 3).await;
    // The second runs take longer than the ten minutes within which the failures must happen. What counts is when
    // the first runs failed.
    let tokens: Vec<Token> = second.iter().map(|one| one.token.clone()).collect();
    let mut held = beat_of("w", K8S, 20, &tokens);
    (held.nodes, held.lease) = (6, std::time::Duration::from_hours(1));
    scene.queue.renew(&held).await.unwrap();
    for (at, one) in second.iter().enumerate() {
        scene.pass(9 * MINUTE).await;
        finish(&scene, &one.token, &success("good")).await;
        assert_eq!(names(&scene).await.len(), usize::from(at == 2));
    }
    assert_eq!(names(&scene).await, ["bad"]);
}

/// A failure whose log does not show what is to blame.
fn unclear(node: Option<&str>) -> Finish {
    let blame = Blame::Unclear { cause: "unreachable".to_owned() };
    let outcome = Outcome::Failed {
        class: FailureClass::Infrastructure,
        cause: fairlane_common::FailureCause::OTHER,
        reason: "no answer".to_owned(),
        blame,
    };
    Finish { node: node.map(|node| node.parse().unwrap()), ..Finish::of(outcome) }
}

#[tokio::test]
async fn what_the_log_cannot_tell_is_tried_once_more_elsewhere() {
    // On a node, and without one, for workers that do not say where they run.
    for (first_on, then_on) in [(Some("n1"), Some("n2")), (None, None), (Some("n1"), Some("n1"))] {
        let scene = scene(6).await;
        let first = start(&scene, "o/a").await;
        let finished = finish(&scene, &first.token, &unclear(first_on)).await;
        assert!(matches!(finished, Finished::Retried { attempt: 2, .. }), "{finished:?}");
        let build = scene.queue.build(first.build.id).await.unwrap().unwrap();
        assert_eq!(build.reason.as_deref(), Some("no answer; the build is retried once"));
        let second = again(&scene, 6).await;
        assert_eq!(second.build.avoid, Vec::from_iter(first_on));
        let finished = finish(&scene, &second.token, &unclear(then_on)).await;
        assert_eq!(finished, Finished::Ended(BuildState::Failed));
        let build = scene.queue.build(first.build.id).await.unwrap().unwrap();
        assert_eq!(build.class, Some(FailureClass::Repository));
        assert_eq!(
            build.reason.as_deref(),
            Some("no answer; it failed the same way twice, so this counts as the repository's failure")
        );
    }
}

#[tokio::test]
async fn what_was_unclear_counts_against_the_node_once_it_works_elsewhere() {
    let scene = scene(6).await;
    for repo in ["o/a", "o/b", "o/c"] {
        let first = start(&scene, repo).await;
        finish(&scene, &first.token, &unclear(Some("bad"))).await;
        let second = again(&scene, 6).await;
        finish(&scene, &second.token, &success("good")).await;
    }
    assert_eq!(names(&scene).await, ["bad"]);
    // If it is unknown where the first run was, no node is blamed.
    let first = start(&scene, "o/d").await;
    finish(&scene, &first.token, &unclear(None)).await;
    let second = again(&scene, 6).await;
    finish(&scene, &second.token, &success("good")).await;
    assert_eq!(names(&scene).await, ["bad"]);
}

#[tokio::test]
async fn a_success_on_the_same_node_or_an_unknown_one_proves_nothing() {
    let scene = scene(6).await;
    for (repo, success) in [
        ("o/a", success("bad")),
        ("o/b", success("bad")),
        ("o/c", Finish::of(Outcome::Succeeded)),
        ("o/d", success("bad")),
    ] {
        let first = start(&scene, repo).await;
        finish(&scene, &first.token, &failure("bad", suspect())).await;
        let second = again(&scene, 6).await;
        finish(&scene, &second.token, &success).await;
    }
    assert!(names(&scene).await.is_empty());
}

#[tokio::test]
async fn a_second_bad_node_is_not_put_down_to_the_repository() {
    let scene = scene(6).await;
    for repo in ["o/a", "o/b", "o/c"] {
        fails(&scene, repo, "n1").await;
    }
    let first = start(&scene, "o/d").await;
    finish(&scene, &first.token, &failure("n1", suspect())).await;
    let second = again(&scene, 6).await;
    let finished = finish(&scene, &second.token, &failure("n2", suspect())).await;
    assert!(matches!(finished, Finished::Retried { attempt: 3, .. }), "n1 is known to be bad: {finished:?}");
    assert_eq!(scene.build(first.build.id).await.avoided_names(), ["n1", "n2"]);
}

#[tokio::test]
async fn a_build_always_has_a_node_to_go_to() {
    let scene = scene(2).await;
    let first = start(&scene, "o/a").await;
    finish(&scene, &first.token, &failure("n1", Blame::Certain)).await;
    let second = again(&scene, 2).await;
    assert_eq!(second.build.avoid, ["n1"]);
    finish(&scene, &second.token, &failure("n2", Blame::Certain)).await;
    assert_eq!(again(&scene, 2).await.build.avoid, ["n2"]);
}

#[tokio::test]
async fn the_repositorys_own_failure_and_an_old_token_count_against_nobody() {
    let scene = scene(3).await;
    for repo in ["o/a", "o/b", "o/c", "o/d"] {
        let claimed = start(&scene, repo).await;
        let outcome = Outcome::Failed {
            class: FailureClass::Repository,
            cause: fairlane_common::FailureCause::OTHER,
            reason: "killed".to_owned(),
            blame: Blame::Certain,
        };
        let own = Finish { node: Some("n".parse().unwrap()), ..Finish::of(outcome) };
        finish(&scene, &claimed.token, &own).await;
        let (ghost, blamed) = (Token { epoch: 1, ..claimed.token }, failure("n", Blame::Certain));
        assert_eq!(scene.queue.finish(&ghost, &blamed).await.unwrap(), Finished::Stale);
    }
    let left: Vec<String> = scene.redis(&["KEYS", "{fairlane}:node*"]).await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_lone_node_gets_one_build_a_minute() {
    let scene = scene(1).await;
    for repo in ["o/a", "o/b", "o/c"] {
        fails(&scene, repo, "only").await;
    }
    assert_eq!(names(&scene).await, ["only"]);
    let (avoided, startable) = beat(&scene, 1).await;
    assert!(avoided.is_empty() && !startable, "there is no other node to go to, and nothing to start");

    let ids = [
        scene.submit(&ask("o/d", 1)).await,
        scene.submit(&ask("o/e", 1)).await,
        scene.submit(&ask("o/f", 1)).await,
    ];
    assert!(beat(&scene, 1).await.1, "it may be probed at once");
    let probe = scene.claim("w", 20).await;
    assert_eq!(
        probe.iter().map(|one| one.build.id).collect::<Vec<_>>(),
        [ids[0]],
        "one build, whatever is free"
    );
    scene.redis::<Option<String>>(&["LPOP", "{fairlane}:wake"]).await;
    assert!(scene.claim("w", 20).await.is_empty() && !beat(&scene, 1).await.1);
    let tokens: u64 = scene.redis(&["LLEN", "{fairlane}:wake"]).await;
    assert_eq!(tokens, 0, "a worker that may not claim must not wake itself");
    let why = scene.queue.why(&scene.build(ids[1]).await).await.unwrap();
    assert!(
        why.text.contains("only, the only node") && why.text.contains("60 s") && why.eta_ms.is_none(),
        "{}",
        why.text
    );
    // Workers of other places claim builds as usual.
    scene.beat_at("p", "process:p", 1, &[]).await;
    assert_eq!(scene.claim_at("p", "process:p", 1).await[0].build.id, ids[1]);
    let left = beat_of("p", "process:p", 0, &[]);
    scene.queue.renew(&left).await.unwrap();

    // The test build fails again, so the next one comes in a minute.
    finish(&scene, &probe[0].token, &failure("only", Blame::Certain)).await;
    scene.pass(MINUTE).await;
    assert!(beat(&scene, 1).await.1);
    let probe = scene.claim("w", 20).await;
    assert_eq!(probe.len(), 1);
    assert!(scene.queue.nodes().await.unwrap()[0].probed.is_some());
    // The test build succeeds, so the node gets builds again.
    finish(&scene, &probe[0].token, &success("only")).await;
    assert!(names(&scene).await.is_empty());
    assert!(!scene.claim("w", 20).await.is_empty());
    scene.check().await;
}
