//! The scheduler: decides which node a pod goes to, or why to none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kubelet;
use super::object::{Key, Object, at, is_terminating, list, seconds, text};
use super::quantity;
use super::shared::{Event, Shared};

/// Resources that are counted, with their names in a pod.
const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Sums of amounts that come and go are not exact.
const ROUNDING: f64 = 1e-6;

/// Assigns pods to nodes as long as the cluster exists.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.store().subscribe();
    let mut ledger = Ledger::default();
    loop {
        changes.borrow_and_update();
        let pods = ledger.catch_up(&shared);
        // Assignments of this round come back as changes; until then they are counted in a copy.
        let mut used = ledger.used.clone();
        for pod in pods {
            schedule(&shared, &pod, &mut used);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What the scheduler knows about the cluster, updated from changes.
#[derive(Debug, Default)]
struct Ledger {
    seen: u64,
    used: BTreeMap<String, Used>,
    /// Pods without a node.
    waiting: BTreeSet<Key>,
}

impl Ledger {
    /// Reads the changes, and returns the pods that may now be schedulable.
    fn catch_up(&mut self, shared: &Shared) -> Vec<Object> {
        let store = shared.store();
        let mut fresh = BTreeSet::new();
        let mut all_again = false;
        if self.seen < store.oldest() {
            // The history is gone: everything is read again.
            *self = Self::default();
            all_again = true;
            for pod in store.list("pods", None) {
                let key = Key::new("pods", text(&pod, "/metadata/namespace"), text(&pod, "/metadata/name"));
                self.take_in(&key, Some(&pod));
            }
        } else {
            for change in store.changes_after(self.seen, usize::MAX) {
                all_again |= change.key.resource == "nodes";
                if change.key.resource != "pods" {
                    continue;
                }
                if let Some(before) = &change.before {
                    all_again |= self.give_back(before) && (change.gone || is_over(&change.after));
                } else {
                    fresh.insert(change.key.clone());
                }
                self.take_in(&change.key, (!change.gone).then_some(&change.after));
            }
        }
        self.seen = store.version();
        let chances = if all_again { &self.waiting } else { &fresh };
        chances.iter().filter(|key| self.waiting.contains(*key)).filter_map(|key| store.get(key)).collect()
    }

    fn take_in(&mut self, key: &Key, pod: Option<&Object>) {
        self.waiting.remove(key);
        match pod.map(|pod| (pod, text(pod, "/spec/nodeName"))) {
            Some((pod, "")) if !is_terminating(pod) => {
                self.waiting.insert(key.clone());
            }
            Some((pod, node)) if !node.is_empty() && !is_over(pod) => {
                self.used.entry(node.to_owned()).or_default().count(pod, 1);
            }
            _ => {}
        }
    }

    /// Returns whether the pod had a node.
    fn give_back(&mut self, pod: &Value) -> bool {
        let node = text(pod, "/spec/nodeName");
        let held = !node.is_empty() && !is_over(pod);
        if held {
            self.used.entry(node.to_owned()).or_default().count(pod, -1);
        }
        held
    }
}

fn is_over(pod: &Value) -> bool {
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
                let score = preference(pod, node) * 1_000 - i64::from(load.pods);
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
            used.entry(node.to_owned()).or_default().count(pod, 1);
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

/// What the pods of a node request.
#[derive(Debug, Clone, Default)]
struct Used {
    pods: i32,
    amounts: [f64; COUNTED.len()],
}

impl Used {
    /// Adds a pod, or removes it with -1.
    fn count(&mut self, pod: &Value, times: i32) {
        self.pods += times;
        for (amount, asked) in self.amounts.iter_mut().zip(requests(pod)) {
            *amount += asked * f64::from(times);
        }
    }
}

fn requests(pod: &Value) -> [f64; COUNTED.len()] {
    COUNTED.map(|resource| {
        list(pod, "/spec/containers")
            .iter()
            .map(|one| quantity::parse(text(one, &format!("/resources/requests/{resource}"))).unwrap_or(0.0))
            .sum()
    })
}

/// Whether a node can run a pod; if not, why, in the scheduler's words.
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
        .is_some_and(|most| f64::from(used.pods) + 1.0 > most)
    {
        short.push("Too many pods".to_owned());
    }
    for ((resource, asked), taken) in COUNTED.iter().zip(requests(pod)).zip(used.amounts) {
        let there = quantity::parse(text(node, &format!("/status/allocatable/{resource}"))).unwrap_or(0.0);
        if asked > 0.0 && asked + taken > there + ROUNDING {
            short.push(format!("Insufficient {resource}"));
        }
    }
    if short.is_empty() { Ok(()) } else { Err(short) }
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
    let wanted = at(pod, "/spec/nodeSelector").and_then(Value::as_object);
    if !wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let terms = at(
        pod,
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
