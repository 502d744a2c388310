//! `fairlane doctor` on a Kubernetes cluster: it names what is wrong, and changes nothing.

use std::path::Path;
use std::process::Command;

use fairlane_testkit::kube::{Cluster, Fault, Node, TestCluster};
use fairlane_testkit::{RedisServer, Said, TempDir};
use serde_json::{Value, json};

use crate::setup::{fairlane, run, says};

/// The rights that `BinderHub`'s chart grants.
const BINDERHUB: [&str; 6] =
    ["get pods", "watch pods", "list pods", "create pods", "delete pods", "get pods/log"];
const DIND: &str = "/var/run/dind/docker.sock";

/// The program in its own folder, with a healthy Redis.
struct Scene {
    home: TempDir,
    redis: RedisServer,
}

impl Scene {
    async fn new() -> Self {
        Self { home: TempDir::new(), redis: RedisServer::builder().start().await }
    }

    fn doctor(&self, kubeconfig: &Path, more: &[&str]) -> Command {
        let url = self.redis.url();
        let arguments = ["doctor", "--executor", "kubernetes", "--redis-url", &url];
        let mut command = fairlane(&self.home, arguments.iter().chain(more).copied());
        command.env("KUBECONFIG", kubeconfig).env_remove("KUBERNETES_SERVICE_HOST");
        command
    }

    async fn look(&self, cluster: &Cluster, more: &[&str]) -> Said {
        self.look_with(&cluster.kubeconfig(), more).await
    }

    async fn look_with(&self, kubeconfig: &Path, more: &[&str]) -> Said {
        run(self.doctor(kubeconfig, &[&["--json"], more].concat())).await
    }
}

fn levels(said: &Said, level: &str) -> Vec<Value> {
    said.json().into_iter().filter(|finding| finding["level"] == level).collect()
}

