//! Nodes that fail what is built on them.

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

/// The nodes of the pods that are there; those of failed runs make room for the next.
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
    // Those that meet the bad node succeed on another; each clears up what its first run failed of.
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

    // Everything that goes there fails at once: one attempt each is proof that none went.
    let ids = kube.submit_many(8).await;
    all_in(&kube, &ids, BuildState::Succeeded).await;
    for id in ids {
        assert_eq!(kube.scene.build(id).await.attempt, 1);
    }
    assert!(!nodes_used(&kube).await.contains(BAD));

    // Taken back by hand it is used again.
    kube.fake().node(BAD).is_well_again();
    assert!(kube.scene.queue.clear_node(&avoided.name, "somebody").await.unwrap());
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
