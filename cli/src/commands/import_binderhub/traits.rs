//! Traits about building: where each goes, or why it goes nowhere.

use fairlane_common::allow::AllowedArgs;
use serde_json::{Map, Value, json};

use super::source::Source;
use super::{Fate, Import};

/// Names under which `BinderHub` has, or had, settings of the executor.
const FORMER: [(&str, &str); 11] = [
    ("appendix", "appendix"),
    ("build_docker_host", "docker_host"),
    ("build_image", "build_image"),
    ("build_memory_limit", "memory_limit"),
    ("build_memory_request", "memory_request"),
    ("build_namespace", "namespace"),
    ("build_node_selector", "node_selector"),
    ("log_tail_lines", "log_tail_lines"),
    ("push_secret", "push_secret"),
    ("repo2docker_extra_args", "repo2docker_extra_args"),
    ("sticky_builds", "sticky_builds"),
];

/// Goes through `config`, the executor's own settings last, because they override the former names.
pub(super) fn traits(source: &Source, import: &mut Import) {
    let Some(config) = source.values.get("config").and_then(Value::as_object) else { return };
    let empty = Map::new();
    let of = |class: &str| config.get(class).and_then(Value::as_object).unwrap_or(&empty);
    let own = |name: &str| {
        ["KubernetesBuildExecutor", "BuildExecutor"].into_iter().find(|class| of(class).contains_key(name))
    };
    let mut executors: Vec<(String, &str, &Value)> = Vec::new();
    for (name, value) in of("BinderHub") {
        let setting = source.name(&format!("config.BinderHub.{name}"));
        match FORMER.iter().find(|(former, _)| former == name) {
            Some((_, now)) => match own(now) {
                Some(class) => import.say(setting, Fate::NotNeeded, format!("{class}.{now} overrides it")),
                None => executors.push((setting, now, value)),
            },
            None => binderhub(setting, name, value, import),
        }
    }
    for class in ["BuildExecutor", "KubernetesBuildExecutor"] {
        for (name, value) in of(class) {
            executors.push((source.name(&format!("config.{class}.{name}")), name, value));
        }
    }
    // `resources` override the former limits on memory.
    executors.sort_by_key(|(_, name, _)| name.starts_with("memory_"));
    for (setting, name, value) in executors {
        executor(setting, name, value, import);
    }
    for (class, settings) in config {
        let setting = source.name(&format!("config.{class}"));
        match class.as_str() {
            "BinderHub" | "BuildExecutor" | "KubernetesBuildExecutor" => {}
            "KubernetesCleaner" => {
                for (name, value) in settings.as_object().into_iter().flatten() {
                    cleaner(format!("{setting}.{name}"), name, value, import);
                }
            }
            other if other.contains("Build") && other != "FairlaneBuildExecutor" => {
                import.say(setting, Fate::ByHand, "another class that builds: Fairlane takes its place");
            }
            _ => import.say(setting, Fate::Stays, "not about building"),
        }
    }
}

/// A trait of `KubernetesBuildExecutor`.
fn executor(setting: String, name: &str, value: &Value, import: &mut Import) {
    match name {
        "appendix" | "git_credentials" | "registry_credentials" | "builder_info" => {
            import.say(setting, Fate::Stays, "BinderHub sends it with each build");
        }
        "repo2docker_extra_args" => arguments(setting, value, import),
        "build_image" => import.moved(setting, &["builds", "image"], value.clone()),
        "namespace" => import.moved(setting, &["builds", "namespace"], value.clone()),
        "push_secret" if value.as_str().is_none_or(str::is_empty) => {
            import.set(&["builds", "pushSecret"], json!(""));
            import.say(setting, Fate::Moved, "builds.pushSecret: images are not pushed");
        }
        "push_secret" => import.moved(setting, &["builds", "pushSecret"], value.clone()),
        "sticky_builds" => import.moved(setting, &["builds", "sticky"], json!(value.as_bool() == Some(true))),
        "docker_host" => docker_host(setting, value, import),
        "resources" => {
            import.builder()["resources"] = value.clone();
            import.say(setting, Fate::Moved, "builds.podTemplate: resources of builder");
        }
        "memory_limit" | "memory_request" => memory(setting, name, value, import),
        "node_selector" => {
            import.moved(setting, &["builds", "podTemplate", "spec", "nodeSelector"], value.clone());
        }
        "extra_envs" => {
            let all = value.as_object().into_iter().flatten();
            let env: Vec<Value> = all.map(|(name, value)| json!({"name": name, "value": value})).collect();
            import.builder()["env"] = json!(env);
            import.say(setting, Fate::Moved, "builds.podTemplate: env of builder");
        }
        "image_pull_secrets" => {
            let names = value.as_array().into_iter().flatten();
            let secrets: Vec<Value> = names.map(|name| json!({"name": name})).collect();
            import.moved(setting, &["builds", "podTemplate", "spec", "imagePullSecrets"], json!(secrets));
        }
        "log_tail_lines" => import.say(setting, Fate::NotNeeded, "logs are shown from their beginning"),
        _ => import.say(setting, Fate::ByHand, "Fairlane does not know this trait"),
    }
}

