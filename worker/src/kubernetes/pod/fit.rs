//! Whether a node can run a build pod, by the scheduler's own rules.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use super::quantity::{self, Amounts};

/// Prefix of taints that repeat a node's conditions.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// The resources that pods request and nodes have.
pub const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What keeps a pod off a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Obstacle {
    /// Its kubelet is not ready, or silent.
    NotReady,
    /// Somebody has cordoned it.
    Cordoned,
    /// A taint that the pod does not tolerate, as `key=value:effect`.
    Taint(Taint),
    /// The pod's node selector or affinity excludes it.
    NotSelected,
    /// It has less of a resource than the pod requests, even if nothing else runs.
    TooSmall {
        /// The resource.
        resource: &'static str,
        /// How much the node has for pods.
        has: f64,
        /// How much the pod requests.
        asked: f64,
    },
}

impl Obstacle {
    /// Whether it exists because the node is meant for something else.
    pub fn is_meant(&self) -> bool {
        matches!(self, Self::Taint(_) | Self::NotSelected)
    }
}

/// What keeps a pod off a node; empty if the pod may run there.
pub fn obstacles(pod: &Pod, node: &Node) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if condition(node, "Ready") != Some("True") {
        found.push(Obstacle::NotReady);
    }
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        found.push(Obstacle::Cordoned);
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let keeps_off = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !taint.key.starts_with(OWN_TAINTS)
            && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    found.extend(taints.iter().filter(keeps_off).cloned().map(Obstacle::Taint));
    if !is_selected(pod, node) {
        found.push(Obstacle::NotSelected);
    }
    for resource in RESOURCES {
        let asked = requested(pod, resource);
        let has = allocatable(node, resource).unwrap_or(0.0);
        if asked > has {
            found.push(Obstacle::TooSmall { resource, has, asked });
        }
    }
    found
}

/// The status of a node's condition.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// What a node has for pods.
pub fn allocatable(node: &Node, resource: &str) -> Option<f64> {
    quantity::amount(node.status.as_ref()?.allocatable.as_ref(), resource)
}

/// What a pod requests: its containers together, or its largest init container. A container with a limit and no
/// request requests its limit.
pub fn requested(pod: &Pod, resource: &str) -> f64 {
    asked(pod, resource, false).unwrap_or(0.0)
}

/// A pod's limit; `None` if one of its containers has none.
pub fn limited(pod: &Pod, resource: &str) -> Option<f64> {
    asked(pod, resource, true)
}

/// A pod's requests or limits; `None` if one of its containers has none.
pub fn asked(pod: &Pod, resource: &str, limits: bool) -> Option<f64> {
    let spec = pod.spec.as_ref()?;
    let of = |requests: Option<&Amounts>, most: Option<&Amounts>| {
        let most = quantity::amount(most, resource);
        if limits { most } else { quantity::amount(requests, resource).or(most) }
    };
    let of_pod = spec.resources.as_ref().and_then(|all| of(all.requests.as_ref(), all.limits.as_ref()));
    if of_pod.is_some() {
        return of_pod;
    }
    let container = |container: &k8s_openapi::api::core::v1::Container| {
        let resources = container.resources.as_ref();
        of(resources.and_then(|all| all.requests.as_ref()), resources.and_then(|all| all.limits.as_ref()))
    };
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    // Init containers with the restart policy Always are sidecars: they run alongside the others.
    let (sidecars, inits): (Vec<_>, Vec<_>) =
        inits.iter().partition(|init| init.restart_policy.as_deref() == Some("Always"));
    let together: Option<f64> = spec.containers.iter().chain(sidecars).map(container).sum();
    let largest = inits.into_iter().filter_map(container).fold(0.0, f64::max);
    Some(together?.max(largest))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_any = |text: Option<&str>| text.is_none_or(str::is_empty);
    let effect = toleration.effect.as_deref();
    if !is_any(effect) && effect != Some(&taint.effect) {
        return false;
    }
    let key = toleration.key.as_deref();
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => is_any(key) || key == Some(&taint.key),
        "Equal" | "" => {
            key == Some(&taint.key)
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

/// The labels of a pod's node selector that a node does not have.
pub fn missing_labels<'a>(pod: &'a Pod, node: &Node) -> Vec<(&'a str, &'a str)> {
    let has = |key: &str, value: &str| {
        node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).is_some_and(|label| label == value)
    };
    let wanted = pod.spec.iter().filter_map(|spec| spec.node_selector.as_ref()).flatten();
    wanted
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, value)| !has(key, value))
        .collect()
}

/// Whether a pod names the nodes that it may run on, by a node selector or an affinity.
pub fn is_selective(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        required.is_some() || spec.node_selector.as_ref().is_some_and(|labels| !labels.is_empty())
    })
}

/// How many such pods a node has room for if nothing else runs there, and the resource that runs out first; `None`
/// if the pod requests nothing.
pub fn room(pod: &Pod, node: &Node) -> Option<(f64, &'static str)> {
    let of = |resource: &'static str| {
        let asked = requested(pod, resource);
        (asked > 0.0).then(|| ((allocatable(node, resource).unwrap_or(0.0) / asked).floor(), resource))
    };
    RESOURCES.into_iter().filter_map(of).min_by(|(one, _), (other, _)| one.total_cmp(other))
}

fn is_selected(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let label =
        |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    if !missing_labels(pod, node).is_empty() {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    // Terms are alternatives.
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| holds(term, node, &label)))
}

