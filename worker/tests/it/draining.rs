//! Workers that end in good order.

use std::time::Duration;

use fairlane_common::BuildState;
use fairlane_testkit::wait_for;
use fairlane_worker::{Settings, StopReason};

use crate::scene::{SOON, Scene, is_alive, settings};

#[tokio::test]
async fn a_draining_worker_lets_its_build_end_and_takes_no_other() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let script = scene.script(&format!("echo begun; while [ ! -e {dir}/go ]; do sleep 0.02; done"));
    let worker = scene.process("only", &script).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    worker.terminate();
    worker.wait_for_line("draining", SOON).await;
    let other = scene.submit().await;
    std::fs::write(scene.dir.join("go"), "").unwrap();
    assert!(worker.wait(SOON).await.success());
    assert_eq!(scene.build(id).await.state, BuildState::Succeeded);
    assert_eq!(scene.build(other).await.state, BuildState::Queued);
    assert!(scene.queue.workers().await.unwrap().is_empty());
    scene.check().await;
}

#[tokio::test]
async fn what_takes_too_long_goes_back_into_line() {
    let scene = Scene::start().await;
    let script = scene.script(r#"echo "self $$"; exec sleep 1000"#);
    let settings = Settings { drain_timeout: Duration::from_millis(100), ..settings(&script) };
    let worker = scene.worker(settings).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "self ").await;
    assert_eq!(worker.end().await.unwrap(), StopReason::Shutdown);
    assert!(!is_alive(&run));
    let build = scene.build(id).await;
    assert_eq!(build.state, BuildState::Queued);
    assert_eq!(build.not_before, None, "no attempt is used up, so there is no backoff");
    scene.check().await;
}

#[tokio::test]
async fn an_operator_drains_a_worker() {
    let scene = Scene::start().await;
    let worker = scene.worker(settings(&scene.script("echo never"))).await;
    let id = scene.queue.workers().await.unwrap()[0].id.clone();
    assert!(scene.queue.drain_worker(&id, true, "operator").await.unwrap());
    assert_eq!(worker.ended().await.unwrap(), StopReason::Drained);
    assert!(scene.queue.workers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_the_run_with_it() {
    let scene = Scene::start().await;
    let script = scene.script(r#"echo "self $$"; exec sleep 1000"#);
    let worker = scene.process("only", &script).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "self ").await;
    worker.terminate();
    worker.wait_for_line("draining", SOON).await;
    worker.terminate();
    assert_eq!(worker.wait(SOON).await.code(), Some(128 + 15));
    wait_for("the run to be dead", SOON, async || !is_alive(&run)).await;
}
