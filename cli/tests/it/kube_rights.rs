//! A worker with few rights on its cluster.

use std::process::Command;

use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{Process, RedisServer, TempDir, wait_for};

use crate::setup::{LIMIT, Up, fairlane};

/// A build's first run does not end; the next one ends at once.
const BUILD: &str = r#"sh -c "echo run {attempt}; [ {attempt} -gt 1 ] || sleep 600""#;

fn serve<'a>(home: &TempDir, redis: &'a str, arguments: &[&'a str]) -> Command {
    let all = arguments.iter().copied().chain(["--redis-url", redis]);
    let mut command = fairlane(home, all);
    command.env("FAIRLANE_LEASE", "4s").env("FAIRLANE_HEARTBEAT", "500ms");
    command
}

#[tokio::test]
async fn kube_without_the_right_to_patch_pods_a_killed_workers_build_begins_again() {
    let (home, cluster) = (TempDir::new(), Cluster::start());
    let redis = RedisServer::builder().start().await;
    cluster.forbids("patch pods");
    let url = redis.url();
    let mut dispatcher = serve(&home, &url, &["dispatcher", "--listen", "127.0.0.1:0"]);
    let process = Process::spawn("dispatcher", &mut dispatcher);
    let line = process.wait_for_line("listens on ", LIMIT).await;
    let address = line.split("listens on ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let up = Up { url: format!("http://{address}"), process, token: None };
    let start_worker = |name| {
        let options = ["--executor", "kubernetes", "--docker-socket", "none", "--replace-entrypoint"];
        let mut worker =
            serve(&home, &url, &[&["worker", "--command", BUILD, "--host", name], &options[..]].concat());
        Process::spawn(name, worker.env("KUBECONFIG", cluster.kubeconfig()))
    };
    let first = start_worker("first");
    let id = up.submit(&home, "name").await;
    wait_for("the first run", LIMIT, async || {
        cluster.pods().iter().any(|pod| pod["status"]["phase"] == "Running")
    })
    .await;
    let second = start_worker("second");
    second.wait_for_line("worker is ready", LIMIT).await;
    first.kill();
    let said = up.run(&home, ["watch", &id]).await.expect(0, "succeeded");
    assert!(said.data.contains("run 2"), "{said:#?}");
    assert_eq!(cluster.pods_created().len(), 2);
    assert!(second.stderr().contains("cannot adopt this one"), "{}", second.stderr());
    let workers = up.run(&home, ["workers"]).await.expect(0, "");
    assert!(workers.data.contains("claiming builds"), "{workers:#?}");
}
