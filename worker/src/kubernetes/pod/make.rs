//! Makes a build's pod and its Secret.

use std::collections::BTreeMap;

use fairlane_common::{Build, BuildId, Token, WorkerId};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, HostPathVolumeSource, Pod, PodSpec, Secret, SecretKeySelector,
    SecretVolumeSource, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{CONTAINER, Placement, PodSettings, identity, names, placement};

/// Where images with a Docker client expect the socket.
const SOCKET_IN_POD: &str = "/var/run/docker.sock";
/// Where a Docker client that runs as root looks for credentials.
const CONFIG_IN_POD: &str = "/root/.docker/config.json";
/// The key of a Docker configuration in a Secret.
const CONFIG_KEY: &str = "config.json";
/// The variable from which repo2docker reads a registry's credentials.
const REGISTRY_VARIABLE: &str = "CONTAINER_ENGINE_REGISTRY_CREDENTIALS";
/// The taints of `BinderHub`'s user nodes; some clouds allow no `/` in a taint.
const DEDICATED: [&str; 2] = ["hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"];
/// The taints of a node that does not answer.
const NODE_AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// How long a pod stays on such a node, after the 40 s that it takes to be detected: longer than a kubelet's
/// restart, but shorter than Kubernetes' default of 5 min, during which people would wait.
const NODE_AWAY_SECONDS: i64 = 60;
/// The time that repo2docker gets to exit when asked to. (The engine continues its build anyway.)
const GRACE_SECONDS: i64 = 10;
/// How much later than the worker the kubelet ends a run that takes too long.
const DEADLINE_SLACK_SECONDS: u64 = 600;
/// Kubernetes accepts no longer deadline.
const DEADLINE_SECONDS_MAX: u64 = i32::MAX as u64;

/// The pod of a build's current run, with the lease of `token`. `secret` is the run's own, if it has one (see
/// [`secret`]).
pub fn pod(
    build: &Build,
    token: &Token,
    settings: &PodSettings,
    placement: &Placement,
    secret: Option<&Secret>,
) -> Pod {
    let name = names::pod_name(build, build.attempt, &settings.installation);
    let mut pod = Pod {
        metadata: ObjectMeta {
            labels: Some(identity::labels(build, settings, &name)),
            annotations: Some(identity::annotations(build, token, secret.map(|secret| &secret.metadata))),
            name: Some(name),
            ..ObjectMeta::default()
        },
        spec: Some(spec(build, settings, secret)),
        status: None,
    };
    if let Some(template) = &settings.template {
        template.merge_into(&mut pod);
    }
    let spec = pod.spec.get_or_insert_default();
    leave_lost_nodes(spec.tolerations.get_or_insert_default());
    placement::place(spec, build, settings, placement);
    pod
}

fn spec(build: &Build, settings: &PodSettings, secret: Option<&Secret>) -> PodSpec {
    // Kubernetes replaces `$(NAME)` with variables, including secret ones, so a build's own arguments must not
    // reference any.
    let mut words: Vec<String> =
        settings.command.words(build).iter().map(|word| word.replace('$', "$$")).collect();
    let command = settings.replace_entrypoint.then(|| words.drain(..1).collect());
    let (volumes, mounts) = volumes(build, settings, secret);
    let builder = Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.build_image.clone()),
        command,
        args: Some(words),
        env: some(variables(secret)),
        volume_mounts: some(mounts),
        // Also puts the last lines into the pod's status: they show the cause if the log cannot be read.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    let deadline =
        settings.deadline.as_secs().saturating_add(DEADLINE_SLACK_SECONDS).min(DEADLINE_SECONDS_MAX);
    PodSpec {
        containers: vec![builder],
        volumes: some(volumes),
        tolerations: Some(DEDICATED.map(dedicated).to_vec()),
        restart_policy: Some("Never".to_owned()),
        // Code from a repository must not access the cluster.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        active_deadline_seconds: Some(i64::try_from(deadline).unwrap_or(i64::MAX)),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        ..PodSpec::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn keys(secret: Option<&Secret>) -> impl Iterator<Item = &str> {
    secret.and_then(|secret| secret.string_data.as_ref()).into_iter().flatten().map(|(key, _)| key.as_str())
}

/// The Secret's values, by reference, so that whoever may read pods cannot read them.
fn variables(secret: Option<&Secret>) -> Vec<EnvVar> {
    let name = secret.and_then(|secret| secret.metadata.name.clone()).unwrap_or_default();
    let variable = |key: &str| EnvVar {
        name: key.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: name.clone(),
                key: key.to_owned(),
                optional: Some(false),
            }),
            ..EnvVarSource::default()
        }),
    };
    keys(secret).filter(|key| *key != CONFIG_KEY).map(variable).collect()
}

