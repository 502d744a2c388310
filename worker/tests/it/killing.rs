//! Runs that are stopped early leave no process alive.

use std::time::Duration;

use fairlane_common::BuildState;
use fairlane_common::queue::Cancelled;
use fairlane_testkit::wait_for;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{SOON, Scene, is_alive, settings};

/// A child in the group, a grandchild that left it for a new session, and one that ignores SIGTERM.
const FAMILY: &str = r#"sleep 1000 & echo "child $!"
(setsid sleep 1000 & echo "grandchild $!")
sh -c 'trap "" TERM; while :; do sleep 0.05; done' & echo "deaf $!"
echo "self $$"; wait"#;

async fn family(scene: &Scene, id: fairlane_common::BuildId) -> Vec<String> {
    let mut pids = Vec::new();
    for name in ["child ", "grandchild ", "deaf ", "self "] {
        pids.push(scene.line(id, 1, name).await);
    }
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    pids
}

#[tokio::test]
async fn a_cancelled_build_leaves_nothing_alive() {
    let scene = Scene::start().await;
    let worker = scene.worker(settings(&scene.script(FAMILY))).await;
    let id = scene.submit().await;
    let pids = family(&scene, id).await;
    scene.queue.cancel(id, "somebody", "not needed").await.unwrap();
    scene.build_in(id, BuildState::Cancelled).await;
    assert!(!pids.iter().any(|pid| is_alive(pid)), "{pids:?}");
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn what_a_build_leaves_behind_ends_with_it() {
    let scene = Scene::start().await;
    let script = scene
        .script(r#"(setsid sleep 1000 & echo "grandchild $!"); echo "folder $TMPDIR"; touch "$TMPDIR/x""#);
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    scene.build_in(id, BuildState::Succeeded).await;
    assert!(!is_alive(&scene.line(id, 1, "grandchild ").await));
    assert!(!std::path::Path::new(&scene.line(id, 1, "folder ").await).exists());
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_run_that_had_succeeded_before_the_stop_is_succeeded() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let script =
        scene.script(&format!("echo \"self $$\"; while [ ! -e {dir}/go ]; do sleep 0.01; done; exec true"));
    let worker = scene.process("only", &script).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "self ").await;
    // It cannot learn of the cancellation before its run has ended.
    worker.freeze();
    std::fs::write(scene.dir.join("go"), "").unwrap();
    wait_for("the run to end", SOON, async || !is_alive(&run)).await;
    assert_eq!(scene.queue.cancel(id, "somebody", "too late").await.unwrap(), Cancelled::Stopping);
    worker.thaw();
    scene.build_in(id, BuildState::Succeeded).await;
    scene.check().await;
}

#[tokio::test]
async fn signals_to_the_supervisor_change_nothing_and_its_death_kills_the_run() {
    let scene = Scene::start().await;
    let script =
        scene.script(r#"echo "folder $TMPDIR"; echo "supervisor $PPID"; echo "self $$"; exec sleep 1000"#);
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    let supervisor: i32 = scene.line(id, 1, "supervisor ").await.parse().unwrap();
    let run = scene.line(id, 1, "self ").await;
    let supervisor = Pid::from_raw(supervisor).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::PIPE] {
        kill_process(supervisor, signal).unwrap();
    }
    // It still responds: it receives the next order.
    assert!(is_alive(&run));
    kill_process(supervisor, Signal::KILL).unwrap();
    wait_for("the run to be dead", SOON, async || !is_alive(&run)).await;
    let build = scene.build_that(id, "another run", |build| build.reason.is_some()).await;
    assert!(build.reason.is_some_and(|reason| reason.contains("supervisor")));
    assert!(!std::path::Path::new(&scene.line(id, 1, "folder ").await).exists());
    scene.queue.cancel(id, "test", "done").await.unwrap();
    scene.build_in(id, BuildState::Cancelled).await;
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_worker_cut_off_from_redis_kills_its_run_and_gives_it_back() {
    let scene = Scene::start().await;
    let script = scene.script(r#"echo "self $$"; exec sleep 1000"#);
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "self ").await;
    let cut = std::time::Instant::now();
    scene.redis.shut_down().await;
    wait_for("the run to be dead", SOON, async || !is_alive(&run)).await;
    assert!(cut.elapsed() < Duration::from_secs(4), "dead before the lease is over: {:?}", cut.elapsed());
    scene.redis.start().await;
    let build = scene.build_that(id, "the build to be given back", |build| build.reason.is_some()).await;
    assert!(build.reason.as_deref().is_some_and(|reason| reason.contains("lease")), "{build:?}");
    scene.queue.cancel(id, "test", "done").await.unwrap();
    scene.build_in(id, BuildState::Cancelled).await;
    worker.end().await.unwrap();
}
