//! `fairlane import-binderhub`: values for Fairlane's Helm chart, made from those of `BinderHub`.

mod places;
mod source;
mod traits;
mod yaml;

use std::path::Path;

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::{Output, Tone};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::ImportBinderHub;
use source::Source;

/// What to add to `BinderHub`'s configuration.
const FOR_BINDERHUB: [&str; 2] = [
    "c.BinderHub.build_class = \"fairlane_binderhub.FairlaneBuildExecutor\"",
    "c.FairlaneBuildExecutor.dispatcher_urls = [\"http://fairlane-dispatcher.fairlane:8600\"]",
];

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    /// Fairlane has it.
    Moved,
    /// `BinderHub`, or another chart, keeps it.
    Stays,
    /// Nobody needs it any more.
    NotNeeded,
    /// A person has to decide.
    ByHand,
}

impl Fate {
    fn word(self) -> (&'static str, Option<Tone>) {
        match self {
            Self::Moved => ("moved", Some(Tone::Good)),
            Self::Stays => ("stays", None),
            Self::NotNeeded => ("not needed", None),
            Self::ByHand => ("by hand", Some(Tone::Warning)),
        }
    }
}

/// A setting that was found, and what became of it.
#[derive(Debug, Serialize)]
struct Line {
    setting: String,
    fate: Fate,
    /// Our value, or why there is none.
    note: String,
}

/// The values so far, and what they were made from.
#[derive(Debug)]
struct Import {
    values: Value,
    lines: Vec<Line>,
}

impl Import {
    fn say(&mut self, setting: impl Into<String>, fate: Fate, note: impl Into<String>) {
        self.lines.push(Line { setting: setting.into(), fate, note: note.into() });
    }

    /// Sets one of our values; `path` has its keys.
    fn set(&mut self, path: &[&str], value: Value) {
        let mut at = &mut self.values;
        for key in path {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[*key];
        }
        *at = value;
    }

    /// Sets one of our values, and says that the setting is there now.
    fn moved(&mut self, setting: impl Into<String>, path: &[&str], value: Value) {
        self.set(path, value);
        self.say(setting, Fate::Moved, path.join("."));
    }

    /// The build container in the pod template.
    fn builder(&mut self) -> &mut Value {
        if self.values["builds"]["podTemplate"]["spec"]["containers"].is_null() {
            self.set(&["builds", "podTemplate", "spec", "containers"], json!([{"name": "builder"}]));
        }
        &mut self.values["builds"]["podTemplate"]["spec"]["containers"][0]
    }
}

/// Runs the command.
pub(crate) fn run(args: &ImportBinderHub, output: Output) -> Result<Exit> {
    let mut all = Value::Null;
    for file in &args.files {
        merge(&mut all, read(file)?);
    }
    let names: Vec<String> = args.files.iter().map(|file| format!("'{}'", file.display())).collect();
    let Some(source) = Source::find(&all) else {
        return Err(Stop::usage(format!(
            "{} has no settings of BinderHub. Expected are Helm values of BinderHub or binderhub-service, at the top or \
             below `binderhub` or `binderhub-service`, with `config.BinderHub` or `config.KubernetesBuildExecutor`; or \
             traits as JSON, such as {{\"KubernetesBuildExecutor\": {{…}}}}",
            names.join(", ")
        ))
        .into());
    };
    let import = places::import(&all, &source, args);
    if output.is_json() {
        for line in &import.lines {
            output.json(line);
        }
        output.json(&json!({"values": import.values, "binderhub": FOR_BINDERHUB}));
        return Ok(Exit::Good);
    }
    output.data(&format!(
        "# Values of Fairlane's chart, made from {}. Name your image, then:",
        names.join(", ")
    ));
    output.data("#   helm -n fairlane install fairlane deploy/helm/fairlane --create-namespace -f THIS-FILE");
    output.data(yaml::write(&import.values).trim_end());
    output.data("# Add to BinderHub's configuration (docs/binderhub.md):");
    for line in FOR_BINDERHUB {
        output.data(&format!("#   {line}"));
    }
    show(&import.lines, output);
    Ok(Exit::Good)
}

/// The lines as messages, so that the values alone can be sent to a file.
fn show(lines: &[Line], output: Output) {
    let width = lines.iter().map(|line| line.setting.chars().count()).max().unwrap_or(0);
    for line in lines {
        let (word, tone) = line.fate.word();
        let word = format!("{word:10}");
        let word = tone.map_or(word.clone(), |tone| output.paint_talk(tone, &word));
        output.talk(&format!("{word}  {:width$}  {}", line.setting, line.note));
    }
}

fn read(file: &Path) -> Result<Value> {
    let refuse = |why: String| Stop::usage(format!("'{}' {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| {
        refuse(format!("is not YAML or JSON: {}", error.to_string().trim_start_matches("error: ")))
    })?;
    if !value.is_object() {
        return Err(refuse("holds no settings: expected Helm values, or traits as JSON".to_owned()).into());
    }
    Ok(value)
}

/// Merges values as Helm does: a later file overrides an earlier one, key by key.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests;
