//! Nodes on which builds fail.

use std::collections::BTreeSet;

use fairlane_common::{BuildId, BuildState, FailureClass};
use fairlane_testkit::kube::{Cluster, Node};
use fairlane_testkit::wait_for;

use super::scene::{KubeScene, SOON};

const BAD: &str = "node-1";

async fn cluster_of_four() -> KubeScene {
    let nodes = ["node-1", "node-2", "node-3", "node-4"];
    let cluster = nodes.into_iter().fold(Cluster::builder(), |builder, name| builder.node(Node::named(name)));
    KubeScene::faked(cluster.start()).await
}

/// The nodes of existing pods; pods of failed runs are removed for the next run.
async fn nodes_used(kube: &KubeScene) -> BTreeSet<String> {
    let pods = kube.pods().await;
    pods.iter().filter_map(|pod| pod.pointer("/spec/nodeName")?.as_str().map(str::to_owned)).collect()
}

async fn all_in(kube: &KubeScene, ids: &[BuildId], state: BuildState) {
    for id in ids {
        kube.build_in(*id, state).await;
    }
}

#[tokio::test]
async fn a_kube_node_without_space_costs_no_build_and_is_avoided() {
    let kube = cluster_of_four().await;
    kube.fake().node(BAD).has_no_space_left();
    let _worker = kube.worker("one", "echo built", &["--keep-pods=1h"]).await;
    // Builds that hit the bad node succeed on another one, which confirms the cause of their first failure.
    let avoided = wait_for("the bad node to be avoided", SOON, async || {
        let ids = kube.submit_many(4).await;
        all_in(&kube, &ids, BuildState::Succeeded).await;
        let mut nodes = kube.scene.queue.nodes().await.map_err(|e| e.to_string())?;
        nodes.pop().ok_or_else(|| "no node is avoided".to_owned())
    })
    .await;
    assert_eq!(avoided.name.as_str(), BAD);
    assert!(avoided.reason.contains("no space left"), "{avoided:?}");
    assert!(avoided.lanes >= 3, "{avoided:?}");

    // Everything that goes there fails at once, so one attempt each proves that none went there.
    let ids = kube.submit_many(8).await;
    all_in(&kube, &ids, BuildState::Succeeded).await;
    for id in ids {
        assert_eq!(kube.scene.build(id).await.attempt, 1);
    }
    assert!(!nodes_used(&kube).await.contains(BAD));

    // Cleared by hand, it is used again.
    kube.fake().node(BAD).is_well_again();
    kube.scene.queue.clear_node(&avoided.name, None, "somebody").await.unwrap();
    wait_for("the node to be used again", SOON, async || {
        let ids = kube.submit_many(4).await;
        all_in(&kube, &ids, BuildState::Succeeded).await;
        nodes_used(&kube).await.contains(BAD)
    })
    .await;
    kube.scene.check().await;
}

#[tokio::test]
async fn kube_repositories_that_print_a_nodes_words_take_no_node_away() {
    let kube = cluster_of_four().await;
    let _worker = kube.worker("one", "echo no space left on device; exit 1", &["--keep-pods=1h"]).await;
    for id in kube.submit_many(3).await {
        let build = kube.build_in(id, BuildState::Failed).await;
        assert_eq!((build.class, build.attempt), (Some(FailureClass::Repository), 2), "{build:?}");
        assert!(
            build.reason.as_deref().is_some_and(|reason| reason.contains("as before on node")),
            "{build:?}"
        );
    }
    assert!(kube.scene.queue.nodes().await.unwrap().is_empty());
    kube.scene.check().await;
}

#[tokio::test]
async fn a_kube_build_of_a_lost_node_waits_for_its_pods_end_and_runs_again_elsewhere() {
    let kube = cluster_of_four().await;
    // The first run never ends, the next one ends at once.
    let begun = kube.scene.dir.join("begun");
    let script = format!("[ ! -e {0} ] || exec echo built; touch {0}; exec sleep 1000", begun.display());
    let _worker = kube.worker("one", &script, &["--keep-pods=1h"]).await;
    let id = kube.scene.submit().await;
    wait_for("the first run to begin", SOON, async || begun.exists()).await;
    let lost = nodes_used(&kube).await.pop_first().unwrap();

    // While the node may come back, its pod is waited for.
    kube.fake().node(&lost).is_cut_off();
    let note = |words: &'static str| {
        move |build: &fairlane_common::Build| build.note.as_deref().is_some_and(|note| note.contains(words))
    };
    let build = kube.build_that(id, "a note on the node", note("does not answer")).await;
    assert_eq!((build.state, build.attempt), (BuildState::Running, 1));

    // Once the control plane has given up the pod, it is the node's fault. The pod's deletion cannot finish,
    // because no kubelet finishes it.
    kube.fake().node(&lost).loses_its_pods_to_the_taint();
    let build = kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    assert_eq!(build.class, Some(FailureClass::Infrastructure), "{build:?}");
    assert!(build.reason.as_deref().is_some_and(|reason| reason.contains(&lost)), "{build:?}");
    kube.build_that(id, "a note on the pod", note("waiting for the pod of another run")).await;
    assert_eq!(kube.fake().pods_created().len(), 1, "no second run beside one that may be alive");

    kube.fake().node(&lost).is_removed();
    let build = kube.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 2);
    assert_eq!(kube.scene.log(id, 2).await, ["built"]);
    assert_eq!(kube.fake().pods_created().len(), 2);
    assert!(!nodes_used(&kube).await.contains(&lost));
    kube.scene.check().await;
}

#[tokio::test]
async fn a_kube_build_whose_pod_never_started_on_a_lost_node_runs_again_elsewhere() {
    let kube = cluster_of_four().await;
    let _worker = kube.worker("one", "echo built", &["--keep-pods=1h"]).await;
    let nodes = ["node-1", "node-2", "node-3", "node-4"];
    for node in nodes {
        kube.fake().node(node).kubelet_stops();
    }
    let id = kube.scene.submit().await;
    let lost =
        wait_for("the pod to be scheduled", SOON, async || nodes_used(&kube).await.pop_first().ok_or("none"))
            .await;
    for node in nodes.into_iter().filter(|node| *node != lost) {
        kube.fake().node(node).kubelet_starts();
    }
    kube.fake().node(&lost).is_cut_off();
    kube.build_that(id, "a note on the node", |build| {
        build.note.as_deref().is_some_and(|note| note.contains("does not answer"))
    })
    .await;
    kube.fake().node(&lost).loses_its_pods_to_the_taint();
    let build = kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    assert_eq!(build.class, Some(FailureClass::Infrastructure), "{build:?}");
    assert!(build.reason.as_deref().is_some_and(|reason| reason.contains(&lost)), "{build:?}");
    kube.fake().node(&lost).is_removed();
    assert_eq!(kube.build_in(id, BuildState::Succeeded).await.attempt, 2);
    assert!(!nodes_used(&kube).await.contains(&lost));
}
