use std::path::PathBuf;

use serde_json::{Value, json};

use super::places::import;
use super::source::Source;
use super::{Fate, Import, merge, yaml};
use crate::args::ImportBinderHub;

fn made(files: &[Value]) -> Import {
    let mut all = Value::Null;
    for file in files {
        merge(&mut all, file.clone());
    }
    let source = Source::find(&all).expect("settings of BinderHub");
    let args = ImportBinderHub {
        files: vec![PathBuf::from("values.yaml")],
        release: "binder".to_owned(),
        namespace: "hub".to_owned(),
    };
    import(&all, &source, &args)
}

fn fate(import: &Import, setting: &str) -> (Fate, String) {
    let line = import.lines.iter().find(|line| line.setting == setting);
    let line = line.unwrap_or_else(|| panic!("{setting} is not in {:#?}", import.lines));
    (line.fate, line.note.clone())
}

fn mybinder() -> [Value; 2] {
    [
        json!({
            "cryptnono": {"enabled": true},
            "binderhub": {
                "replicas": 2,
                "networkPolicy": {"enabled": true},
                "imageBuilderType": "dind",
                "dind": {"hostLibDir": "/mnt/dind", "hostSocketDir": "/run/dind"},
                "config": {
                    "BinderHub": {"use_registry": true, "build_node_selector": {"pool": "builds"}, "sticky_builds": true},
                    "KubernetesBuildExecutor": {
                        "build_image": "quay.io/x/r2d:1",
                        "repo2docker_extra_args": ["--label=a=b", "--Repo2Docker.default_buildpack=None"],
                        "resources": {"limits": {"memory": "2G"}},
                        "memory_limit": "3G",
                        "extra_envs": {"HTTPS_PROXY": "http://proxy"},
                        "image_pull_secrets": ["pull"],
                    },
                    "KubernetesCleaner": {"max_age": 3600},
                    "GitHubRepoProvider": {"high_quota_specs": []},
                },
                "extraConfig": {"10-x": "c.KubernetesBuildExecutor.docker_host = x", "20-y": "print(1)"},
            },
        }),
        json!({"binderhub": {"config": {"BinderHub": {"sticky_builds": false, "concurrent_build_limit": 1}}}}),
    ]
}

#[test]
fn values_of_binderhubs_chart_become_ours() {
    let import = made(&mybinder());
    let builds = &import.values["builds"];
    assert_eq!(import.values["builder"], "dind");
    assert_eq!(builds["socket"], "/run/dind/docker.sock");
    assert_eq!(builds["namespace"], "hub");
    assert_eq!(builds["sticky"], false, "the later file overrides");
    assert_eq!(builds["image"], "quay.io/x/r2d:1");
    assert_eq!(builds["pushSecret"], "binder-build-docker-config");
    let expected = json!({
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"pool": "builds"},
        "containers": [{
            "name": "builder",
            "resources": {"limits": {"memory": "2G"}},
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        }],
    });
    assert_eq!(builds["podTemplate"]["spec"], expected);
    let allowed = builds["allowArgs"].as_array().unwrap();
    assert!(
        allowed.contains(&json!("--Repo2Docker.default_buildpack")) && allowed.contains(&json!("--label"))
    );
    assert_eq!(import.values["worker"]["extraEnv"], json!([{"name": "FAIRLANE_TIMEOUT", "value": "3600s"}]));
}

#[test]
fn no_setting_is_dropped_silently() {
    let import = made(&mybinder());
    for (setting, expected, note) in [
        ("cryptnono", Fate::Stays, "not of BinderHub's chart"),
        ("binderhub.replicas", Fate::Stays, "not about building"),
        ("binderhub.dind", Fate::Stays, "its daemon goes on"),
        ("binderhub.networkPolicy", Fate::ByHand, "component=fairlane-build"),
        ("binderhub.config.BinderHub.concurrent_build_limit", Fate::ByHand, "worker.slots"),
        ("binderhub.config.KubernetesBuildExecutor.memory_limit", Fate::NotNeeded, "resources overrides it"),
        ("binderhub.config.GitHubRepoProvider", Fate::Stays, "not about building"),
        ("binderhub.extraConfig.10-x", Fate::ByHand, "it sets KubernetesBuildExecutor.docker_host"),
        ("binderhub.extraConfig.20-y", Fate::Stays, "sets nothing about building"),
    ] {
        let (found, why) = fate(&import, setting);
        assert!(found == expected && why.contains(note), "{setting}: {found:?} {why}");
    }
    let import = made(&[json!({"KubernetesBuildExecutor": {"new_trait": 1}, "LocalBuildExecutor": {}})]);
    assert_eq!(fate(&import, "KubernetesBuildExecutor.new_trait").0, Fate::ByHand);
    assert_eq!(fate(&import, "LocalBuildExecutor").0, Fate::ByHand);
}

