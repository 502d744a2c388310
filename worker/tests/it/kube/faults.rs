//! Faults that only a fake can have: an API that is away, full or slow, or that loses responses.

use std::time::Duration;

use fairlane_common::{BuildState, FailureClass};
use fairlane_testkit::kube::{Cluster, Fault};
use fairlane_testkit::{wait_for, wait_for_eq};

use super::scene::{KubeScene, SOON, counted, counting};

#[tokio::test]
async fn an_api_server_that_is_away_for_a_while_costs_nothing() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let worker = kube.worker("one", &counting(60, "0.2"), &[]).await;
    let ids = kube.submit_many(4).await;
    kube.pods_running(4).await;
    kube.line(ids[3], 1, "line 2").await;
    kube.fake().api_goes_away();
    worker.wait_for_line("cannot be watched", SOON).await;
    let late = kube.scene.submit().await;
    let away = std::time::Instant::now();
    let seconds =
        std::env::var("FAIRLANE_TEST_API_AWAY").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let limit = SOON + std::time::Duration::from_secs(seconds);
    wait_for("the API to be away for a while", limit, async || away.elapsed().as_secs() >= seconds).await;
    kube.fake().api_comes_back();
    kube.all_whole(&ids, 60).await;
    kube.all_whole(&[late], 60).await;
    assert_eq!(kube.fake().pods_created().len(), 5);
    kube.scene.check().await;
}

#[tokio::test]
async fn a_lost_answer_to_a_creation_makes_no_second_pod() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", &counting(3, "0.1"), &[]).await;
    kube.fake().next("create pods", Fault::LosesAnswer);
    let id = kube.scene.submit().await;
    kube.all_whole(&[id], 3).await;
    assert_eq!(kube.fake().pods_created().len(), 1);
}

#[tokio::test]
async fn a_pod_that_is_created_after_its_worker_died_is_waited_for_and_adopted() {
    let kube = KubeScene::faked(Cluster::start()).await;
    // Longer than a lease, shorter than a call may take.
    kube.fake().next("create pods", Fault::HeldBack(Duration::from_secs(9)));
    let first = kube.worker("first", &counting(3, "0.1"), &[]).await;
    let id = kube.scene.submit().await;
    wait_for_eq("the pod to be asked for", SOON, 1, async || kube.fake().requests("create pods")).await;
    let second = kube.worker("second", &counting(3, "0.1"), &[]).await;
    first.kill();
    second.wait_for_line("adopted=true", SOON).await;
    assert_eq!(kube.fake().pods_created().len(), 0);
    kube.all_whole(&[id], 3).await;
    assert_eq!(kube.fake().pods_created().len(), 1, "one run");
}

#[tokio::test]
async fn a_build_that_is_cancelled_after_a_lost_answer_leaves_no_pod() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", "exec sleep 1000", &["--keep-pods=1h"]).await;
    kube.fake().next("create pods", Fault::LosesAnswer);
    kube.fake().always("create pods", Fault::Cut);
    let id = kube.scene.submit().await;
    wait_for("the creation to be tried again", SOON, async || kube.fake().requests("create pods") > 1).await;
    assert_eq!(kube.fake().pods_created().len(), 1);
    kube.scene.queue.cancel(id, "somebody", "not needed").await.unwrap();
    kube.build_in(id, BuildState::Cancelled).await;
    assert_eq!(kube.fake().pods(), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_server_that_asks_for_time_is_given_it_though_leases_are_renewed() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", "exit 0", &[]).await;
    kube.fake().next("create pods", Fault::Throttled(3));
    let began = std::time::Instant::now();
    let id = kube.scene.submit().await;
    kube.build_in(id, BuildState::Succeeded).await;
    assert!(began.elapsed().as_secs() >= 3, "{:?}", began.elapsed());
    assert_eq!(kube.fake().requests("create pods"), 2);
}

