//! Tests of the Helm chart: every variant in `deploy/helm/variants` is linted, rendered and read.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use clap::Parser as _;
use fairlane_common::acl;
use fairlane_common::keys::Keys;
use fairlane_testkit::{RedisServer, TempDir, keep_file};
use serde_json::{Value, json};

use super::helm::{Rendered, case, minimal, render, variant, variants};
use super::{
    FOLDERS, command_line, given, misfit_of_its_kind, objects_in, of_kind, own_containers, pod_template,
    read, root,
};
use crate::args::Cli;
use crate::commands::import_binderhub::merge;

/// Pod Security `restricted`, a read-only root file system, and no token of the API without need.
fn is_restricted(pod: &Value, about: &str) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{about}");
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{about}");
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{about}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{about}");
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{about}");
    }
    let has_account = pod["serviceAccountName"].is_string();
    assert!(has_account || pod["automountServiceAccountToken"] == false, "{about}");
    assert!(pod.to_string().find("hostPath").is_none(), "{about}");
}

#[test]
fn every_variant_of_the_chart_is_what_kubernetes_and_the_program_take() {
    let variants = variants();
    assert!(variants.len() >= 8, "{}", variants.len());
    let cases: Vec<Value> = variants.iter().map(|(_, values)| case(values)).collect();
    let Some(rendered) = render(&cases) else { return };
    for ((name, _), rendered) in variants.iter().zip(&rendered) {
        assert_eq!(rendered.lint, Vec::<String>::new(), "{name}");
        let objects = rendered.objects();
        assert!(objects.len() >= 15, "{name}: {}", objects.len());
        for object in &objects {
            let about = format!("{name}: {} {}", object["kind"], object["metadata"]["name"]);
            assert_eq!(misfit_of_its_kind(object), None, "{about}");
            let pods = [&object["spec"]["template"]["spec"], &object["spec"]];
            if let Some(pod) = pods.into_iter().find(|pod| pod["containers"].is_array()) {
                is_restricted(pod, &about);
            }
        }
        let home = TempDir::new();
        let template = pod_template(&objects, &home);
        let containers = own_containers(&objects);
        assert_eq!(containers.len(), 4, "{name}: a dispatcher, a worker, and two of `helm test`");
        for container in &containers {
            let parsed = Cli::try_parse_from(command_line(container, &template));
            assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
        }
        let notes = &rendered.files["NOTES.txt"];
        assert!(notes.contains("helm -n fairlane test fairlane --logs"), "{notes}");
    }
    let mut object = rendered[0].object("Deployment", "fairlane-worker");
    object["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = json!({});
    let misspelled = ".spec.template.spec.containers[0].readinesProbe";
    assert_eq!(misfit_of_its_kind(&object).as_deref(), Some(misspelled));
}

#[test]
fn the_manifests_for_clusters_without_helm_are_the_chart_rendered() {
    let values = FOLDERS.map(variant);
    let Some(rendered) = render(&values.each_ref().map(case)) else { return };
    for (folder, rendered) in FOLDERS.iter().zip(rendered) {
        let head = format!(
            "# The Helm chart with the values of deploy/helm/variants/{folder}.yaml, rendered by a test: do not edit.\n"
        );
        let file = root().join(format!("deploy/{folder}/fairlane.yaml"));
        keep_file(&file, &format!("{head}{}\n", rendered.text()));
    }
}

#[test]
fn contradictions_and_unknown_values_are_refused_with_their_path() {
    let refused = [
        (json!({"image": {"repository": ""}}), "image.repository: name the image"),
        (json!({"dispacher": {}}), "at '': additional properties 'dispacher' not allowed"),
        (json!({"worker": {"slot": 3}}), "at '/worker': additional properties 'slot' not allowed"),
        (json!({"worker": {"slots": "3"}}), "at '/worker/slots': got string, want integer"),
        (json!({"builder": "docker"}), "at '/builder': value must be one of 'dind', 'pink', 'host'"),
        (
            json!({"builder": "none", "builds": {"socket": "/run/x.sock"}}),
            "builds.socket: there is no socket",
        ),
        (json!({"builder": "none"}), "builds.command: with `builder: none`"),
        (json!({"builds": {"socket": "run/x.sock"}}), "builds.socket: must be an absolute path"),
        (json!({"builder": "docker-api"}), "builds.dockerApiRelease: name the release"),
        (
            json!({"builds": {"dockerApiRelease": "x"}}),
            "builds.dockerApiRelease: only used with `builder: docker-api`",
        ),
        (json!({"builds": {"registryConfigSecret": "x"}}), "builds.registryConfigSecret: only used with"),
        (json!({"redis": {"persistence": {"enabled": false}}}), "redis.persistence.enabled: without it"),
        (json!({"redis": {"enabled": false}}), "redis.url: with redis.enabled: false, set a URL"),
        (json!({"redis": {"url": "redis://x"}}), "redis.url: for another Redis than the chart's"),
        (
            json!({"redis": {"enabled": false, "url": "redis://:$(REDIS_PASSWORD)@x"}}),
            "redis.existingSecret: name",
        ),
        (
            json!({"redis": {"enabled": false, "url": "redis://x", "acl": true}}),
            "redis.acl: only the chart's own",
        ),
        (json!({"redis": {"persistence": {"size": "8"}}}), "at '/redis/persistence/size'"),
        (json!({"auth": {"token": "too-short"}}), "auth.token: has 9 characters; at least 16"),
        (json!({"auth": {"hubToken": "too-short"}}), "auth.hubToken: has 9 characters; at least 16"),
        (
            json!({"auth": {"token": "0123456789abcdef", "hubToken": "0123456789abcdef"}}),
            "auth.hubToken: must differ from auth.token",
        ),
        (
            json!({"auth": {"existingSecret": "x", "token": "0123456789abcdef"}}),
            "auth.token: auth.existingSecret holds the tokens",
        ),
        (
            json!({"worker": {"extraEnv": [{"name": "FAIRLANE_SLOTS", "value": "3"}]}}),
            "worker.extraEnv[0]: this chart has a value for FAIRLANE_SLOTS",
        ),
        (
            json!({"dispatcher": {"extraEnv": [{"name": "A", "value": "3"}, {"name": "SSL_CERT_FILE", "value": "x"}]}}),
            "dispatcher.extraEnv[1]: this chart has a value for SSL_CERT_FILE",
        ),
        (json!({"dispatcher": {"autoscaling": {"min": 7}}}), "dispatcher.autoscaling.min: 7 is more than"),
        (
            json!({"worker": {"autoscaling": {"enabled": true}}, "dispatcher": {"tlsSecret": "x"}}),
            "worker.autoscaling.enabled: KEDA would send its token",
        ),
        (json!({"dispatcher": {"basePath": "fairlane"}}), "dispatcher.basePath: must begin with /"),
        (json!({"logArchive": {"secret": "x"}}), "logArchive.secret: only used with logArchive.url"),
        (json!({"logArchive": {"url": "gs://logs"}}), "logArchive"),
        (json!({"serviceAccount": {"create": false}}), "serviceAccount.name: name the existing"),
        (json!({"ingress": {"enabled": true}}), "ingress.host: name the host"),
        (json!({"httpRoute": {"enabled": true}}), "httpRoute.parentRefs: name at least one Gateway"),
    ];
    let cases: Vec<Value> = refused
        .iter()
        .map(|(changes, _)| json!({"namespace": "fairlane", "values": minimal(changes)}))
        .collect();
    let Some(rendered) = render(&cases) else { return };
    for ((changes, expected), rendered) in refused.iter().zip(rendered) {
        assert!(rendered.error.contains(expected), "{changes}: {:?}", rendered.error);
    }
}

#[test]
fn every_variable_that_the_chart_sets_is_refused_among_further_variables() {
    let folder = root().join("deploy/helm/fairlane/templates");
    let files = [folder.clone(), folder.join("tests")].map(|folder| std::fs::read_dir(folder).unwrap());
    let mut set = BTreeSet::new();
    for file in files.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        // The variables of Redis's container are no program's of ours.
        if file.file_name().unwrap() != "redis.yaml" {
            let text = std::fs::read_to_string(&file).unwrap();
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
            let is_variable =
                |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            set.extend(names.filter(is_variable).map(str::to_owned));
        }
    }
    assert!(set.len() > 30, "{set:?}");
    let checks = read("deploy/helm/fairlane/templates/_checks.tpl");
    let list =
        checks.split_once(r#"define "fairlane.ownVariables" -}}"#).unwrap().1.split_once("{{").unwrap().0;
    let refused: BTreeSet<String> =
        list.lines().filter_map(|line| line.strip_prefix("- ")).map(str::to_owned).collect();
    assert_eq!(set, refused);
}

fn secret_data(rendered: &Rendered) -> BTreeMap<String, String> {
    let secret = rendered.object("Secret", "fairlane");
    let data: BTreeMap<String, String> = serde_json::from_value(secret["data"].clone()).unwrap();
    let decode = |value: &str| base64::engine::general_purpose::STANDARD.decode(value).unwrap();
    data.into_iter().map(|(key, value)| (key, String::from_utf8(decode(&value)).unwrap())).collect()
}

#[test]
fn secrets_are_made_once_and_kept_over_upgrades() {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let there = json!({"token": encode("kept-token"), "seal-key": encode("a:00"), "own": encode("x")});
    let fresh = case(&minimal(&json!({})));
    let mut upgrade = fresh.clone();
    upgrade["secret"] = there.clone();
    let mut changed = case(&minimal(&json!({"auth": {"token": "0123456789abcdef"}})));
    changed["secret"] = there;
    let Some(rendered) = render(&[fresh.clone(), fresh, upgrade, changed]) else { return };
    let all: Vec<BTreeMap<String, String>> = rendered.iter().map(secret_data).collect();
    let [fresh, again, upgraded, changed] = &all[..] else { panic!("{all:?}") };
    let of_redis =
        ["redis-dispatcher-password", "redis-password", "redis-reader-password", "redis-worker-password"];
    let keys: Vec<&str> = ["hub-token"].into_iter().chain(of_redis).chain(["seal-key", "token"]).collect();
    assert_eq!(fresh.keys().map(String::as_str).collect::<Vec<_>>(), keys);
    for (key, value) in fresh {
        assert!(value.len() >= 64, "{key} has {} characters", value.len());
        assert_ne!(value, &again[key], "{key} is the same in two installations");
    }
    assert_ne!(fresh["token"], fresh["hub-token"]);
    let hex = fresh["seal-key"].strip_prefix("a:").unwrap();
    assert!(hex.len() == 64 && hex.chars().all(|digit| digit.is_ascii_hexdigit()));
    for (key, value) in [("token", "kept-token"), ("seal-key", "a:00"), ("own", "x")] {
        assert_eq!(upgraded[key], value);
    }
    assert_eq!(upgraded["hub-token"].len(), 64, "a missing token is generated");
    assert_eq!((changed["token"].as_str(), changed["seal-key"].as_str()), ("0123456789abcdef", "a:00"));
}

/// What of a `StatefulSet` restarts its pods, or cannot be changed.
fn what_restarts(set: &Value) -> &Value {
    &set["spec"]
}

#[test]
fn an_upgrade_from_the_manifests_restarts_no_redis() {
    let cases = [variant("kubernetes"), minimal(&json!({})), minimal(&json!({"redis": {"maxmemory": 600}}))];
    let Some(rendered) = render(&cases.map(|values| case(&values))) else { return };
    let before = objects_in(include_str!("redis_of_the_manifests.yaml"));
    let before = before.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    for rendered in &rendered[..2] {
        let after = rendered.object("StatefulSet", "fairlane-redis");
        assert_eq!(what_restarts(before), what_restarts(&after));
        // A Deployment's selector cannot be changed either.
        for name in ["fairlane-dispatcher", "fairlane-worker"] {
            let selector = &rendered.object("Deployment", name)["spec"]["selector"];
            assert_eq!(*selector, json!({"matchLabels": {"app.kubernetes.io/name": name}}));
        }
    }
    let restarted = rendered[2].object("StatefulSet", "fairlane-redis");
    assert_ne!(what_restarts(before), what_restarts(&restarted), "the comparison sees a change");
}

/// The value of a variable of a Deployment's container; null if it has none.
fn variable(deployment: &Value, wanted: &str) -> Value {
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let found = variables.iter().find(|variable| variable["name"] == wanted);
    found.map_or(Value::Null, |variable| variable["value"].clone())
}

#[test]
fn a_builder_sets_socket_and_selector_as_the_charts_of_binderhub_do() {
    let names = ["kubernetes", "binderhub", "pink", "docker-api", "kaniko"];
    let Some(rendered) = render(&names.map(|name| case(&variant(name)))) else { return };
    let expected = [
        ("/var/run/docker.sock", Value::Null, "fairlane-builds"),
        ("/var/run/dind/docker.sock", Value::Null, "binderhub"),
        ("/var/run/pink/podman.sock", Value::Null, "binderhub"),
        (
            "/var/run/staging-binder/docker-api/docker-api.sock",
            json!("app.kubernetes.io/component=docker-api"),
            "staging",
        ),
        ("none", Value::Null, "fairlane-builds"),
    ];
    for ((name, rendered), (socket, builders, namespace)) in names.iter().zip(&rendered).zip(expected) {
        let worker = rendered.object("Deployment", "fairlane-worker");
        let value = |wanted: &str| variable(&worker, wanted);
        assert_eq!(value("FAIRLANE_DOCKER_SOCKET"), socket, "{name}");
        assert_eq!(value("FAIRLANE_BUILDERS"), builders, "{name}");
        assert_eq!(value("FAIRLANE_NAMESPACE"), namespace, "{name}");
        let level = if socket == "none" { "baseline" } else { "privileged" };
        let spaces = rendered.objects().into_iter().filter(|object| object["kind"] == "Namespace");
        for space in spaces {
            assert_eq!(space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], level, "{name}");
        }
    }
}

