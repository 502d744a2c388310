//! From a build to its pod and its Secret.

use std::collections::BTreeMap;

use fairlane_common::{Build, BuildId, Token, WorkerId};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, HostPathVolumeSource, Pod, PodSpec, Secret, SecretKeySelector,
    SecretVolumeSource, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{CONTAINER, Placement, PodSettings, identity, names, placement};

/// Where images with a Docker client look for its socket.
const SOCKET_IN_POD: &str = "/var/run/docker.sock";
/// Where a Docker client looks for credentials, as root.
const CONFIG_IN_POD: &str = "/root/.docker/config.json";
/// The key in a Secret under which a Docker configuration stands.
const CONFIG_KEY: &str = "config.json";
/// The variable that repo2docker reads a registry's credentials from.
const REGISTRY_VARIABLE: &str = "CONTAINER_ENGINE_REGISTRY_CREDENTIALS";
/// The taints of `BinderHub`'s nodes for users; some clouds take no `/` in a taint.
const DEDICATED: [&str; 2] = ["hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"];
/// The taints of a node that does not answer.
const NODE_AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// How long a pod is left on such a node, after the 40 s that it takes to be found out: longer than
/// a kubelet's restart, shorter than Kubernetes' own 5 min, during which people would wait.
const NODE_AWAY_SECONDS: i64 = 60;
/// What repo2docker gets to end when it is asked to: its build goes on in the engine anyway.
const GRACE_SECONDS: i64 = 10;
/// How much later than a worker the kubelet ends a run that is too long.
const DEADLINE_SLACK_SECONDS: u64 = 600;
/// Kubernetes takes no later deadline.
const DEADLINE_SECONDS_MAX: u64 = i32::MAX as u64;

/// The pod of a build's present run under the lease of `token`. `secret` is the run's own, where
/// it has one (see [`secret`]).
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
    // Kubernetes puts variables, secret ones among them, in the place of `$(NAME)`: what a build
    // brings along must name none.
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
        // The last lines are in the pod's status too: they tell the cause where the log cannot be had.
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
        // What a repository asks for has no business with the cluster.
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

/// The Secret's values, by reference: nobody who may read pods reads them.
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

/// The engine's socket, and the credentials for pushing: the build's own before the installation's,
/// and these only for what is pushed.
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

/// Unless the template has its own word on it, a node that does not answer is left soon. (A list of
/// tolerations in a template replaces the one before it.)
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

/// The pod of a build that nobody has asked for: to be checked when a worker starts.
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
        // A test makes one.
        Err(_) => Pod::default(),
    }
}

/// The Secret of a run's pod, with what the build brought along; `None` where that is nothing. It
/// is created before the pod, and the pod made its owner right after (see [`owner_patch`]).
/// A registry's credentials that are a Docker configuration are mounted, others are a variable.
/// Its name is the pod's and a `suffix` that nothing else has: no pod but its own ever refers to it.
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
        // Nodes need not watch it for changes.
        immutable: Some(true),
        ..Secret::default()
    })
}

/// The patch that makes a pod the owner of its Secret, which is the one with that uid: Kubernetes deletes it
/// with the pod.
pub fn owner_patch(pod: &ObjectMeta, secret_uid: &str) -> Value {
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid });
    json!({ "metadata": { "uid": secret_uid, "ownerReferences": [owner] } })
}

#[cfg(test)]
#[path = "tests/make.rs"]
mod tests;
