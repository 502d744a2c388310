//! A Redis without free memory, or one that refuses logs: no build waits for its log.

use std::time::{Duration, Instant};

use fairlane_common::{BuildId, BuildState, Queue};
use fairlane_testkit::wait_for;
use fairlane_worker::Settings;

use crate::scene::{SOON, Scene, settings};

/// Prints 1,001 lines, the last of them `over`.
const PRINTS: &str = "yes | head -n 1000; echo over";
/// Longer than a slow machine needs for that.
const LATE: Duration = Duration::from_secs(90);

async fn memory(scene: &Scene, bytes: &str) {
    // This test does not need each line on disk.
    scene.redis.command(&["CONFIG", "SET", "appendfsync", "no"]).await;
    scene.redis.command(&["CONFIG", "SET", "maxmemory", bytes]).await;
}

/// A build whose first line is stored, and which goes on when `go` is created.
fn begun_then(scene: &Scene, rest: &str) -> Settings {
    let dir = scene.dir.path().display();
    let script = format!("echo begun; while [ ! -e {dir}/go ]; do sleep 0.01; done; {rest}");
    patient(&scene.script(&script))
}

/// Settings under which a slow machine loses no lease.
fn patient(script: &std::path::Path) -> Settings {
    Settings { lease: Duration::from_secs(20), heartbeat: Duration::from_secs(1), ..settings(script) }
}

async fn ended(scene: &Scene, id: BuildId, state: BuildState) -> fairlane_common::Build {
    wait_for("the build to end", LATE, async || {
        let build = scene.queue.build(id).await.map_err(|e| e.to_string())?.ok_or("it is gone")?;
        if build.state == state { Ok(build) } else { Err(build.state.to_string()) }
    })
    .await
}

