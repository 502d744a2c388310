use fairlane_testkit::kube::examples::{node, pod, tainted};
use serde_json::{Value, json};

use super::*;

const DIND: &str = "/var/run/dind/docker.sock";
const NOW: &str = "2026-11-30T12:00:00Z";

/// Build pods as in docs/nodes.md.
fn build_pod() -> Pod {
    pod(&json!({
        "nodeSelector": { "fairlane/pool": "builds" },
        "tolerations": [{ "key": "dedicated", "value": "builds", "effect": "NoSchedule" }],
        "containers": [{ "name": "builder", "image": "quay.io/r2d:1",
                         "resources": { "requests": { "memory": "2Gi", "ephemeral-storage": "10Gi" } } }],
    }))
}

/// A node of a pool, with the label and the taint of a build pool.
fn of_pool(name: &str, pool: &str, disk: &str, change: &Value) -> Node {
    let mut all = json!({
        "metadata": { "labels": { "fairlane/pool": "builds", "cloud.google.com/gke-nodepool": pool },
                      "creationTimestamp": "2026-11-01T00:00:00Z" },
        "spec": { "taints": [{ "key": "dedicated", "value": "builds", "effect": "NoSchedule" }] },
    });
    for part in ["metadata", "spec", "status"] {
        for (key, value) in change[part].as_object().into_iter().flatten() {
            all[part][key] = value.clone();
        }
    }
    node(name, disk, &all)
}

struct Said(Vec<(Level, String)>);

impl Said {
    #[track_caller]
    fn has(&self, level: Level, words: &[&str]) -> &Self {
        let is_it =
            |(of, text): &(Level, String)| *of == level && words.iter().all(|word| text.contains(word));
        assert!(self.0.iter().any(is_it), "no {level:?} with {words:?} in {:#?}", self.0);
        self
    }

    fn levels(&self, level: Level) -> usize {
        self.0.iter().filter(|(of, _)| *of == level).count()
    }
}

fn said_with(pod: &Pod, nodes: &[Node], daemons: Option<&Answer<Vec<Pod>>>) -> Said {
    let mut findings = Findings::default();
    let engine =
        daemons.map(|daemons| (Engine { socket: DIND, selector: "app=dind", namespace: "builds" }, daemons));
    judge(&Looked { pod, nodes, engine, now: NOW.parse().unwrap() }, &mut findings);
    Said(findings.0.iter().map(|one| (one.level, format!("{}: {}", one.about, one.in_full()))).collect())
}

fn said(nodes: &[Node]) -> Said {
    said_with(&build_pod(), nodes, None)
}

#[test]
fn a_good_pool_can_build_and_others_are_not_for_builds() {
    let nodes = [
        of_pool("a", "fast", "100Gi", &json!({})),
        of_pool("b", "fast", "100Gi", &json!({})),
        node(
            "hub",
            "50Gi",
            &json!({ "metadata": { "labels": { "cloud.google.com/gke-nodepool": "core" } } }),
        ),
        node("lone", "50Gi", &tainted("gpu", "yes", "NoSchedule")),
    ];
    let found = said(&nodes);
    found
        .has(Level::Ok, &["pool: fast (2 nodes): this pool can build"])
        .has(Level::Ok, &["node: a: can build; room for 10 builds at once", "ephemeral-storage"])
        .has(Level::Ok, &["pool: core (1 node): not for builds", "lacks the label fairlane/pool=builds"])
        .has(Level::Ok, &["nodes without a pool's label (1 node): not for builds", "gpu=yes:NoSchedule"]);
    assert_eq!(found.levels(Level::Ok), found.0.len());
}