#[test]
fn the_chart_works_as_a_subchart_and_twice_in_a_namespace() {
    let mut below = case(&minimal(&json!({"enabled": true})));
    merge(&mut below, json!({"parent": true, "release": "hub", "lint": false}));
    let mut second = case(&minimal(&json!({"rbac": {"secrets": false, "nodes": false}})));
    second["release"] = json!("second");
    let Some(rendered) = render(&[below, second, case(&minimal(&json!({})))]) else { return };
    let worker = rendered[0].object("Deployment", "hub-fairlane-worker");
    assert_eq!(worker["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"], "hub-fairlane-worker");
    for (rendered, name, installation) in
        [(&rendered[1], "second-fairlane", Some("second-fairlane")), (&rendered[2], "fairlane", None)]
    {
        let worker = rendered.object("Deployment", &format!("{name}-worker"));
        assert_eq!(variable(&worker, "FAIRLANE_INSTALLATION").as_str(), installation, "their pods differ");
    }
    let names = |rendered: &Rendered| -> Vec<String> {
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        let shared = |object: &Value| object["kind"] == "Namespace";
        rendered.objects().iter().filter(|object| !shared(object)).map(name).collect()
    };
    let (second, first) = (names(&rendered[1]), names(&rendered[2]));
    assert!(second.iter().all(|name| !first.contains(name)), "{second:?}");
    let role = rendered[1].object("Role", "second-fairlane-worker");
    let all = given(&of_kind("Role")[0]["rules"]);
    let without: Vec<_> =
        all.difference(&given(&role["rules"])).map(|(resource, _)| resource.clone()).collect();
    assert_eq!(without, ["secrets"; 4], "the switches take away these rights and no others");
}

