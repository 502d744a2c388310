//! `fairlane doctor --nodes`: pool by pool, each node that builds could go to, and what is wrong with it before any
//! build goes there. What the API does not show is left to `fairlane nodes probe`, which is then named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlane_clikit::human;
use fairlane_worker::pod::CONTAINER;
use fairlane_worker::pod::fit::{self, Obstacle, condition, missing_labels, requested};
use fairlane_worker::pod::quantity::shown;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::answer::Answer;
use super::builders::{Engine, Socket, on_node};
use super::nodes::{DISK, DISK_SHARE_BAD, Judged, PRESSURES, judged, names, usual_disk, written};
use crate::commands::doctor::findings::{Findings, Level};

/// Labels by which clouds and autoscalers name a node's pool; the first that a node has counts.
const POOL_LABELS: [&str; 7] = [
    "cloud.google.com/gke-nodepool",
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "alpha.eksctl.io/nodegroup-name",
    "kubernetes.azure.com/agentpool",
    "doks.digitalocean.com/node-pool",
    "nodepool",
];
/// Nodes younger than this may not have all their daemons yet.
const YOUNG: Duration = Duration::from_mins(10);
/// A kubelet reports at most this many images, so beyond it a missing one proves nothing.
const IMAGES_REPORTED: usize = 50;

/// What decides whether a node can build.
pub(super) struct Looked<'a> {
    /// A build pod, as the cluster would create it.
    pub(super) pod: &'a Pod,
    pub(super) nodes: &'a [Node],
    /// `None` if build pods mount no socket.
    pub(super) engine: Option<(Engine<'a>, &'a Answer<Vec<Pod>>)>,
    pub(super) now: Timestamp,
}

/// What is wrong with a node.
struct Wrong {
    /// An error if builds that go there fail, a warning if none goes there.
    level: Level,
    what: String,
    advice: String,
}

/// A node, what is wrong with it, and what else is worth knowing.
struct Verdict<'a> {
    name: &'a str,
    wrong: Vec<Wrong>,
    notes: Vec<String>,
}

/// Judges every node that builds could go to.
pub(super) fn judge(looked: &Looked<'_>, findings: &mut Findings) {
    let all = judged(looked.pod, looked.nodes);
    if all.is_empty() {
        findings.error(
            "pools",
            "the cluster has no node",
            "Add a node pool: docs/nodes.md has the commands.",
        );
        return;
    }
    template(looked.pod, findings);
    let usual = usual_disk(&all);
    let mut pools: BTreeMap<Option<&str>, Vec<&Judged<'_>>> = BTreeMap::new();
    for node in &all {
        pools.entry(pool_of(node.node)).or_default().push(node);
    }
    let (mut can_build, mut left_out) = (false, Vec::new());
    for (pool, nodes) in &pools {
        if nodes.iter().any(|node| is_wanted(looked.pod, node)) {
            let verdicts: Vec<Verdict<'_>> = nodes.iter().map(|node| verdict(looked, node, usual)).collect();
            can_build |= report(*pool, &verdicts, findings);
        } else {
            left_out.push((*pool, nodes));
        }
    }
    for (pool, nodes) in &left_out {
        let text = format!("{}: not for builds: {}", title(*pool, nodes.len()), why_not(looked.pod, nodes));
        if left_out.len() < pools.len() {
            findings.ok("pool", text);
        } else {
            findings.error("pool", text, OTHERWISE);
        }
        findings.of_node(None, *pool);
    }
    if can_build && needs_probe(looked) {
        findings.warning(
            "probe",
            "whether the container engine's socket is there cannot be seen from outside the nodes",
            "`fairlane nodes probe NODE` runs one pod like a build's there, and says what it finds.",
        );
    }
}

const OTHERWISE: &str =
    "Correct the node selector or the tolerations in the pod template, or give the nodes that label.";

/// Whether builds are meant to run there: the template selects it, by name or because it selects all.
fn is_wanted(pod: &Pod, node: &Judged<'_>) -> bool {
    let selected = !node.obstacles.contains(&Obstacle::NotSelected);
    selected && (fit::is_selective(pod) || node.is_for_builds())
}

fn pool_of(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    POOL_LABELS.iter().find_map(|key| labels.get(*key)).map(String::as_str)
}

fn title(pool: Option<&str>, nodes: usize) -> String {
    let count = human::many(nodes as u64, "node");
    match pool {
        Some(pool) => format!("{pool} ({count})"),
        None => format!("nodes without a pool's label ({count})"),
    }
}