#[test]
fn nodes_that_were_added_by_hand_without_disks_are_found_before_a_build_goes_there() {
    let unlabelled = json!({ "metadata": { "labels": { "cloud.google.com/gke-nodepool": "fast" } } });
    let nodes = [
        of_pool("good", "fast", "100Gi", &json!({})),
        of_pool("fine", "fast", "100Gi", &json!({})),
        of_pool("bare", "fast", "0", &json!({})),
        of_pool("small", "fast", "5Gi", &json!({})),
        of_pool("boot", "fast", "20Gi", &json!({})),
        of_pool("untagged", "fast", "100Gi", &unlabelled),
        of_pool("gpu", "fast", "100Gi", &tainted("gpu", "yes", "NoSchedule")),
    ];
    said(&nodes)
        .has(Level::Warning, &["pool: fast (7 nodes): 2 can build; not bare, boot, gpu, small, untagged"])
        .has(
            Level::Warning,
            &["bare: 0 B of ephemeral-storage", "less than the 10 GiB that one build requests"],
        )
        .has(Level::Warning, &["small: 5 GiB of ephemeral-storage", "docs/nodes.md"])
        .has(Level::Error, &["boot: 20 GiB of ephemeral storage where others have 100 GiB", "no space left"])
        .has(
            Level::Warning,
            &["untagged: it lacks the label", "kubectl label node untagged fairlane/pool=builds"],
        )
        .has(Level::Warning, &["gpu: build pods do not tolerate", "kubectl taint node gpu gpu:NoSchedule-"]);
    // Without a request, the scheduler sends builds there.
    let careless = pod(&json!({ "nodeSelector": { "fairlane/pool": "builds" },
                                "tolerations": [{ "operator": "Exists" }] }));
    said_with(&careless, &nodes, None)
        .has(Level::Warning, &["template: build pods request no ephemeral-storage"])
        .has(Level::Error, &["bare: no ephemeral storage: builds there fail"]);
}

#[test]
fn what_keeps_builds_off_a_node_is_named_with_what_helps() {
    let condition = |kind: &str, status: &str| json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }, { "type": kind, "status": status }] } });
    let away = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    let closed = json!({ "spec": { "unschedulable": true } });
    let weak =
        json!({ "status": { "allocatable": { "cpu": "8", "memory": "1Gi", "ephemeral-storage": "100Gi" } } });
    let nodes = [
        of_pool("pressed", "p", "100Gi", &condition("DiskPressure", "True")),
        of_pool("away", "p", "100Gi", &away),
        of_pool("closed", "p", "100Gi", &closed),
        of_pool("weak", "p", "100Gi", &weak),
    ];
    said(&nodes)
        .has(Level::Error, &["pool: p (4 nodes): this pool cannot build"])
        .has(Level::Warning, &["pressed: short of disk (DiskPressure)"])
        .has(Level::Warning, &["away: not ready", "kubectl describe node away"])
        .has(Level::Warning, &["closed: cordoned", "kubectl uncordon closed"])
        .has(Level::Warning, &["weak: 1 GiB of memory for pods, less than the 2 GiB"]);
}

#[test]
fn a_template_that_selects_no_node_is_an_error() {
    let nodes = [node("a", "100Gi", &json!({})), node("b", "100Gi", &json!({}))];
    said(&nodes).has(Level::Error, &["not for builds", "fairlane/pool=builds", "Correct the node selector"]);
    said(&[]).has(Level::Error, &["no node"]);
    // A taint on nodes that the template names is a mistake, not a purpose.
    let mut intolerant = build_pod();
    intolerant.spec.as_mut().unwrap().tolerations = None;
    said_with(&intolerant, &[of_pool("a", "p", "100Gi", &json!({}))], None)
        .has(Level::Error, &["this pool cannot build"])
        .has(Level::Warning, &["a: build pods do not tolerate its taint dedicated=builds:NoSchedule"]);
}

#[test]
fn a_new_node_and_its_daemon_are_told() {
    let ready = json!({
        "metadata": { "name": "dind-a" }, "spec": { "nodeName": "a", "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    let daemons = Answer::Known(vec![serde_json::from_value(ready).unwrap()]);
    let young = json!({
        "metadata": { "creationTimestamp": "2026-11-30T11:58:00Z" },
        "status": { "images": [{ "names": ["docker.io/library/pause:3"] }] },
    });
    let nodes = [of_pool("a", "p", "100Gi", &json!({})), of_pool("b", "p", "100Gi", &young)];
    let found = said_with(&build_pod(), &nodes, Some(&daemons));
    found.has(Level::Ok, &["node: a: can build"]).has(
        Level::Error,
        &["b: no daemon (app=dind) is ready there", DIND, "it joined 2 min ago", "pulls the build image"],
    );
    // Where nothing says whether the socket is there, only a probe can tell.
    for unknown in [Answer::Known(vec![]), Answer::Denied] {
        said_with(&build_pod(), &nodes[..1], Some(&unknown))
            .has(Level::Ok, &["a: can build; not known: is /var/run/dind/docker.sock there?"])
            .has(Level::Warning, &["probe:", "`fairlane nodes probe NODE`"]);
    }
}
