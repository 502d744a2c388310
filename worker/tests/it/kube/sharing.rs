//! A namespace that is shared: with another installation, with another queue, with pods of an earlier release.

use fairlane_common::{BuildState, FailureClass};
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{wait_for, wait_for_eq};
use fairlane_worker::pod;
use serde_json::json;

use super::scene::{KubeScene, SOON, counting, uid};
use super::secrets;

#[tokio::test]
async fn two_installations_build_one_image_each_with_its_own_credentials() {
    let one = KubeScene::faked(Cluster::start()).await;
    let two = one.beside().await;
    let script = "echo \"$GIT_CREDENTIAL_ENV\"";
    let _first = secrets::worker(&one, "first", script).await;
    let _second = secrets::worker(&two, "second", script).await;
    // Its container reads the Secret when it starts, after the other build has started.
    one.fake().node("node-1").cannot_mount("MountVolume.SetUp failed");
    let mine = secrets::submit_with(&one, "first-word").await;
    wait_for_eq("the first pod", SOON, 1, async || one.pods().await.len()).await;
    let secret = uid(&one.fake().objects("secrets")[0]);
    let theirs = secrets::submit_with(&two, "second-word").await;
    assert_eq!(one.scene.build(mine).await.spec.image, two.scene.build(theirs).await.spec.image);
    wait_for_eq("the second pod", SOON, 1, async || two.pods().await.len()).await;
    let secrets: Vec<String> = one.fake().objects("secrets").iter().map(uid).collect();
    assert!(secrets.len() == 2 && secrets.contains(&secret), "{secrets:?}");
    one.fake().node("node-1").is_well_again();
    for (kube, id, word) in [(&one, mine, "first-word"), (&two, theirs, "second-word")] {
        assert_eq!(kube.build_in(id, BuildState::Succeeded).await.attempt, 1);
        assert_eq!(kube.scene.log(id, 1).await, [word]);
        kube.pods_gone().await;
    }
    assert_eq!(one.fake().pods_created().len(), 2);
}

#[tokio::test]
async fn what_is_anothers_is_said_and_left_alone() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let id = secrets::submit_with(&kube, "hidden-word").await;
    let build = kube.scene.build(id).await;
    let labels = json!({ "component": "fairlane-build", "fairlane/installation": "another" });
    for name in pod::pod_names(&build, 1, &kube.installation) {
        let meta = json!({ "name": name, "namespace": kube.fake().namespace(), "labels": labels });
        kube.fake().add("", "secrets", kube.fake().namespace(), json!({ "metadata": meta }));
        let pod = json!({ "metadata": meta, "status": { "phase": "Succeeded" } });
        kube.fake().add("", "pods", kube.fake().namespace(), pod);
    }
    let there = || {
        let objects = ["pods", "secrets"].map(|resource| kube.fake().objects(resource)).concat();
        objects.into_iter().filter(is_anothers).map(|object| object["metadata"].clone()).map(seen).collect()
    };
    let before: Vec<serde_json::Value> = there();
    assert_eq!(before.len(), 4);
    let _worker = secrets::worker(&kube, "one", "exit 0").await;
    let build = kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    assert_eq!(build.class, Some(FailureClass::Infrastructure));
    let reason = build.reason.unwrap_or_default();
    assert!(reason.contains("left alone: it belongs to the installation 'another'"), "{reason}");
    // The next attempt has another name.
    kube.build_in(id, BuildState::Succeeded).await;
    kube.pods_gone().await;
    assert_eq!(there(), before);
}

/// The part that only its owner changes; the cluster itself writes versions and a pod's status.
fn seen(mut meta: serde_json::Value) -> serde_json::Value {
    meta.as_object_mut().unwrap().remove("resourceVersion");
    meta
}

fn is_anothers(object: &serde_json::Value) -> bool {
    object["metadata"]["labels"]["fairlane/installation"] == "another"
}

#[tokio::test]
async fn the_second_queue_of_one_installation_is_refused_and_told_what_to_set() {
    let one = KubeScene::faked(Cluster::start()).await;
    let mut two = one.beside().await;
    two.installation.clone_from(&one.installation);
    let script = counting(40, "0.25");
    let first = one.worker("first", &script, &[]).await;
    let mine = one.scene.submit().await;
    one.line(mine, 1, "line 2").await;
    let pod = one.pods_running(1).await;
    let second = two.worker("second", &script, &[]).await;
    let theirs = two.scene.submit().await;
    let paused = wait_for("the second to be refused", SOON, async || {
        let workers = two.scene.queue.workers().await.map_err(|e| e.to_string())?;
        workers[0].paused.clone().ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    assert!(paused.contains("another queue") && paused.contains("--installation"), "{paused}");
    second.wait_for_line("claiming is paused", SOON).await;
    one.all_whole(&[mine], 40).await;
    assert_eq!(one.fake().pods_created().len(), 1, "one pod, which nobody took");
    assert_eq!(uid(&one.fake().pods_created()[0]), pod[0]);
    assert!(!first.stderr().contains("another worker has the lease"), "{}", first.stderr());
    // Once the pods of the first one are gone, it builds; and the first one, which was there before, also goes on.
    two.line(theirs, 1, "line 2").await;
    let next = one.scene.submit().await;
    one.line(next, 1, "line 2").await;
    two.all_whole(&[theirs], 40).await;
    one.all_whole(&[next], 40).await;
    first.wait_for_line("two queues share one installation", SOON).await;
}

#[tokio::test]
async fn a_redis_that_has_lost_all_it_had_is_the_same_queue_again() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("only", &counting(40, "0.25"), &[]).await;
    let queue = kube.scene.queue.identity().await.unwrap();
    assert!(queue.is_some());
    let ids = kube.submit_many(2).await;
    kube.line(ids[1], 1, "line 2").await;
    kube.scene.redis.command(&["FLUSHALL"]).await;
    kube.scene.redis.command(&["FUNCTION", "FLUSH"]).await;
    kube.all_whole(&ids, 40).await;
    wait_for_eq("its identity to be back", SOON, queue, async || kube.scene.queue.identity().await.unwrap())
        .await;
    assert_eq!(kube.fake().pods_created().len(), 2);
}

#[tokio::test]
async fn pods_of_the_release_before_are_found_and_adopted() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let first = kube.worker("first", "exec sleep 1000", &[]).await;
    let id = kube.scene.submit().await;
    kube.pods_running(1).await;
    kube.build_in(id, BuildState::Running).await;
    first.kill();
    // The same pod, as it was made before its name included the installation.
    let mut pod = kube.pods().await.remove(0);
    let former = &pod::pod_names(&kube.scene.build(id).await, 1, &kube.installation)[1];
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    kube.fake().remove("pods", &name);
    pod["metadata"]["name"] = json!(former);
    pod["metadata"]["labels"]["name"] = json!(former);
    for mark in ["uid", "resourceVersion", "creationTimestamp"] {
        pod["metadata"].as_object_mut().unwrap().remove(mark);
    }
    pod["metadata"]["labels"].as_object_mut().unwrap().remove("fairlane/queue").unwrap();
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    pod["spec"]["containers"][0]["args"] = json!([]);
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", "sleep 8; echo done"]);
    pod["status"] = json!({ "phase": "Pending" });
    kube.fake().add("", "pods", kube.fake().namespace(), pod);
    let second = kube.worker("second", "exit 1", &[]).await;
    second.wait_for_line("adopted the pod", SOON).await;
    let build = kube.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    assert_eq!(kube.scene.log(id, 1).await, ["done"]);
    kube.pods_gone().await;
}
