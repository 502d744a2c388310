//! Which node a build pod goes to.

use aws_lc_rs::digest::{SHA256, digest};
use fairlane_common::Build;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodAntiAffinity,
    PodSpec, PreferredSchedulingTerm, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{COMPONENT, PodSettings};

/// The weight of a preference; the largest, as in `BinderHub`.
const WEIGHT: i32 = 100;

/// What is known about the cluster's nodes when a pod is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Nodes on which a container engine for builds runs; empty if none is known.
    pub builders: Vec<String>,
    /// Nodes that can run builds; empty if unknown.
    pub nodes: Vec<String>,
    /// Nodes that all builds avoid for a while.
    pub avoid: Vec<String>,
}

impl Placement {
    /// The node that a lane's builds stick to: among the builders that are not avoided, the one whose hash with
    /// the lane is largest (rendezvous hashing). If a node comes or goes, only its share of the lanes moves.
    pub fn sticky_node(&self, build: &Build) -> Option<&str> {
        let usable = self.builders.iter().filter(|node| !self.is_avoided(node, build));
        let rank = |node: &&String| {
            let hash = digest(&SHA256, format!("{}\n{node}", build.lane).as_bytes());
            (hash.as_ref().to_vec(), (*node).clone())
        };
        usable.max_by_key(rank).map(String::as_str)
    }

    fn is_avoided(&self, node: &String, build: &Build) -> bool {
        self.avoid.contains(node) || build.avoid.contains(node)
    }

    /// The nodes that must not be used, and those that should rather not be used. Nodes that all builds avoid are
    /// among the former, unless no other node is left. So are those where this build has failed, as long as
    /// another node is known: the last node is better than none.
    fn forbidden<'a>(&'a self, build: &'a Build) -> (Vec<&'a str>, Vec<&'a str>) {
        let any = |usable: &dyn Fn(&String) -> bool| self.nodes.iter().any(usable);
        let all_must = self.nodes.is_empty() || any(&|node| !self.avoid.contains(node));
        let own_must = any(&|node| !self.is_avoided(node, build));
        let own = build.avoid.iter().filter(|node| !self.avoid.contains(node));
        let (mut never, mut rather_not): (Vec<&'a str>, Vec<&'a str>) = (Vec::new(), Vec::new());
        if all_must { &mut never } else { &mut rather_not }.extend(self.avoid.iter().map(String::as_str));
        if own_must { &mut never } else { &mut rather_not }.extend(own.map(String::as_str));
        for nodes in [&mut never, &mut rather_not] {
            nodes.sort_unstable();
            nodes.dedup();
        }
        (never, rather_not)
    }
}

/// Sets which nodes a pod may go to, in addition to what a template says.
pub(super) fn place(spec: &mut PodSpec, build: &Build, settings: &PodSettings, placement: &Placement) {
    let affinity = spec.affinity.get_or_insert_default();
    let (never, rather_not) = placement.forbidden(build);
    let sticky = placement.sticky_node(build).filter(|_| settings.sticky);
    if !never.is_empty() {
        require(affinity.node_affinity.get_or_insert_default(), "NotIn", &never);
    }
    for (operator, nodes) in [("In", sticky.as_slice()), ("NotIn", &rather_not)] {
        if !nodes.is_empty() {
            let wishes = affinity.node_affinity.get_or_insert_default();
            let term = PreferredSchedulingTerm {
                weight: WEIGHT,
                preference: NodeSelectorTerm {
                    match_fields: Some(nodes.iter().map(|node| by_name(operator, node)).collect()),
                    ..NodeSelectorTerm::default()
                },
            };
            wishes.preferred_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
        }
    }
    if sticky.is_none() {
        spread(affinity);
    }
}

