//! `fairlane worker --executor kubernetes`, on a real cluster if the environment names one, otherwise on a
//! simulated one.

use std::process::Command;

use fairlane_testkit::kube::TestCluster;
use fairlane_testkit::{Process, RedisServer, TempDir, wait_for};

use crate::setup::{COMMIT, LIMIT, address_of, fairlane, run};

fn on(command: &mut Command, redis: &RedisServer) {
    command.env("FAIRLANE_REDIS_URL", redis.url());
}

#[tokio::test]
async fn a_build_asked_for_on_the_command_line_is_a_pod_of_a_kube_cluster() {
    let (home, redis, cluster) =
        (TempDir::new(), RedisServer::start_default().await, TestCluster::from_env_or_fake());
    let mut command = fairlane(&home, ["dispatcher", "--listen", "127.0.0.1:0"]);
    on(&mut command, &redis);
    let dispatcher = Process::spawn("dispatcher", &mut command);
    let url = address_of(&dispatcher).await;

    let installation = format!("test-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
    let script = "sh -c 'echo \"building $0 at $1\"; sleep 1; echo done' {repo} {ref}";
    let arguments = ["worker", "--executor=kubernetes", "--docker-socket=none", "--replace-entrypoint"];
    let mut command = fairlane(&home, arguments);
    on(&mut command, &redis);
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["--namespace", cluster.namespace(), "--build-image", cluster.image()])
        .args(["--installation", &installation, "--keep-pods=1s", "--command", script]);
    let worker = Process::spawn("worker", &mut command);

    let ask = |arguments: &[&str]| {
        let mut command = fairlane(&home, arguments.iter().copied());
        command.env("FAIRLANE_DISPATCHER_URL", &url);
        command
    };
    let repo = "https://git.example.org/owner/name";
    let said = run(ask(&["submit", repo, "--ref", COMMIT, "--watch"])).await.expect(0, "");
    let told = format!("{}{}", said.data, said.talk);
    assert!(told.contains(&format!("building {repo} at {COMMIT}")) && told.contains("done"), "{told}");

    let workers = run(ask(&["workers", "--json"])).await.expect(0, "");
    assert!(workers.data.contains("\"place\":\"k8s:"), "{}", workers.data);
    if let Some(fake) = cluster.fake() {
        assert_eq!(fake.pods_created().len(), 1);
        wait_for("the pod to be removed", LIMIT, async || fake.pods().is_empty()).await;
    }
    worker.terminate();
    assert!(worker.wait(LIMIT).await.success());
}

#[tokio::test]
async fn a_worker_without_a_cluster_says_how_to_name_one() {
    let (home, redis) = (TempDir::new(), RedisServer::start_default().await);
    let mut command = fairlane(&home, ["worker", "--executor=kubernetes"]);
    on(&mut command, &redis);
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    let said = run(command).await;
    assert_ne!(said.code, 0);
    assert!(said.talk.contains("KUBECONFIG"), "{}", said.talk);
}
