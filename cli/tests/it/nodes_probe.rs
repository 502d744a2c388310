//! `fairlane nodes probe` and `fairlane doctor --nodes`, on a simulated cluster.

use std::path::Path;
use std::process::Command;

use fairlane_testkit::kube::{Cluster, Node};
use fairlane_testkit::{Process, RedisServer, Said, TempDir, wait_for};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::setup::{COMMIT, LIMIT, address_of, fairlane, run, says};

const TEMPLATE: &str = "
spec:
  nodeSelector: { fairlane/pool: builds }
  tolerations: [{ key: dedicated, value: builds, effect: NoSchedule }]
  containers: [{ name: builder, resources: { requests: { memory: 2Gi, ephemeral-storage: 1Gi } } }]
";

/// The program in its own folder, which has the pod template.
struct Scene {
    home: TempDir,
    cluster: Cluster,
}

impl Scene {
    fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        let home = TempDir::new();
        std::fs::write(home.join("pod.yaml"), TEMPLATE).unwrap();
        let builder =
            nodes.into_iter().fold(Cluster::builder(), fairlane_testkit::kube::ClusterBuilder::node);
        Self { home, cluster: builder.start() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = fairlane(&self.home, arguments.iter().copied());
        command
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("FAIRLANE_POD_TEMPLATE", "pod.yaml")
            .env_remove("KUBERNETES_SERVICE_HOST");
        command
    }

    async fn doctor(&self, more: &[&str]) -> Said {
        run(self.command(&[&["doctor", "--nodes", "--json"], more].concat())).await
    }

    async fn probe(&self, node: &str, more: &[&str]) -> Said {
        run(self.command(&[&["nodes", "probe", node, "--json"], more].concat())).await
    }

    async fn nothing_is_left(&self) {
        wait_for("the probe's pod to be gone", LIMIT, async || self.cluster.pods().is_empty()).await;
    }
}

/// A node of the build pool.
fn of_pool(name: &str) -> Node {
    Node::named(name).label("fairlane/pool", "builds").label("cloud.google.com/gke-nodepool", "fast").taint(
        "dedicated",
        "builds",
        "NoSchedule",
    )
}

/// A container engine that answers on a socket in `folder`.
fn engine(folder: &Path) -> String {
    let path = folder.join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            if request[..read].starts_with(b"GET /_ping ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
            }
        }
    });
    path.display().to_string()
}