/// Adds a dind daemon as in `BinderHub`'s chart.
fn add_daemon(cluster: &Cluster, node: &str, ready: &str) {
    let daemon = json!({
        "metadata": { "name": format!("dind-{node}"), "namespace": cluster.namespace(),
                      "labels": { "app": "binder", "component": "image-builder" } },
        "spec": { "nodeName": node, "containers": [{ "name": "dind", "image": "docker:dind" }],
                  "volumes": [{ "name": "run", "hostPath": { "path": "/var/run/dind" } }] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
    });
    cluster.add("", "pods", cluster.namespace(), daemon);
}

/// A cluster with a node without disk, a missing right, and a taint that nothing tolerates.
fn ill() -> Cluster {
    let cluster = Cluster::builder()
        .node(Node::named("good-1"))
        .node(Node::named("good-2"))
        .node(Node::named("bare").allocatable("ephemeral-storage", "0"))
        .node(Node::named("gpu-1").taint("nvidia.com/gpu", "present", "NoSchedule"))
        .start();
    cluster.forbids("list events");
    cluster
}

#[tokio::test]
async fn kube_a_node_without_disk_a_right_that_lacks_and_an_untolerated_taint_are_all_named() {
    let scene = Scene::new().await;
    let cluster = ill();
    let said = scene.look(&cluster, &[]).await.expect(1, "");
    says(
        &said,
        "error",
        "disks",
        &["bare has 0 B of ephemeral storage where others have 100 GiB", "no space left"],
    );
    says(
        &said,
        "warning",
        "rights",
        &["may not list events in the namespace builds", "resources: [\"events\"]"],
    );
    says(
        &said,
        "warning",
        "taints",
        &["nvidia.com/gpu=present:NoSchedule", "no build goes to gpu-1", "tolerations"],
    );
    says(&said, "ok", "nodes", &["3 of 4 can run build pods"]);
    // The advice works: a template that requests disk keeps builds off the node without disk, and one with a
    // toleration lets them run on the tainted node.
    let template = "spec:\n  tolerations: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]\n  \
                    containers: [{name: builder, resources: {requests: {ephemeral-storage: 1Gi}}}]\n";
    std::fs::write(scene.home.join("pod.yaml"), template).unwrap();
    let said = scene.look(&cluster, &["--pod-template", "pod.yaml"]).await.expect(0, "");
    says(&said, "warning", "disks", &["bare has 0 B", "so none goes there"]);
    assert!(!said.data.contains("nvidia.com/gpu"), "{said:#?}");
    assert!(cluster.pods_created().is_empty(), "it only looks");
}

#[tokio::test]
async fn kube_with_binderhubs_own_role_the_worker_runs_and_is_told_what_it_lacks() {
    let scene = Scene::new().await;
    let cluster = Cluster::start();
    add_daemon(&cluster, "node-1", "True");
    cluster.permits_only(&BINDERHUB);
    let said = scene.look(&cluster, &["--docker-socket", DIND]).await.expect(0, "");
    for lacking in
        ["list events", "list nodes in the cluster", "create, list, patch, delete secrets", "patch pods"]
    {
        says(&said, "warning", "rights", &[&format!("may not {lacking}"), "The chart's value rbac."]);
    }
    says(&said, "ok", "pod", &["would accept a build pod"]);
    says(&said, "ok", "builders", &["ready on node-1"]);
    for right in BINDERHUB {
        cluster.forbids(right);
        let said = scene.look(&cluster, &["--docker-socket", DIND]).await.expect(1, "");
        let resource = right.split(' ').nth(1).unwrap();
        says(
            &said,
            "error",
            "rights",
            &[&format!("may not {right}"), &format!("resources: [\"{resource}\"]")],
        );
        cluster.permits(right);
    }
}

#[tokio::test]
async fn kube_a_good_cluster_is_well() {
    let scene = Scene::new().await;
    let cluster = Cluster::builder().node(Node::named("a")).node(Node::named("b")).start();
    for node in ["a", "b"] {
        add_daemon(&cluster, node, "True");
    }
    let secret = json!({ "metadata": { "name": "push" } });
    cluster.add("", "secrets", cluster.namespace(), secret);
    cluster.add_pod_quota("builds", 10);
    let said = scene.look(&cluster, &["--docker-socket", DIND, "--push-secret", "push"]).await.expect(0, "");
    let unwell: Vec<Value> = said.json().into_iter().filter(|one| one["level"] != "ok").collect();
    assert!(
        unwell.iter().all(|one| ["persistence", "eviction", "queue", "dispatcher"]
            .iter()
            .any(|about| one["about"] == *about)),
        "{unwell:#?}"
    );
    says(&said, "ok", "cluster", &[&cluster.url(), "v1.36.2", "kubeconfig"]);
    says(&said, "ok", "rights", &["all 14"]);
    says(&said, "ok", "secrets", &["push"]);
    says(&said, "ok", "builders", &["each of the 2 nodes"]);
    says(&said, "ok", "quota", &["builds has room for 8 more builds"]);
    assert!(
        cluster.pods_created().iter().all(|pod| pod["metadata"]["labels"]["component"] == "image-builder")
    );
    assert!(!said.data.contains(cluster.token()), "a secret");
    // Without `--json`, people get the same findings, one per line.
    let said = run(scene.doctor(&cluster.kubeconfig(), &["--docker-socket", DIND])).await.expect(0, "");
    assert!(said.data.lines().any(|line| line.starts_with("ok       rights ")), "{}", said.data);
}

#[tokio::test]
async fn kube_what_the_settings_name_and_is_not_there_is_an_error() {
    let scene = Scene::new().await;
    let cluster = Cluster::start();
    let look_with = async |template: &str, more: &[&str]| {
        std::fs::write(scene.home.join("pod.yaml"), template).unwrap();
        let more = [&["--pod-template", "pod.yaml", "--docker-socket", "none"], more].concat();
        scene.look(&cluster, &more).await
    };
    let said =
        look_with("spec: {serviceAccountName: nobody}", &["--push-secret", "gone"]).await.expect(1, "");
    says(&said, "error", "pod", &["serviceaccount \"nobody\" not found", "Create the service account"]);
    says(&said, "error", "secrets", &["the secret gone", "is not in builds"]);
    says(&said, "ok", "builders", &["do not mount a container engine's socket"]);
    let said = look_with("spec: {priorityClassName: urgent}", &[]).await.expect(1, "");
    says(&said, "error", "pod", &["no PriorityClass with name urgent", "priorityClassName"]);
    cluster.add("scheduling.k8s.io", "priorityclasses", "", json!({ "metadata": { "name": "urgent" } }));
    let said = look_with("spec: {priorityClassName: urgent}", &[]).await.expect(0, "");
    says(&said, "ok", "pod", &["would accept"]);
    let said = look_with("spec: {imagePullSecrets: [{name: pull}]}", &[]).await.expect(0, "");
    says(&said, "warning", "secrets", &["the secret pull"]);
    // An error with which a worker would not start is reported, too, and names the field.
    let said = look_with("spec: {prioritiClassName: x}", &[]).await.expect(1, "");
    says(&said, "error", "settings", &["prioritiClassName"]);
}

#[tokio::test]
async fn kube_a_full_quota_and_absent_daemons_are_told() {
    let scene = Scene::new().await;
    let cluster = Cluster::builder().node(Node::named("a")).node(Node::named("b")).start();
    add_daemon(&cluster, "a", "True");
    add_daemon(&cluster, "b", "False");
    let hard = json!({ "hard": { "pods": "2" } });
    let status = json!({ "hard": { "pods": "2" }, "used": { "pods": "2" } });
    let quota = json!({ "metadata": { "name": "small" }, "spec": hard, "status": status });
    cluster.add("", "resourcequotas", cluster.namespace(), quota);
    let said = scene.look(&cluster, &["--docker-socket", DIND]).await.expect(1, "");
    says(&said, "error", "builders", &["is ready on b", DIND]);
    says(&said, "warning", "quota", &["small is used up", "pods: 0 left of 2"]);
    says(&said, "warning", "quota", &["exceeded quota"]);
    says(&scene.look(&cluster, &[]).await, "error", "builders", &["share /var/run/dind", "--docker-socket"]);
    let said = scene.look(&cluster, &["--builders", "app=none"]).await;
    says(
        &said,
        "warning",
        "builders",
        &["no pod in builds has the labels app=none", "it is unknown whether"],
    );
}

#[tokio::test]
async fn kube_a_cluster_that_is_not_there_or_lets_nobody_in_is_a_sentence() {
    let scene = Scene::new().await;
    let cluster = Cluster::start();
    let missing = scene.home.join("no-such-file");
    let said = scene.look_with(&missing, &[]).await.expect(1, "");
    says(&said, "error", "cluster", &["no-such-file does not exist", "KUBECONFIG"]);
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let stale = scene.home.join("stale");
    std::fs::write(&stale, text.replace(cluster.token(), "opaque-and-old")).unwrap();
    let said = scene.look_with(&stale, &[]).await.expect(1, "");
    says(&said, "error", "cluster", &["does not know the credentials", &cluster.url()]);
    assert!(!said.data.contains("opaque-and-old"), "a secret");
    cluster.api_goes_away();
    let said = scene.look(&cluster, &[]).await.expect(1, "");
    says(&said, "error", "cluster", &["cannot be reached", &cluster.url()]);
}

#[tokio::test]
async fn kube_an_api_that_answers_some_questions_only_is_no_reason_to_give_up() {
    let scene = Scene::new().await;
    let cluster = Cluster::start();
    cluster.always("list nodes", Fault::Fails(500));
    cluster.always("create selfsubjectaccessreviews", Fault::Fails(500));
    cluster.always("create pods", Fault::Fails(500));
    let said = scene.look(&cluster, &["--docker-socket", "none"]).await.expect(0, "");
    says(&said, "warning", "nodes", &["cannot be checked", "500"]);
    says(&said, "warning", "rights", &["not all rights could be checked"]);
    says(&said, "warning", "pod", &["cannot tell whether"]);
    says(&said, "ok", "quota", &["has none"]);
}

#[tokio::test]
async fn kube_the_doctor_looks_at_any_cluster_and_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let cluster = TestCluster::from_env_or_fake();
    let options =
        ["--namespace", cluster.namespace(), "--docker-socket", "none", "--build-image", cluster.image()];
    let said = scene.look_with(cluster.kubeconfig(), &options).await;
    says(&said, "ok", "cluster", &["Kubernetes v1."]);
    says(&said, "ok", "pod", &["would accept a build pod"]);
    assert!(levels(&said, "error").iter().all(|one| one["about"] == "disks"), "{said:#?}");
    if let Some(fake) = cluster.fake() {
        assert!(fake.pods_created().is_empty() && fake.pods().is_empty());
    }
}