fn go(scene: &Scene) {
    std::fs::write(scene.dir.join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_holds_up_no_build_and_its_log_says_what_is_missing() {
    let scene = Scene::start().await;
    let worker = scene.worker(begun_then(&scene, PRINTS)).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    memory(&scene, "1").await;
    go(&scene);
    // Redis is full to the end.
    let build = ended(&scene, id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    let log = scene.log(id, 1).await;
    let [first, note] = &log[..] else { panic!("{} lines, {:?}", log.len(), log.last()) };
    assert_eq!(first, "begun");
    assert_eq!(note, "[fairlane] 1,001 lines (1004 B) were left out here: Redis had no memory for the log");
    assert_eq!(
        build.log_end,
        Some(scene.queue.log_end(id, 1, 1).await.unwrap().0),
        "it is whole for its readers"
    );
    memory(&scene, "0").await;
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_goes_on_when_redis_has_memory_again() {
    let scene = Scene::start().await;
    let dir = scene.dir.path().display();
    let rest =
        format!("{PRINTS}; : > {dir}/printed; while [ ! -e {dir}/end ]; do sleep 0.01; done; echo end");
    let worker = scene.worker(begun_then(&scene, &rest)).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    memory(&scene, "1").await;
    go(&scene);
    wait_for("the command to have printed", LATE, async || scene.dir.join("printed").exists()).await;
    memory(&scene, "0").await;
    std::fs::write(scene.dir.join("end"), "").unwrap();
    ended(&scene, id, BuildState::Succeeded).await;
    let log = scene.log(id, 1).await;
    // This many are kept until Redis accepts them.
    assert_eq!(log.len(), 1003, "{:?}", &log[..3]);
    assert_eq!((log[0].as_str(), log[1001].as_str(), log[1002].as_str()), ("begun", "over", "end"));
    worker.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_prints_into_a_full_redis_can_be_cancelled() {
    let scene = Scene::start().await;
    let worker = scene.worker(begun_then(&scene, "yes | head -n 1000; exec sleep 1000")).await;
    let id = scene.submit().await;
    scene.line(id, 1, "begun").await;
    memory(&scene, "1").await;
    go(&scene);
    scene.queue.cancel(id, "ann", "enough").await.unwrap();
    ended(&scene, id, BuildState::Cancelled).await;
    memory(&scene, "0").await;
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_may_not_be_written_holds_up_no_build() {
    let scene = Scene::start().await;
    let rules = "on nopass resetkeys ~{fairlane}:* &* +@all";
    scene
        .redis
        .command(&[&["ACL", "SETUSER", "mute"], &rules.split(' ').collect::<Vec<_>>()[..]].concat())
        .await;
    let url = format!("{}?user=mute&pass=x", scene.redis.bare_url());
    let queue = Queue::open(&url.parse().unwrap(), "fairlane").await.unwrap();
    let script = scene.script("echo one; echo over");
    let worker = scene.worker_of(queue, settings(&script)).await;
    let id = scene.submit().await;
    let build = scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(build.attempt, 1);
    worker.end().await.unwrap();
    assert!(scene.log(id, 1).await.is_empty());
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_claims_nothing_while_redis_has_no_memory_and_says_so() {
    let scene = Scene::start().await;
    let id = scene.submit().await;
    memory(&scene, "1").await;
    let worker = scene.worker(settings(&scene.script("echo built"))).await;
    wait_for("the worker to be paused", SOON, async || {
        let workers = scene.queue.workers().await.map_err(|e| e.to_string())?;
        let paused = workers.first().and_then(|worker| worker.paused.clone()).unwrap_or_default();
        if paused.contains("memory is used up") { Ok(()) } else { Err(paused) }
    })
    .await;
    let build = scene.build(id).await;
    assert_eq!(build.state, BuildState::Queued);
    let why = scene.queue.why(&build).await.unwrap().text;
    assert!(why.contains("memory is used up"), "{why}");
    memory(&scene, "0").await;
    scene.build_in(id, BuildState::Succeeded).await;
    worker.end().await.unwrap();
    scene.check().await;
}

/// The result of many builds in a small Redis.
struct Figures {
    builds: usize,
    seconds: f32,
    peak_percent: u64,
    refused: u64,
    lines_missing: u64,
    whole: usize,
    shortened: usize,
    removed: usize,
}

/// Builds that write `log_mb` each, four at a time, with a Redis of `redis_mb`.
async fn builds_in(redis_mb: u64, builds: usize, log_mb: u32) -> Figures {
    let scene = Scene::start().await;
    memory(&scene, &(redis_mb * 1024 * 1024).to_string()).await;
    // Short lines, as builds print them; base64 makes four bytes of three.
    let bytes = log_mb * 1024 * 1024 / 4 * 3;
    let script = format!("head -c {bytes} /dev/zero | base64 -w 99; echo over");
    let slots = 4.try_into().unwrap();
    let worker = scene.worker(Settings { slots, ..patient(&scene.script(&script)) }).await;
    let began = Instant::now();
    let (mut ids, mut refused, mut peak_percent, mut open) = (Vec::new(), 0, 0, Vec::<BuildId>::new());
    while ids.len() < builds || !open.is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(60 + 30 * builds as u64),
            "{} have not ended",
            open.len()
        );
        let percent = scene.queue.memory().await.map_or(0, fairlane_common::queue::memory::Memory::percent);
        peak_percent = peak_percent.max(percent);
        // Like dispatchers: above 85 %, a request is refused and repeated later.
        if percent >= 85 {
            refused += 1;
        } else if ids.len() < builds && open.len() < 20 {
            let id = scene.submit().await;
            ids.push(id);
            open.push(id);
            continue;
        }
        let workers = scene.queue.workers().await.unwrap_or_default();
        let paused = workers.into_iter().find_map(|worker| worker.paused);
        assert_eq!(paused, None, "builds wait for memory");
        open = still_open(&scene, open).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = began.elapsed().as_secs_f32();
    let (mut whole, mut shortened, mut removed) = (0, 0, 0);
    for id in &ids {
        let build = scene.build(*id).await;
        assert_eq!((build.state, build.attempt), (BuildState::Succeeded, 1), "{build:?}");
        match build.log_pruned.as_deref() {
            None => whole += 1,
            Some("cut") => shortened += 1,
            _ => removed += 1,
        }
        if build.log_pruned.as_deref() != Some("gone") {
            let (_, last) = scene.queue.log_end(*id, 1, 1).await.unwrap();
            let last = &last.first().expect("a log").text;
            assert!(
                last == "over" || last.contains("left out here"),
                "nothing says what is missing: {last:.80}"
            );
        }
    }
    let lines_missing = scene.queue.snapshot().await.unwrap().log_lines_missing;
    worker.end().await.unwrap();
    scene.check().await;
    Figures { builds, seconds, peak_percent, refused, lines_missing, whole, shortened, removed }
}

async fn still_open(scene: &Scene, ids: Vec<BuildId>) -> Vec<BuildId> {
    let mut open = Vec::new();
    for id in ids {
        let known = scene.queue.build(id).await.ok().flatten();
        if !known.is_some_and(|build| build.state.is_ended()) {
            open.push(id);
        }
    }
    open
}

/// `cargo xtask full-redis` asks for more: 60 MB and 200 builds.
#[ignore = "it takes minutes: cargo xtask full-redis"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_in_a_small_redis_all_end_and_none_waits_for_memory() {
    let given = std::env::var("FAIRLANE_FULL_REDIS").unwrap_or_else(|_| "6,6,1".to_owned());
    let numbers: Vec<u32> = given.split(',').map(|number| number.parse().unwrap()).collect();
    let [redis_mb, builds, log_mb] = numbers[..] else { panic!("MB of Redis, builds, MB of log: {given}") };
    let of = builds_in(redis_mb.into(), builds as usize, log_mb).await;
    println!(
        "Redis with {redis_mb} MB, {} builds of {log_mb} MB of log: all succeeded in {:.0} s, none waited for memory.\n\
         Redis at {} % at most; requests refused (and repeated) {}; lines left out while it had no memory {}.\n\
         Of the logs {} are as they were written, {} were shortened, {} removed; each says so.",
        of.builds,
        of.seconds,
        of.peak_percent,
        of.refused,
        of.lines_missing,
        of.whole,
        of.shortened,
        of.removed
    );
}