fn holds<'a>(term: &NodeSelectorTerm, node: &'a Node, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = |key: &str| (key == "metadata.name").then_some(node.metadata.name.as_deref()).flatten();
    // An empty term selects nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|one| is_met(one, label(&one.key)))
        && fields.iter().all(|one| is_met(one, name(&one.key)))
}

fn is_met(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_among = value.is_some_and(|value| values.iter().any(|one| one == value));
    let compared = || {
        let bound = values.first()?.parse::<i64>().ok()?;
        Some(value?.parse::<i64>().ok()?.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => is_among,
        "NotIn" => !is_among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared() == Some(std::cmp::Ordering::Greater),
        "Lt" => compared() == Some(std::cmp::Ordering::Less),
        _ => false,
    }
}

/// Whether the cluster has lost contact with a node's kubelet.
pub fn is_silent(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let unknown = conditions.iter().any(|found| found.type_ == "Ready" && found.status == "Unknown");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    unknown || taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable")
}

#[cfg(test)]
mod tests {
    use fairlane_testkit::kube::examples::{node, pod, tainted};
    use serde_json::{Value, json};

    use super::*;

    fn stands(pod_spec: &Value, node_change: &Value) -> Vec<Obstacle> {
        obstacles(&pod(pod_spec), &node("n", "100Gi", node_change))
    }

    #[test]
    fn a_taint_keeps_off_what_does_not_tolerate_it() {
        let gpu = tainted("gpu", "yes", "NoSchedule");
        let tolerating = |toleration: Value| stands(&json!({ "tolerations": [toleration] }), &gpu);
        for toleration in [
            json!({ "key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule" }),
            json!({ "key": "gpu", "value": "yes" }),
            json!({ "key": "gpu", "operator": "Exists" }),
            json!({ "operator": "Exists" }),
        ] {
            assert_eq!(tolerating(toleration.clone()), [], "{toleration}");
        }
        for toleration in [
            json!({ "key": "gpu", "value": "no" }),
            json!({ "key": "cpu", "operator": "Exists" }),
            json!({ "key": "gpu", "operator": "Exists", "effect": "NoExecute" }),
            json!({ "key": "gpu", "operator": "Sometimes" }),
        ] {
            assert!(matches!(&tolerating(toleration)[..], [Obstacle::Taint(taint)] if taint.key == "gpu"));
        }
        assert_eq!(stands(&json!({}), &tainted("gpu", "yes", "PreferNoSchedule")), []);
        assert_eq!(stands(&json!({}), &tainted("node.kubernetes.io/disk-pressure", "", "NoSchedule")), []);
    }

    #[test]
    fn selectors_and_affinities_leave_nodes_out() {
        let labelled = json!({ "metadata": { "labels": { "pool": "user", "size": "8" } } });
        let terms = |terms: Value| {
            let required =
                json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
            json!({ "affinity": { "nodeAffinity": required } })
        };
        let expression = |key: &str, operator: &str, values: Value| {
            terms(json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]))
        };
        for spec in [
            json!({ "nodeSelector": { "pool": "user" } }),
            expression("pool", "In", json!(["core", "user"])),
            expression("pool", "NotIn", json!(["core"])),
            expression("absent", "NotIn", json!(["core"])),
            expression("pool", "Exists", json!([])),
            expression("absent", "DoesNotExist", json!([])),
            expression("size", "Gt", json!(["7"])),
            expression("size", "Lt", json!(["9"])),
            terms(
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] }]),
            ),
            terms(json!([{}, { "matchExpressions": [{ "key": "pool", "operator": "Exists" }] }])),
        ] {
            assert_eq!(stands(&spec, &labelled), [], "{spec}");
        }
        for spec in [
            json!({ "nodeSelector": { "pool": "core" } }),
            expression("pool", "NotIn", json!(["user"])),
            expression("absent", "In", json!(["x"])),
            expression("size", "Gt", json!(["8"])),
            terms(
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["n"] }] }]),
            ),
            terms(json!([{}])),
        ] {
            assert_eq!(stands(&spec, &labelled), [Obstacle::NotSelected], "{spec}");
        }
    }

    #[test]
    fn a_node_that_is_away_closed_or_too_small_takes_nothing() {
        let away = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
        assert_eq!(stands(&json!({}), &away), [Obstacle::NotReady]);
        assert_eq!(stands(&json!({}), &json!({ "spec": { "unschedulable": true } })), [Obstacle::Cordoned]);
        let asks =
            |resources: Value| json!({ "containers": [{ "name": "builder", "resources": resources }] });
        let large = asks(json!({ "limits": { "ephemeral-storage": "200Gi" } }));
        assert!(matches!(
            &stands(&large, &json!({}))[..],
            [Obstacle::TooSmall { resource: "ephemeral-storage", .. }]
        ));
        assert_eq!(stands(&asks(json!({ "requests": { "cpu": "8" } })), &json!({})), []);
    }

    #[test]
    fn what_a_pod_asks_for_is_counted_as_the_scheduler_does() {
        let one = |requests: &str, limits: &str| json!({ "name": "c", "resources": { "requests": { "cpu": requests }, "limits": { "cpu": limits } } });
        let mut sidecar = one("2", "2");
        sidecar["restartPolicy"] = json!("Always");
        let pod = pod(
            &json!({ "containers": [one("1", "2"), one("500m", "1")], "initContainers": [one("4", "4"), sidecar] }),
        );
        assert_eq!((requested(&pod, "cpu"), limited(&pod, "cpu")), (4.0, Some(5.0)));
        assert_eq!((requested(&pod, "memory"), limited(&pod, "memory")), (0.0, None));
    }
}