#[tokio::test]
async fn a_pod_outlives_an_api_server_that_lets_nobody_patch_it_for_a_while() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let script = counting(100, "0.25");
    let first = kube.worker("first", &script, &[]).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "line 2").await;
    let _second = kube.worker("second", &script, &[]).await;
    kube.fake().next_times(7, "patch pods", Fault::Forbidden);
    first.kill();
    kube.build_that(id, "a note", |build| {
        build.note.as_deref().is_some_and(|note| note.contains("waiting to take over its pod"))
    })
    .await;
    kube.all_whole(&[id], 100).await;
    assert_eq!(kube.fake().pods_created().len(), 1);
}

#[tokio::test]
async fn a_pod_that_ends_before_its_container_starts_has_no_log_and_says_so() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().node("node-1").cannot_mount("MountVolume.SetUp failed");
    let _worker = kube.worker("one", "exit 0", &["--keep-pods=1h"]).await;
    let id = kube.scene.submit().await;
    let name = wait_for("the pod to be on its node", SOON, async || {
        let pod = kube.fake().pods().into_iter().find(|pod| pod["spec"]["nodeName"].is_string());
        pod.and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).ok_or("none")
    })
    .await;
    kube.fake().pod(&name).is_evicted("The node was low on resource: memory.");
    kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    let said = ["[fairlane] the build's container was not seen to start, so there is no log of it"];
    assert_eq!(kube.scene.log(id, 1).await, said);
    assert_eq!(kube.fake().requests("get pods/log"), 0);
}

#[tokio::test]
async fn an_overloaded_api_is_left_alone_and_asked_again() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", &counting(3, "0.1"), &[]).await;
    kube.fake().next("create pods", Fault::Throttled(1));
    kube.fake().next_times(2, "get pods/log", Fault::Fails(500));
    let id = kube.scene.submit().await;
    kube.all_whole(&[id], 3).await;
    assert_eq!(kube.fake().pods_created().len(), 1);
}

#[tokio::test]
async fn a_full_namespace_holds_the_queue_up_and_fails_no_build() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().add_pod_quota("pods", 0);
    let _worker = kube.worker("one", &counting(3, "0.1"), &[]).await;
    let ids = kube.submit_many(4).await;
    let paused = wait_for("the worker to say that it is paused", SOON, async || {
        let workers = kube.scene.queue.workers().await.map_err(|e| e.to_string())?;
        workers[0].paused.clone().ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    assert!(paused.contains("the cluster is full: exceeded quota"), "{paused}");
    wait_for("all builds to be in line again", SOON, async || {
        let mut waiting = true;
        for id in &ids {
            waiting &= kube.scene.build(*id).await.state == BuildState::Queued;
        }
        waiting
    })
    .await;
    kube.fake().remove("resourcequotas", "pods");
    for id in ids {
        let build = kube.build_in(id, BuildState::Succeeded).await;
        assert_eq!(kube.scene.log(id, build.attempt).await, counted(3));
    }
    assert_eq!(kube.fake().pods_created().len(), 4);
    kube.scene.check().await;
}

#[tokio::test]
async fn a_missing_right_pauses_the_worker_and_fails_no_build() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().forbids("create pods");
    let _worker = kube.worker("one", &counting(3, "0.1"), &[]).await;
    let id = kube.scene.submit().await;
    let paused = wait_for("the worker to say that it is paused", SOON, async || {
        let workers = kube.scene.queue.workers().await.map_err(|e| e.to_string())?;
        workers[0].paused.clone().ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    assert!(paused.contains("just starting does so briefly"), "{paused}");
    kube.paused("one", Some("give it the Role in deploy/")).await;
    kube.fake().permits("create pods");
    kube.build_in(id, BuildState::Succeeded).await;
}

#[tokio::test]
async fn refusals_of_an_api_server_that_starts_are_not_called_missing_rights() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().node("node-1").cannot_mount("MountVolume.SetUp failed");
    let worker = kube.worker("one", "exit 0", &[]).await;
    for right in ["create pods", "list events"] {
        kube.fake().forbids(right);
    }
    let id = kube.scene.submit().await;
    kube.paused("one", Some("just starting does so briefly")).await;
    kube.fake().permits("create pods");
    wait_for("events to be asked for", SOON, async || kube.fake().requests("list events") > 0).await;
    kube.fake().permits("list events");
    wait_for("events to be asked for again", SOON, async || kube.fake().requests("list events") > 1).await;
    kube.fake().node("node-1").is_well_again();
    let build = kube.build_in(id, BuildState::Succeeded).await;
    assert!(build.attempt > 1 && build.failed_attempts == 0, "{build:?}");
    assert!(!worker.stderr().contains("the Role in deploy/"), "{}", worker.stderr());
}

#[tokio::test]
async fn pods_that_are_refused_again_and_again_are_logged_once() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let template = kube.scene.dir.join("pod.yaml");
    std::fs::write(&template, "spec: {serviceAccountName: nobody}").unwrap();
    let more = format!("--pod-template={}", template.display());
    let worker = kube.worker("one", "exit 0", &[&more]).await;
    kube.submit_many(3).await;
    kube.paused("one", Some("the build pods' service account cannot be used")).await;
    wait_for("more tries", SOON, async || kube.fake().requests("create pods") >= 6).await;
    let said = worker.stderr().matches("claiming is paused until").count();
    assert_eq!(said, 1, "{}", worker.stderr());
}

