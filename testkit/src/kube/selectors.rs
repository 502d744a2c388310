//! Label and field selectors.

use serde_json::Value;

use super::object::{Kind, text};
use super::status::Status;

/// Which objects a list or a watch is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone)]
enum Requirement {
    In { key: String, values: Vec<String> },
    NotIn { key: String, values: Vec<String> },
    Exists(String),
    Missing(String),
}

#[derive(Debug, Clone)]
struct FieldTerm {
    pointer: String,
    value: String,
    equal: bool,
}

/// Fields of any object by which it can be selected, and those of a pod and an event.
const META_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];
const POD_FIELDS: [&str; 7] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
];
const EVENT_FIELDS: [&str; 9] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "type",
];

impl Selector {
    /// Reads both selectors of a query; empty ones select everything.
    pub(super) fn parse(
        kind: &Kind,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        let labels = requirements(labels).map_err(Status::bad_request)?;
        let fields = field_terms(kind, fields).map_err(Status::bad_request)?;
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| text(object, "/metadata/namespace") == namespace)
            && self.labels.iter().all(|requirement| requirement.holds(&object["metadata"]["labels"]))
            && self.fields.iter().all(|term| (text(object, &term.pointer) == term.value) == term.equal)
    }
}

impl Requirement {
    fn holds(&self, labels: &Value) -> bool {
        let of = |key: &String| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In { key, values } => of(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Self::NotIn { key, values } => {
                !of(key).is_some_and(|value| values.iter().any(|one| one == value))
            }
            Self::Exists(key) => of(key).is_some(),
            Self::Missing(key) => of(key).is_none(),
        }
    }
}

fn requirements(selector: &str) -> Result<Vec<Requirement>, String> {
    split_outside_parentheses(selector).into_iter().map(requirement).collect()
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let term = term.trim();
    let one = |key: &str, value: &str| -> Result<(String, Vec<String>), String> {
        Ok((word(key)?, vec![word(value)?]))
    };
    if let Some((key, value)) = term.split_once("!=") {
        let (key, values) = one(key, value)?;
        return Ok(Requirement::NotIn { key, values });
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        let (key, values) = one(key, value)?;
        return Ok(Requirement::In { key, values });
    }
    if let Some((head, set)) = term.split_once('(') {
        let values = set.trim_end_matches(')').split(',').map(word).collect::<Result<Vec<_>, _>>()?;
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => Ok(Requirement::In { key: (*key).to_owned(), values }),
            [key, "notin"] => Ok(Requirement::NotIn { key: (*key).to_owned(), values }),
            _ => Err(format!("unable to parse requirement: found '{head}', expected: in, notin")),
        };
    }
    match term.strip_prefix('!') {
        Some(key) => Ok(Requirement::Missing(word(key)?)),
        None => Ok(Requirement::Exists(word(term)?)),
    }
}

/// A key or a value: one word.
fn word(text: &str) -> Result<String, String> {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().to_owned();
    match words.next() {
        Some(second) => Err(format!("found '{second}', expected: ',' or 'end of string'")),
        None => Ok(first),
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .filter(|term| !term.trim().is_empty())
    .collect()
}

fn field_terms(kind: &Kind, selector: &str) -> Result<Vec<FieldTerm>, String> {
    selector.split(',').filter(|term| !term.trim().is_empty()).map(|term| field_term(kind, term)).collect()
}

fn field_term(kind: &Kind, term: &str) -> Result<FieldTerm, String> {
    let (field, value, equal) = match (term.split_once("!="), term.split_once("==")) {
        (Some((field, value)), _) => (field, value, false),
        (None, Some((field, value))) => (field, value, true),
        (None, None) => {
            let (field, value) = term
                .split_once('=')
                .ok_or_else(|| format!("invalid selector: '{term}'; can't understand '{term}'"))?;
            (field, value, true)
        }
    };
    let field = field.trim();
    let known = META_FIELDS.contains(&field)
        || (kind.name == "Pod" && POD_FIELDS.contains(&field))
        || (kind.name == "Event" && EVENT_FIELDS.contains(&field))
        || (kind.name == "Secret" && field == "type");
    if !known {
        return Err(format!("field label not supported: {field}"));
    }
    let pointer = format!("/{}", field.replace('.', "/"));
    Ok(FieldTerm { pointer, value: value.trim().to_owned(), equal })
}
