//! Which nodes accept build pods, and on which of them builds would fail.

use std::collections::BTreeMap;

use fairlane_worker::pod::fit::{self, Obstacle, condition, obstacles, requested};
use fairlane_worker::pod::quantity::shown;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::commands::doctor::findings::Findings;

/// Most names in one finding; a cluster may have thousands of nodes.
const NAMES_MAX: usize = 6;
/// A node with less than this share of the usual disk size has almost no disk: in the incident that led to
/// this check, builds used the boot disk instead of a local one.
pub(super) const DISK_SHARE_BAD: f64 = 0.25;
/// A node with less than this share gets a warning.
const DISK_SHARE_LOW: f64 = 0.5;
/// The taint of nodes that are reserved for the cluster itself.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
pub(super) const DISK: &str = "ephemeral-storage";
/// Conditions of nodes that run out of something.
pub(super) const PRESSURES: [(&str, &str); 3] =
    [("DiskPressure", "disk"), ("MemoryPressure", "memory"), ("PIDPressure", "process ids")];

/// A node, and why it does not accept build pods.
pub(super) struct Judged<'a> {
    pub(super) node: &'a Node,
    pub(super) name: &'a str,
    pub(super) obstacles: Vec<Obstacle>,
}

impl Judged<'_> {
    /// Whether builds are meant to run on it, whatever its current condition.
    pub(super) fn is_for_builds(&self) -> bool {
        !self.obstacles.iter().any(Obstacle::is_meant)
    }

    pub(super) fn disk(&self) -> f64 {
        fit::allocatable(self.node, DISK).unwrap_or(0.0)
    }
}

/// The nodes that accept this pod, or would if they were healthy.
pub(super) fn for_builds<'a>(pod: &Pod, nodes: &'a [Node]) -> Vec<&'a Node> {
    judged(pod, nodes).into_iter().filter(Judged::is_for_builds).map(|judged| judged.node).collect()
}

/// Checks which nodes a build pod can run on.
pub(super) fn judge(pod: &Pod, nodes: &[Node], findings: &mut Findings) {
    let judged = judged(pod, nodes);
    able(&judged, findings);
    ill(&judged, findings);
    taints(&judged, findings);
    disks(pod, &judged, findings);
}

pub(super) fn judged<'a>(pod: &Pod, nodes: &'a [Node]) -> Vec<Judged<'a>> {
    let judge = |node: &'a Node| Judged {
        node,
        name: node.metadata.name.as_deref().unwrap_or_default(),
        obstacles: obstacles(pod, node),
    };
    nodes.iter().map(judge).collect()
}

