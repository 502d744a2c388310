//! Limited pushes of builds in pods.

use fairlane_common::{Build, BuildState};
use fairlane_testkit::kube::{Cluster, Fault};

use super::scene::KubeScene;
use crate::pushing::limit;

/// Waits to push, then pushes until the file `go` exists.
fn pusher(go: &std::path::Path) -> String {
    format!(
        r#"echo '{{"message": "Built", "phase": "waiting-to-push"}}'
           until [ -s "$FAIRLANE_PUSH_GATE" ]; do sleep 0.1; done
           echo '{{"message": "Pushing image", "phase": "pushing"}}'
           until [ -e '{}' ]; do sleep 0.1; done"#,
        go.display()
    )
}

async fn limited() -> KubeScene {
    let kube = KubeScene::faked(Cluster::start()).await;
    limit(&kube.scene, Some(1)).await;
    kube
}

#[tokio::test]
async fn kube_builds_wait_to_push_and_go_on_waiting_with_another_worker() {
    let kube = limited().await;
    let go = kube.scene.dir.join("go");
    let first = kube.worker("one", &pusher(&go), &[]).await;
    let pushes = kube.scene.submit_pushed().await;
    kube.line(pushes, 1, r#"{"message": "Pushing image", "phase": "pushing"}"#).await;
    let waits = kube.scene.submit_pushed().await;
    kube.build_that(waits, "the second build to wait", Build::waits_to_push).await;
    let pods = kube.pods().await;
    let open = |pod: &serde_json::Value| pod["metadata"]["annotations"]["fairlane/push-gate"] == "open";
    assert_eq!(pods.iter().filter(|pod| open(pod)).count(), 1);

    first.kill();
    let _second = kube.worker("two", &pusher(&go), &[]).await;
    for id in [pushes, waits] {
        let adopted =
            |build: &Build| build.worker.as_ref().is_some_and(|worker| worker.as_str().starts_with("two"));
        kube.build_that(id, "the build to be adopted", adopted).await;
    }
    // Whoever took it over asks for it.
    let says = Some("built; waiting to push: 1 build is pushing to r.example.org");
    let heard = |build: &Build| build.waits_to_push() && build.note.as_deref() == says;
    kube.build_that(waits, "the note", heard).await;
    assert_eq!(kube.scene.pushing().await, (1, 1));
    std::fs::write(&go, "").unwrap();
    for id in [pushes, waits] {
        assert_eq!(kube.build_in(id, BuildState::Succeeded).await.attempt, 1);
    }
    assert_eq!(kube.scene.pushing().await, (0, 0));
    kube.scene.check().await;
    kube.pods_gone().await;
}

#[tokio::test]
async fn kube_builds_that_push_are_counted_again_after_redis_was_emptied() {
    let kube = limited().await;
    let go = kube.scene.dir.join("go");
    let _worker = kube.worker("one", &pusher(&go), &[]).await;
    let pushes = kube.scene.submit_pushed().await;
    kube.line(pushes, 1, r#"{"message": "Pushing image", "phase": "pushing"}"#).await;
    kube.scene.redis.command(&["FLUSHALL"]).await;
    kube.build_that(pushes, "the push to be counted again", |build| build.push_go.is_some()).await;
    assert_eq!(kube.scene.pushing().await, (1, 0));
    std::fs::write(&go, "").unwrap();
    kube.build_in(pushes, BuildState::Succeeded).await;
    kube.pods_gone().await;
}

#[tokio::test]
async fn a_kube_build_whose_log_cannot_be_read_is_let_through_and_counted() {
    let kube = limited().await;
    let go = kube.scene.dir.join("go");
    kube.fake().always("get pods/log", Fault::Fails(500));
    let _worker = kube.worker("one", &pusher(&go), &[]).await;
    let id = kube.scene.submit_pushed().await;
    kube.build_that(id, "the build to push", |build| build.push_go.is_some()).await;
    std::fs::write(&go, "").unwrap();
    kube.build_in(id, BuildState::Succeeded).await;
    kube.pods_gone().await;
}
