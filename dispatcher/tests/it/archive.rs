//! The archive of finished logs: a folder, and a server that speaks S3's API.

use std::path::{Path, PathBuf};
use std::process::Command;

use fairlane_common::id::BuildId;
use fairlane_common::queue::Outcome;
use fairlane_dispatcher::{ArchiveArgs, LogArchive};
use fairlane_testkit::{Process, RedisServer, TempDir, wait_for};
use serde_json::Value;

use crate::support::{Dispatcher, SOON, Worker, numbered, problem, send};

fn folder(path: &Path) -> LogArchive {
    let args = ArchiveArgs { log_archive: Some(path.display().to_string()), ..ArchiveArgs::default() };
    args.archive().unwrap().unwrap()
}

async fn start(redis: &RedisServer, archive: &LogArchive) -> Dispatcher {
    let archive = Some(archive.clone());
    Dispatcher::start_with(&redis.url(), |settings| settings.archive = archive).await
}

/// Ends a build with three lines of log.
async fn ended(dispatcher: &Dispatcher, worker: &Worker, name: &str) -> BuildId {
    let id = dispatcher.build(name).await;
    let mut run = worker.claim_of(id).await;
    run.write(3).await;
    run.finish(Outcome::Succeeded).await;
    id
}

fn three_lines() -> String {
    numbered(3).join("\n") + "\n"
}

async fn log_of(dispatcher: &Dispatcher, id: BuildId) -> (u16, String) {
    let response = send(dispatcher.get(&format!("/v1/builds/{id}/log"))).await;
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn is_archived(dispatcher: &Dispatcher, id: BuildId) -> bool {
    dispatcher.queue.build(id).await.unwrap().unwrap().archived
}

async fn archived(dispatcher: &Dispatcher, id: BuildId) {
    wait_for("the log to be archived", 2 * SOON, async || is_archived(dispatcher, id).await).await;
}

/// How many logs this dispatcher has archived, failed to archive, or given up.
async fn counted(dispatcher: &Dispatcher, result: &str) -> u64 {
    let metrics = send(dispatcher.get("/metrics")).await.text().await.unwrap();
    let line = format!("fairlane_logs_archived_total{{result=\"{result}\"}} ");
    let value = metrics.lines().find_map(|have| have.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("no {line} in {metrics}")).parse().unwrap()
}

async fn problems(dispatcher: &Dispatcher) -> String {
    let queue: Value = send(dispatcher.get("/v1/queue")).await.json().await.unwrap();
    let all = queue["problems"].as_array().unwrap().iter();
    all.filter(|one| one["kind"] == "log-archive").map(|one| one["sentence"].to_string()).collect()
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let days = std::fs::read_dir(folder).unwrap();
    let in_day = |day: std::fs::DirEntry| std::fs::read_dir(day.path()).unwrap();
    days.flat_map(|day| in_day(day.unwrap())).map(|file| file.unwrap().path()).collect()
}

#[tokio::test]
async fn finished_logs_go_to_a_folder_once_and_are_read_back_when_redis_has_forgotten_them() {
    let (redis, home) = (RedisServer::start_default().await, TempDir::new());
    let archive = folder(home.path());
    let (one, two) = (start(&redis, &archive).await, start(&redis, &archive).await);
    let worker = Worker::start(&one.queue, 1).await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.push(ended(&one, &worker, name).await);
    }
    for id in &ids {
        archived(&two, *id).await;
    }
    let all = files(home.path());
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(std::fs::read_to_string(&all[0]).unwrap(), three_lines());
    let stored = wait_for("both to have counted", SOON, async || {
        let sum = counted(&one, "stored").await + counted(&two, "stored").await;
        (sum >= 4).then_some(sum)
    });
    assert_eq!(stored.await, 4, "each log once, however many dispatchers there are");

    // An operator removes the logs from Redis; then Redis forgets the builds.
    send(one.delete("/v1/logs?older_than=0s")).await;
    assert_eq!(one.queue.build(ids[0]).await.unwrap().unwrap().log_pruned.as_deref(), Some("gone"));
    assert_eq!(log_of(&two, ids[0]).await, (200, three_lines()));
    redis.command(&["FLUSHALL"]).await;
    wait_for("the refill to be over", SOON, async || log_of(&one, ids[1]).await.0 != 503).await;
    assert_eq!(log_of(&one, ids[1]).await, (200, three_lines()));
    let (status, word, _) = problem(send(one.get(&format!("/v1/builds/{}/log", BuildId::new()))).await).await;
    assert_eq!((status, word.as_str()), (404, "unknown-build"));
    // Without an archive, it is as before.
    let plain = Dispatcher::start(&redis.url()).await;
    assert_eq!(log_of(&plain, ids[1]).await.0, 404);
}

