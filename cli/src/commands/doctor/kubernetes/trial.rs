//! A sample build pod: whether the cluster would accept it, and whether what it refers to exists.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::answer::Answer;
use super::api::Trial;
use crate::commands::doctor::findings::Findings;

/// Reports whether the cluster accepts a build pod.
pub(super) fn judge(trial: &Trial, namespace: &str, findings: &mut Findings) {
    let (code, message) = match trial {
        Trial::Taken(_) => return findings.ok("pod", "the cluster would accept a build pod"),
        Trial::Failed(why) => {
            let text = format!("cannot tell whether the cluster accepts a build pod: {why}");
            return findings.warning("pod", text, "Try again.");
        }
        Trial::Refused(code, message) => (*code, plain(message)),
    };
    let has = |words: &[&str]| words.iter().any(|word| message.to_lowercase().contains(word));
    if has(&["does not support dry run"]) {
        let text = format!("cannot tell whether the cluster accepts a build pod: {message}");
        findings.warning("pod", text, "Only a real build will show: `fairlane submit`.");
    } else if code == 403 && has(&["cannot create resource"]) {
        // This right is reported with the other missing ones.
    } else if code == 403 && has(&["exceeded quota"]) {
        findings.warning(
            "quota",
            format!("the namespace has no room for another build at present: {message}"),
            "Builds wait, none fails. Raise the quota, or lower the slots of the workers to what fits.",
        );
    } else {
        findings.error(
            "pod",
            format!("the cluster refuses build pods: {message}"),
            advice(code, &has, namespace),
        );
    }
}

fn advice(code: u16, has: &impl Fn(&[&str]) -> bool, namespace: &str) -> String {
    if code == 404 {
        format!("Create the namespace {namespace}, or name another one with --namespace.")
    } else if has(&["violates podsecurity"]) {
        format!(
            "Allow pods with a host path in the namespace: `kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged`, or change the pod template."
        )
    } else if has(&["serviceaccount", "service account"]) {
        format!(
            "Create the service account in {namespace}, or correct serviceAccountName in the pod template."
        )
    } else if has(&["priorityclass"]) {
        "Create the priority class, or correct priorityClassName in the pod template.".to_owned()
    } else if has(&["runtimeclass"]) {
        "Create the runtime class, or correct runtimeClassName in the pod template.".to_owned()
    } else if has(&["must specify"]) {
        "Set resources for the container `builder` in the pod template, or add a LimitRange to the namespace."
            .to_owned()
    } else if has(&["terminat"]) {
        format!("The namespace {namespace} is being deleted: name another one with --namespace.")
    } else {
        "Correct the pod template, or the policy in the cluster that refuses it.".to_owned()
    }
}

/// The message without its beginning, which contains the sample pod's made-up name.
fn plain(message: &str) -> String {
    let words = message.split_once("is forbidden: ").map_or(message, |(_, why)| why);
    words.to_owned()
}

/// What a pod uses a Secret for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The pod does not start without it.
    Needed,
    /// It is for pulling images, which may be possible without it.
    Pull,
}

/// The Secrets that a pod refers to, and what for.
pub(super) fn secrets(pod: &Pod) -> BTreeMap<String, Use> {
    let Some(spec) = &pod.spec else { return BTreeMap::new() };
    let is_needed = |optional: Option<bool>| optional != Some(true);
    let of_container = |container: &Container| {
        let variables = container.env.iter().flatten().filter_map(|variable| {
            let key = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
            is_needed(key.optional).then(|| key.name.clone())
        });
        let all = container.env_from.iter().flatten().filter_map(|from| {
            let secret = from.secret_ref.as_ref()?;
            is_needed(secret.optional).then(|| secret.name.clone())
        });
        variables.chain(all).collect::<Vec<_>>()
    };
    let containers =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).flat_map(of_container);
    let volumes = spec.volumes.iter().flatten().flat_map(|volume| {
        let own = volume.secret.as_ref().filter(|secret| is_needed(secret.optional));
        let sources = volume.projected.as_ref().and_then(|all| all.sources.as_deref()).unwrap_or_default();
        let projected = sources.iter().filter_map(|source| source.secret.as_ref());
        let projected =
            projected.filter(|secret| is_needed(secret.optional)).map(|secret| secret.name.clone());
        own.and_then(|secret| secret.secret_name.clone()).into_iter().chain(projected).collect::<Vec<_>>()
    });
    let pulls = spec.image_pull_secrets.iter().flatten().map(|secret| (secret.name.clone(), Use::Pull));
    pulls.chain(containers.chain(volumes).map(|name| (name, Use::Needed))).collect()
}

