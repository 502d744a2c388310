//! The gate at which a run in a pod waits before it pushes: annotations of its pod, which a `downwardAPI` volume shows
//! as files. The kubelet updates the files after the annotations have changed.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvVar, ObjectFieldSelector, Pod, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::CONTAINER;
use crate::settings::push_gate::{self, GATE, HOOK, HOOK_TEXT, OPEN};

/// Empty until the run may push.
const GATE_ANNOTATION: &str = "fairlane/push-gate";
/// The configuration that makes repo2docker wait.
const HOOK_ANNOTATION: &str = "fairlane/push-hook";
/// The volume's name.
const VOLUME: &str = "fairlane-push";
/// Where it is mounted.
const FOLDER: &str = "/run/fairlane-push";

/// Makes the run of a pod wait at its gate.
pub fn add(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let Some(container) = spec.containers.iter_mut().find(|container| container.name == CONTAINER) else {
        return;
    };
    let command = container.command.as_ref().map_or(0, Vec::len);
    let words: Vec<String> =
        container.command.iter().chain(container.args.iter()).flatten().cloned().collect();
    let mut gated = push_gate::gated(words, FOLDER);
    container.args = Some(gated.words.split_off(command));
    let variable = |(name, value)| EnvVar { name, value: Some(value), ..EnvVar::default() };
    container.env.get_or_insert_default().extend(gated.env.into_iter().map(variable));
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let mut shown = vec![(GATE, GATE_ANNOTATION)];
    if gated.hooked {
        shown.push((HOOK, HOOK_ANNOTATION));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(HOOK_ANNOTATION.to_owned(), HOOK_TEXT.to_owned());
    }
    let file = |(path, annotation): (&str, &str)| DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    spec.volumes.get_or_insert_default().push(Volume {
        name: VOLUME.to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(shown.into_iter().map(file).collect()),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    });
}

/// Whether a pod may push.
pub fn is_open(meta: &ObjectMeta) -> bool {
    let gate = meta.annotations.as_ref().and_then(|annotations| annotations.get(GATE_ANNOTATION));
    gate.is_some_and(|gate| !gate.is_empty())
}

/// The patch that lets a pod push, provided that it has not changed since it was `seen`.
pub fn open_patch(seen: &ObjectMeta) -> Value {
    json!({ "metadata": {
        "uid": seen.uid,
        "resourceVersion": seen.resource_version,
        "annotations": { (GATE_ANNOTATION): OPEN },
    } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fixtures::{build, token};
    use crate::kubernetes::pod::{Placement, PodSettings, pod};

    fn made(settings: &PodSettings) -> Pod {
        let build = build();
        let mut pod = pod(&build, &token(&build), settings, &Placement::default(), None);
        add(&mut pod);
        pod
    }

    #[test]
    fn repo2docker_in_a_pod_finds_its_hook_and_its_gate() {
        for replace_entrypoint in [false, true] {
            let pod = made(&PodSettings { replace_entrypoint, ..PodSettings::default() });
            let spec = pod.spec.unwrap();
            let container = &spec.containers[0];
            let words: Vec<&String> = container.command.iter().chain(&container.args).flatten().collect();
            assert_eq!(words[..2], ["jupyter-repo2docker", "--config=/run/fairlane-push/push_hook.py"]);
            assert_eq!(container.command.is_some(), replace_entrypoint);
            let gate = container.env.iter().flatten().find(|variable| variable.name == "FAIRLANE_PUSH_GATE");
            assert_eq!(gate.unwrap().value.as_deref(), Some("/run/fairlane-push/push-gate"));
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == VOLUME).unwrap();
            let items = volume.downward_api.as_ref().unwrap().items.as_ref().unwrap();
            let fields: Vec<&str> =
                items.iter().map(|item| item.field_ref.as_ref().unwrap().field_path.as_str()).collect();
            assert_eq!(
                fields,
                ["metadata.annotations['fairlane/push-gate']", "metadata.annotations['fairlane/push-hook']"]
            );
        }
    }

    #[test]
    fn a_gate_is_open_once_it_is_patched() {
        let mut meta = made(&PodSettings::default()).metadata;
        assert!(!is_open(&meta));
        meta.uid = Some("u".to_owned());
        let patch = open_patch(&meta);
        assert_eq!(patch["metadata"]["uid"], "u");
        let written: BTreeMap<String, String> =
            serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap();
        meta.annotations.as_mut().unwrap().extend(written);
        assert!(is_open(&meta));
    }
}