/// The first few names, and how many more there are.
pub(super) fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = all.into_iter().collect();
    all.sort_unstable();
    let more = all.len().saturating_sub(NAMES_MAX);
    all.truncate(NAMES_MAX);
    let shown = all.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn able(nodes: &[Judged<'_>], findings: &mut Findings) {
    let able = nodes.iter().filter(|node| node.obstacles.is_empty()).count();
    let not_selected: Vec<&str> = nodes
        .iter()
        .filter(|node| node.obstacles.contains(&Obstacle::NotSelected))
        .map(|node| node.name)
        .collect();
    if able > 0 {
        let left_out = if not_selected.is_empty() {
            String::new()
        } else {
            format!("; the pod template does not select {}", names(not_selected))
        };
        findings.ok("nodes", format!("{able} of {} can run build pods{left_out}", nodes.len()));
        return;
    }
    let why = counted(nodes);
    let text = if nodes.is_empty() {
        "the cluster has no node".to_owned()
    } else {
        format!("none of the {} can run a build pod: {why}", nodes.len())
    };
    findings.error(
        "nodes",
        text,
        "Correct the node selector, tolerations and requests in the pod template, or add nodes. Nodes that an autoscaler \
         would add are not counted here.",
    );
}

/// How many nodes each obstacle affects.
fn counted(nodes: &[Judged<'_>]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for obstacle in nodes.iter().flat_map(|node| &node.obstacles) {
        let why = match obstacle {
            Obstacle::NotReady => "not ready".to_owned(),
            Obstacle::Cordoned => "cordoned".to_owned(),
            Obstacle::Taint(taint) => format!("with the taint {}", written(taint)),
            Obstacle::NotSelected => "not selected by the pod template".to_owned(),
            Obstacle::TooSmall { resource, .. } => format!("with less {resource} than a build pod requests"),
        };
        *counts.entry(why).or_default() += 1;
    }
    counts.into_iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
}

fn ill(nodes: &[Judged<'_>], findings: &mut Findings) {
    let with = |found: &dyn Fn(&Judged<'_>) -> bool| -> Vec<&str> {
        nodes.iter().filter(|node| found(node)).map(|node| node.name).collect()
    };
    let away = with(&|node| node.obstacles.contains(&Obstacle::NotReady));
    if !away.is_empty() {
        findings.warning(
            "nodes",
            format!("not ready: {}", names(away)),
            "`kubectl describe node` says why; builds that ran there are retried elsewhere.",
        );
    }
    let cordoned = with(&|node| node.obstacles.contains(&Obstacle::Cordoned));
    if !cordoned.is_empty() {
        findings.warning(
            "nodes",
            format!("cordoned: {}", names(cordoned)),
            "When nobody is working on them any more, `kubectl uncordon` makes them available again.",
        );
    }
    for (kind, of_what) in PRESSURES {
        let short = with(&|node| condition(node.node, kind) == Some("True"));
        if !short.is_empty() {
            findings.warning(
                "nodes",
                format!("short of {of_what}: {}", names(short)),
                "Their kubelets evict pods. Set requests in the pod template for what runs short, or give the nodes more of it.",
            );
        }
    }
    for (resource, about) in [("cpu", "CPU"), ("memory", "memory")] {
        let small = |node: &Judged<'_>| {
            let too_small =
                |one: &Obstacle| matches!(one, Obstacle::TooSmall { resource: of, .. } if *of == resource);
            node.is_for_builds() && node.obstacles.iter().any(too_small)
        };
        let small = with(&small);
        if !small.is_empty() {
            findings.warning(
                "nodes",
                format!(
                    "less {about} than a build pod requests, even with nothing else running: {}",
                    names(small)
                ),
                "No build goes there: lower the requests in the pod template, or ignore this.",
            );
        }
    }
}

fn taints(nodes: &[Judged<'_>], findings: &mut Findings) {
    let mut tainted: BTreeMap<String, (&Taint, Vec<&str>)> = BTreeMap::new();
    for node in nodes {
        for obstacle in &node.obstacles {
            if let Obstacle::Taint(taint) = obstacle {
                tainted.entry(written(taint)).or_insert_with(|| (taint, Vec::new())).1.push(node.name);
            }
        }
    }
    for (written, (taint, on)) in tainted {
        let text = format!("build pods do not tolerate {written}: no build goes to {}", names(on));
        if taint.key == CONTROL_PLANE {
            findings.ok("taints", text);
            continue;
        }
        let value = taint.value.as_deref().unwrap_or_default();
        let how =
            if value.is_empty() { "operator: Exists".to_owned() } else { format!("value: \"{value}\"") };
        findings.warning(
            "taints",
            text,
            format!(
                "If builds should, add to the pod template: tolerations: [{{key: {}, {how}, effect: {}}}]",
                taint.key, taint.effect
            ),
        );
    }
}

pub(super) fn written(taint: &Taint) -> String {
    match taint.value.as_deref() {
        Some(value) if !value.is_empty() => format!("{}={value}:{}", taint.key, taint.effect),
        _ => format!("{}:{}", taint.key, taint.effect),
    }
}

/// How much disk most of these nodes have; `None` if none of them has any.
pub(super) fn usual_disk(nodes: &[Judged<'_>]) -> Option<f64> {
    let mut sizes: Vec<f64> = nodes.iter().map(Judged::disk).filter(|size| *size > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    // The larger of the two middle values: of a good and a bad node, the good one counts as usual.
    sizes.get(sizes.len() / 2).copied()
}

fn disks(pod: &Pod, nodes: &[Judged<'_>], findings: &mut Findings) {
    let Some(usual) = usual_disk(nodes) else {
        if !nodes.is_empty() {
            findings.warning(
                "disks",
                "no node reports how much disk it has for pods",
                "Nodes without enough disk cannot be detected, because their kubelets do not report ephemeral-storage.",
            );
        }
        return;
    };
    let asked = requested(pod, DISK);
    let usual_shown = shown(DISK, usual);
    let mut good = 0;
    for node in nodes {
        let (size, name) = (node.disk(), node.name);
        let text =
            format!("{name} has {} of ephemeral storage where others have {usual_shown}", shown(DISK, size));
        let advice = "Give it the disk that the others have, or keep builds off it with a taint. An ephemeral-storage \
                      request in the pod template that it cannot meet keeps them off as well.";
        if size < usual * DISK_SHARE_BAD || size < asked {
            if !node.is_for_builds() {
                let about = "no build goes there at present, because of a taint or the pod template";
                if !node.is_control_plane() {
                    findings.warning("disks", format!("{text}; {about}"), advice);
                }
            } else if asked > size {
                let asked = shown(DISK, asked);
                findings.warning(
                    "disks",
                    format!("{text}; build pods request {asked}, so none goes there"),
                    advice,
                );
            } else {
                let fails = "builds there will fail with \"no space left on device\"";
                findings.error("disks", format!("{text}: {fails}"), advice);
            }
        } else if size < usual * DISK_SHARE_LOW && node.is_for_builds() {
            findings.warning("disks", text, advice);
        } else {
            good += usize::from(node.is_for_builds());
        }
    }
    if good > 0 {
        findings.ok(
            "disks",
            format!("{good} of the nodes for builds have about {usual_shown} of ephemeral storage"),
        );
    }
}

impl Judged<'_> {
    fn is_control_plane(&self) -> bool {
        self.obstacles.iter().any(|one| matches!(one, Obstacle::Taint(taint) if taint.key == CONTROL_PLANE))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::doctor::findings::Level;
    use fairlane_testkit::kube::examples::{node, pod, tainted};

    fn said(spec: &Value, nodes: &[Node]) -> Vec<(Level, String)> {
        let mut findings = Findings::default();
        judge(&pod(spec), nodes, &mut findings);
        findings.0.iter().map(|one| (one.level, format!("{}: {}", one.about, one.in_full()))).collect()
    }

    #[track_caller]
    fn says(found: &[(Level, String)], level: Level, words: &[&str]) {
        let is_it =
            |(of, text): &(Level, String)| *of == level && words.iter().all(|word| text.contains(word));
        assert!(found.iter().any(is_it), "no {level:?} with {words:?} in {found:#?}");
    }

    fn asks_for_disk(amount: &str) -> Value {
        json!({ "containers": [{ "name": "builder", "resources": { "requests": { "ephemeral-storage": amount } } }] })
    }

    #[test]
    fn equal_nodes_are_well() {
        let found = said(&json!({}), &[node("a", "100Gi", &json!({})), node("b", "90Gi", &json!({}))]);
        assert!(found.iter().all(|(level, _)| *level == Level::Ok), "{found:?}");
        says(&found, Level::Ok, &["nodes", "2 of 2"]);
        says(&found, Level::Ok, &["disks", "2 of", "100 GiB"]);
        let lone = said(&json!({}), &[node("a", "20Gi", &json!({}))]);
        assert!(lone.iter().all(|(level, _)| *level == Level::Ok), "{lone:?}");
    }

    #[test]
    fn a_node_without_disk_is_an_error_unless_builds_keep_off_it() {
        for (disk, level) in [("0", Level::Error), ("10Gi", Level::Error), ("40Gi", Level::Warning)] {
            let found = said(&json!({}), &[node("good", "100Gi", &json!({})), node("bad", disk, &json!({}))]);
            says(&found, level, &["disks", "bad has", "100 GiB"]);
        }
        let bare = node("bare", "1Gi", &json!({}));
        let nodes = [node("a", "100Gi", &json!({})), node("b", "100Gi", &json!({})), bare.clone()];
        says(&said(&json!({}), &nodes), Level::Error, &["bare has 1 GiB", "no space left"]);
        let keeps_off = said(&asks_for_disk("10Gi"), &nodes);
        says(&keeps_off, Level::Warning, &["bare", "so none goes there"]);
        assert!(keeps_off.iter().all(|(level, _)| *level != Level::Error), "{keeps_off:?}");
        let away = [nodes[0].clone(), node("bare", "1Gi", &tainted("new", "", "NoSchedule"))];
        let found = said(&json!({}), &away);
        says(&found, Level::Warning, &["disks", "bare", "no build goes there"]);
        let none = said(&json!({}), &[node("a", "0", &json!({}))]);
        says(&none, Level::Warning, &["no node reports how much disk"]);
    }

    #[test]
    fn taints_are_named_with_what_would_tolerate_them() {
        let nodes = [
            node("a", "100Gi", &json!({})),
            node("b", "100Gi", &tainted("gpu", "yes", "NoSchedule")),
            node("c", "100Gi", &tainted("gpu", "yes", "NoSchedule")),
            node("d", "100Gi", &tainted(CONTROL_PLANE, "", "NoSchedule")),
        ];
        let found = said(&json!({}), &nodes);
        says(&found, Level::Ok, &["nodes", "1 of 4"]);
        says(
            &found,
            Level::Warning,
            &["gpu=yes:NoSchedule", "to b, c", "{key: gpu, value: \"yes\", effect: NoSchedule}"],
        );
        says(&found, Level::Ok, &["taints", "control-plane", "to d"]);
        let found = said(&json!({}), &nodes[1..]);
        says(&found, Level::Error, &["none of the 3", "2 with the taint gpu=yes:NoSchedule"]);
    }

    #[test]
    fn nodes_that_are_ill_or_small_are_named() {
        let pressed = json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True" }, { "type": "DiskPressure", "status": "True" }] } });
        let away = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
        let small = json!({ "status": { "allocatable": { "cpu": "1" } } });
        let nodes = [
            node("good", "100Gi", &json!({})),
            node("pressed", "100Gi", &pressed),
            node("away", "100Gi", &away),
            node("closed", "100Gi", &json!({ "spec": { "unschedulable": true } })),
            node("small", "100Gi", &small),
        ];
        let spec =
            json!({ "containers": [{ "name": "builder", "resources": { "requests": { "cpu": "2" } } }] });
        let found = said(&spec, &nodes);
        says(&found, Level::Ok, &["2 of 5"]);
        says(&found, Level::Warning, &["short of disk: pressed"]);
        says(&found, Level::Warning, &["not ready: away"]);
        says(&found, Level::Warning, &["cordoned: closed"]);
        says(&found, Level::Warning, &["less CPU", "small"]);
        says(&said(&json!({}), &[]), Level::Error, &["no node"]);
    }

    #[test]
    fn of_many_names_a_few_are_shown() {
        assert_eq!(names(["b", "a"]), "a, b");
        let many: Vec<String> = (10..20).map(|number| format!("n{number}")).collect();
        assert_eq!(names(many.iter().map(String::as_str)), "n10, n11, n12, n13, n14, n15 and 4 more");
    }
}
