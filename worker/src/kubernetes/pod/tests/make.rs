use insta::assert_json_snapshot;

use super::*;
use crate::fixtures::{build, token};
use crate::kubernetes::pod::PodTemplate;
use crate::settings::command::CommandTemplate;

fn json_of(build: &Build, settings: &PodSettings, placement: &Placement, secret: Option<&Secret>) -> Value {
    serde_json::to_value(pod(build, &token(build), settings, placement, secret)).unwrap()
}

fn pushed() -> Build {
    let mut build = build();
    build.spec.push = true;
    build
}

fn env(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What `BinderHub`'s `KubernetesBuildExecutor` makes of the same build with its own defaults
/// (commit b9fad995), as its API gets it.
fn binderhub(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": { "name": name, "component": "binderhub-build" },
            "annotations": { "binder-repo": "https://github.com/owner/name" },
        },
        "spec": {
            "containers": [{
                "name": "builder",
                "image": "quay.io/jupyterhub/repo2docker:2024.07.0",
                "args": [
                    "jupyter-repo2docker", "--ref=0123abc", "--image=r.example.org/i:0123abc", "--no-clean",
                    "--no-run", "--json-logs", "--user-name=jovyan", "--user-id=1000", "--push",
                    "https://github.com/owner/name",
                ],
                "volumeMounts": [
                    { "name": "docker-socket", "mountPath": "/var/run/docker.sock" },
                    { "name": "docker-config", "mountPath": "/root/.docker/config.json", "subPath": "config.json" },
                ],
            }],
            "volumes": [
                { "name": "docker-socket", "hostPath": { "path": "/var/run/docker.sock", "type": "Socket" } },
                { "name": "docker-config", "secret": { "secretName": "binder-build-docker-config" } },
            ],
            "tolerations": [
                { "key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule" },
                { "key": "hub.jupyter.org_dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule" },
            ],
            "restartPolicy": "Never",
            "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": { "matchLabels": { "component": "binderhub-build" } },
                },
            }] } },
        },
    })
}

/// Where two values differ.
fn differences(theirs: &Value, ours: &Value, place: &str, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in ours {
                match theirs.get(key) {
                    Some(their) => differences(their, value, &format!("{place}.{key}"), found),
                    None => found.push(format!("+ {place}.{key}")),
                }
            }
            found.extend(
                theirs.keys().filter(|key| !ours.contains_key(*key)).map(|key| format!("- {place}.{key}")),
            );
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            for (i, value) in ours.iter().enumerate() {
                match theirs.get(i) {
                    Some(their) => differences(their, value, &format!("{place}[{i}]"), found),
                    None => found.push(format!("+ {place}[{i}]")),
                }
            }
            found.extend((ours.len()..theirs.len()).map(|i| format!("- {place}[{i}]")));
        }
        _ if theirs == ours => {}
        _ => found.push(format!("~ {place}: {theirs} became {ours}")),
    }
}

#[test]
fn the_pod_is_binderhubs_own_but_for_what_is_meant() {
    let settings =
        PodSettings { push_secret: Some("binder-build-docker-config".to_owned()), ..PodSettings::default() };
    let build = pushed();
    let ours = json_of(&build, &settings, &Placement::default(), None);
    let mut found = Vec::new();
    differences(&binderhub(&names::pod_name(&build, 1, "fairlane")), &ours, "", &mut found);
    found.retain(|difference| !difference.contains(".fairlane/"));
    assert_json_snapshot!("differences_from_binderhub", found);
}

#[test]
fn settings_that_move_over_from_binderhub() {
    let template = "
metadata: { annotations: { cluster-autoscaler.kubernetes.io/safe-to-evict: 'false' } }
spec:
  nodeSelector: { mybinder.org/pool-type: builds }
  imagePullSecrets: [{ name: image-pull-secret }]
  priorityClassName: builds
  runtimeClassName: gvisor
  serviceAccountName: builder
  securityContext: { seccompProfile: { type: RuntimeDefault } }
  topologySpreadConstraints:
  - { maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway,
      labelSelector: { matchLabels: { component: fairlane-build } } }
  containers:
  - name: builder
    env: [{ name: HTTPS_PROXY, value: 'http://proxy:3128' }]
    resources:
      requests: { cpu: 100m, memory: 2G, ephemeral-storage: 2G }
      limits: { cpu: 1, memory: 2G, ephemeral-storage: 2G }
";
    let settings = PodSettings {
        build_image: "quay.io/jupyterhub/repo2docker:2026.4.1.dev44".to_owned(),
        docker_socket: Some("/var/run/dind/docker.sock".to_owned()),
        push_secret: Some("binder-build-docker-config".to_owned()),
        sticky: true,
        template: Some(PodTemplate::parse(template).unwrap()),
        ..PodSettings::default()
    };
    let placement = Placement {
        builders: vec!["node-a".to_owned(), "node-b".to_owned()],
        nodes: vec!["node-a".to_owned(), "node-b".to_owned(), "node-c".to_owned()],
        avoid: vec!["node-b".to_owned()],
    };
    let mut build = pushed();
    build.avoid = vec!["node-c".to_owned()];
    build.attempt = 2;
    build.spec.args =
        vec!["--appendix=USER root\nRUN a 'b'".to_owned(), "--Repo2Docker.default_buildpack=None".to_owned()];
    build.spec.labels = [("class".to_owned(), "week 1".to_owned())].into();
    assert_json_snapshot!("mybinder", json_of(&build, &settings, &placement, None));
}