/// Checks whether the Secrets exist.
pub(super) fn judge_secrets(
    secrets: &[(String, Use, Answer<bool>)],
    namespace: &str,
    findings: &mut Findings,
) {
    let mut there = Vec::new();
    for (name, of_use, answer) in secrets {
        match answer {
            Answer::Known(true) => there.push(name.as_str()),
            Answer::Known(false) => {
                let text = format!("the secret {name}, which build pods refer to, is not in {namespace}");
                let advice = "Create it, or correct --push-secret or the pod template.";
                match of_use {
                    Use::Needed => findings.error("secrets", format!("{text}: they will not start"), advice),
                    Use::Pull => {
                        findings.warning("secrets", format!("{text}: images may not be pulled"), advice);
                    }
                }
            }
            Answer::Denied => findings.warning(
                "secrets",
                format!("cannot tell whether the secret {name} is in {namespace}"),
                "Check with an account that may list secrets.",
            ),
            Answer::Failed(why) => {
                findings.warning(
                    "secrets",
                    format!("cannot tell whether the secret {name} is there: {why}"),
                    "Try again.",
                );
            }
        }
    }
    if !there.is_empty() {
        findings.ok("secrets", format!("{} in {namespace}", there.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use fairlane_worker::pod::{PodSettings, sample};
    use serde_json::json;

    use super::*;
    use crate::commands::doctor::findings::Level;

    fn said(trial: &Trial) -> Vec<(Level, String)> {
        let mut findings = Findings::default();
        judge(trial, "builds", &mut findings);
        findings.0.iter().map(|one| (one.level, format!("{}: {}", one.about, one.in_full()))).collect()
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let forbidden = "pods \"build-x\" is forbidden: ";
        for (code, message, level, words) in [
            (
                403,
                "error looking up service account builds/nobody: serviceaccount \"nobody\" not found",
                Level::Error,
                "Create the service account",
            ),
            (403, "no PriorityClass with name urgent was found", Level::Error, "priorityClassName"),
            (403, "pod rejected: RuntimeClass \"gvisor\" not found", Level::Error, "runtimeClassName"),
            (
                403,
                "violates PodSecurity \"baseline:latest\": hostPath volumes (volume \"docker-socket\")",
                Level::Error,
                "enforce=privileged",
            ),
            (
                403,
                "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
                Level::Warning,
                "quota: the namespace has no room",
            ),
            (
                403,
                "failed quota: q: must specify limits.cpu for: builder",
                Level::Error,
                "in the pod template, or add a LimitRange",
            ),
            (404, "namespaces \"builds\" not found", Level::Error, "Create the namespace builds"),
            (
                400,
                "admission webhook \"a.b\" does not support dry run",
                Level::Warning,
                "Only a real build will show",
            ),
            (
                422,
                "Pod \"build-x\" is invalid: spec.containers[0].image: Required value",
                Level::Error,
                "Correct the pod template",
            ),
        ] {
            let found = said(&Trial::Refused(code, format!("{forbidden}{message}")));
            assert!(
                matches!(&found[..], [(of, text)] if *of == level && text.contains(words)),
                "{message}: {found:?}"
            );
            assert!(!found[0].1.contains("build-x\" is forbidden"), "{found:?}");
        }
        let lacks =
            "User \"w\" cannot create resource \"pods\" in API group \"\" in the namespace \"builds\"";
        assert_eq!(said(&Trial::Refused(403, format!("{forbidden}{lacks}"))), []);
        assert!(matches!(&said(&Trial::Taken(Box::default()))[..], [(Level::Ok, _)]));
        assert!(matches!(&said(&Trial::Failed("timed out".to_owned()))[..], [(Level::Warning, _)]));
    }

    #[test]
    fn the_pod_that_is_tried_is_a_builds() {
        let settings = PodSettings { push_secret: Some("push".to_owned()), ..PodSettings::default() };
        let pod = sample(&settings);
        assert_eq!(secrets(&pod), [("push".to_owned(), Use::Needed)].into());
    }

    #[test]
    fn secrets_are_found_wherever_a_pod_refers_to_them() {
        let pod = fairlane_testkit::kube::examples::pod(&json!({
            "imagePullSecrets": [{ "name": "pull" }],
            "containers": [{ "name": "builder",
                "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "key", "key": "k" } } },
                        { "name": "B", "valueFrom": { "secretKeyRef": { "name": "maybe", "key": "k", "optional": true } } }],
                "envFrom": [{ "secretRef": { "name": "all" } }] }],
            "initContainers": [{ "name": "i", "envFrom": [{ "secretRef": { "name": "init" } }] }],
            "volumes": [{ "name": "v", "secret": { "secretName": "volume" } },
                        { "name": "p", "projected": { "sources": [{ "secret": { "name": "projected" } }] } }],
        }));
        let found = secrets(&pod);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["all", "init", "key", "projected", "pull", "volume"]);
        assert_eq!((found["pull"], found["key"]), (Use::Pull, Use::Needed));
    }

    #[test]
    fn a_secret_that_lacks_is_an_error_where_the_pod_needs_it() {
        let mut findings = Findings::default();
        let secret = |name: &str, of_use, answer| (name.to_owned(), of_use, answer);
        let secrets = [
            secret("there", Use::Needed, Answer::Known(true)),
            secret("gone", Use::Needed, Answer::Known(false)),
            secret("pull", Use::Pull, Answer::Known(false)),
            secret("hidden", Use::Needed, Answer::Denied),
        ];
        judge_secrets(&secrets, "builds", &mut findings);
        let found: Vec<_> = findings.0.iter().map(|one| (one.level, one.in_full())).collect();
        for (level, words) in [
            (Level::Ok, "there in builds"),
            (Level::Error, "secret gone"),
            (Level::Warning, "secret pull"),
            (Level::Warning, "cannot tell whether the secret hidden in builds"),
        ] {
            let words = words.replace("hidden in", "hidden is in");
            assert!(
                found.iter().any(|(of, text)| *of == level && text.contains(&words)),
                "{words}: {found:?}"
            );
        }
    }
}
