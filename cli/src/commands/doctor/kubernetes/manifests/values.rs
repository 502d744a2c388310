//! The values of the Helm chart: the table in `docs/helm.md`, and the schema, which has the same keys.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fairlane_testkit::keep_docs;
use serde_json::Value;

use super::{read, root};

const VALUES: &str = "deploy/helm/fairlane/values.yaml";

/// A key with a comment above it.
struct Row {
    section: String,
    path: String,
    meaning: String,
}

/// Where a key is in the values.
fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// The rows of the table, and the keys that are neither explained nor contain what is.
fn rows(text: &str, values: &Value) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut bare): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut section, mut comment) = ("General".to_owned(), String::new());
    // The keys around the current line, with their indentation, and that of an explained key, whose value is skipped.
    let (mut around, mut explained): (Vec<(usize, String)>, Option<usize>) = (Vec::new(), None);
    for line in text.lines() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        } else if let Some(part) = line.strip_prefix("# ") {
            comment = format!("{comment} {part}").trim().to_owned();
        } else if line.is_empty() {
            comment.clear();
        } else if explained.is_none_or(|outer| indent <= outer) {
            let (key, _) = line.split_once(':').unwrap_or_else(|| panic!("no key in {line:?}"));
            around.retain(|(outer, _)| *outer < indent);
            around.push((indent, key.to_owned()));
            let keys: Vec<&str> = around.iter().map(|(_, key)| key.as_str()).collect();
            let path = keys.join(".");
            explained = (!comment.is_empty()).then_some(indent);
            if explained.is_some() {
                rows.push(Row { section: section.clone(), path, meaning: std::mem::take(&mut comment) });
            } else if !values.pointer(&pointer(&path)).is_some_and(Value::is_object) {
                bare.push(path);
            }
        }
    }
    (rows, bare)
}

fn values() -> Value {
    serde_saphyr::from_str(&read(VALUES)).unwrap()
}

#[test]
fn the_docs_have_every_value_of_the_chart() {
    let values = values();
    let (rows, bare) = rows(&read(VALUES), &values);
    assert_eq!(bare, Vec::<String>::new(), "these have no comment in {VALUES}");
    let (mut table, mut section) = (String::new(), "");
    for row in &rows {
        if row.section != section {
            section = &row.section;
            let gap = if table.is_empty() { "" } else { "\n" };
            writeln!(table, "{gap}## {section}\n\n| value | default | meaning |\n|---|---|---|").unwrap();
        }
        let default = values.pointer(&pointer(&row.path)).unwrap();
        let default = match default {
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            Value::Object(map) if map.contains_key("spec") => "see `values.yaml`".to_owned(),
            other => format!("`{other}`"),
        };
        writeln!(table, "| `{}` | {default} | {} |", row.path, row.meaning.replace('|', "\\|")).unwrap();
    }
    keep_docs(&root().join("docs/helm.md"), "values", &table);
}

/// The paths of all keys that the schema names.
fn of_schema(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        found.insert(path.to_owned());
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{path} accepts unknown keys");
    for (key, one) in properties {
        of_schema(one, format!("{path}.{key}").trim_start_matches('.'), found);
    }
}

#[test]
fn the_schema_and_the_values_have_the_same_keys() {
    let schema: Value = serde_json::from_str(&read("deploy/helm/fairlane/values.schema.json")).unwrap();
    let mut named = BTreeSet::new();
    of_schema(&schema, "", &mut named);
    let values = values();
    let missing: Vec<&String> =
        named.iter().filter(|path| values.pointer(&pointer(path)).is_none()).collect();
    assert!(missing.is_empty(), "the schema names what {VALUES} has not: {missing:?}");
    let (rows, _) = rows(&read(VALUES), &values);
    let unknown: Vec<&String> =
        rows.iter().map(|row| &row.path).filter(|path| !named.contains(*path)).collect();
    assert!(unknown.is_empty(), "the schema does not name {unknown:?}");
}
