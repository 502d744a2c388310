//! Tests that Kubernetes and this program accept what the Helm chart makes, and that it grants the rights in
//! [`super::rights`].

mod chart;
mod custom;
mod helm;
mod pools;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use fairlane_testkit::{TempDir, keep_docs};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rights::{RIGHTS, Scope};
use crate::args::{Cli, Command};

/// The folders whose `fairlane.yaml` is the chart, rendered, for clusters without Helm.
const FOLDERS: [&str; 2] = ["kubernetes", "binderhub"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The objects of a text; parts that are only comments are skipped.
fn objects_in(text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n");
    let is_object = |part: &&str| part.lines().any(|line| !line.is_empty() && !line.starts_with(['#', '-']));
    parts.filter(is_object).map(|part| serde_saphyr::from_str(part).unwrap()).collect()
}

/// Every object in these folders, with the name of its file.
fn objects() -> Vec<(String, Value)> {
    let files = FOLDERS.iter().map(|folder| format!("deploy/{folder}/fairlane.yaml"));
    files
        .flat_map(|file| objects_in(&read(&file)).into_iter().map(move |object| (file.clone(), object)))
        .collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let objects = objects().into_iter().map(|(_, object)| object);
    objects.filter(|object| object["kind"] == kind).collect()
}

/// Why an object does not fit a type: a parse error, or a field that the type does not have.
fn misfit<T: DeserializeOwned + Serialize>(object: &Value) -> Option<String> {
    match serde_json::from_value::<T>(object.clone()) {
        Ok(typed) => lost(object, &serde_json::to_value(typed).unwrap(), String::new()),
        Err(error) => Some(error.to_string()),
    }
}

/// The path of the first field that differs or is missing.
fn lost(before: &Value, after: &Value, path: String) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match after.get(key) {
                Some(after) => lost(value, after, path),
                None => Some(path),
            }
        }),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let each = before.iter().zip(after).enumerate();
            each.into_iter()
                .find_map(|(index, (before, after))| lost(before, after, format!("{path}[{index}]")))
        }
        (before, after) => (before != after).then_some(path),
    }
}

fn misfit_of_its_kind(object: &Value) -> Option<String> {
    match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => misfit::<Namespace>(object),
        "ServiceAccount" => misfit::<ServiceAccount>(object),
        "Secret" => misfit::<Secret>(object),
        "ConfigMap" => misfit::<ConfigMap>(object),
        "Role" => misfit::<Role>(object),
        "ClusterRole" => misfit::<ClusterRole>(object),
        "RoleBinding" => misfit::<RoleBinding>(object),
        "ClusterRoleBinding" => misfit::<ClusterRoleBinding>(object),
        "Service" => misfit::<Service>(object),
        "StatefulSet" => misfit::<StatefulSet>(object),
        "Deployment" => misfit::<Deployment>(object),
        "PodDisruptionBudget" => misfit::<PodDisruptionBudget>(object),
        "HorizontalPodAutoscaler" => misfit::<HorizontalPodAutoscaler>(object),
        "NetworkPolicy" => misfit::<NetworkPolicy>(object),
        "Ingress" => misfit::<Ingress>(object),
        "Pod" => misfit::<Pod>(object),
        "HTTPRoute" => misfit::<custom::HttpRoute>(object),
        "ServiceMonitor" => misfit::<custom::ServiceMonitor>(object),
        "PodMonitor" => misfit::<custom::PodMonitor>(object),
        "PrometheusRule" => misfit::<custom::PrometheusRule>(object),
        "ScaledObject" => misfit::<custom::ScaledObject>(object),
        "TriggerAuthentication" => misfit::<custom::TriggerAuthentication>(object),
        kind => Some(format!("no test knows the kind {kind:?}")),
    }
}

#[test]
fn every_object_is_what_kubernetes_takes() {
    let objects = objects();
    assert!(objects.len() >= 35, "{}", objects.len());
    for (file, object) in &objects {
        let misfit = misfit_of_its_kind(object);
        assert_eq!(misfit, None, "{file}: {} {}", object["kind"], object["metadata"]["name"]);
    }
    let misspelled = |pointer: &str, key: &str| {
        let mut object = of_kind("Deployment").remove(0);
        object.pointer_mut(pointer).unwrap()[key] = serde_json::json!(2);
        misfit_of_its_kind(&object)
    };
    assert_eq!(misspelled("/spec", "replicsa"), Some(".spec.replicsa".to_owned()));
    let deep = misspelled("/spec/template/spec/containers/0/resources", "limit");
    assert_eq!(deep.as_deref(), Some(".spec.template.spec.containers[0].resources.limit"));
}

