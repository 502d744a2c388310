//! Builds that end by themselves, or are stopped.

use std::time::{Duration, Instant};

use fairlane_common::queue::Cancelled;
use fairlane_common::seal::{SealKeys, Secrets};
use fairlane_common::{BuildId, BuildState, FailureClass};

use super::scene::{KubeScene, SOON, counted, counting};

#[tokio::test]
async fn a_kube_build_runs_in_a_pod_that_is_removed_after_it() {
    let kube = KubeScene::start().await;
    let script = format!(r#"echo "repo $0 ref $1"; {}"#, counting(5, "0.1"));
    let worker = kube.worker("one", &script, &[]).await;
    let id = kube.scene.submit().await;
    let build = kube.build_in(id, BuildState::Succeeded).await;
    let mut expected = vec!["repo https://git.example.org/owner/name0 ref 0123abc".to_owned()];
    expected.extend(counted(5));
    assert_eq!(kube.scene.log(id, 1).await, expected);
    // A real kubelet may never report that so short a run is running.
    assert!(build.started.is_some() || kube.cluster.fake().is_none(), "{build:?}");
    assert!(build.place.is_some_and(|place| place.starts_with("k8s:")));
    kube.pods_gone().await;
    worker.terminate();
    assert!(worker.wait(SOON).await.success());
    assert!(kube.scene.queue.workers().await.unwrap().is_empty());
    kube.scene.check().await;
}

#[tokio::test]
async fn a_kube_build_that_fails_tells_why() {
    let kube = KubeScene::start().await;
    let script =
        r#"echo "{\"message\": \"Step 1\", \"phase\": \"building\"}"; echo "no such package" >&2; exit 3"#;
    let _worker = kube.worker("one", script, &[]).await;
    let id = kube.scene.submit().await;
    let build = kube.build_in(id, BuildState::Failed).await;
    assert_eq!(build.class, Some(FailureClass::Repository));
    assert!(build.reason.as_deref().is_some_and(|reason| reason.contains("exit code 3")), "{build:?}");
    assert!(build.log_tail.is_some_and(|tail| tail.contains("no such package")));
    kube.pods_gone().await;
}

#[tokio::test]
async fn a_cancelled_kube_build_leaves_no_pod() {
    let kube = KubeScene::start().await;
    let _worker = kube.worker("one", "echo begun; exec sleep 1000", &["--keep-pods=1h"]).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "begun").await;
    assert_eq!(kube.scene.queue.cancel(id, "somebody", "not needed").await.unwrap(), Cancelled::Stopping);
    kube.build_in(id, BuildState::Cancelled).await;
    kube.pods_gone().await;
    kube.scene.check().await;
}

#[tokio::test]
async fn a_silent_kube_build_is_ended_and_tried_again() {
    let kube = KubeScene::start().await;
    let _worker = kube.worker("one", "echo begun; exec sleep 1000", &["--silence-timeout=1s"]).await;
    let id = kube.scene.submit().await;
    let build = kube.build_in(id, BuildState::Failed).await;
    assert_eq!((build.class, build.attempt), (Some(FailureClass::Stuck), 2));
    assert!(build.reason.is_some_and(|reason| reason.contains("nothing for 1s")));
    kube.pods_gone().await;
}

#[tokio::test]
async fn secrets_of_a_kube_build_are_on_no_pod() {
    let kube = KubeScene::start().await;
    let word = "5".repeat(64);
    let keys = SealKeys::parse(&format!("a:{word}").into()).unwrap();
    let script = r#"echo "git $GIT_CREDENTIAL_ENV" | tr a-z A-Z; sleep 2"#;
    let worker = kube.worker("one", script, &[&format!("--seal-key=a:{word}")]).await;
    let (id, mut spec) = (BuildId::new(), kube.scene.spec());
    let secrets: Secrets = [("git_credentials".to_owned(), "hidden-word".into())].into_iter().collect();
    spec.secrets = Some(keys.seal(&secrets, id, &spec.image).unwrap());
    kube.scene.submit_spec(id, spec).await;
    kube.line(id, 1, "GIT HIDDEN-WORD").await;
    let pods = kube.pods().await;
    assert_eq!(pods.len(), 1);
    assert!(!pods[0].to_string().contains("hidden-word"), "{}", pods[0]);
    kube.build_in(id, BuildState::Succeeded).await;
    kube.pods_gone().await;
    worker.terminate();
    assert!(worker.wait(SOON).await.success());
}

