//! The recording rules, alerts and runbooks in this repository: that they are correct, tested, and
//! consistent.

pub(crate) mod prometheus;
mod runbooks;
mod scrape;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use fairlane_testkit::{is_installed, keep_file};
use serde_json::Value;

/// The path of a file in this repository.
pub(super) fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The recording rules and alerts in `deploy/monitoring/`.
pub(super) fn rules() -> Vec<Value> {
    let all: Value = serde_saphyr::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    let groups = all["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

pub(super) fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// The names in an expression that begin with `prefix`.
pub(super) fn names(expression: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c| !is_name(c));
    words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

/// A metric's name without the suffix of a histogram's series.
pub(super) fn family(name: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    if !is_installed("promtool") {
        return;
    }
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(file("deploy/monitoring")).output();
        let output = output.unwrap();
        let says = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "promtool {arguments:?}: {says}");
    }
}

#[test]
fn every_alert_has_a_test_that_fires_one_that_is_silent_and_a_runbook() {
    let tests: Value = serde_saphyr::from_str(&read("deploy/monitoring/alerts_test.yaml")).unwrap();
    let runbooks = read("docs/runbooks.md");
    let alerts = alerts();
    assert!(alerts.len() >= 15, "only {} alerts", alerts.len());
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        // Each test's name begins with its alert. A test in which the alert fires expects a sample.
        let (mut fires, mut silent) = (false, false);
        for test in tests["tests"].as_array().unwrap() {
            let Some(what) = test["name"].as_str().unwrap().strip_prefix(name) else { continue };
            let expected = test["promql_expr_test"].as_array().unwrap();
            let about = |case: &&Value| {
                case["expr"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("alertname=\"{name}\",alertstate=\"firing\""))
            };
            assert!(expected.iter().all(|case| about(&case)), "{name}{what}");
            let any = expected.iter().any(|case| !case["exp_samples"].as_array().unwrap().is_empty());
            assert_eq!(what.starts_with(" fires "), any, "{name}{what}");
            (fires, silent) = (fires || any, silent || !any);
        }
        assert!(fires && silent, "{name}: fires {fires}, silent {silent}");

        let notes = &alert["annotations"];
        let link = format!("docs/runbooks.md#{}", name.to_lowercase());
        assert_eq!(notes["runbook_url"], link.as_str(), "{name}");
        assert!(notes["summary"].is_string() && notes["description"].is_string(), "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        let section = runbooks.split("\n## ").find(|part| part.lines().next() == Some(name));
        let section = section.unwrap_or_else(|| panic!("docs/runbooks.md has no section {name}"));
        for part in ["**What it means.**", "**How to see it.**", "**What to do"] {
            assert!(section.contains(part), "{name}: no {part}");
        }
    }
    for section in runbooks.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        assert!(alerts.iter().any(|alert| alert["alert"] == name), "no alert has the runbook {name}");
    }
}

#[test]
fn rules_use_metrics_that_the_docs_list_and_records_that_are_recorded() {
    let docs = read("docs/metrics.md");
    let rules = rules();
    for rule in &rules {
        let expression = rule["expr"].as_str().unwrap();
        for name in names(expression, "fairlane_") {
            assert!(docs.contains(&format!("| `{}` |", family(&name))), "{name} is not in docs/metrics.md");
        }
        for name in names(expression, "fairlane:") {
            assert!(rules.iter().any(|rule| rule["record"] == name.as_str()), "{name} is not recorded");
        }
    }
}

#[test]
fn the_prometheus_rule_is_made_from_the_alerts() {
    let mut expected = "# Made from alerts.yaml by the test the_prometheus_rule_is_made_from_the_alerts; for the Prometheus \
                        Operator.\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: fairlane\n  \
                        namespace: fairlane\n  labels:\n    app.kubernetes.io/part-of: fairlane\nspec:\n"
        .to_owned();
    let alerts = read("deploy/monitoring/alerts.yaml");
    for line in alerts.lines().skip_while(|line| line.starts_with('#')) {
        let line = if line.is_empty() { String::new() } else { format!("  {line}") };
        expected.push_str(&line);
        expected.push('\n');
    }
    keep_file(&file("deploy/monitoring/prometheusrule.yaml"), &expected);
    let rule: Value = serde_saphyr::from_str(&expected).unwrap();
    assert_eq!(rule["spec"]["groups"][0]["rules"].as_array().unwrap().len(), rules().len());
}
