//! Where the settings of `BinderHub` are in a file.

use serde_json::{Map, Value};

/// Classes by which traits are recognized.
const CLASSES: [&str; 3] = ["BinderHub", "KubernetesBuildExecutor", "KubernetesCleaner"];
/// Keys by which the values of a chart are recognized, besides its `config`.
const KEYS: [&str; 5] = ["imageBuilderType", "dind", "pink", "dockerApi", "buildPodsRegistryCredentials"];
/// The name of 2i2c's chart.
const SERVICE: &str = "binderhub-service";

/// Which of `BinderHub`'s charts the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chart {
    /// jupyterhub/binderhub.
    BinderHub,
    /// 2i2c-org/binderhub-service.
    Service,
    /// None: traits alone.
    Traits,
}

/// The part of the files that is about `BinderHub`.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) chart: Chart,
    /// The keys that lead to it.
    pub(super) path: Vec<String>,
    /// The chart's values; of traits alone, a map whose `config` they are.
    pub(super) values: Map<String, Value>,
}

impl Source {
    /// Looks for `BinderHub`'s settings, at most two charts deep.
    pub(super) fn find(all: &Value) -> Option<Self> {
        let map = all.as_object()?;
        if CLASSES.iter().any(|class| map.get(*class).is_some_and(Value::is_object)) {
            let values = Map::from_iter([("config".to_owned(), all.clone())]);
            return Some(Self { chart: Chart::Traits, path: Vec::new(), values });
        }
        Self::below(map, &mut Vec::new())
    }

    fn below(map: &Map<String, Value>, path: &mut Vec<String>) -> Option<Self> {
        let has_config =
            CLASSES.iter().any(|class| map.get("config").is_some_and(|config| config.get(class).is_some()));
        if has_config || KEYS.iter().any(|key| map.contains_key(*key)) {
            let is_service = path.last().is_some_and(|key| key == SERVICE)
                || map.contains_key("dockerApi")
                || map.keys().any(|key| key.starts_with("buildPods"));
            let chart = if is_service { Chart::Service } else { Chart::BinderHub };
            return Some(Self { chart, path: path.clone(), values: map.clone() });
        }
        if path.len() == 2 {
            return None;
        }
        // The part named after a chart first: others, such as JupyterHub's, may mention BinderHub as well.
        let mut keys: Vec<&String> = map.keys().filter(|key| *key != "jupyterhub").collect();
        keys.sort_by_key(|key| !key.starts_with("binderhub"));
        keys.into_iter().find_map(|key| {
            path.push(key.clone());
            let found = map[key].as_object().and_then(|map| Self::below(map, path));
            path.pop();
            found
        })
    }

    /// The name of one of its settings in the file.
    pub(super) fn name(&self, setting: &str) -> String {
        let setting = match self.chart {
            Chart::Traits => setting.trim_start_matches("config."),
            Chart::BinderHub | Chart::Service => setting,
        };
        self.path.iter().map(String::as_str).chain([setting]).collect::<Vec<_>>().join(".")
    }

    /// One of its texts.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        let (first, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
        let value = self.values.get(first)?;
        if rest.is_empty() { value.as_str() } else { value.pointer(&format!("/{rest}"))?.as_str() }
    }
}
