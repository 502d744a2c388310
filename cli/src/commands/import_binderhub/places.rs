//! Settings that are not traits: where each goes, or why it goes nowhere.

use serde_json::{Value, json};

use super::source::{Chart, Source};
use super::traits::traits;
use super::{Fate, Import};
use crate::args::ImportBinderHub;

/// Makes our values from `BinderHub`'s.
pub(super) fn import(all: &Value, source: &Source, args: &ImportBinderHub) -> Import {
    let mut import = Import { values: json!({"image": {"repository": ""}}), lines: Vec::new() };
    // Where nothing else is said, builds stay where BinderHub's are.
    import.set(&["builds", "namespace"], json!(args.namespace));
    import.set(&["builds", "createNamespace"], json!(false));
    match source.chart {
        Chart::BinderHub => chart_of_binderhub(source, &mut import),
        Chart::Service => chart_of_2i2c(source, args, &mut import),
        Chart::Traits => import.set(&["builds", "pushSecret"], json!("binder-build-docker-config")),
    }
    traits(source, &mut import);
    rest(all, source, &mut import);
    import
}

/// The builder and the push Secret of jupyterhub/binderhub's chart.
fn chart_of_binderhub(source: &Source, import: &mut Import) {
    let builder = source.text("imageBuilderType").unwrap_or("host");
    let name = source.name("imageBuilderType");
    if ["host", "dind", "pink"].contains(&builder) {
        import.set(&["builder"], json!(builder));
        if source.values.contains_key("imageBuilderType") {
            import.say(name, Fate::Moved, "builder");
        } else {
            import.say(name, Fate::Moved, "builder: host, the chart's default, because it is not set here");
        }
    } else {
        import.say(name, Fate::ByHand, format!("'{builder}' is not known: set builder and builds.socket"));
    }
    // The chart's own configuration takes the folder alone: the file's name is fixed.
    let file = if builder == "pink" { "podman.sock" } else { "docker.sock" };
    if let Some(folder) = source.text(&format!("{builder}/hostSocketDir")) {
        let socket = format!("{}/{file}", folder.trim_end_matches('/'));
        let name = source.name(&format!("{builder}.hostSocketDir"));
        if socket == format!("/var/run/{builder}/{file}") {
            import.say(name, Fate::Moved, "builder, whose default it is");
        } else {
            import.moved(name, &["builds", "socket"], json!(socket));
        }
    }
    let use_registry =
        source.values.get("config").and_then(|config| config.pointer("/BinderHub/use_registry"));
    if use_registry != Some(&json!(false)) {
        import.set(&["builds", "pushSecret"], json!("binder-build-docker-config"));
    }
}

/// The builder and the push Secret of binderhub-service.
fn chart_of_2i2c(source: &Source, args: &ImportBinderHub, import: &mut Import) {
    import.set(&["builder"], json!("docker-api"));
    import.set(&["builds", "dockerApiRelease"], json!(args.release));
    let prefix = source.text("fullnameOverride").filter(|name| !name.is_empty());
    let prefix = prefix.map(|name| format!("{name}-")).unwrap_or_default();
    import.set(&["builds", "pushSecret"], json!(format!("{prefix}build-pods-docker-config")));
    import.say(source.name("dockerApi"), Fate::Moved, "builder: docker-api, with the release of --release");
}

/// What is not a trait.
fn rest(all: &Value, source: &Source, import: &mut Import) {
    for (key, value) in &source.values {
        let name = source.name(key);
        match key.as_str() {
            "config" | "imageBuilderType" => {}
            "enabled" if *value == false => {
                import.say(name, Fate::ByHand, "these files switch BinderHub off");
            }
            "dockerApi" if source.chart == Chart::Service => {}
            "dind" | "pink" | "dockerApi" | "imageCleaner" => {
                import.say(name, Fate::Stays, "its daemon goes on, and Fairlane's builds use its socket");
            }
            "registry" | "buildPodsRegistryCredentials" | "buildPodsDockerConfig" => {
                import.say(name, Fate::Stays, "makes the Secret that builds.pushSecret names");
            }
            "networkPolicy" => import.say(
                name,
                Fate::ByHand,
                "policies for component=binderhub-build need a copy for component=fairlane-build, or \
                 networkPolicy.buildEgress",
            ),
            "extraConfig" => extra_config(&name, value, import),
            _ => import.say(name, Fate::Stays, "not about building"),
        }
    }
    // Other charts in the same file, in one line each.
    let mut at = Some(all);
    for (depth, key) in source.path.iter().enumerate() {
        let Some(map) = at.and_then(Value::as_object) else { break };
        for other in map.keys().filter(|other| *other != key) {
            let name =
                source.path[..depth].iter().chain([other]).map(String::as_str).collect::<Vec<_>>().join(".");
            import.say(name, Fate::Stays, "not of BinderHub's chart");
        }
        at = map.get(key);
    }
}

/// Python code, which is not run: the settings that it names are listed.
fn extra_config(name: &str, value: &Value, import: &mut Import) {
    for (key, code) in value.as_object().into_iter().flatten() {
        let code = code.as_str().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let words = code.split(|c| !is_name(c)).filter_map(|word| word.strip_prefix("c."));
        let mut named: Vec<&str> =
            words.filter(|word| word.contains("BuildExecutor.") || word.contains(".build_")).collect();
        named.sort_unstable();
        named.dedup();
        let name = format!("{name}.{key}");
        if named.is_empty() {
            import.say(name, Fate::Stays, "Python code that sets nothing about building");
        } else {
            import.say(
                name,
                Fate::ByHand,
                format!("Python code, which is not read: it sets {}", named.join(", ")),
            );
        }
    }
}
