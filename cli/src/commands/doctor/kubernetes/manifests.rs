//! Tests that Kubernetes and this program accept the manifests in `deploy/`, and that these grant the rights
//! in [`super::rights`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use fairlane_testkit::keep_docs;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rights::{RIGHTS, Scope};
use crate::args::{Cli, Command};

const FOLDERS: [&str; 2] = ["kubernetes", "binderhub"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The objects of a file.
fn objects_in(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect()
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("deploy").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    files
}

fn kustomization(folder: &str) -> Value {
    objects_in(&root().join("deploy").join(folder).join("kustomization.yaml")).remove(0)
}

/// Every object in `deploy/`, with the name of its file.
fn objects() -> Vec<(String, Value)> {
    let files = FOLDERS.iter().flat_map(|folder| yaml_files(folder));
    let name = |file: &Path| file.strip_prefix(root()).unwrap().display().to_string();
    files
        .filter(|file| !file.ends_with("kustomization.yaml"))
        .flat_map(|file| objects_in(&file).into_iter().map(move |object| (name(&file), object)))
        .collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let objects = objects().into_iter().map(|(_, object)| object);
    // A patch of a Deployment is only a part of one.
    objects.filter(|object| object["kind"] == kind && patched(object) == *object).collect()
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
        "Role" => misfit::<Role>(object),
        "ClusterRole" => misfit::<ClusterRole>(object),
        "RoleBinding" => misfit::<RoleBinding>(object),
        "ClusterRoleBinding" => misfit::<ClusterRoleBinding>(object),
        "Service" => misfit::<Service>(object),
        "StatefulSet" => misfit::<StatefulSet>(object),
        "Deployment" => misfit::<Deployment>(object),
        "PodDisruptionBudget" => misfit::<PodDisruptionBudget>(object),
        "NetworkPolicy" => misfit::<NetworkPolicy>(object),
        "Pod" => misfit::<Pod>(object),
        kind => Some(format!("no test knows the kind {kind:?}")),
    }
}

#[test]
fn every_object_is_what_kubernetes_takes() {
    let objects = objects();
    assert!(objects.len() >= 18, "{}", objects.len());
    for (file, object) in &objects {
        // A patch has only some of the required fields, so `patched` adds the others.
        let misfit = misfit_of_its_kind(&patched(object));
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

/// Adds the required fields to a patch of a Deployment.
fn patched(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Deployment" && object["spec"]["selector"].is_null() {
        object["spec"]["selector"] = serde_json::json!({});
    }
    object
}

#[test]
fn every_file_has_its_place_in_a_kustomization() {
    for folder in FOLDERS {
        let all = kustomization(folder);
        let mut named: BTreeSet<String> = ["kustomization.yaml".to_owned()].into();
        let lists = [all.pointer("/resources"), all.pointer("/configMapGenerator/0/files")];
        let files = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
        named.extend(files.filter_map(Value::as_str).map(str::to_owned));
        let patches = all["patches"].as_array().into_iter().flatten();
        named.extend(patches.filter_map(|patch| patch["path"].as_str()).map(str::to_owned));
        for file in yaml_files(folder) {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(named.remove(name), "deploy/{folder}/kustomization.yaml does not name {name}");
        }
        named.remove("../kubernetes");
        assert_eq!(named, BTreeSet::new(), "deploy/{folder}/kustomization.yaml names what is not there");
    }
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
    assert_eq!((roles.len(), cluster_roles.len()), (2, 1));
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

/// The containers that run this program, including those in patches.
fn own_containers() -> Vec<Value> {
    let deployments = objects().into_iter().filter(|(_, object)| object["kind"] == "Deployment");
    let containers = deployments
        .flat_map(|(_, one)| one["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone());
    containers.collect()
}

#[test]
fn the_program_takes_the_commands_and_settings_of_its_containers() {
    let command = Cli::command();
    let containers = own_containers();
    assert_eq!(containers.len(), 3, "a dispatcher, a worker and its patch");
    for container in &containers {
        let name = container["name"].as_str().unwrap();
        let options = command.find_subcommand(name).unwrap();
        let mut line = vec!["fairlane".to_owned(), name.to_owned()];
        if container["image"].is_string() {
            assert_eq!(container["image"], "fairlane");
            assert_eq!(container["args"], serde_json::json!([name]));
        }
        let mut known = BTreeSet::new();
        for variable in container["env"].as_array().unwrap() {
            let variable_name = variable["name"].as_str().unwrap();
            known.insert(format!("$({variable_name})"));
            if !variable_name.starts_with("FAIRLANE_") {
                continue;
            }
            let option =
                options.get_arguments().find(|option| option.get_env().is_some_and(|of| of == variable_name));
            // The variable may be for `doctor`, which runs in the worker's container.
            let of_doctor = || {
                command
                    .find_subcommand("doctor")?
                    .get_arguments()
                    .find(|option| option.get_env().is_some_and(|of| of == variable_name))
            };
            assert!(option.or_else(of_doctor).is_some(), "`fairlane {name}` knows no {variable_name}");
            let Some(value) = variable["value"].as_str() else { continue };
            for part in value.split('$').skip(1) {
                let reference = format!("${}", &part[..=part.find(')').unwrap()]);
                assert!(
                    known.contains(&reference),
                    "{reference} comes after {variable_name}: it stays as it is"
                );
            }
            if let Some(option) = option {
                let template = root().join("deploy/kubernetes/pod.yaml").display().to_string();
                let value =
                    value.replace("$(REDIS_PASSWORD)", "x").replace("/etc/fairlane/pod.yaml", &template);
                let takes_value = option.get_action().takes_values();
                let long = option.get_long().unwrap();
                line.push(if takes_value { format!("--{long}={value}") } else { format!("--{long}") });
            }
        }
        match Cli::try_parse_from(&line).unwrap().command {
            Command::Worker { args, .. } => drop(args.settings().unwrap()),
            Command::Dispatcher { args, .. } => drop(args.serve.settings().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn secrets_are_referred_to_and_named_in_the_docs() {
    let docs = std::fs::read_to_string(root().join("docs/kubernetes.md")).unwrap();
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
    assert_eq!(workloads.len(), 3);
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
        let (selector, namespace) =
            (&object["spec"]["podSelector"]["matchLabels"], &object["metadata"]["namespace"]);
        let of_builds = selector["component"] == fairlane_worker::pod::COMPONENT;
        assert!(of_builds || selects(selector, namespace), "{object}");
    }
    let compose = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
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
        let file = if right.scope == Scope::Namespace { "rbac.yaml" } else { "nodes.yaml" };
        let (resource, verbs, cost) = (right.resource, right.verbs.join(", "), right.cost);
        writeln!(table, "| {verbs} `{resource}` | `{file}` | {cost} |").unwrap();
    }
    table
}

#[test]
fn the_docs_have_every_setting_of_a_worker_and_every_right() {
    let page = root().join("docs/kubernetes.md");
    keep_docs(&page, "settings", &settings());
    keep_docs(&page, "rights", &rights());
}