/// What keeps builds off all nodes of a pool.
fn why_not(pod: &Pod, nodes: &[&Judged<'_>]) -> String {
    let mut reasons = BTreeSet::new();
    for node in nodes {
        for obstacle in node.obstacles.iter().filter(|one| one.is_meant()) {
            reasons.insert(match obstacle {
                Obstacle::Taint(taint) => format!("build pods do not tolerate {}", written(taint)),
                _ => unselected(pod, node.node),
            });
        }
    }
    reasons.into_iter().collect::<Vec<_>>().join("; ")
}

fn unselected(pod: &Pod, node: &Node) -> String {
    let missing: Vec<String> =
        missing_labels(pod, node).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if missing.is_empty() {
        "the affinity of the pod template does not select it".to_owned()
    } else {
        format!("it lacks the label {} of the pod template's node selector", missing.join(", "))
    }
}

/// Reports a pool and its nodes; returns whether it can build.
fn report(pool: Option<&str>, verdicts: &[Verdict<'_>], findings: &mut Findings) -> bool {
    let good = verdicts.iter().filter(|verdict| verdict.wrong.is_empty()).count();
    let title = title(pool, verdicts.len());
    let names =
        |bad: bool| names(verdicts.iter().filter(|one| one.wrong.is_empty() != bad).map(|one| one.name));
    if good == verdicts.len() {
        findings.ok("pool", format!("{title}: this pool can build"));
    } else if good > 0 {
        let text = format!("{title}: {good} can build; not {}", names(true));
        findings.warning("pool", text, "The next lines say what is wrong with each of them.");
    } else {
        findings.error("pool", format!("{title}: this pool cannot build"), "The next lines say why.");
    }
    findings.of_node(None, pool);
    for Verdict { name, wrong, notes } in verdicts {
        let with_notes =
            |text: String| std::iter::once(text).chain(notes.iter().cloned()).collect::<Vec<_>>().join("; ");
        if wrong.is_empty() {
            findings.ok("node", with_notes(format!("{name}: can build")));
            findings.of_node(Some(name), pool);
        }
        for Wrong { level, what, advice } in wrong {
            let text = with_notes(format!("{name}: {what}"));
            match level {
                Level::Error => findings.error("node", text, advice.as_str()),
                _ => findings.warning("node", text, advice.as_str()),
            }
            findings.of_node(Some(name), pool);
        }
    }
    good > 0
}

fn verdict<'a>(looked: &Looked<'_>, judged: &Judged<'a>, usual: Option<f64>) -> Verdict<'a> {
    let mut wrong: Vec<Wrong> =
        judged.obstacles.iter().map(|obstacle| refused(looked.pod, judged.node, obstacle)).collect();
    for (kind, of_what) in PRESSURES {
        if condition(judged.node, kind) == Some("True") {
            wrong.push(Wrong {
                level: Level::Warning,
                what: format!("short of {of_what} ({kind}): it accepts no pods, and evicts some that it has"),
                advice: format!(
                    "Give it more {of_what}, or clean it up; `kubectl describe node {}`.",
                    judged.name
                ),
            });
        }
    }
    wrong.extend(disk(looked.pod, judged, usual));
    let mut notes = Vec::new();
    if let Some((engine, daemons)) = &looked.engine {
        match on_node(engine, daemons, judged.node) {
            Socket::There => {}
            Socket::Missing(why) => wrong.push(Wrong {
                level: Level::Error,
                what: format!(
                    "no daemon ({}) is ready there, so builds fail without {}{why}",
                    engine.selector, engine.socket
                ),
                advice: format!(
                    "`kubectl -n {} get pods -l {} -o wide`; a new node may need a minute.",
                    engine.namespace, engine.selector
                ),
            }),
            Socket::Unknown => notes.push(format!("not known: is {} there?", engine.socket)),
        }
    }
    notes.extend(young(judged.node, looked.now));
    notes.extend(without_image(looked.pod, judged.node));
    if let Some((count, resource)) = fit::room(looked.pod, judged.node).filter(|_| wrong.is_empty()) {
        notes.push(format!("room for {count} builds at once, if nothing else runs there ({resource})"));
    }
    Verdict { name: judged.name, wrong, notes }
}

/// What keeps a build pod off a node of a build pool.
pub(super) fn refusal(pod: &Pod, node: &Node, obstacle: &Obstacle) -> (String, String) {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    match obstacle {
        Obstacle::NotReady => {
            ("not ready: no build goes there".to_owned(), format!("`kubectl describe node {name}` says why."))
        }
        Obstacle::Cordoned => (
            "cordoned: no build goes there".to_owned(),
            format!("When nobody works on it any more: `kubectl uncordon {name}`."),
        ),
        Obstacle::Taint(taint) => (
            format!("build pods do not tolerate its taint {}", written(taint)),
            format!(
                "Add a toleration to the pod template, or remove the taint: kubectl taint node {name} {}:{}-",
                taint.key, taint.effect
            ),
        ),
        Obstacle::NotSelected => {
            let labels: Vec<String> =
                missing_labels(pod, node).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            let advice = if labels.is_empty() {
                "Correct the affinity in the pod template.".to_owned()
            } else {
                format!(
                    "If builds should go there: kubectl label node {name} {} (and set it on the pool, so that new \
                     nodes have it).",
                    labels.join(" ")
                )
            };
            (unselected(pod, node), advice)
        }
        Obstacle::TooSmall { resource, has, asked } => (
            format!(
                "{} of {resource} for pods, less than the {} that one build requests",
                shown(resource, *has),
                shown(resource, *asked)
            ),
            if *resource == DISK {
                "Give it the disk that a build needs (docs/nodes.md), or remove it from the pool.".to_owned()
            } else {
                "Lower the requests in the pod template, or use larger nodes.".to_owned()
            },
        ),
    }
}

fn refused(pod: &Pod, node: &Node, obstacle: &Obstacle) -> Wrong {
    let (what, advice) = refusal(pod, node, obstacle);
    Wrong { level: Level::Warning, what, advice }
}

/// A node on which builds find no disk, although the scheduler would send them there.
fn disk(pod: &Pod, judged: &Judged<'_>, usual: Option<f64>) -> Option<Wrong> {
    let size = judged.disk();
    let has = if size > 0.0 {
        let usual = usual.filter(|usual| size < usual * DISK_SHARE_BAD)?;
        format!("{} of ephemeral storage where others have {}", shown(DISK, size), shown(DISK, usual))
    } else {
        "no ephemeral storage".to_owned()
    };
    // A request that it cannot meet is reported as such.
    (size >= requested(pod, DISK)).then(|| Wrong {
        level: Level::Error,
        what: format!("{has}: builds there fail with \"no space left on device\""),
        advice: "Give it a disk as the other nodes have (docs/nodes.md), or remove it from the pool. An \
                 ephemeral-storage request in the pod template keeps builds off such nodes."
            .to_owned(),
    })
}

/// Warns if the scheduler would not see a missing disk.
fn template(pod: &Pod, findings: &mut Findings) {
    if requested(pod, DISK) <= 0.0 {
        findings.warning(
            "template",
            "build pods request no ephemeral-storage, so builds are sent to nodes without disk, too",
            format!(
                "Set resources.requests.ephemeral-storage for the container `{CONTAINER}` in the pod template."
            ),
        );
    }
}

fn young(node: &Node, now: Timestamp) -> Option<String> {
    let created = node.metadata.creation_timestamp.as_ref()?.0;
    let age = u64::try_from(now.as_millisecond() - created.as_millisecond()).ok()?;
    let is_young = Duration::from_millis(age) < YOUNG;
    is_young.then(|| format!("it joined {} ago, so its daemons may still be starting", human::span(age)))
}

/// Whether its first build has to pull the build image.
fn without_image(pod: &Pod, node: &Node) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let image = containers.iter().find(|one| one.name == CONTAINER)?.image.as_deref()?;
    let images = node.status.as_ref()?.images.as_deref().filter(|all| !all.is_empty())?;
    let is_it = |name: &String| *name == image || name.ends_with(&format!("/{image}"));
    let known = images.iter().flat_map(|one| one.names.iter().flatten()).any(is_it);
    (!known && images.len() < IMAGES_REPORTED).then(|| "its first build pulls the build image".to_owned())
}

/// Whether a node's socket is unknown.
fn needs_probe(looked: &Looked<'_>) -> bool {
    let unknown = |(engine, daemons): &(Engine<'_>, &Answer<Vec<Pod>>)| {
        looked.nodes.iter().any(|node| matches!(on_node(engine, daemons, node), Socket::Unknown))
    };
    looked.engine.as_ref().is_some_and(unknown)
}

#[cfg(test)]
#[path = "tests/pools.rs"]
mod tests;
