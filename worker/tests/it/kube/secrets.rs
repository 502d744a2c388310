//! The Secrets of builds that bring credentials.

use fairlane_common::seal::{SealKeys, Secrets};
use fairlane_common::{BuildId, BuildState, FailureClass};
use fairlane_testkit::kube::{Cluster, Fault};
use fairlane_testkit::{Process, wait_for};

use super::scene::{KubeScene, SOON, counting};

/// A key for tests.
const KEY: &str = "a:5555555555555555555555555555555555555555555555555555555555555555";

pub(super) async fn worker(kube: &KubeScene, name: &str, script: &str) -> Process {
    kube.worker(name, script, &[&format!("--seal-key={KEY}")]).await
}

/// Requests a build with credentials.
async fn submit(kube: &KubeScene) -> BuildId {
    submit_with(kube, "hidden-word").await
}

/// The same with these credentials for git.
pub(super) async fn submit_with(kube: &KubeScene, word: &str) -> BuildId {
    let keys = SealKeys::parse(&KEY.into()).unwrap();
    let (id, mut spec) = (BuildId::new(), kube.scene.spec());
    let secrets: Secrets = [("git_credentials".to_owned(), word.into())].into_iter().collect();
    spec.secrets = Some(keys.seal(&secrets, id, &spec.image).unwrap());
    kube.scene.submit_spec(id, spec).await
}

#[tokio::test]
async fn a_quota_that_takes_no_secret_holds_the_queue_up_and_costs_no_attempt() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().always("create secrets", Fault::QuotaExceeded);
    let _worker = worker(&kube, "one", "exit 0").await;
    let id = submit(&kube).await;
    let paused = wait_for("the worker to say that it is paused", SOON, async || {
        let workers = kube.scene.queue.workers().await.map_err(|e| e.to_string())?;
        workers[0].paused.clone().ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    assert!(paused.contains("the cluster is full: exceeded quota"), "{paused}");
    let build = kube.build_in(id, BuildState::Queued).await;
    assert_eq!((build.class, build.not_before), (None, None), "no attempt, and no backoff: {build:?}");
    kube.fake().all_is_well();
    kube.build_in(id, BuildState::Succeeded).await;
    kube.scene.check().await;
}

#[tokio::test]
async fn refusals_of_a_secret_that_pass_cost_no_attempt() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().next("create secrets", Fault::Throttled(1));
    kube.fake().next("create secrets", Fault::Fails(503));
    kube.fake().next_times(2, "create secrets", Fault::Forbidden);
    let _worker = worker(&kube, "one", "exit 0").await;
    let id = submit(&kube).await;
    kube.build_that(id, "a note", |build| {
        build.note.as_deref().is_some_and(|note| note.contains("the right to create its Secret"))
    })
    .await;
    let build = kube.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1, "{build:?}");
}

#[tokio::test]
async fn a_right_to_secrets_that_is_missing_is_said_and_holds_up_no_other_build() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().forbids("create secrets");
    let _worker = worker(&kube, "one", "exit 0").await;
    let id = submit(&kube).await;
    let other = kube.scene.submit().await;
    assert_eq!(kube.build_in(other, BuildState::Succeeded).await.attempt, 1);
    let build = kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    assert_eq!(build.class, Some(FailureClass::Infrastructure));
    assert!(
        build.reason.as_deref().is_some_and(|reason| reason.contains("see the Role in deploy/")),
        "{build:?}"
    );
}

#[tokio::test]
async fn who_adopts_a_pod_makes_it_the_owner_of_its_secret() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let script = counting(40, "0.25");
    let first = worker(&kube, "first", &script).await;
    // It is killed before it gets to that.
    kube.fake().always("patch secrets", Fault::Cut);
    let id = submit(&kube).await;
    let pods = kube.pods_running(1).await;
    let second = worker(&kube, "second", &script).await;
    first.kill();
    kube.fake().all_is_well();
    second.wait_for_line("adopted the pod", SOON).await;
    wait_for("the Secret to have an owner", SOON, async || {
        let secrets = kube.fake().objects("secrets");
        let owner =
            secrets[0]["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default().to_owned();
        if owner == pods[0] { Ok(()) } else { Err(format!("{secrets:?}")) }
    })
    .await;
    assert_eq!(kube.build_in(id, BuildState::Succeeded).await.attempt, 1);
    kube.pods_gone().await;
    wait_for("the Secret to go with its pod", SOON, async || kube.fake().objects("secrets").is_empty()).await;
}
