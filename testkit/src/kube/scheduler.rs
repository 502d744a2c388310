//! The scheduler: which node a pod goes to, and why to none.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kubelet;
use super::object::{Key, Object, is_terminating, list, seconds, text};
use super::quantity;
use super::shared::{Event, Shared};

/// Resources that are counted, with their names in a pod.
const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Gives pods to nodes for as long as the cluster lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.store().subscribe();
    let mut seen = 0;
    loop {
        let version = *changes.borrow_and_update();
        if matters(&shared, seen) {
            let mut used = used(&shared);
            let pods = shared.store().list("pods", None);
            for pod in pods {
                if text(&pod, "/spec/nodeName").is_empty() && !is_terminating(&pod) {
                    schedule(&shared, &pod, &mut used);
                }
            }
        }
        seen = version;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Whether anything since this version can let a pod be scheduled.
fn matters(shared: &Shared, since: u64) -> bool {
    let store = shared.store();
    if since < store.oldest() {
        return true;
    }
    store.changes_after(since, usize::MAX).iter().any(|change| match change.key.resource {
        "nodes" => true,
        "pods" => change.before.is_none() || change.gone || frees(&change.after),
        _ => false,
    })
}

fn frees(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

fn schedule(shared: &Arc<Shared>, pod: &Object, used: &mut BTreeMap<String, Used>) {
    let key = Key::new("pods", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let uid = text(pod, "/metadata/uid").to_owned();
    let nodes = shared.store().list("nodes", None);
    let none = Used::default();
    let mut reasons = BTreeMap::<String, usize>::new();
    let mut best: Option<(i64, &str)> = None;
    for node in &nodes {
        let name = text(node, "/metadata/name");
        let load = used.get(name).unwrap_or(&none);
        match fits(pod, node, load) {
            Ok(()) => {
                let pods = i64::try_from(load.pods).unwrap_or(i64::MAX);
                let score = preference(pod, node) * 1_000 - pods;
                if best.is_none_or(|(most, _)| score > most) {
                    best = Some((score, name));
                }
            }
            Err(why) => {
                for reason in why {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    match best {
        Some((_, node)) => {
            bind(shared, key, uid, node);
            used.entry(node.to_owned()).or_default().add(pod);
        }
        None => say_unschedulable(shared, pod, &key, nodes.len(), &reasons),
    }
}

fn bind(shared: &Arc<Shared>, key: Key, uid: String, node: &str) {
    let bound = {
        let mut store = shared.store();
        let Some(_) = store.get_same(&key, &uid) else { return };
        store.update(&key, |pod| {
            pod["spec"]["nodeName"] = json!(node);
            pod["status"]["conditions"] = json!([scheduled("True", None)]);
        })
    };
    if let Some(pod) = bound {
        let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
        let from = ("default-scheduler", "");
        shared.event(
            &pod,
            &Event { warning: false, reason: "Scheduled", message: &message, field: None, from },
        );
        tokio::spawn(kubelet::run(Arc::clone(shared), key, uid));
    }
}

fn say_unschedulable(
    shared: &Shared,
    pod: &Object,
    key: &Key,
    nodes: usize,
    reasons: &BTreeMap<String, usize>,
) {
    let mut why = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
    why.sort();
    let message = if nodes == 0 {
        "no nodes available to schedule pods".to_owned()
    } else {
        format!(
            "0/{nodes} nodes are available: {}. no new claims to deallocate, preemption: 0/{nodes} nodes are \
             available: {nodes} Preemption is not helpful for scheduling.",
            why.join(", ")
        )
    };
    if list(pod, "/status/conditions").iter().any(|condition| condition["message"] == message.as_str()) {
        return;
    }
    let updated = shared.store().update(key, |pod| {
        pod["status"]["conditions"] = json!([scheduled("False", Some(&message))]);
    });
    if let Some(pod) = updated {
        let from = ("default-scheduler", "");
        let (warning, reason) = (true, "FailedScheduling");
        shared.event(&pod, &Event { warning, reason, message: &message, field: None, from });
    }
}

fn scheduled(status: &str, message: Option<&str>) -> Value {
    let mut condition = json!({
        "type": "PodScheduled", "status": status, "lastProbeTime": null,
        "lastTransitionTime": seconds(Timestamp::now()),
    });
    if let Some(message) = message {
        condition["observedGeneration"] = json!(1);
        condition["reason"] = json!("Unschedulable");
        condition["message"] = json!(message);
    }
    condition
}

/// What the pods of a node ask for.
#[derive(Debug, Default)]
struct Used {
    pods: usize,
    amounts: [f64; COUNTED.len()],
}

impl Used {
    fn add(&mut self, pod: &Value) {
        self.pods += 1;
        for (amount, asked) in self.amounts.iter_mut().zip(requests(pod)) {
            *amount += asked;
        }
    }
}

fn used(shared: &Shared) -> BTreeMap<String, Used> {
    let mut nodes = BTreeMap::<String, Used>::new();
    let pods = shared.store().list("pods", None);
    for pod in pods {
        let node = text(&pod, "/spec/nodeName");
        if !node.is_empty() && !frees(&pod) {
            nodes.entry(node.to_owned()).or_default().add(&pod);
        }
    }
    nodes
}

fn requests(pod: &Value) -> [f64; COUNTED.len()] {
    COUNTED.map(|resource| {
        list(pod, "/spec/containers")
            .iter()
            .map(|one| quantity::parse(text(one, &format!("/resources/requests/{resource}"))).unwrap_or(0.0))
            .sum()
    })
}

/// Whether a node can take a pod; else why not, in the scheduler's words.
fn fits(pod: &Value, node: &Value, used: &Used) -> Result<(), Vec<String>> {
    if let Some(taint) = list(node, "/spec/taints").iter().find(|taint| !tolerated(pod, taint)) {
        let (key, value) = (text(taint, "/key"), text(taint, "/value"));
        return Err(vec![format!("node(s) had untolerated taint {{{key}: {value}}}")]);
    }
    if node["spec"]["unschedulable"] == Value::Bool(true) {
        return Err(vec!["node(s) were unschedulable".to_owned()]);
    }
    if !selected(pod, node) {
        return Err(vec!["node(s) didn't match Pod's node affinity/selector".to_owned()]);
    }
    let mut short = Vec::new();
    if quantity::parse(text(node, "/status/allocatable/pods"))
        .is_some_and(|most| count(used.pods) + 1.0 > most)
    {
        short.push("Too many pods".to_owned());
    }
    for ((resource, asked), taken) in COUNTED.iter().zip(requests(pod)).zip(used.amounts) {
        let there = quantity::parse(text(node, &format!("/status/allocatable/{resource}"))).unwrap_or(0.0);
        if asked > 0.0 && asked + taken > there {
            short.push(format!("Insufficient {resource}"));
        }
    }
    if short.is_empty() { Ok(()) } else { Err(short) }
}

fn count(pods: usize) -> f64 {
    u32::try_from(pods).map_or(f64::MAX, f64::from)
}

/// Whether the pod tolerates a taint; one that only prefers needs no toleration.
fn tolerated(pod: &Value, taint: &Value) -> bool {
    let effect = text(taint, "/effect");
    effect == "PreferNoSchedule"
        || list(pod, "/spec/tolerations").iter().any(|toleration| {
            let any = |pointer, value: &str| {
                matches!(text(toleration, pointer), "") || text(toleration, pointer) == value
            };
            let exists = text(toleration, "/operator") == "Exists";
            any("/effect", effect)
                && (if text(toleration, "/key").is_empty() {
                    exists
                } else {
                    text(toleration, "/key") == text(taint, "/key")
                })
                && (exists || text(toleration, "/value") == text(taint, "/value"))
        })
}

fn selected(pod: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let wanted = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    if !wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let terms = pod.pointer(
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
    );
    terms.and_then(Value::as_array).is_none_or(|terms| terms.iter().any(|term| term_holds(term, node)))
}

fn term_holds(term: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let name = json!({ "metadata.name": node["metadata"]["name"] });
    list(term, "/matchExpressions").iter().all(|one| expression_holds(one, labels))
        && list(term, "/matchFields").iter().all(|one| expression_holds(one, &name))
}

fn expression_holds(expression: &Value, labels: &Value) -> bool {
    let value = labels.get(text(expression, "/key")).and_then(Value::as_str);
    let among = value.is_some_and(|value| list(expression, "/values").iter().any(|one| one == value));
    match text(expression, "/operator") {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The sum of the weights of the preferences that a node fulfils.
fn preference(pod: &Value, node: &Value) -> i64 {
    list(pod, "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .filter(|one| term_holds(&one["preference"], node))
        .filter_map(|one| one["weight"].as_i64())
        .sum()
}