#[tokio::test]
async fn a_worker_with_binderhubs_own_role_builds() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().permits_only(&[
        "get pods",
        "watch pods",
        "list pods",
        "create pods",
        "delete pods",
        "get pods/log",
    ]);
    let worker = kube.worker("one", &counting(3, "0.1"), &[]).await;
    let id = kube.scene.submit().await;
    kube.all_whole(&[id], 3).await;
    worker.wait_for_line("this worker may not list nodes", SOON).await;
    kube.pods_gone().await;
}

#[tokio::test]
async fn a_watch_that_expires_is_begun_anew() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", &counting(20, "0.2"), &[]).await;
    let ids = kube.submit_many(2).await;
    kube.line(ids[1], 1, "line 1").await;
    let lists = kube.fake().requests("list pods");
    kube.fake().watches_expire();
    wait_for("the pods to be listed anew", SOON, async || kube.fake().requests("list pods") > lists).await;
    kube.all_whole(&ids, 20).await;
    assert_eq!(kube.fake().pods_created().len(), 2);
}

#[tokio::test]
async fn logs_that_are_cut_again_and_again_are_whole() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", &counting(60, "0.05"), &[]).await;
    for bytes in [50, 333, 1000, 1700, 1701] {
        kube.fake().next("get pods/log", Fault::CutsStreamAfter(bytes));
        kube.fake().next("get pods/log", Fault::EndsStreamAfter(bytes / 2 + 40));
    }
    let id = kube.scene.submit().await;
    kube.all_whole(&[id], 60).await;
}

#[tokio::test]
async fn a_log_that_no_kubelet_can_follow_is_whole_and_seldom_asked_for() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().node("node-1").is_out_of_inotify_instances();
    let worker = kube.worker("one", &counting(60, "0.2"), &[]).await;
    let id = kube.scene.submit().await;
    kube.all_whole(&[id], 60).await;
    worker.wait_for_line("the kubelet cannot follow this log", SOON).await;
    // Each pause is twice the last one: five reads while it runs, two of its end. Without that, there would be
    // four per second.
    let asked = kube.fake().requests("get pods/log");
    assert!(asked <= 12, "{asked}");
}

#[tokio::test]
async fn a_deleted_pod_whose_container_is_gone_keeps_nobody_waiting_for_its_log() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().node("node-1").removes_containers_before_their_pods();
    let worker = kube.worker("one", &counting(1000, "0.1"), &[]).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "line 3").await;
    let name = kube.pods().await[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    kube.fake().pod(&name).is_deleted();
    // The pod itself stays for as long as the node is unwell.
    let build = kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    assert_eq!(build.reason.as_deref(), Some("somebody deleted the build pod on node node-1"));
    assert_eq!(kube.pods().await.len(), 1);
    let lines = kube.scene.log(id, 1).await;
    assert_eq!(lines, counted(lines.len()), "every line is the build's own");
    let said = worker.stderr();
    assert!(!said.contains("inotify") && !said.contains("cannot be read"), "{said}");
    kube.fake().node("node-1").is_well_again();
    kube.line(id, 2, "line 1").await;
}