#[test]
fn the_alerts_and_the_dashboard_are_those_of_deploy_monitoring() {
    let Some(rendered) = render(&[case(&variant("monitored"))]) else { return };
    let rule = rendered[0].object("PrometheusRule", "fairlane");
    let alerts = read("deploy/monitoring/alerts.yaml")
        .replace("runbook_url: docs/", "runbook_url: https://git.example.org/fairlane/blob/main/docs/");
    let alerts: Value = serde_saphyr::from_str(&alerts).unwrap();
    assert_eq!(rule["spec"], alerts);
    let board = rendered[0].object("ConfigMap", "fairlane-dashboard");
    let board: Value = serde_json::from_str(board["data"]["fairlane.json"].as_str().unwrap()).unwrap();
    assert_eq!(board, serde_json::from_str::<Value>(&read("deploy/monitoring/dashboard.json")).unwrap());
    let ingress = rendered[0].object("Ingress", "fairlane-dispatcher");
    let paths = ingress["spec"]["rules"][0]["http"]["paths"].as_array().unwrap();
    let paths: Vec<&str> = paths.iter().map(|path| path["path"].as_str().unwrap()).collect();
    let base = "/services/fairlane";
    let expected = ["", "/", "/page", "/v1", "/openapi.json"].map(|path| format!("{base}{path}"));
    assert_eq!(paths, expected, "neither health nor metrics is published");
}

