//! Credentials for the cluster that expire, and are renewed.

use fairlane_common::BuildState;
use fairlane_testkit::kube::Cluster;

use super::scene::{KubeScene, SOON, counting};

const LINES: usize = 80;

#[tokio::test]
async fn a_worker_whose_credentials_expired_hands_its_builds_over_and_reads_renewed_ones() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let script = counting(LINES, "0.25");
    let config = kube.fake().kubeconfig_with("first", "old-token");
    let first = kube.spawn_with(&config, "first", &script, &[]);
    first.wait_for_line("worker is ready", SOON).await;
    let ids = kube.submit_many(2).await;
    kube.line(ids[1], 1, "line 2").await;
    let _second = kube.worker("second", &script, &[]).await;
    kube.fake().token_expires("old-token");
    kube.fake().connections_are_cut();
    kube.paused("first", Some("it cannot see its pods: ")).await;
    for id in &ids {
        kube.build_that(*id, "the build to be handed over", |build| {
            build.worker.as_ref().is_some_and(|worker| worker.as_str().starts_with("second"))
        })
        .await;
    }
    first.wait_for_line("its builds are handed over", SOON).await;
    kube.fake().kubeconfig_with("first", "new-token");
    kube.paused("first", None).await;
    kube.all_whole(&ids, LINES).await;
    assert_eq!(kube.fake().pods_created().len(), 2);
    kube.scene.check().await;
}

#[tokio::test]
async fn a_lone_worker_keeps_its_builds_until_its_credentials_are_renewed() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let config = kube.fake().kubeconfig_with("only", "old-token");
    let worker = kube.spawn_with(&config, "only", &counting(LINES, "0.25"), &[]);
    worker.wait_for_line("worker is ready", SOON).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "line 2").await;
    // The watch stays open. The worker notices with its next request, and repeats that with the new credentials.
    kube.fake().token_expires("old-token");
    let late = kube.scene.submit().await;
    kube.paused("only", Some("it cannot see its pods: ")).await;
    kube.fake().kubeconfig_with("only", "new-token");
    kube.paused("only", None).await;
    kube.all_whole(&[id], LINES).await;
    kube.build_in(late, BuildState::Succeeded).await;
    assert!(!worker.stderr().contains("handed over"), "{}", worker.stderr());
    assert_eq!(kube.fake().pods_created().len(), 2);
}
