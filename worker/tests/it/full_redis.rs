//! A Redis without memory, or one that does not take logs: no build waits for its log.

use fairlane_common::{BuildState, Queue};
use fairlane_worker::Settings;

use crate::scene::{Scene, settings};

/// Prints some 8 MB, more than is kept for a Redis that takes no lines, and then `over`.
const PRINTS: &str = r#"head -c 6000000 /dev/urandom | base64 -w 100; echo over"#;

async fn memory(scene: &Scene, bytes: &str) {
    scene.redis.command(&["CONFIG", "SET", "maxmemory", bytes]).await;
}

/// A build whose first line is in, and which goes on when `go` is made.
fn begun_then(scene: &Scene, rest: &str) -> Settings {
    let dir = scene.dir.path().display();
    let script = format!("echo begun; while [ ! -e {dir}/go ]; do sleep 0.01; done; {rest}");
    settings(&scene.script(&script))
}

fn go(scene: &Scene) {
    std::fs::write(scene.dir.join("go"), "").unwrap();
}

#[tokio::test]
async fn a_full_redis_holds_up_no_build_and_its_log_says_what_is_missing() {
    let scene = Scene::start().await;
    let worker = scene.worker(begun_then(&scene, PRINTS)).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    memory(&scene, "1").await;
    go(&scene);
    // Redis is full to the end.
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    let log = scene.log(id, 1).await;
    let [first, note] = &log[..] else { panic!("{} lines, {:?}", log.len(), log.last()) };
    assert_eq!(first, "begun");
    // 81,081 lines of base64 and the last one.
    assert!(
        note.starts_with("[fairlane] 81,0") && note.contains("left out here: Redis had no memory"),
        "{note}"
    );
    assert_eq!(
        build.log_end,
        Some(scene.queue.log_end(id, 1, 1).await.unwrap().0),
        "it is whole for its readers"
    );
    memory(&scene, "0").await;
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn a_log_goes_on_when_redis_has_memory_again_and_the_gap_is_told() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let rest =
        format!("{PRINTS}; : > {dir}/printed; while [ ! -e {dir}/end ]; do sleep 0.01; done; echo end");
    let worker = scene.worker(begun_then(&scene, &rest)).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    memory(&scene, "1").await;
    go(&scene);
    fairlane_testkit::wait_for("the command to have printed", crate::scene::SOON, async || {
        scene.dir.join("printed").exists()
    })
    .await;
    memory(&scene, "0").await;
    scene.line(id, 1, "over").await;
    std::fs::write(scene.dir.join("end"), "").unwrap();
    scene.build_in(id, BuildState::Succeeded).await;
    let log = scene.log(id, 1).await;
    assert_eq!((log.first().unwrap().as_str(), log.last().unwrap().as_str()), ("begun", "end"));
    let notes: Vec<&String> = log.iter().filter(|line| line.contains("left out here")).collect();
    let [note] = notes[..] else { panic!("{notes:?}") };
    // What the worker still had came after it.
    let told: usize = note.split(' ').nth(1).unwrap().replace(',', "").parse().unwrap();
    assert!((60_000..81_000).contains(&told), "{note}");
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_build_that_prints_into_a_full_redis_can_be_cancelled() {
    let scene = Scene::start().await;
    let worker = scene.worker(begun_then(&scene, "yes | head -c 8000000; exec sleep 1000")).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    memory(&scene, "1").await;
    go(&scene);
    scene.queue.cancel(id, "ann", "enough").await.unwrap();
    scene.build_in(id, BuildState::Cancelled).await;
    memory(&scene, "0").await;
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn a_log_that_may_not_be_written_holds_up_no_build() {
    let scene = Scene::start().await;
    let rules = "on nopass resetkeys ~{fairlane}:* &* +@all";
    scene
        .redis
        .command(&[&["ACL", "SETUSER", "mute"], &rules.split(' ').collect::<Vec<_>>()[..]].concat())
        .await;
    let url = format!("{}?user=mute&pass=x", scene.redis.url());
    let queue = Queue::open(&url.parse().unwrap(), "fairlane").await.unwrap();
    let script = scene.script(PRINTS);
    let worker = scene.worker_of(queue, settings(&script)).await;
    let id = scene.submit().await;
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    worker.end().await.unwrap();
    assert!(scene.log(id, 1).await.is_empty());
    scene.check().await;
}