/// The container engine's socket: the builder that has it, or its path.
fn docker_host(setting: String, value: &Value, import: &mut Import) {
    let Some(path) = value.as_str().map(|path| path.trim_start_matches("unix://")) else {
        import.set(&["builder"], json!("none"));
        forget_socket(import);
        return import.say(
            setting,
            Fate::ByHand,
            "builder: none, which needs builds.image and builds.command",
        );
    };
    let known = [
        ("/var/run/dind/docker.sock", "dind"),
        ("/var/run/pink/podman.sock", "pink"),
        ("/var/run/docker.sock", "host"),
    ];
    match known.iter().find(|(socket, _)| *socket == path) {
        Some((_, builder)) => {
            import.set(&["builder"], json!(builder));
            forget_socket(import);
            import.say(setting, Fate::Moved, format!("builder: {builder}"));
        }
        None if path.starts_with('/') => {
            if import.values["builder"].is_null() {
                import.set(&["builder"], json!("host"));
            }
            import.moved(setting, &["builds", "socket"], json!(path));
        }
        None => import.say(setting, Fate::ByHand, "not a path of a socket on the nodes: set builds.socket"),
    }
}

/// Removes what the chart takes only where the socket is not that of the builder itself.
fn forget_socket(import: &mut Import) {
    if let Some(builds) = import.values["builds"].as_object_mut() {
        builds.retain(|key, _| key != "socket" && key != "dockerApiRelease");
    }
}

/// Memory in bytes, or as Kubernetes writes it; 0 means none.
fn memory(setting: String, name: &str, value: &Value, import: &mut Import) {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if ["0", "", "null"].contains(&text.as_str()) {
        return import.say(setting, Fate::NotNeeded, "0 sets nothing");
    }
    let kind = if name == "memory_limit" { "limits" } else { "requests" };
    let resources = &mut import.builder()["resources"];
    if resources.pointer(&format!("/{kind}/memory")).is_some() {
        return import.say(setting, Fate::NotNeeded, "resources overrides it");
    }
    resources[kind]["memory"] = json!(text);
    import.say(setting, Fate::Moved, "builds.podTemplate: resources of builder");
}

/// Arguments that every build has: `BinderHub` sends them, and dispatchers and workers must allow them.
fn arguments(setting: String, value: &Value, import: &mut Import) {
    let words: Vec<String> =
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut allowed = AllowedArgs::default();
    let mut added = Vec::new();
    // Each word that is refused is allowed, until none is.
    while let Some(word) = allowed.first_forbidden(&words).map(str::to_owned) {
        let option = word.split_once('=').map_or(word.as_str(), |(option, _)| option).to_owned();
        if !option.starts_with("--") || added.contains(&option) {
            return import.say(setting, Fate::ByHand, format!("'{word}' cannot be allowed: see --allow-arg"));
        }
        added.push(option);
        allowed = AllowedArgs::new(&[AllowedArgs::default().names(), &added].concat());
    }
    if added.is_empty() {
        return import.say(setting, Fate::Stays, "BinderHub sends it with each build");
    }
    import.set(&["builds", "allowArgs"], json!(allowed.names()));
    let note = format!("BinderHub sends it with each build; builds.allowArgs allows {}", added.join(", "));
    import.say(setting, Fate::Moved, note);
}

/// A trait of `KubernetesCleaner`.
fn cleaner(setting: String, name: &str, value: &Value, import: &mut Import) {
    match name {
        "max_age" => max_age(setting, value, import),
        "namespace" => import.say(setting, Fate::NotNeeded, "workers delete the pods of their builds"),
        _ => import.say(setting, Fate::ByHand, "Fairlane does not know this trait"),
    }
}

/// The age, in seconds, at which `BinderHub` deletes a build's pod.
fn max_age(setting: String, value: &Value, import: &mut Import) {
    let Some(seconds) = value.as_f64().filter(|seconds| *seconds >= 1.0) else {
        return import.say(
            setting,
            Fate::ByHand,
            "not a number of seconds: set FAIRLANE_TIMEOUT in worker.extraEnv",
        );
    };
    import.set(
        &["worker", "extraEnv"],
        json!([{"name": "FAIRLANE_TIMEOUT", "value": format!("{seconds:.0}s")}]),
    );
    import.say(setting, Fate::Moved, "worker.extraEnv: FAIRLANE_TIMEOUT");
}

/// Another trait of `BinderHub`.
fn binderhub(setting: String, name: &str, value: &Value, import: &mut Import) {
    match name {
        "build_max_age" => max_age(setting, value, import),
        "build_cleanup_interval" => {
            import.say(setting, Fate::NotNeeded, "workers delete the pods of their builds");
        }
        "build_class" => import.say(setting, Fate::Moved, "the first line for BinderHub replaces it"),
        "build_cleaner_class" => import.say(setting, Fate::ByHand, "may be None now: see docs/binderhub.md"),
        "concurrent_build_limit" | "executor_threads" => import.say(
            setting,
            Fate::ByHand,
            "no longer limits builds; worker.replicas times worker.slots does",
        ),
        "build_token_check_origin" | "build_token_secret" | "build_token_expires_seconds" => {
            import.say(setting, Fate::Stays, "about the page that asks for a build");
        }
        other if other.starts_with("build_") => {
            import.say(setting, Fate::ByHand, "Fairlane does not know this trait");
        }
        _ => import.say(setting, Fate::Stays, "not about building"),
    }
}
