//! Where pods go, what becomes of them there, and what is left of them.

use std::process::Command;

use fairlane_testkit::kube::{Cluster, Node};
use fairlane_testkit::{Process, TempDir, wait_for, wait_for_eq};
use futures::StreamExt;
use serde_json::{Value, json};

use super::plain::{DEADLINE, Plain};

/// Where the cluster of another process writes the id of its pod's process.
const PID_FILE: &str = "FAIRLANE_TEST_POD_PID_FILE";

async fn node_of(cluster: &Cluster, pod: &str) -> String {
    wait_for(&format!("{pod} to have a node"), DEADLINE, async || {
        cluster.pod(pod).object()?["spec"]["nodeName"].as_str().map(str::to_owned)
    })
    .await
}

fn affinity(kind: &str, operator: &str, hosts: &[&str]) -> Value {
    let term = json!({ "matchExpressions": [
        { "key": "kubernetes.io/hostname", "operator": operator, "values": hosts },
    ] });
    let affinity = match kind {
        "required" => {
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } })
        }
        _ => {
            json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 100, "preference": term }] })
        }
    };
    json!({ "affinity": { "nodeAffinity": affinity } })
}

#[tokio::test]
async fn kube_pods_go_where_selectors_affinity_and_taints_let_them() -> anyhow::Result<()> {
    let cluster = Cluster::builder()
        .node(Node::named("plain"))
        .node(Node::named("gpu").taint("gpu", "yes", "NoSchedule").label("kind", "gpu"))
        .node(Node::named("small").allocatable("ephemeral-storage", "0"))
        .start();
    let api = Plain::of(&cluster);
    api.create_pod_with("avoids", "true", &affinity("required", "NotIn", &["plain"])).await?;
    assert_eq!(node_of(&cluster, "avoids").await, "small");
    api.create_pod_with("prefers", "true", &affinity("preferred", "In", &["small"])).await?;
    assert_eq!(node_of(&cluster, "prefers").await, "small");
    let tolerates = json!({ "nodeSelector": { "kind": "gpu" },
                            "tolerations": [{ "key": "gpu", "operator": "Equal", "value": "yes" }] });
    api.create_pod_with("tolerates", "true", &tolerates).await?;
    assert_eq!(node_of(&cluster, "tolerates").await, "gpu");

    api.create_pod_with("nowhere", "true", &affinity("required", "NotIn", &["plain", "small"])).await?;
    let why = wait_for("the reason", DEADLINE, async || {
        let pod = cluster.pod("nowhere").object()?;
        pod["status"]["conditions"][0]["message"].as_str().map(str::to_owned)
    })
    .await;
    assert!(why.starts_with(
        "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 2 node(s) didn't"
    ));
    cluster.add_node(&Node::named("late"));
    assert_eq!(node_of(&cluster, "nowhere").await, "late", "it is looked at again");
    Ok(())
}

#[tokio::test]
async fn kube_nodes_without_space_fail_every_pod_until_they_are_well() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    cluster.node("node-1").has_no_space_left();
    api.create_pod("a", "echo fine").await?;
    wait_for_eq("a to end", DEADLINE, "Failed".to_owned(), async || cluster.pod("a").phase()).await;
    assert!(api.get("pods/a/log").await?.text().await?.contains("no space left on device"));
    cluster.node("node-1").is_well_again();
    api.create_pod("b", "echo fine").await?;
    wait_for_eq("b to end", DEADLINE, "Succeeded".to_owned(), async || cluster.pod("b").phase()).await;
    Ok(())
}

#[tokio::test]
async fn kube_secrets_are_mounted_where_the_command_looks_for_them() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let api = Plain::of(&cluster);
    let secret =
        json!({ "metadata": { "name": "registry" }, "stringData": { "config.json": "{\"auths\":{}}" } });
    let path = format!("/api/v1/namespaces/{}/secrets", cluster.namespace());
    assert_eq!(api.post(&path, &secret).await?.status(), 201);
    let spec = json!({
        "volumes": [{ "name": "docker", "secret": { "secretName": "registry" } }],
        "containers": [{
            "name": "build", "image": "busybox", "args": ["cat $DOCKER_CONFIG/config.json /root/.docker/config.json"],
            "command": ["sh", "-c"], "env": [{ "name": "DOCKER_CONFIG", "value": "/root/.docker" }],
            "volumeMounts": [{ "name": "docker", "mountPath": "/root/.docker" }],
        }],
    });
    api.create_pod_with("a", "", &spec).await?;
    wait_for_eq("a to end", DEADLINE, "Succeeded".to_owned(), async || cluster.pod("a").phase()).await;
    assert_eq!(api.get("pods/a/log").await?.text().await?, "{\"auths\":{}}{\"auths\":{}}");
    Ok(())
}