/// Build pods prefer not to share a node.
fn spread(affinity: &mut Affinity) {
    let component = ("component".to_owned(), COMPONENT.to_owned());
    let wish = WeightedPodAffinityTerm {
        weight: WEIGHT,
        pod_affinity_term: PodAffinityTerm {
            topology_key: "kubernetes.io/hostname".to_owned(),
            label_selector: Some(LabelSelector {
                match_labels: Some([component].into()),
                ..LabelSelector::default()
            }),
            ..PodAffinityTerm::default()
        },
    };
    let wishes: &mut PodAntiAffinity = affinity.pod_anti_affinity.get_or_insert_default();
    wishes.preferred_during_scheduling_ignored_during_execution.get_or_insert_default().push(wish);
}

/// Allows a pod only this node, in addition to what a template says. The scheduler still decides, so taints and
/// requests count as for builds.
pub(super) fn only(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_default();
    require(affinity.node_affinity.get_or_insert_default(), "In", &[node]);
}

/// Terms are alternatives, so each of them has to name the nodes.
fn require(affinity: &mut NodeAffinity, operator: &str, nodes: &[&str]) {
    let required = affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields.get_or_insert_default().extend(nodes.iter().map(|node| by_name(operator, node)));
    }
}

/// By the node's own name, not by its host name label, which may differ. Kubernetes allows only one value here.
fn by_name(operator: &str, node: &str) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: operator.to_owned(),
        values: Some(vec![node.to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::build;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn of_lane(number: usize) -> Build {
        let mut build = build();
        build.lane = format!("github.com/o/n{number}").parse().unwrap();
        build
    }

    #[test]
    fn a_node_that_goes_moves_its_own_lanes_alone() {
        let four = Placement { builders: named(&["a", "b", "c", "d"]), ..Placement::default() };
        let three = Placement { builders: named(&["c", "a", "b"]), ..Placement::default() };
        let mut counts = std::collections::BTreeMap::new();
        for lane in 0..400 {
            let build = of_lane(lane);
            let node = four.sticky_node(&build).unwrap();
            *counts.entry(node).or_insert(0) += 1;
            if node != "d" {
                assert_eq!(three.sticky_node(&build), Some(node));
            }
        }
        // Each has a fair share of the lanes: about 100.
        assert!(counts.len() == 4 && counts.values().all(|count| (60..140).contains(count)), "{counts:?}");
    }

    #[test]
    fn lanes_do_not_stick_to_avoided_nodes_nor_to_none() {
        let mut build = of_lane(1);
        assert_eq!(Placement::default().sticky_node(&build), None);
        let mut placement = Placement { builders: named(&["a", "b"]), ..Placement::default() };
        let first = placement.sticky_node(&build).unwrap().to_owned();
        build.avoid = vec![first.clone()];
        let second = placement.sticky_node(&build).unwrap().to_owned();
        assert_ne!(first, second);
        placement.avoid = vec![second];
        assert_eq!(placement.sticky_node(&build), None);
        // Without a node to stick to, builds spread out.
        let mut spec = PodSpec::default();
        let settings = PodSettings { sticky: true, ..PodSettings::default() };
        place(&mut spec, &build, &settings, &placement);
        assert!(spec.affinity.unwrap().pod_anti_affinity.is_some());
    }

    #[test]
    fn nodes_are_forbidden_while_others_are_left() {
        let mut build = build();
        build.avoid = named(&["a", "x"]);
        for (nodes, avoid, never, rather_not) in [
            (&["a", "b", "x"][..], &["x"][..], &["a", "x"][..], &[][..]),
            // The only node is better than none, even though this build has failed there.
            (&["a"], &[], &[], &["a", "x"]),
            // The nodes are unknown.
            (&[], &["x"], &["x"], &["a"]),
            // All are avoided, so they are used anyway.
            (&["x"], &["x"], &[], &["a", "x"]),
        ] {
            let placement = Placement { builders: Vec::new(), nodes: named(nodes), avoid: named(avoid) };
            assert_eq!(placement.forbidden(&build), (never.to_vec(), rather_not.to_vec()), "{nodes:?}");
        }
    }
}