fn given(rules: &Value) -> BTreeSet<(String, String)> {
    let rules: Vec<PolicyRule> = serde_json::from_value(rules.clone()).unwrap();
    let each = rules.into_iter().flat_map(|rule| {
        assert_eq!(rule.api_groups.as_deref(), Some(&[String::new()][..]));
        assert_eq!((rule.resource_names, rule.non_resource_urls), (None, None));
        let resources = rule.resources.unwrap_or_default();
        let verbs = rule.verbs;
        resources
            .into_iter()
            .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb)))
    });
    each.collect()
}

#[test]
fn the_roles_give_exactly_the_rights_that_the_doctor_checks() {
    let listed = |scope: Scope| -> BTreeSet<(String, String)> {
        let of_scope = RIGHTS.iter().filter(|right| right.scope == scope);
        let verbs = of_scope.flat_map(|right| right.verbs.iter().map(|verb| (right.resource, *verb)));
        verbs.map(|(resource, verb)| (resource.to_owned(), verb.to_owned())).collect()
    };
    let (roles, cluster_roles) = (of_kind("Role"), of_kind("ClusterRole"));
    assert_eq!((roles.len(), cluster_roles.len()), (2, 2));
    for role in &roles {
        assert_eq!(given(&role["rules"]), listed(Scope::Namespace), "{}", role["metadata"]["namespace"]);
    }
    assert_eq!(given(&cluster_roles[0]["rules"]), listed(Scope::Cluster));
    let accounts = objects().into_iter().filter(|(_, object)| object["kind"] == "ServiceAccount");
    let accounts: Vec<Value> = accounts.map(|(_, object)| object["metadata"].clone()).collect();
    for (file, binding) in objects() {
        if binding["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")) {
            let is_its_role = |role: &Value| {
                role["kind"] == binding["roleRef"]["kind"]
                    && role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
            };
            assert!(roles.iter().chain(&cluster_roles).any(is_its_role), "{file}");
            let subject = &binding["subjects"][0];
            let is_subject = |account: &Value| {
                account["name"] == subject["name"] && account["namespace"] == subject["namespace"]
            };
            assert!(accounts.iter().any(is_subject), "{file}: {subject}");
        }
    }
}

/// The containers that run this program, in these objects.
fn own_containers(objects: &[Value]) -> Vec<Value> {
    let lists = objects.iter().filter_map(|one| match one["kind"].as_str() {
        Some("Deployment") => one["spec"]["template"]["spec"]["containers"].as_array(),
        Some("Pod") => one["spec"]["containers"].as_array(),
        _ => None,
    });
    lists.flatten().cloned().collect()
}

/// The command line that means the same as a container's variables. Panics if the program does not know one of them.
fn command_line(container: &Value, template: &Path) -> Vec<String> {
    let command = Cli::command();
    let name = container["args"][0].as_str().unwrap();
    let options = command.find_subcommand(name).unwrap();
    let option_of = |options: &clap::Command, variable: &str| {
        let mut all = options.get_arguments();
        all.find(|option| option.get_env().is_some_and(|of| of == variable)).cloned()
    };
    let mut line = vec!["fairlane".to_owned(), name.to_owned()];
    let mut known = BTreeSet::new();
    for variable in container["env"].as_array().unwrap() {
        let variable_name = variable["name"].as_str().unwrap();
        assert!(known.insert(format!("$({variable_name})")), "{variable_name} is set twice");
        if !variable_name.starts_with("FAIRLANE_") {
            continue;
        }
        let option = option_of(options, variable_name);
        // Some of a worker's are for `doctor`, which runs in the same container.
        let of_doctor = || option_of(command.find_subcommand("doctor")?, variable_name);
        assert!(option.is_some() || of_doctor().is_some(), "`fairlane {name}` knows no {variable_name}");
        let (Some(option), Some(value)) = (option, variable["value"].as_str()) else { continue };
        for part in value.split("$(").skip(1) {
            let reference = format!("$({}", &part[..=part.find(')').unwrap()]);
            assert!(known.contains(&reference), "{reference} comes after {variable_name}: it stays as it is");
        }
        let value = value
            .replace("$(REDIS_PASSWORD)", "x")
            .replace("/etc/fairlane/pod/pod.yaml", &template.display().to_string());
        let long = option.get_long().unwrap();
        line.push(if option.get_action().takes_values() {
            format!("--{long}={value}")
        } else {
            format!("--{long}")
        });
    }
    line
}

