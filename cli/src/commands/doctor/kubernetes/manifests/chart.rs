//! Tests of the Helm chart, with Helm's own engine: every variant in `deploy/helm/variants` is linted, rendered and read.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use clap::Parser as _;
use fairlane_testkit::{RedisServer, TempDir, keep_file};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    FOLDERS, command_line, given, misfit_of_its_kind, objects_in, of_kind, own_containers, pod_template,
    read, root,
};
use crate::args::Cli;

/// Objects in the order in which a cluster needs them; others come after these.
const ORDER: [&str; 9] = [
    "Namespace",
    "NetworkPolicy",
    "ServiceAccount",
    "ConfigMap",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Service",
];

/// What became of a case: see `xtask/src/helm.py`.
#[derive(Debug, Deserialize)]
struct Rendered {
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    lint: Vec<String>,
}

impl Rendered {
    /// The templates' texts, without the notes.
    fn manifests(&self) -> impl Iterator<Item = &str> {
        let manifests = self.files.iter().filter(|(name, _)| *name != "NOTES.txt");
        manifests.map(|(_, text)| text.as_str())
    }

    fn objects(&self) -> Vec<Value> {
        assert_eq!(self.error, "");
        self.manifests().flat_map(objects_in).collect()
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.objects().into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The objects as one file, without the pod of `helm test`.
    fn text(&self) -> String {
        let parts = self.manifests().flat_map(|text| text.split("\n---\n"));
        let parts =
            parts.map(|part| part.trim().trim_start_matches("---\n")).filter(|part| part.contains("kind: "));
        let mut parts: Vec<&str> = parts.filter(|part| !part.contains("helm.sh/hook")).collect();
        let kind = |part: &str| part.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap().to_owned();
        parts.sort_by_key(|part| ORDER.iter().position(|one| *one == kind(part)).unwrap_or(ORDER.len()));
        parts.join("\n---\n")
    }
}

/// Renders these cases; nothing where Helm's engine is not installed, as `cargo xtask test` does.
fn render(cases: &[Value]) -> Option<Vec<Rendered>> {
    let python = root().join("target/helm/bin/python");
    if !python.is_file() {
        println!("SKIPPED: `cargo xtask test` installs Helm's engine");
        return None;
    }
    let mut script = Command::new(python);
    script.arg(root().join("xtask/src/helm.py")).arg(root().join("deploy/helm/fairlane"));
    let pipes = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = pipes.spawn().unwrap();
    script.stdin.take().unwrap().write_all(&serde_json::to_vec(cases).unwrap()).unwrap();
    let output = script.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn case(values: &Value) -> Value {
    json!({"namespace": "fairlane", "values": values, "lint": true})
}

/// The name and the values of every variant.
fn variants() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(root().join("deploy/helm/variants")).unwrap();
    let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let values = |name: &str| serde_saphyr::from_str(&read(&format!("deploy/helm/variants/{name}"))).unwrap();
    files.iter().map(|name| (name.trim_end_matches(".yaml").to_owned(), values(name))).collect()
}

fn variant(wanted: &str) -> Value {
    variants().into_iter().find(|(name, _)| name == wanted).unwrap().1
}

/// The least values, with these changes.
fn minimal(changes: &Value) -> Value {
    let mut values = variant("minimal");
    merge(&mut values, changes);
    values
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

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
            "worker.extraEnv[0]: FAIRLANE_SLOTS has a value of its own",
        ),
        (json!({"dispatcher": {"autoscaling": {"min": 7}}}), "dispatcher.autoscaling.min: 7 is more than"),
        (
            json!({"worker": {"autoscaling": {"enabled": true}}, "dispatcher": {"tlsSecret": "x"}}),
            "worker.autoscaling.enabled: KEDA would send its token",
        ),
        (json!({"dispatcher": {"basePath": "fairlane"}}), "dispatcher.basePath: must begin with /"),
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
    let keys = ["hub-token", "redis-password", "redis-user-password", "seal-key", "token"];
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
    assert_eq!(upgraded["hub-token"].len(), 64, "what is missing is added");
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
        let variables = &worker["spec"]["template"]["spec"]["containers"][0]["env"];
        let value = |wanted: &str| {
            let found = variables.as_array().unwrap().iter().find(|variable| variable["name"] == wanted);
            found.map_or(Value::Null, |variable| variable["value"].clone())
        };
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
    merge(&mut below, &json!({"parent": true, "release": "hub", "lint": false}));
    let mut second = case(&minimal(&json!({"rbac": {"secrets": false, "nodes": false}})));
    second["release"] = json!("second");
    let Some(rendered) = render(&[below, second, case(&minimal(&json!({})))]) else { return };
    let worker = rendered[0].object("Deployment", "hub-fairlane-worker");
    assert_eq!(worker["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"], "hub-fairlane-worker");
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
async fn the_redis_user_of_the_chart_may_do_what_the_program_needs_and_nothing_dangerous() {
    let Some(rendered) = render(&[case(&variant("scaled"))]) else { return };
    let set = rendered[0].object("StatefulSet", "fairlane-redis");
    let args = set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let args: Vec<String> =
        args.iter().map(|arg| arg.as_str().unwrap().replace("$(REDIS_USER_PASSWORD)", "secret")).collect();
    let at = args.iter().position(|arg| arg == "--user").unwrap();
    let server = RedisServer::builder().tcp().start().await;
    let words: Vec<&str> =
        ["ACL", "SETUSER"].into_iter().chain(args[at + 1..].iter().map(String::as_str)).collect();
    server.command(&words).await;
    let url = format!("redis://fairlane:secret@127.0.0.1:{}", server.port());
    let queue = fairlane_common::Queue::open(&url.parse().unwrap(), "fairlane").await.unwrap();
    assert_eq!(queue.check(10).await.unwrap().problems, Vec::<String>::new());
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for refused in [vec!["FLUSHALL"], vec!["SET", "other", "x"], vec!["CONFIG", "SET", "appendonly", "no"]] {
        let mut command = redis::cmd(refused[0]);
        let answer = command.arg(&refused[1..]).query_async::<()>(&mut connection).await;
        assert_eq!(answer.unwrap_err().code(), Some("NOPERM"), "{refused:?}");
    }
}