#[tokio::test]
async fn rubbish_in_the_log_of_a_kube_build_is_survived() {
    let kube = KubeScene::start().await;
    let script = r"head -c 40000 /dev/zero | tr '\0' x; echo; printf '\377\376\n'; printf '1%%\r2%%\r3%%\n\n'
        n=0; while [ $n -lt 500 ]; do n=$((n+1)); echo $n; done; printf 'no end'";
    let _worker = kube.worker("one", script, &[]).await;
    let id = kube.scene.submit().await;
    kube.build_in(id, BuildState::Succeeded).await;
    let lines = kube.scene.log(id, 1).await;
    let long: String = lines[..3].concat();
    // Kubelets of Kubernetes 1.20 write a timestamp before each part of a long line.
    let stamped = kube.cluster.fake().is_none() && long.contains("x20");
    assert!(long == "x".repeat(40_000) || (stamped && long.matches('x').count() == 40_000), "{long}");
    assert_eq!(lines[3..6], ["\u{fffd}\u{fffd}", "1%\r2%\r3%", ""]);
    let numbers: Vec<String> = (1..=500).map(|n| n.to_string()).collect();
    assert_eq!(lines[6..506], numbers);
    assert_eq!(lines[506..], ["no end"]);
}

#[tokio::test]
async fn a_drained_kube_worker_keeps_and_follows_its_pods() {
    let kube = KubeScene::start().await;
    let script = counting(40, "0.25");
    let first = kube.worker("first", &script, &["--keep-pods=1h"]).await;
    let ids = kube.submit_many(2).await;
    let before = kube.pods_running(2).await;
    kube.line(ids[1], 1, "line 2").await;
    kube.scene.drain("first", true).await;
    first.wait_for_line("drained this worker", SOON).await;
    let _second = kube.worker("second", &script, &["--keep-pods=1h"]).await;
    let next = kube.scene.submit().await;
    let started = kube.build_in(next, BuildState::Running).await;
    assert!(started.worker.unwrap().as_str().starts_with("second"));
    kube.all_whole(&ids, 40).await;
    for id in &ids {
        let build = kube.build_in(*id, BuildState::Succeeded).await;
        assert!(build.worker.unwrap().as_str().starts_with("first"), "nobody took its pods");
    }
    let after: Vec<String> = kube.pods().await.iter().map(super::scene::uid).collect();
    assert!(before.iter().all(|uid| after.contains(uid)), "the same pods");
    assert!(first.is_running());
    kube.scene.drain("first", false).await;
    first.wait_for_line("no longer drained", SOON).await;
    kube.scene.check().await;
}

#[tokio::test]
async fn a_kube_worker_that_ends_hands_its_builds_over_at_once() {
    let kube = KubeScene::start().await;
    let script = counting(80, "0.25");
    let first = kube.worker("first", &script, &[]).await;
    let ids = kube.submit_many(3).await;
    let before = kube.pods_running(3).await;
    kube.line(ids[0], 1, "line 3").await;
    let second = kube.worker("second", &script, &[]).await;
    let began = Instant::now();
    first.terminate();
    assert!(first.wait(SOON).await.success());
    // Far less than the builds take; allows a few seconds for busy machines.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let after = kube.pods_running(3).await;
    assert_eq!(before, after, "the same pods");
    kube.all_whole(&ids, 80).await;
    second.terminate();
    assert!(second.wait(SOON).await.success());
    kube.scene.check().await;
}