#[tokio::test]
async fn kube_a_node_that_can_build_passes_its_probe_and_no_pod_stays() {
    let scene = Scene::new([of_pool("a"), of_pool("b"), of_pool("c")]);
    let (socket, listener) = (engine(scene.home.path()), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let host = listener.local_addr().unwrap().to_string();
    let options = ["--docker-socket", &socket, "--connect", &host];
    let said = scene.probe("b", &options).await.expect(0, "");
    for (about, words) in [
        ("schedule", "builds on b"),
        ("start", "build image and volumes are there"),
        ("disk", " free"),
        ("disk", "files can be written"),
        ("socket", socket.as_str()),
        ("network", host.as_str()),
    ] {
        says(&said, "ok", about, &[words]);
    }
    scene.nothing_is_left().await;
    let [pod] = &scene.cluster.pods_created()[..] else { panic!("not one pod") };
    let (meta, spec) = (&pod["metadata"], &pod["spec"]);
    assert_eq!(meta["labels"]["component"], "fairlane-probe");
    assert_eq!(meta["labels"]["fairlane/installation"], "fairlane");
    assert!(meta["labels"]["fairlane/build"].is_null() && spec["nodeName"].is_null(), "{pod}");
    assert_eq!(spec["activeDeadlineSeconds"], 360);
    assert_eq!(spec["containers"][0]["resources"]["requests"]["memory"], "2Gi");
}

#[tokio::test]
async fn kube_a_node_that_cannot_build_is_told_why_and_what_to_do() {
    let scene = Scene::new([
        of_pool("good"),
        of_pool("gpu").taint("nvidia.com/gpu", "present", "NoSchedule"),
        of_pool("bare").allocatable("ephemeral-storage", "0"),
        Node::named("untagged"),
        of_pool("full"),
        of_pool("mute"),
    ]);
    scene.cluster.node("full").has_no_space_left();
    let why = "MountVolume.SetUp failed for volume \"docker-socket\" : hostPath type check failed: \
               /run/d.sock is not a socket file";
    scene.cluster.node("mute").cannot_mount(why);
    scene.cluster.cannot_pull("r.example.org/missing:1", "not found");
    let nobody = scene.home.join("docker.sock");
    drop(UnixListener::bind(&nobody).unwrap());
    let nobody = nobody.display().to_string();
    for (node, more, about, words) in [
        (
            "gpu",
            &["--docker-socket=none"][..],
            "schedule",
            &["gpu: build pods do not tolerate", "nvidia.com/gpu"][..],
        ),
        (
            "gpu",
            &["--docker-socket=none"],
            "schedule",
            &["the scheduler puts no build on gpu", "untolerated taint"],
        ),
        ("bare", &["--docker-socket=none"], "schedule", &["0 B of ephemeral-storage", "docs/nodes.md"]),
        (
            "untagged",
            &["--docker-socket=none"],
            "schedule",
            &["kubectl label node untagged fairlane/pool=builds"],
        ),
        ("full", &["--docker-socket=none"], "checks", &["no space left on device", "docs/nodes.md"]),
        ("mute", &["--docker-socket=/run/d.sock"], "no-socket", &["not on node mute", "--docker-socket"]),
        (
            "good",
            &["--docker-socket=none", "--build-image=r.example.org/missing:1"],
            "image-pull",
            &["not found", "--build-image"],
        ),
        ("good", &["--docker-socket", &nobody], "socket", &["does not answer on", "refused", "daemon"]),
        (
            "good",
            &["--docker-socket=none", "--connect=127.0.0.1:9"],
            "network",
            &["127.0.0.1:9 cannot be reached"],
        ),
    ] {
        let options = [&["--timeout=3s", "--connect=none"], more].concat();
        let said = scene.probe(node, &options).await.expect(1, "");
        says(&said, "error", about, words);
        scene.nothing_is_left().await;
    }
    let said = scene.probe("gone", &[]).await.expect(1, "");
    says(&said, "error", "node", &["no node gone", "bare, full, good"]);
    scene.cluster.forbids("create pods");
    says(
        &scene.probe("good", &[]).await.expect(1, ""),
        "error",
        "rights",
        &["may not create pods in builds"],
    );
}

#[tokio::test]
async fn kube_an_interrupted_probe_deletes_its_pod_and_a_killed_ones_is_deleted_by_the_next() {
    let scene = Scene::new([of_pool("a"), of_pool("b")]);
    scene.cluster.node("a").cannot_mount("the disk is away");
    let start = || {
        let mut command = scene.command(&["nodes", "probe", "a", "--docker-socket=none", "--connect=none"]);
        Process::spawn("probe", &mut command)
    };
    let there = async || {
        wait_for("the pod", LIMIT, async || scene.cluster.pods().len() == 1).await;
        scene.cluster.pods()[0]["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let probe = start();
    there().await;
    probe.signal(Signal::INT);
    assert_eq!(probe.wait(LIMIT).await.code(), Some(130));
    scene.nothing_is_left().await;
    let probe = start();
    let name = there().await;
    probe.kill();
    // Nobody is left to delete it when it ends.
    scene.cluster.node("a").is_well_again();
    let is_over = async || scene.cluster.pod(&name).phase() == "Succeeded";
    wait_for("its pod to end", LIMIT, is_over).await;
    scene.probe("b", &["--docker-socket=none", "--connect=none"]).await.expect(0, "");
    scene.nothing_is_left().await;
}

#[tokio::test]
async fn kube_no_worker_takes_a_probe_for_a_build() {
    let scene = Scene::new([of_pool("a"), of_pool("b")]);
    let redis = RedisServer::start_default().await;
    scene.cluster.node("a").cannot_mount("the disk is away");
    let mut probe = scene.command(&["nodes", "probe", "a", "--docker-socket=none", "--connect=none"]);
    let _probe = Process::spawn("probe", &mut probe);
    wait_for("the probe's pod", LIMIT, async || scene.cluster.pods().len() == 1).await;
    let with_redis = |arguments: &[&str]| {
        let mut command = scene.command(arguments);
        command.env("FAIRLANE_REDIS_URL", redis.url());
        command
    };
    let dispatcher =
        Process::spawn("dispatcher", &mut with_redis(&["dispatcher", "--listen", "127.0.0.1:0"]));
    let url = address_of(&dispatcher).await;
    let arguments = [
        "worker",
        "--executor=kubernetes",
        "--docker-socket=none",
        "--replace-entrypoint",
        "--keep-pods=1s",
        "--slots=1",
    ];
    let mut command = with_redis(&arguments);
    command.args(["--command", "sh -c 'echo {repo} {ref}'"]);
    let _worker = Process::spawn("worker", &mut command);
    let ask = |arguments: &[&str]| {
        let mut command = scene.command(arguments);
        command.env("FAIRLANE_DISPATCHER_URL", &url);
        command
    };
    // The only slot is free for a build, so the probe is not counted; the build goes to the other node.
    let repo = "https://git.example.org/owner/name";
    scene.cluster.node("a").is_cordoned();
    let submit = ["submit", repo, "--ref", COMMIT, "--watch"];
    run(ask(&submit)).await.expect(0, "");
    wait_for("the build's pod to be removed", LIMIT, async || scene.cluster.pods().len() == 1).await;
    let [left] = &scene.cluster.pods()[..] else { panic!("not one pod") };
    assert_eq!(left["metadata"]["labels"]["component"], "fairlane-probe");
    assert!(left["metadata"]["deletionTimestamp"].is_null(), "{left}");
    let workers = run(ask(&["workers", "--json"])).await.expect(0, "");
    assert!(workers.data.contains("\"running\":0"), "{}", workers.data);
}

#[tokio::test]
async fn kube_doctor_nodes_says_which_pool_can_build_without_redis() {
    let scene = Scene::new([of_pool("a"), of_pool("b"), Node::named("hub")]);
    let said = scene.doctor(&["--docker-socket=none"]).await.expect(0, "");
    let pool = says(&said, "ok", "pool", &["fast (2 nodes): this pool can build"]);
    assert_eq!(pool["pool"], "fast");
    let node = says(&said, "ok", "node", &["a: can build; ", "room for 16 builds at once"]);
    assert_eq!((&node["node"], &node["pool"]), (&json!("a"), &json!("fast")));
    assert!(scene.cluster.pods_created().is_empty(), "it only looks");

    // Somebody adds a node by hand, without a disk.
    scene.cluster.add_node(&of_pool("by-hand").allocatable("ephemeral-storage", "512Mi"));
    let said = scene.doctor(&["--docker-socket=none"]).await.expect(0, "");
    says(&said, "warning", "pool", &["2 can build; not by-hand"]);
    says(&said, "warning", "node", &["by-hand: 512 MiB of ephemeral-storage", "one build requests"]);

    let mut all_bad = scene.command(&["doctor", "--nodes", "--docker-socket=none"]);
    all_bad.env("FAIRLANE_POD_TEMPLATE", "other.yaml");
    std::fs::write(scene.home.join("other.yaml"), "spec: { nodeSelector: { pool: none } }").unwrap();
    let said = run(all_bad).await.expect(1, "");
    assert!(said.data.contains("error    pool"), "{}", said.data);

    scene.cluster.forbids("list nodes");
    says(&scene.doctor(&[]).await.expect(1, ""), "error", "nodes", &["may not list nodes", "rbac.nodes"]);
}
