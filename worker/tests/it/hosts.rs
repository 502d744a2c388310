//! A host on which every build fails, among healthy ones.

use std::path::Path;
use std::process::Command;

use fairlane_common::{BuildId, BuildState};
use fairlane_testkit::{Process, redis_url_for, wait_for};
use tokio::io::AsyncWriteExt;

use crate::scene::{PROGRAM, SOON, Scene};

const BUILDS: usize = 100;
const LANES: usize = 30;
/// Attempts that may end on the sick host.
const ATTEMPTS_MAX: usize = 9;

/// A worker on a host, with four slots, ready to claim.
async fn worker(scene: &Scene, host: &str, script: &str, engine: &Path) -> Process {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--redis-url", &redis_url_for("worker", &scene.redis.url()), "--host", host, "--slots=4"])
        .args(["--lease=4s", "--heartbeat=500ms"])
        .arg(format!("--command=sh -c '{script}' {{repo}}"))
        .env("DOCKER_HOST", format!("unix://{}", engine.display()));
    let worker = Process::spawn(host, &mut command);
    worker.wait_for_line("worker is ready", SOON).await;
    worker
}

async fn submit_all(scene: &Scene) -> Vec<BuildId> {
    let mut ids = Vec::new();
    for number in 0..BUILDS {
        let mut spec = scene.spec();
        spec.repo = format!("https://git.example.org/owner/lane{}", number % LANES).parse().unwrap();
        ids.push(scene.submit_spec(BuildId::new(), spec).await);
    }
    ids
}

/// A hundred builds of thirty lanes all succeed although one host is sick. Checks how many attempts ended there.
#[expect(clippy::print_stdout, reason = "the figures of a run by hand")]
async fn all_succeed_beside_a_sick_host(scene: &Scene, engine: &Path) -> Process {
    let words = r#"echo "Cannot connect to the Docker daemon at $DOCKER_HOST. Is the docker daemon running?"; exit 1"#;
    let sick = worker(scene, "sick", words, engine).await;
    let _healthy = [
        worker(scene, "one", "sleep 0.5; echo built", engine).await,
        worker(scene, "two", "sleep 0.5; echo built", engine).await,
    ];
    let ids = submit_all(scene).await;
    wait_for("all builds to end", 4 * SOON, async || {
        let mut open = 0;
        for id in &ids {
            open += usize::from(!scene.build(*id).await.state.is_ended());
        }
        if open == 0 { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await;
    for id in &ids {
        let build = scene.build(*id).await;
        assert_eq!(build.state, BuildState::Succeeded, "{build:?}");
    }
    let attempts = sick.stderr().lines().filter(|line| line.contains("claimed")).count();
    println!("{attempts} attempts ended on the sick host");
    assert!((1..=ATTEMPTS_MAX).contains(&attempts), "{attempts} attempts: {}", sick.stderr());
    scene.check().await;
    sick
}

#[tokio::test]
async fn a_host_without_its_docker_daemon_costs_no_build() {
    let scene = Scene::start().await;
    let _sick = all_succeed_beside_a_sick_host(&scene, Path::new("/no/such/docker.sock")).await;
    let nodes = scene.queue.nodes().await.unwrap();
    // It pauses at its first failure; whether three lanes have failed there by then is a matter of chance.
    assert!(
        nodes.iter().all(|node| (node.name.as_str(), node.cluster.as_str()) == ("sick", "process")),
        "{nodes:?}"
    );
    let workers = scene.queue.workers().await.unwrap();
    let sick = workers.iter().find(|worker| worker.host == "sick").unwrap();
    assert!(sick.paused.as_ref().unwrap().contains("/no/such/docker.sock"), "{sick:?}");
    // Once it is cleared and healthy, it builds again: its own check is not enough, a build must succeed.
    if !nodes.is_empty() {
        let cleared = scene.queue.clear_node(&"sick".parse().unwrap(), None, "ann").await.unwrap();
        assert_eq!(cleared, fairlane_common::queue::Cleared::Cleared("process".to_owned()));
    }
}

#[tokio::test]
async fn a_host_whose_builds_fail_though_all_looks_well_costs_no_build() {
    let scene = Scene::start().await;
    // The engine answers, so the log's message is the only evidence.
    let socket = scene.dir.join("docker.sock");
    let engine = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = engine.accept().await {
            let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nOK").await;
        }
    });
    let sick = all_succeed_beside_a_sick_host(&scene, &socket).await;
    assert!(sick.stderr().contains("claiming is paused: builds fail on this host"), "{}", sick.stderr());
}