#[tokio::test]
async fn a_folder_that_is_away_costs_no_build_and_is_told_until_it_is_back() {
    let (redis, home) = (RedisServer::start_default().await, TempDir::new());
    let path = home.join("disk");
    let dispatcher = start(&redis, &folder(&path)).await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let id = ended(&dispatcher, &worker, "a").await;
    let said = wait_for("the problem to be told", SOON, async || {
        Some(problems(&dispatcher).await).filter(|said| !said.is_empty())
    });
    let said = said.await;
    assert!(said.contains("1 log waits to be archived") && said.contains("disk does not exist"), "{said}");
    assert!(counted(&dispatcher, "failed").await > 0);
    // Meanwhile, builds run and their logs are read from Redis.
    let other = ended(&dispatcher, &worker, "b").await;
    assert_eq!(log_of(&dispatcher, other).await, (200, three_lines()));
    let (status, word, _) =
        problem(send(dispatcher.get(&format!("/v1/builds/{}/log", BuildId::new()))).await).await;
    assert_eq!((status, word.as_str()), (503, "archive-away"), "it may be there");
    // The disk is mounted.
    std::fs::create_dir(&path).unwrap();
    for id in [id, other] {
        archived(&dispatcher, id).await;
    }
    wait_for("the problem to be over", SOON, async || problems(&dispatcher).await.is_empty()).await;
    assert_eq!((counted(&dispatcher, "stored").await, counted(&dispatcher, "given_up").await), (2, 0));
}

/// A running server that speaks S3's API, with an empty bucket `logs`; nothing where it is not installed.
async fn s3() -> Option<(Process, String)> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/s3/bin/moto_server");
    if !program.is_file() {
        return None;
    }
    let server = Process::spawn("moto", Command::new(program).args(["-H", "127.0.0.1", "-p", "0"]));
    let line = server.wait_for_line("Running on http://", SOON).await;
    let url = line.split_whitespace().last().unwrap().to_owned();
    let made = reqwest::Client::builder().no_proxy().build().unwrap().put(format!("{url}/logs"));
    assert!(send(made).await.status().is_success());
    Some((server, url))
}

fn bucket(url: &str, place: &str) -> LogArchive {
    let args = ArchiveArgs {
        log_archive: Some(place.to_owned()),
        log_archive_endpoint: Some(url.to_owned()),
        log_archive_key: Some("an-id:a-secret".into()),
        ..ArchiveArgs::default()
    };
    args.archive().unwrap().unwrap()
}

#[tokio::test]
async fn finished_logs_go_to_a_bucket_and_come_back_and_an_outage_costs_nothing() {
    let Some((server, url)) = s3().await else {
        return println!("SKIPPED: `cargo xtask test` installs a server that speaks S3's API");
    };
    let redis = RedisServer::start_default().await;
    let archive = bucket(&url, "s3://logs/of/fairlane");
    archive.check().await.unwrap();
    let why = bucket(&url, "s3://no-such-bucket").check().await.unwrap_err();
    assert_eq!(why, "s3://no-such-bucket: there is no such bucket");
    let dispatcher = start(&redis, &archive).await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let id = ended(&dispatcher, &worker, "a").await;
    archived(&dispatcher, id).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let list = send(client.get(format!("{url}/logs?list-type=2"))).await.text().await.unwrap();
    assert!(list.contains(&format!("/{id}.log</Key>")) && list.contains("<Key>of/fairlane/20"), "{list}");
    send(dispatcher.delete("/v1/logs?older_than=0s")).await;
    assert_eq!(log_of(&dispatcher, id).await, (200, three_lines()));

    server.kill();
    server.wait(SOON).await;
    let other = ended(&dispatcher, &worker, "b").await;
    let said = wait_for("the problem to be told", SOON, async || {
        Some(problems(&dispatcher).await).filter(|said| !said.is_empty())
    });
    let said = said.await;
    assert!(said.contains("s3://logs/of/fairlane") && !said.contains("a-secret"), "{said}");
    assert_eq!(log_of(&dispatcher, id).await.0, 503);
    assert_eq!(log_of(&dispatcher, other).await, (200, three_lines()));
}