/// Writes the pod template that these objects hold to a file.
fn pod_template(objects: &[Value], home: &TempDir) -> PathBuf {
    let text = objects.iter().find_map(|object| object["data"]["pod.yaml"].as_str()).unwrap();
    let file = home.join("pod.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_program_takes_the_commands_and_settings_of_its_containers() {
    for folder in FOLDERS {
        let objects = objects_in(&read(&format!("deploy/{folder}/fairlane.yaml")));
        let images: Value =
            serde_saphyr::from_str(&read(&format!("deploy/{folder}/kustomization.yaml"))).unwrap();
        let image = &images["images"][0];
        assert_eq!(
            (&image["name"], &image["newTag"]),
            (&"fairlane".into(), &env!("CARGO_PKG_VERSION").into())
        );
        let home = TempDir::new();
        let template = pod_template(&objects, &home);
        let containers = own_containers(&objects);
        assert_eq!(containers.len(), 2, "a dispatcher and a worker");
        for container in &containers {
            assert_eq!(container["image"], format!("fairlane:{}", env!("CARGO_PKG_VERSION")));
            assert_eq!(container["args"], serde_json::json!([container["name"]]));
            match Cli::try_parse_from(command_line(container, &template)).unwrap().command {
                Command::Worker { args, .. } => drop(args.settings().unwrap()),
                Command::Dispatcher { args, .. } => drop(args.serve.settings().unwrap()),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn secrets_are_referred_to_and_named_in_the_docs() {
    let docs = read("docs/kubernetes.md");
    let mut used = BTreeSet::new();
    for (file, object) in objects() {
        let text = object.to_string();
        assert_ne!(object["kind"], "Secret", "{file}: a secret does not belong in a repository");
        for part in text.split("\"secretKeyRef\":").skip(1) {
            let reference: Value =
                serde_json::Deserializer::from_str(part).into_iter().next().unwrap().unwrap();
            assert_eq!(reference["name"], "fairlane", "{file}");
            used.insert(reference["key"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(used.len(), 4, "{used:?}");
    for key in used {
        assert!(docs.contains(&format!("--from-literal={key}=")), "docs/kubernetes.md makes no {key}");
    }
}

#[test]
fn selectors_ports_and_images_fit_together() {
    let labels = |object: &Value| -> BTreeMap<String, String> {
        serde_json::from_value(object["spec"]["template"]["metadata"]["labels"].clone()).unwrap()
    };
    let workloads: Vec<Value> = [of_kind("Deployment"), of_kind("StatefulSet")].concat();
    assert_eq!(workloads.len(), 6);
    let selects = |selector: &Value, in_namespace: &Value| {
        let selector: BTreeMap<String, String> = serde_json::from_value(selector.clone()).unwrap();
        workloads.iter().any(|one| {
            let labels = labels(one);
            &one["metadata"]["namespace"] == in_namespace
                && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    };
    for object in of_kind("Service") {
        assert!(selects(&object["spec"]["selector"], &object["metadata"]["namespace"]), "{object}");
    }
    for object in [of_kind("Deployment"), of_kind("StatefulSet"), of_kind("PodDisruptionBudget")].concat() {
        let selector = &object["spec"]["selector"]["matchLabels"];
        assert!(selects(selector, &object["metadata"]["namespace"]), "{object}");
    }
    for object in of_kind("NetworkPolicy") {
        let (selector, namespace) = (&object["spec"]["podSelector"], &object["metadata"]["namespace"]);
        let ours = [fairlane_worker::pod::COMPONENT, fairlane_worker::pod::PROBE];
        let of_builds = selector["matchExpressions"][0]["values"] == serde_json::json!(ours);
        assert!(of_builds || selects(&selector["matchLabels"], namespace), "{object}");
    }
    let compose = read("compose.yaml");
    let redis = &of_kind("StatefulSet")[0]["spec"]["template"]["spec"]["containers"][0];
    assert!(compose.contains(&format!("image: {}\n", redis["image"].as_str().unwrap())), "{redis}");
    let words: Vec<&str> = redis["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for pair in [["--appendonly", "yes"], ["--maxmemory-policy", "noeviction"]] {
        assert!(words.windows(2).any(|two| two == pair), "{words:?}");
    }
}

/// The table of settings in the docs, generated from the program.
fn settings() -> String {
    let command = Cli::command();
    let worker = command.find_subcommand("worker").unwrap();
    let mut table = "| option | variable | default | meaning |\n|---|---|---|---|\n".to_owned();
    for option in worker.get_arguments().filter(|option| !option.is_hide_set()) {
        let (Some(long), Some(variable)) = (option.get_long(), option.get_env()) else { continue };
        let default: Vec<String> =
            option.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let default = if default.is_empty() || !option.get_action().takes_values() {
            String::new()
        } else {
            format!("`{}`", default.join(" "))
        };
        let help = option.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        writeln!(table, "| `--{long}` | `{}` | {default} | {help} |", variable.to_string_lossy()).unwrap();
    }
    table
}

/// The table of rights in the docs.
fn rights() -> String {
    let mut table = "| right | given by | without it |\n|---|---|---|\n".to_owned();
    for right in RIGHTS {
        let value = right.value();
        let (resource, verbs, cost) = (right.resource, right.verbs.join(", "), right.cost);
        writeln!(table, "| {verbs} `{resource}` | `{value}` | {cost} |").unwrap();
    }
    table
}

#[test]
fn the_docs_have_every_setting_of_a_worker_and_every_right() {
    let page = root().join("docs/kubernetes.md");
    keep_docs(&page, "settings", &settings());
    keep_docs(&page, "rights", &rights());
}