#[test]
fn an_image_without_a_socket() {
    let settings = PodSettings {
        build_image: "gcr.example.org/kaniko:1".to_owned(),
        command: CommandTemplate::parse(
            "/kaniko/executor --context={repo}#{ref} --destination={image} {args}",
        )
        .unwrap(),
        replace_entrypoint: true,
        docker_socket: None,
        ..PodSettings::default()
    };
    assert_json_snapshot!("without_socket", json_of(&build(), &settings, &Placement::default(), None));
}

#[test]
fn secrets_are_referred_to_and_never_written_out() {
    let settings = PodSettings { push_secret: Some("push".to_owned()), ..PodSettings::default() };
    let build = pushed();
    let values = [
        ("GIT_CREDENTIAL_ENV", "username=u\npassword=hunter2"),
        (REGISTRY_VARIABLE, r#"{"registry":"r","password":"hunter3"}"#),
    ];
    let secret = secret(&build, env(&values), &settings, "mark").unwrap();
    let pod = json_of(&build, &settings, &Placement::default(), Some(&secret));
    assert!(!pod.to_string().contains("hunter"), "{pod}");
    assert_eq!(secret.string_data.as_ref().unwrap()["GIT_CREDENTIAL_ENV"], values[0].1);
    assert_json_snapshot!("with_secrets", pod["spec"]["containers"][0]);
    let volumes = pod["spec"]["volumes"].to_string();
    assert!(!volumes.contains("docker-config"), "the build's own credentials outweigh the installation's");
}

#[test]
fn a_docker_configuration_is_mounted() {
    let build = pushed();
    let config = r#"{"auths":{"r":{"auth":"aHVudGVy"}}}"#;
    let secret =
        secret(&build, env(&[(REGISTRY_VARIABLE, config)]), &PodSettings::default(), "mark").unwrap();
    assert_eq!(secret.string_data.as_ref().unwrap()[CONFIG_KEY], config);
    let pod = json_of(&build, &PodSettings::default(), &Placement::default(), Some(&secret));
    let name = secret.metadata.name.unwrap();
    assert_eq!(
        pod["spec"]["volumes"][1],
        json!({ "name": "docker-config", "secret": { "secretName": name } })
    );
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][1]["subPath"], "config.json");
    assert!(pod["spec"]["containers"][0].get("env").is_none());
}

#[test]
fn secrets_and_pods_belong_together() {
    let build = build();
    assert!(secret(&build, BTreeMap::new(), &PodSettings::default(), "mark").is_none());
    let secret = secret(&build, env(&[("A", "b")]), &PodSettings::default(), "mark").unwrap();
    let mut pod = pod(&build, &token(&build), &PodSettings::default(), &Placement::default(), Some(&secret));
    let name = pod.metadata.name.clone().unwrap();
    assert_eq!(secret.metadata.name, Some(format!("{name}-mark")), "no other build's pod refers to it");
    assert_eq!(secret.metadata.labels, pod.metadata.labels);
    pod.metadata.uid = Some("u".to_owned());
    let patch = owner_patch(&pod.metadata, "s");
    assert_eq!(patch["metadata"]["uid"], "s");
    let owner = &patch["metadata"]["ownerReferences"][0];
    assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("Pod"), Some("u")));
}

#[test]
fn what_is_not_pushed_gets_no_credentials_for_pushing() {
    let settings = PodSettings { push_secret: Some("push".to_owned()), ..PodSettings::default() };
    let pod = json_of(&build(), &settings, &Placement::default(), None);
    assert!(!pod.to_string().contains("docker-config"));
}

#[test]
fn the_sample_is_a_pod() {
    let pod = sample(&PodSettings::default());
    assert!(pod.metadata.name.unwrap().starts_with("build-fairlane-sample-0000000-"));
    assert_eq!(pod.spec.unwrap().containers.len(), 1);
}

#[test]
fn a_builds_words_name_no_variables_of_the_pod() {
    let mut build = build();
    build.spec.args = vec!["--appendix=RUN echo $(GIT_CREDENTIAL_ENV) $HOME $$".to_owned()];
    let pod = json_of(&build, &PodSettings::default(), &Placement::default(), None);
    let args = pod["spec"]["containers"][0]["args"].to_string();
    assert!(args.contains("RUN echo $$(GIT_CREDENTIAL_ENV) $$HOME $$$$"), "{args}");
}
