//! Metrics as a process shows them: whether Prometheus accepts them, and the table of them for the docs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Most values of a label that the table lists.
const VALUES_MAX: usize = 10;

/// Whether the program is installed; if it is not, the test that needs it says that it is skipped.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("SKIPPED: {program} is not installed; `apt-get install prometheus` brings it");
    }
    found.is_ok()
}

/// Has `promtool check metrics` look at metrics in the plain text format.
///
/// # Panics
/// Where it finds something.
pub fn check_metrics(text: &str) {
    if !is_installed("promtool") {
        return;
    }
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("promtool: {error}"));
    if let Some(mut input) = child.stdin.take() {
        // One that reads no further says why in what it writes.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("promtool: {error}"));
    let says = [output.stdout, output.stderr].concat();
    let says = String::from_utf8_lossy(&says);
    assert!(output.status.success() && says.trim().is_empty(), "promtool check metrics: {says}\n{text}");
}

/// What is known of a metric.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// A table of the metrics in the plain text format whose names `fits`: name, type, labels, meaning, and how to combine
/// the values of several processes.
///
/// # Panics
/// Where a line is none of that format.
pub fn metric_table(text: &str, fits: impl Fn(&str) -> bool) -> String {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut latest = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut latest);
            help.trim_end_matches('.').clone_into(&mut metrics.entry(latest.clone()).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let metric = metrics.get_mut(&latest).unwrap_or_else(|| panic!("no metric: {line}"));
            for label in labels.map_or("", |(labels, _)| labels).split("\",") {
                let Some((name, value)) = label.split_once("=\"") else { continue };
                if name != "le" {
                    let value = value.trim_end_matches('"').to_owned();
                    metric.labels.entry(name.to_owned()).or_default().insert(value);
                }
            }
        }
    }
    let mut table =
        "| metric | type | labels | meaning | several processes |\n|---|---|---|---|---|\n".to_owned();
    for (name, metric) in metrics.iter().filter(|(name, _)| fits(name)) {
        let labels: Vec<String> = metric.labels.iter().map(|(name, values)| label(name, values)).collect();
        let (help, across) = match metric.help.split_once(" (") {
            Some((help, hint)) if hint.contains("use max") => (help, "max"),
            _ => (metric.help.as_str(), "sum"),
        };
        let _ = writeln!(table, "| `{name}` | {} | {} | {help} | {across} |", metric.kind, labels.join("; "));
    }
    table
}

/// A label with its values, if they are words of a short list.
fn label(name: &str, values: &BTreeSet<String>) -> String {
    let is_word = |value: &String| value.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-');
    let words: Vec<&str> = values.iter().filter(|value| !value.is_empty()).map(String::as_str).collect();
    // One value alone shows no list, and of the methods only those that the test used are there.
    if name != "method" && words.len() > 1 && words.len() <= VALUES_MAX && values.iter().all(is_word) {
        format!("`{name}`: {}", words.join(", "))
    } else {
        format!("`{name}`")
    }
}