#[tokio::test]
async fn kube_holds_a_thousand_pods_and_twenty_watches() -> anyhow::Result<()> {
    const PODS: usize = 1_000;
    let cluster = Cluster::builder().node(Node::named("a")).node(Node::named("b")).start();
    let api = Plain::of(&cluster);
    let mut watches = Vec::new();
    for _ in 0..20 {
        let watch = api.get("pods?watch=true&labelSelector=made-by%3Da-test").await?;
        watches.push(tokio::spawn(async move {
            let (mut ended, mut rest) = (0, String::new());
            let mut chunks = watch.bytes_stream();
            while ended < PODS
                && let Some(Ok(chunk)) = chunks.next().await
            {
                rest.push_str(&String::from_utf8_lossy(&chunk));
                let whole = rest.rfind('\n').map_or(0, |end| end + 1);
                let lines = rest[..whole].lines();
                ended += lines.filter(|line| line.contains("\"phase\":\"Succeeded\"")).count();
                rest.drain(..whole);
            }
            ended
        }));
    }
    for number in 0..PODS {
        assert_eq!(api.create_pod(&format!("pod-{number}"), "true").await?, 201);
    }
    for watch in watches {
        assert_eq!(tokio::time::timeout(DEADLINE * 4, watch).await??, PODS);
    }
    assert_eq!((cluster.requests("create pods"), cluster.requests("watch pods")), (PODS, 20));
    assert_eq!(cluster.pods_created().len(), PODS);
    Ok(())
}

fn is_alive(pid: &str) -> bool {
    std::path::Path::new("/proc").join(pid).exists()
}

async fn pid_of(cluster: &Cluster) -> anyhow::Result<String> {
    let api = Plain::of(cluster);
    api.create_pod("a", "trap '' TERM; echo $$$$; sleep 600").await?;
    let pid = wait_for("the pod's process", DEADLINE, async || {
        let log = api.get("pods/a/log").await.ok()?.error_for_status().ok()?.text().await.ok()?;
        log.strip_suffix('\n').map(str::to_owned)
    })
    .await;
    assert!(is_alive(&pid));
    Ok(pid)
}

#[tokio::test]
async fn kube_processes_die_with_their_pod_and_with_their_cluster() -> anyhow::Result<()> {
    let cluster = Cluster::start();
    let pid = pid_of(&cluster).await?;
    cluster.pod("a").is_deleted();
    wait_for_eq("the process to be dead", DEADLINE, false, async || is_alive(&pid)).await;
    wait_for_eq("the pod to be gone", DEADLINE, true, async || cluster.pod("a").object().is_none()).await;
    let pid = pid_of(&cluster).await?;
    drop(cluster);
    wait_for_eq("the process to be dead", DEADLINE, false, async || is_alive(&pid)).await;
    Ok(())
}

#[tokio::test]
async fn kube_processes_die_with_a_test_that_is_killed() -> anyhow::Result<()> {
    let folder = TempDir::new();
    let file = folder.join("pid");
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--ignored", "--exact", "kube::nodes::holds_a_pod_until_it_is_killed"])
        .env(PID_FILE, &file);
    let other = Process::spawn("a test", &mut command);
    let pid = wait_for("its pod", DEADLINE, async || {
        std::fs::read_to_string(&file).ok().filter(|pid| !pid.is_empty())
    })
    .await;
    assert!(is_alive(&pid));
    other.kill();
    wait_for_eq("the pod's process to be dead", DEADLINE, false, async || is_alive(&pid)).await;
    Ok(())
}

#[tokio::test]
#[ignore = "the other process of kube_processes_die_with_a_test_that_is_killed"]
async fn holds_a_pod_until_it_is_killed() -> anyhow::Result<()> {
    let Some(file) = std::env::var_os(PID_FILE) else { return Ok(()) };
    let cluster = Cluster::start();
    std::fs::write(file, pid_of(&cluster).await?)?;
    std::future::pending::<()>().await;
    Ok(())
}
