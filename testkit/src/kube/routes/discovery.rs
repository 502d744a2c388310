//! What an API server says about itself.

use serde_json::{Value, json};

use crate::kube::object::KINDS;
use crate::kube::status::{Answer, Status, json_response, response};

/// Answers a path that does not name an object.
pub(super) fn answer(path: &str) -> Answer {
    match path.trim_end_matches('/') {
        "/version" => Ok(json_response(
            200,
            &json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "fake", "gitTreeState": "clean",
                "buildDate": "2026-08-21T00:00:00Z", "goVersion": "go1.26.11", "compiler": "gc",
                "platform": "linux/amd64", "emulationMajor": "1", "emulationMinor": "36",
                "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
            }),
        )),
        "/api" => Ok(json_response(
            200,
            &json!({ "kind": "APIVersions", "versions": ["v1"],
                     "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1" }] }),
        )),
        "/api/v1" => Ok(json_response(200, &resources("", "v1"))),
        "/apis" => Ok(json_response(200, &groups())),
        "/apis/apps/v1" => Ok(json_response(200, &resources("apps", "apps/v1"))),
        "/readyz" | "/livez" | "/healthz" => Ok(response(200, "text/plain; charset=utf-8", "ok")),
        _ => Err(Status::no_such_resource()),
    }
}

fn resources(group: &str, group_version: &str) -> Value {
    let kinds = KINDS.iter().filter(|kind| kind.group == group);
    let mut resources = kinds
        .map(|kind| {
            json!({ "name": kind.resource, "singularName": kind.name.to_lowercase(), "namespaced": kind.namespaced,
                    "kind": kind.name,
                    "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] })
        })
        .collect::<Vec<_>>();
    if group.is_empty() {
        resources.push(json!({ "name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod",
                               "verbs": ["get"] }));
    }
    json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources })
}

fn groups() -> Value {
    let group = |name: &str| {
        let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
        json!({ "name": name, "versions": [version], "preferredVersion": version })
    };
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group("apps"), group("authorization.k8s.io")] })
}