#[test]
fn values_of_binderhub_service_become_ours() {
    let import = made(&[json!({
        "jupyterhub": {"hub": {}},
        "binderhub-service": {
            "enabled": false,
            "dockerApi": {"nodeSelector": {"x": "y"}},
            "buildPodsRegistryCredentials": {"server": "https://quay.io"},
            "config": {"KubernetesBuildExecutor": {"memory_limit": 0, "node_selector": {"a": "b"}}},
        },
    })]);
    let builds = &import.values["builds"];
    assert_eq!(import.values["builder"], "docker-api");
    assert_eq!(
        (&builds["dockerApiRelease"], &builds["pushSecret"]),
        (&json!("binder"), &json!("build-pods-docker-config"))
    );
    assert_eq!(builds["podTemplate"]["spec"], json!({"nodeSelector": {"a": "b"}}));
    assert_eq!(fate(&import, "binderhub-service.dockerApi").0, Fate::Moved);
    assert_eq!(fate(&import, "binderhub-service.enabled").0, Fate::ByHand);
    assert_eq!(fate(&import, "jupyterhub").0, Fate::Stays);
}

#[test]
fn the_socket_decides_the_builder() {
    for (host, builder, socket) in [
        (json!("unix:///var/run/dind/docker.sock"), "dind", Value::Null),
        (json!("/var/run/pink/podman.sock"), "pink", Value::Null),
        (json!("/var/run/docker.sock"), "host", Value::Null),
        (json!("/run/other.sock"), "host", json!("/run/other.sock")),
        (Value::Null, "none", Value::Null),
    ] {
        let service = json!({"dockerApi": {}, "config": {"KubernetesBuildExecutor": {"docker_host": host}}});
        let import = made(&[json!({"binderhub-service": service})]);
        // The chart refuses it beside any of these.
        let release = &import.values["builds"]["dockerApiRelease"];
        assert_eq!(release.is_null(), socket.is_null(), "{host}");
        let import = made(&[json!({"KubernetesBuildExecutor": {"docker_host": host}})]);
        assert_eq!(import.values["builder"], builder);
        assert_eq!(import.values["builds"]["socket"], socket);
        let by_hand = fate(&import, "KubernetesBuildExecutor.docker_host").0 == Fate::ByHand;
        assert_eq!(by_hand, builder == "none", "{host}");
    }
}

#[test]
fn what_is_not_of_binderhub_is_not_found() {
    for other in
        [json!({"hub": {"config": {"JupyterHub": {}}}}), json!({"a": {"b": {"c": {"dind": {}}}}}), json!({})]
    {
        assert!(Source::find(&other).is_none(), "{other}");
    }
}

#[test]
fn the_yaml_reads_as_what_was_written() {
    let import = made(&mybinder());
    let mut values = import.values;
    merge(
        &mut values,
        json!({"words": ["yes", "1", "a: b", "", "--x", "1G"], "empty": {}, "list": [], "deep": [[1], {}]}),
    );
    let text = yaml::write(&values);
    assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), values, "{text}");
}

/// Every value that the command makes is one that the chart has.
#[test]
fn the_chart_has_these_values() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/fairlane/values.yaml");
    let chart: Value = serde_saphyr::from_str(&std::fs::read_to_string(root).unwrap()).unwrap();
    let import = made(&mybinder());
    for (key, value) in import.values.as_object().unwrap() {
        let inner = value.as_object().into_iter().flatten();
        for path in inner.map(|(inner, _)| format!("/{key}/{inner}")).chain([format!("/{key}")]) {
            assert!(chart.pointer(&path).is_some(), "{path}");
        }
    }
}