/// The engine's socket and the credentials for pushing: the build's own take precedence over the installation's,
/// which are only mounted for builds that push.
fn volumes(
    build: &Build,
    settings: &PodSettings,
    secret: Option<&Secret>,
) -> (Vec<Volume>, Vec<VolumeMount>) {
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    if let Some(path) = &settings.docker_socket {
        let source = HostPathVolumeSource { path: path.clone(), type_: Some("Socket".to_owned()) };
        volumes.push(Volume {
            name: "docker-socket".to_owned(),
            host_path: Some(source),
            ..Volume::default()
        });
        mounts.push(VolumeMount {
            name: "docker-socket".to_owned(),
            mount_path: SOCKET_IN_POD.to_owned(),
            ..VolumeMount::default()
        });
    }
    let own_config = keys(secret).any(|key| key == CONFIG_KEY);
    let own_variable = keys(secret).any(|key| key == REGISTRY_VARIABLE);
    let config = if own_config {
        secret.and_then(|secret| secret.metadata.name.clone())
    } else {
        settings.push_secret.clone().filter(|_| build.spec.push && !own_variable)
    };
    if let Some(name) = config {
        let source = SecretVolumeSource { secret_name: Some(name), ..SecretVolumeSource::default() };
        volumes.push(Volume { name: "docker-config".to_owned(), secret: Some(source), ..Volume::default() });
        mounts.push(VolumeMount {
            name: "docker-config".to_owned(),
            mount_path: CONFIG_IN_POD.to_owned(),
            sub_path: Some(CONFIG_KEY.to_owned()),
            ..VolumeMount::default()
        });
    }
    (volumes, mounts)
}

fn dedicated(key: &str) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        operator: Some("Equal".to_owned()),
        value: Some("user".to_owned()),
        effect: Some("NoSchedule".to_owned()),
        toleration_seconds: None,
    }
}

/// Unless the template says otherwise, pods soon leave a node that does not answer. (A template's tolerations
/// replace the whole list.)
fn leave_lost_nodes(tolerations: &mut Vec<Toleration>) {
    for key in NODE_AWAY {
        if !tolerations.iter().any(|found| found.key.as_deref() == Some(key)) {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                value: None,
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(NODE_AWAY_SECONDS),
            });
        }
    }
}

/// The pod of a made-up build, for checks when a worker starts.
pub fn sample(settings: &PodSettings) -> Pod {
    let repo = "https://github.com/fairlane/sample";
    let fields = [
        ("repo", repo),
        ("ref", "0000000"),
        ("image", "fairlane/sample:0000000"),
        ("priority", "background"),
        ("lane", "github.com/fairlane/sample"),
        ("state", "starting"),
        ("attempt", "1"),
        ("seq", "1"),
        ("people", "0"),
        ("asked", "0"),
        ("due", "0"),
        ("expected", "0"),
        ("push", "1"),
    ];
    let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let worker = WorkerId::new("sample");
    match Build::from_fields(BuildId::new(), fields) {
        Ok(build) => {
            let token = Token { build: build.id, epoch: 0, worker };
            pod(&build, &token, settings, &Placement::default(), None)
        }
        // Cannot happen: a test makes this pod.
        Err(_) => Pod::default(),
    }
}

/// The Secret of a run's pod, with the credentials that the build brought; `None` if there are none. It is created
/// before the pod, and the pod becomes its owner right afterwards (see [`owner_patch`]). Registry credentials are
/// mounted if they are a Docker configuration; otherwise they become a variable. Its name is the pod's name and a
/// unique `suffix`, so no other pod ever refers to it.
pub fn secret(
    build: &Build,
    env: BTreeMap<String, String>,
    settings: &PodSettings,
    suffix: &str,
) -> Option<Secret> {
    if env.is_empty() {
        return None;
    }
    let name = names::pod_name(build, build.attempt, &settings.installation);
    let data = env.into_iter().map(|(key, value)| {
        let is_config = key == REGISTRY_VARIABLE
            && serde_json::from_str::<Value>(&value).is_ok_and(|config| config.get("auths").is_some());
        (if is_config { CONFIG_KEY.to_owned() } else { key }, value)
    });
    Some(Secret {
        metadata: ObjectMeta {
            labels: Some(identity::labels(build, settings, &name)),
            name: Some(format!("{name}-{suffix}")),
            ..ObjectMeta::default()
        },
        string_data: Some(data.collect()),
        // So that nodes do not have to watch it for changes.
        immutable: Some(true),
        ..Secret::default()
    })
}

/// The patch that makes a pod the owner of its Secret, the one with that uid: Kubernetes then deletes it with the
/// pod.
pub fn owner_patch(pod: &ObjectMeta, secret_uid: &str) -> Value {
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid });
    json!({ "metadata": { "uid": secret_uid, "ownerReferences": [owner] } })
}

#[cfg(test)]
#[path = "tests/make.rs"]
mod tests;
