//! The kinds of patches.

use serde_json::{Map, Value, json};

use super::object::text;

/// Lists that a strategic merge patch merges by a key of their items; other lists are replaced.
const MERGE_KEYS: [(&str, &str); 8] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("ownerReferences", "uid"),
    ("conditions", "type"),
    ("imagePullSecrets", "name"),
];

/// RFC 7396.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = as_object(target);
    for (field, value) in patch {
        if value.is_null() {
            target.remove(field);
        } else {
            merge(target.entry(field).or_insert(Value::Null), value);
        }
    }
}

/// A merge in which some lists are merged item by item.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = as_object(target);
    for (field, value) in patch {
        let key = MERGE_KEYS.iter().find(|(list, _)| list == field).map(|(_, key)| *key);
        match (value, key) {
            (Value::Null, _) => {
                target.remove(field);
            }
            (Value::Array(items), Some(key)) => {
                let list = target.entry(field).or_insert_with(|| json!([]));
                merge_list(list, items, key);
            }
            (Value::Array(items), None) if field == "finalizers" => {
                let list = target.entry(field).or_insert_with(|| json!([]));
                let known = list.as_array().cloned().unwrap_or_default();
                let new = items.iter().filter(|item| !known.contains(item)).cloned();
                *list = known.iter().cloned().chain(new).collect();
            }
            _ if field.starts_with('$') => {}
            _ => strategic(target.entry(field).or_insert(Value::Null), value),
        }
    }
}

fn merge_list(list: &mut Value, items: &[Value], key: &str) {
    let mut merged = list.as_array().cloned().unwrap_or_default();
    for item in items {
        let place = merged.iter().position(|known| known.get(key) == item.get(key));
        match (place, text(item, "/$patch") == "delete") {
            (Some(place), true) => {
                merged.remove(place);
            }
            (Some(place), false) => strategic(&mut merged[place], item),
            (None, true) => {}
            (None, false) => merged.push(item.clone()),
        }
    }
    *list = Value::Array(merged);
}

/// RFC 6902 with the operations add, remove, replace and test; `None` if one does not apply.
pub(super) fn json_patch(target: &mut Value, patch: &Value) -> Option<()> {
    for operation in patch.as_array()? {
        let path = text(operation, "/path");
        match text(operation, "/op") {
            "test" => {
                if target.pointer(path) != operation.get("value") {
                    return None;
                }
            }
            "replace" => *target.pointer_mut(path)? = operation.get("value")?.clone(),
            "add" => {
                let (parent, last) = path.rsplit_once('/')?;
                add(target.pointer_mut(parent)?, &unescaped(last), operation.get("value")?.clone())?;
            }
            "remove" => {
                let (parent, last) = path.rsplit_once('/')?;
                remove(target.pointer_mut(parent)?, &unescaped(last))?;
            }
            _ => return None,
        }
    }
    Some(())
}

fn add(parent: &mut Value, name: &str, value: Value) -> Option<()> {
    match parent {
        Value::Object(fields) => {
            fields.insert(name.to_owned(), value);
        }
        Value::Array(items) if name == "-" => items.push(value),
        Value::Array(items) => {
            let place = name.parse::<usize>().ok().filter(|place| *place <= items.len())?;
            items.insert(place, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(parent: &mut Value, name: &str) -> Option<()> {
    match parent {
        Value::Object(fields) => fields.remove(name).map(|_| ()),
        Value::Array(items) => {
            let place = name.parse::<usize>().ok().filter(|place| *place < items.len())?;
            items.remove(place);
            Some(())
        }
        _ => None,
    }
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object just above"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{json_patch, merge, strategic};

    #[test]
    fn a_merge_patch_takes_away_what_is_null() {
        let mut object = json!({ "metadata": { "labels": { "a": "1", "b": "2" } } });
        merge(&mut object, &json!({ "metadata": { "labels": { "a": null, "c": "3" } } }));
        assert_eq!(object, json!({ "metadata": { "labels": { "b": "2", "c": "3" } } }));
    }

    #[test]
    fn a_strategic_patch_merges_lists_by_their_keys() {
        let mut object =
            json!({ "spec": { "containers": [{ "name": "a", "image": "1" }, { "name": "b" }] } });
        strategic(
            &mut object,
            &json!({ "spec": { "containers": [{ "name": "a", "env": [{ "name": "E" }] }, { "name": "c" }] } }),
        );
        let expected = json!([{ "name": "a", "image": "1", "env": [{ "name": "E" }] }, { "name": "b" }, { "name": "c" }]);
        assert_eq!(object["spec"]["containers"], expected);
    }

    #[test]
    fn a_failed_test_fails_a_json_patch() {
        let mut object = json!({ "a": { "b/c": 1 } });
        assert_eq!(json_patch(&mut object, &json!([{ "op": "test", "path": "/a/b~1c", "value": 2 }])), None);
        let patch =
            json!([{ "op": "remove", "path": "/a/b~1c" }, { "op": "add", "path": "/a/d", "value": 2 }]);
        assert_eq!(json_patch(&mut object, &patch), Some(()));
        assert_eq!(object, json!({ "a": { "d": 2 } }));
    }
}
