//! Workers that shut down gracefully, and workers that an operator has drained.

use std::time::Duration;

use fairlane_common::BuildState;
use fairlane_testkit::wait_for;
use fairlane_worker::Settings;

use crate::scene::{SOON, Scene, is_alive, settings};

#[tokio::test]
async fn a_worker_that_shuts_down_lets_its_build_end_and_takes_no_other() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let script = scene.script(&format!("echo begun; while [ ! -e {dir}/go ]; do sleep 0.02; done"));
    let worker = scene.process("only", &script).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    worker.terminate();
    worker.wait_for_line("shutting down", SOON).await;
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
    worker.end().await.unwrap();
    assert!(!is_alive(&run));
    let build = scene.build(id).await;
    assert_eq!(build.state, BuildState::Queued);
    assert_eq!(build.not_before, None, "no attempt is used up, so there is no backoff");
    scene.check().await;
}

const DRAINED: &str = "drained this worker";

#[tokio::test]
async fn a_drained_worker_goes_on_with_what_it_runs_until_that_is_undone() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let script = scene.script(&format!("echo begun; while [ ! -e {dir}/go ]; do sleep 0.02; done"));
    let worker = scene.process("a", &script).await;
    let running = scene.submit().await;
    scene.line(running, 1, "begun").await;
    scene.drain("a", true).await;
    worker.wait_for_line(DRAINED, SOON).await;
    let waiting = scene.submit().await;
    std::fs::write(scene.dir.join("go"), "").unwrap();
    let build = scene.build_in(running, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    // Another worker would have started it by then.
    let other = scene.submit().await;
    assert_eq!(scene.build(waiting).await.state, BuildState::Queued);
    assert!(worker.is_running());
    scene.drain("a", false).await;
    for id in [waiting, other] {
        scene.build_in(id, BuildState::Succeeded).await;
    }
    worker.terminate();
    assert!(worker.wait(SOON).await.success());
    scene.check().await;
}

#[tokio::test]
async fn a_drained_host_stays_drained_over_a_restart_and_a_freeze() {
    let scene = Scene::start().await;
    let script = scene.script("echo built");
    let first = scene.process("a", &script).await;
    scene.drain("a", true).await;
    first.terminate();
    assert!(first.wait(SOON).await.success(), "ending is the signal's business");
    let second = scene.process("a", &script).await;
    second.wait_for_line(DRAINED, SOON).await;
    second.kill();
    wait_for("the killed worker to be gone", SOON, async || {
        // Any process reaps.
        scene.queue.reap().await.unwrap();
        scene.queue.workers().await.unwrap().is_empty()
    })
    .await;
    scene.drain("a", false).await;

    // Drained while it is frozen, for longer than its heartbeat lasts.
    let third = scene.process("a", &script).await;
    third.freeze();
    scene.drain("a", true).await;
    let id = scene.submit().await;
    wait_for("the frozen worker to be forgotten", SOON, async || {
        scene.queue.reap().await.unwrap();
        scene.queue.workers().await.unwrap().is_empty()
    })
    .await;
    third.thaw();
    third.wait_for_line(DRAINED, SOON).await;
    assert_eq!(scene.build(id).await.state, BuildState::Queued);
    let _other = scene.process("b", &script).await;
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert!(build.worker.unwrap().as_str().starts_with("b-"));
    scene.check().await;
}

#[tokio::test]
async fn a_worker_that_is_drained_takes_no_more_tokens_and_need_not_wait_for_its_heartbeat() {
    let scene = Scene::start().await;
    let template = format!("--command='{}' {{repo}} {{ref}}", scene.script("echo built").display());
    let line = ["--slots=1", "--lease=10min", "--heartbeat=2min", &template];
    let worker = scene.spawn("a", &line);
    worker.wait_for_line("worker is ready", SOON).await;
    scene.drain("a", true).await;
    let id = scene.submit().await;
    // It learns of the drain from its first claim, long before its next heartbeat.
    worker.wait_for_line(DRAINED, SOON).await;
    assert!(scene.queue.waiter().wait(SOON).await.unwrap(), "the token is left to others");
    assert_eq!(scene.build(id).await.state, BuildState::Queued);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_the_run_with_it() {
    let scene = Scene::start().await;
    let script = scene.script(r#"echo "self $$"; exec sleep 1000"#);
    let worker = scene.process("only", &script).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "self ").await;
    worker.terminate();
    worker.wait_for_line("shutting down", SOON).await;
    worker.terminate();
    assert_eq!(worker.wait(SOON).await.code(), Some(128 + 15));
    wait_for("the run to be dead", SOON, async || !is_alive(&run)).await;
}