#[tokio::test]
async fn a_build_whose_pod_is_being_deleted_is_not_said_to_continue() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let script = format!("trap '' TERM; {}", counting(1000, "0.1"));
    let _worker = kube.worker("one", &script, &[]).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "line 3").await;
    let name = kube.pods().await[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    // It uses up its grace period.
    kube.fake().pod(&name).is_deleted();
    kube.fake().always("get pods/log", Fault::Fails(500));
    kube.fake().connections_are_cut();
    kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    let lines = kube.scene.log(id, 1).await;
    assert!(!lines.iter().any(|line| line.contains("the build continues")), "{lines:?}");
}

#[tokio::test]
async fn without_logs_the_outcome_comes_from_the_pod_and_people_are_told() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().always("get pods/log", Fault::Fails(500));
    let _worker = kube.worker("one", "sleep 4; exit 3", &[]).await;
    let id = kube.scene.submit().await;
    let build = kube.build_in(id, BuildState::Failed).await;
    assert_eq!(build.class, Some(FailureClass::Repository));
    let lines = kube.scene.log(id, 1).await;
    assert!(lines.iter().any(|line| line.contains("the log cannot be read right now")), "{lines:?}");
}

#[tokio::test]
async fn an_evicted_pod_is_tried_again() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", &counting(10, "0.2"), &[]).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "line 2").await;
    let name = kube.pods().await[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    kube.fake().pod(&name).is_evicted("The node was low on resource: ephemeral-storage.");
    let build = kube.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 2);
    assert_eq!(kube.scene.log(id, 2).await, counted(10));
    assert_eq!(kube.fake().pods_created().len(), 2);
}

#[tokio::test]
async fn people_are_told_why_a_pod_does_not_start() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().node("node-1").is_cordoned();
    let _worker = kube.worker("one", "exit 0", &["--pending-timeout=3s"]).await;
    let id = kube.scene.submit().await;
    kube.build_that(id, "a note", |build| {
        build.note.as_deref().is_some_and(|note| note.contains("waiting for a node"))
    })
    .await;
    let build = kube.build_that(id, "the first attempt to end", |build| build.class.is_some()).await;
    assert_eq!(build.class, Some(FailureClass::Stuck));
    assert!(
        build.reason.as_deref().is_some_and(|reason| reason.contains("did not start within 3s: ")),
        "{build:?}"
    );
}

#[tokio::test]
async fn an_ended_builds_pod_is_no_obstacle_to_the_next_build_of_its_image() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let _worker = kube.worker("one", "exit 1", &["--keep-pods=1h"]).await;
    let spec = kube.scene.spec();
    for count in 1..=2 {
        let id = fairlane_common::BuildId::new();
        let submit = fairlane_common::queue::Submit {
            id,
            spec: spec.clone(),
            force: true,
            override_ban: None,
            dispatcher: None,
        };
        kube.scene.queue.submit(&submit).await.unwrap();
        kube.build_in(id, BuildState::Failed).await;
        wait_for_eq("one pod a build", SOON, count, async || kube.fake().pods_created().len()).await;
    }
}

#[tokio::test]
async fn a_kube_build_whose_log_redis_refuses_is_built_without_it() {
    let scene = KubeScene::start().await;
    let worker = scene.worker("w", "echo one; echo two", &[]).await;
    // Whoever takes over the log gets a permanent error.
    scene.scene.redis.command(&["ACL", "SETUSER", "fairlane-worker", "resetkeys", "~{fairlane}:*"]).await;
    let id = scene.scene.submit().await;
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1, "{build:?}");
    worker.terminate();
    assert!(worker.wait(SOON).await.success());
}
