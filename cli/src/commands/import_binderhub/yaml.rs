//! Writes values as YAML that people can edit.

use std::fmt::Write as _;

use serde_json::Value;

/// The values as block YAML.
pub(super) fn write(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let _ = write!(text, "{pad}{}:", scalar(&Value::String(key.clone())));
                after_key(value, indent + 2, text);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                let mut inner = String::new();
                block(value, indent + 2, &mut inner);
                let _ = write!(text, "{pad}- {}", inner.trim_start());
            }
        }
        other => {
            let _ = writeln!(text, "{pad}{}", scalar(other));
        }
    }
}

fn after_key(value: &Value, indent: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        block(value, indent, text);
    } else {
        let _ = writeln!(text, " {}", scalar(value));
    }
}

/// A value on one line. A text is quoted unless it can only be a text.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if begins_well && !is_word && text.chars().all(is_plain) { text.clone() } else { value.to_string() }
}