#[test]
fn the_version_of_the_chart_is_that_of_the_program() {
    let chart: Value = serde_saphyr::from_str(&read("deploy/helm/fairlane/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_redis_users_of_the_chart_are_those_that_the_doctor_prints() {
    let Some(rendered) = render(&[case(&variant("scaled"))]) else { return };
    let set = rendered[0].object("StatefulSet", "fairlane-redis");
    let args = set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    let keys = Keys::new("fairlane").unwrap();
    let server = RedisServer::builder().tcp().start().await;
    for user in acl::ALL.iter() {
        let (name, role) = (user.name(), user.role().to_uppercase());
        let at = args.iter().position(|arg| *arg == name).unwrap();
        let words: Vec<&str> = args[at + 1..].iter().copied().take_while(|arg| *arg != "--user").collect();
        let mut expected = vec!["on".to_owned(), format!(">$(REDIS_{role}_PASSWORD)")];
        expected.extend(user.rights(&keys, true));
        assert_eq!(words, expected, "{name}");
        server.command(&[&["ACL", "SETUSER", name.as_str(), "reset"], &words[..]].concat()).await;
        if user.role() != "reader" {
            let deployment = rendered[0].object("Deployment", &name);
            let expected = format!("redis://{name}:$(REDIS_PASSWORD)@fairlane-redis:6379");
            assert_eq!(variable(&deployment, "FAIRLANE_REDIS_URL"), expected);
        }
    }
    let url = format!("redis://fairlane-worker:$(REDIS_WORKER_PASSWORD)@127.0.0.1:{}", server.port());
    let queue = fairlane_common::Queue::open(&url.parse().unwrap(), "fairlane").await.unwrap();
    assert_eq!(queue.check(10).await.unwrap().problems, Vec::<String>::new());
}
