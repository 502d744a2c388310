//! The pod with which `fairlane nodes probe` tries a node. Whatever decides where a build pod goes and what it needs
//! there is the same: template, volumes, image, requests. It runs another command, and no worker takes it for a
//! build, because its label `component` is another one.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::identity::{BINDER_REPO, INSTALLATION};
use super::{CONTAINER, OURS, PodSettings, label_value, placement, sample};

/// The value of the label `component` of these pods.
pub const PROBE: &str = "fairlane-probe";

/// What a probe's pod does, and where.
#[derive(Debug)]
pub struct Probe<'a> {
    /// The pod's name.
    pub name: &'a str,
    /// The only node that it may go to.
    pub node: &'a str,
    /// The command that runs in the build container.
    pub command: &'a [String],
    /// When the cluster ends it, even if nobody is left to delete it.
    pub deadline: Duration,
}

/// The pod of a probe.
pub fn probe(settings: &PodSettings, probe: &Probe<'_>) -> Pod {
    let mut pod = sample(settings);
    let meta = &mut pod.metadata;
    meta.name = Some(probe.name.to_owned());
    // What is left comes from the template, which may set none of ours.
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| !key.starts_with(OURS) && key != BINDER_REPO);
    }
    let labels = meta.labels.get_or_insert_default();
    labels.retain(|key, _| !key.starts_with(OURS));
    for (key, value) in [
        ("component", PROBE.to_owned()),
        ("name", probe.name.to_owned()),
        (INSTALLATION, label_value(&settings.installation)),
    ] {
        labels.insert(key.to_owned(), value);
    }
    let spec = pod.spec.get_or_insert_default();
    placement::only(spec, probe.node);
    spec.active_deadline_seconds = i64::try_from(probe.deadline.as_secs()).ok();
    if let Some(builder) = spec.containers.iter_mut().find(|container| container.name == CONTAINER) {
        // Kubernetes replaces `$(NAME)` with variables.
        builder.command = Some(probe.command.iter().map(|word| word.replace('$', "$$")).collect());
        builder.args = None;
    }
    pod
}

/// The label selector of all probes of an installation.
pub fn probe_selector(settings: &PodSettings) -> String {
    format!("component={PROBE},{INSTALLATION}={}", label_value(&settings.installation))
}

#[cfg(test)]
mod tests {
    use fairlane_testkit::kube::examples::node;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::pod::fit::{Obstacle, obstacles};
    use crate::kubernetes::pod::{Owner, PodTemplate, identity, selector};

    const TEMPLATE: &str = "
metadata: { labels: { team: binder }, annotations: { note: x } }
spec:
  nodeSelector: { pool: builds }
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [
    { matchExpressions: [{ key: disk, operator: In, values: [ssd] }] },
    { matchExpressions: [{ key: disk, operator: In, values: [nvme] }] }] } } }
  tolerations: [{ key: dedicated, value: builds, effect: NoSchedule }]
  containers: [{ name: builder, command: [other], resources: { requests: { memory: 2Gi } } }]
";

    fn made() -> (PodSettings, Pod) {
        let template = Some(PodTemplate::parse(TEMPLATE).unwrap());
        let settings = PodSettings { template, installation: "hub-1".to_owned(), ..PodSettings::default() };
        let command = ["sh", "-c", "echo $(HOME) $1"].map(str::to_owned);
        let deadline = Duration::from_mins(5);
        let pod =
            probe(&settings, &Probe { name: "fairlane-probe-1", node: "a", command: &command, deadline });
        (settings, pod)
    }

    #[test]
    fn it_needs_what_a_build_needs_on_one_node() {
        let (settings, pod) = made();
        let (spec, build) = (pod.spec.clone().unwrap(), sample(&settings).spec.unwrap());
        assert_eq!((&spec.volumes, &spec.tolerations), (&build.volumes, &build.tolerations));
        let (probes, builds) = (&spec.containers[0], &build.containers[0]);
        assert_eq!((&probes.image, &probes.resources), (&builds.image, &builds.resources));
        assert_eq!(probes.volume_mounts, builds.volume_mounts);
        assert_eq!(probes.command.as_ref().unwrap()[2], "echo $$(HOME) $$1");
        assert_eq!((&probes.args, spec.active_deadline_seconds), (&None, Some(300)));
        let labels = json!({ "metadata": { "labels": { "pool": "builds", "disk": "nvme" } } });
        assert_eq!(obstacles(&pod, &node("a", "100Gi", &labels)), []);
        assert_eq!(obstacles(&pod, &node("b", "100Gi", &labels)), [Obstacle::NotSelected]);
        let bare = json!({ "metadata": { "labels": { "pool": "builds", "disk": "hdd" } } });
        assert_eq!(obstacles(&pod, &node("a", "100Gi", &bare)), [Obstacle::NotSelected]);
    }

    #[test]
    fn nobody_takes_it_for_a_build() {
        let (settings, pod) = made();
        let meta = &pod.metadata;
        let labels = meta.labels.clone().unwrap();
        let selected = |selector: &str| {
            selector.split(',').all(|term| {
                let (key, value) = term.split_once('=').unwrap();
                labels.get(key).is_some_and(|label| label == value)
            })
        };
        assert!(selected(&probe_selector(&settings)) && !selected(&selector(&settings)));
        assert!(Owner::new(&settings.installation).check_meta(meta).is_err());
        assert!(identity(meta).is_err());
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["component", INSTALLATION, "name", "team"]);
        let annotations = meta.annotations.clone().unwrap();
        assert_eq!(annotations.into_iter().collect::<Vec<_>>(), [("note".to_owned(), "x".to_owned())]);
    }
}
