//! Workers that are killed or frozen, and a Redis that restarts, while a build runs.

use std::time::{Duration, Instant};

use fairlane_common::{BuildId, BuildState, Queue};
use fairlane_testkit::{FaultProxy, Upstream, redis_url_for, wait_for};
use fairlane_worker::Settings;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{LEASE, PROGRAM, SOON, Scene, is_alive, settings};

/// The first run hangs; the next one reports whether the first is still alive, and ends.
fn first_run_hangs(scene: &Scene) -> std::path::PathBuf {
    let dir = scene.dir.path().display();
    scene.script(&format!(
        r#"if mkdir {dir}/first 2>/dev/null; then echo $$ > {dir}/pid; echo "first $$"; exec sleep 1000; fi
           if kill -0 "$(cat {dir}/pid)" 2>/dev/null; then echo "both alive"; else echo "alone"; fi"#
    ))
}

async fn second_run_alone(scene: &Scene, id: BuildId) {
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 2, "{build:?}");
    assert_eq!(scene.log(id, 2).await, ["alone"]);
    scene.check().await;
}

#[tokio::test]
async fn a_killed_worker_leaves_no_run_and_another_one_builds() {
    let scene = Scene::start().await;
    let script = first_run_hangs(&scene);
    let first = scene.process("first", &script).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "first ").await;
    let second = scene.process("second", &script).await;
    let killed = Instant::now();
    first.kill();
    wait_for("the run to be dead", SOON, async || !is_alive(&run)).await;
    second_run_alone(&scene, id).await;
    assert!(killed.elapsed() < LEASE + Duration::from_secs(2), "{:?}", killed.elapsed());
    second.terminate();
    assert!(second.wait(SOON).await.success());
}

#[tokio::test]
async fn a_frozen_worker_has_no_run_when_its_lease_ends_and_touches_nothing_afterwards() {
    let scene = Scene::start().await;
    let script = first_run_hangs(&scene);
    let first = scene.process("first", &script).await;
    let id = scene.submit().await;
    let run = scene.line(id, 1, "first ").await;
    let second = scene.process("second", &script).await;
    let frozen = Instant::now();
    first.freeze();
    wait_for("the run to be dead", SOON, async || !is_alive(&run)).await;
    assert!(frozen.elapsed() < LEASE, "{:?}", frozen.elapsed());
    assert_eq!(scene.build(id).await.state, BuildState::Running, "dead before the queue gives it to another");
    second_run_alone(&scene, id).await;
    assert!(frozen.elapsed() < LEASE + Duration::from_secs(2), "{:?}", frozen.elapsed());

    let seq = scene.build(id).await.seq;
    first.thaw();
    first.wait_for_line("another worker has the lease", SOON).await;
    assert_eq!(scene.build(id).await.seq, seq);
    assert_eq!(scene.log(id, 1).await, [format!("first {run}")]);
    // It is fully functional again: with the other one gone, it builds.
    second.terminate();
    assert!(second.wait(SOON).await.success());
    let next = scene.submit().await;
    scene.build_in(next, BuildState::Succeeded).await;
    first.terminate();
    assert!(first.wait(SOON).await.success());
    scene.check().await;
}

#[tokio::test]
async fn a_restart_of_redis_loses_and_doubles_no_line() {
    let scene = Scene::start().await;
    let script =
        scene.script(r#"n=0; while [ $n -lt 150 ]; do n=$((n+1)); echo "line $n"; sleep 0.02; done"#);
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    for at in ["line 20", "line 60"] {
        scene.line(id, 1, at).await;
        scene.redis.restart().await;
    }
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    let expected: Vec<String> = (1..=150).map(|n| format!("line {n}")).collect();
    assert_eq!(scene.log(id, 1).await, expected);
    // The other builds go on as well.
    let next = scene.submit().await;
    scene.build_in(next, BuildState::Succeeded).await;
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn a_build_that_ends_while_redis_is_away_ends_once() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let script = scene.script(&format!(
        "echo begun; while [ ! -e {dir}/go ]; do sleep 0.01; done; echo over; : > {dir}/over"
    ));
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    scene.redis.shut_down().await;
    std::fs::write(scene.dir.join("go"), "").unwrap();
    wait_for("the command to end", SOON, async || scene.dir.join("over").exists()).await;
    scene.redis.start().await;
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    assert_eq!(scene.log(id, 1).await, ["begun", "over"]);
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn lost_replies_lose_and_double_no_build_and_no_line() {
    let scene = Scene::start().await;
    let proxy = FaultProxy::start(Upstream::Unix(scene.redis.socket().into())).await;
    let queue = Queue::open(&proxy.redis_url().parse().unwrap(), "fairlane").await.unwrap();
    let script = scene.script("for n in 1 2 3 4 5 6 7 8; do echo \"line $n\"; sleep 0.03; done");
    let settings = Settings { slots: 4.try_into().unwrap(), ..settings(&script) };
    let workers =
        [scene.worker_of(queue.clone(), settings.clone()).await, scene.worker_of(queue, settings).await];
    let mut ids = Vec::new();
    for _ in 0..24 {
        ids.push(scene.submit().await);
    }
    for lost in 0..40 {
        proxy.drop_next_reply();
        wait_for("a reply to be lost", SOON, async || proxy.replies_lost() > lost).await;
    }
    proxy.resume();
    let expected: Vec<String> = (1..=8).map(|n| format!("line {n}")).collect();
    for id in ids {
        let build = scene.build_in(id, BuildState::Succeeded).await;
        assert_eq!(build.attempt, 1, "{build:?}");
        assert_eq!(scene.log(id, 1).await, expected);
    }
    for worker in workers {
        worker.end().await.unwrap();
    }
    scene.check().await;
}

/// A worker that writes its whole log into `log`.
fn spawn_unheard(scene: &Scene, log: impl Into<std::process::Stdio>) -> std::process::Child {
    let script = scene.script("echo done");
    std::process::Command::new(PROGRAM)
        .args(["--redis-url", &redis_url_for("worker", &scene.redis.url()), "--host", "unheard"])
        .arg(format!("--command='{}' {{repo}} {{ref}}", script.display()))
        .env("RUST_LOG", "debug")
        .stderr(log)
        .spawn()
        .unwrap()
}

async fn builds_and_obeys(scene: &Scene, mut child: std::process::Child) {
    let id = scene.submit().await;
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1, "{build:?}");
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended =
        wait_for("the worker to end", SOON, async || child.try_wait().unwrap().ok_or("it runs")).await;
    assert!(ended.success(), "{ended}");
    scene.check().await;
}

#[tokio::test]
async fn a_worker_whose_log_nobody_reads_builds_and_obeys() {
    use std::io::{BufRead, BufReader};
    let scene = Scene::start().await;
    let mut child = spawn_unheard(&scene, std::process::Stdio::piped());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("worker is ready")));
    drop(lines);
    builds_and_obeys(&scene, child).await;
}

/// The reader of its log exists but is frozen: the pipe between them is full.
#[tokio::test]
async fn a_worker_whose_log_is_read_no_further_builds_and_obeys() {
    use std::io::{Read, Write};
    const PIPE_BYTES: usize = 65_536;
    let scene = Scene::start().await;
    let (mut reader, mut pipe) = std::io::pipe().unwrap();
    pipe.write_all(&vec![b'x'; PIPE_BYTES]).unwrap();
    let child = spawn_unheard(&scene, pipe);
    builds_and_obeys(&scene, child).await;
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), PIPE_BYTES, "what it could not write it has dropped");
}
