//! Which crate may depend on which; and that all of them share the lints.

use super::{Finding, Source};

/// (crate's folder, what it must not depend on, why).
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "common",
        &[
            "fairlane-http",
            "fairlane-dispatcher",
            "fairlane-worker",
            "fairlane-clikit",
            "fairlane-campaign",
            "fairlane",
        ],
        "everything else depends on common",
    ),
    ("common", &["axum", "kube", "k8s-openapi", "reqwest"], "common knows no HTTP and no Kubernetes"),
    (
        "http",
        &[
            "fairlane-common",
            "fairlane-dispatcher",
            "fairlane-worker",
            "fairlane-clikit",
            "fairlane",
            "kube",
            "k8s-openapi",
        ],
        "any process can use http: it knows nothing of the queue",
    ),
    (
        "dispatcher",
        &["fairlane-worker", "fairlane-clikit", "fairlane"],
        "dispatcher and worker know the queue, not each other",
    ),
    (
        "worker",
        &["fairlane-dispatcher", "fairlane-clikit", "fairlane"],
        "dispatcher and worker know the queue, not each other",
    ),
    (
        "clikit",
        &["fairlane-dispatcher", "fairlane-worker", "fairlane-campaign", "fairlane"],
        "clikit knows the terminal and the queue, not what the programs do",
    ),
    (
        "campaign",
        &["fairlane-dispatcher", "fairlane-worker", "fairlane-bench", "fairlane"],
        "campaign plans from files and repositories, without a queue: dispatchers carry a campaign out",
    ),
    (
        "bench",
        &["fairlane-dispatcher", "fairlane-worker", "fairlane"],
        "measurements know the queue; a dispatcher that is measured is a process",
    ),
    ("cli", &["fairlane-bench"], "programs that serve builds contain no benchmarks"),
    (
        "testkit",
        &["fairlane-http", "fairlane-dispatcher", "fairlane-worker", "fairlane"],
        "what is tested depends on the test helpers, not the other way around",
    ),
];
/// The only crates that talk to Redis directly; `bench` measures it.
const REDIS_USERS: &[&str] = &["common", "testkit", "bench"];
const TESTKIT: &str = "fairlane-testkit";

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let manifests = sources.iter().filter_map(|source| {
        let folder = source.path.strip_suffix("/Cargo.toml")?;
        Some((folder, source))
    });
    manifests.flat_map(|(folder, source)| in_manifest(folder, source)).collect()
}

fn in_manifest(folder: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut shares_lints = false;
    for (number, line) in source.text.lines().map(str::trim).enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        shares_lints |= section == "[lints]" && line == "workspace = true";
        let ends_like = |end: &str| section.trim_end_matches(']').ends_with(end);
        let is_dev = ends_like("dev-dependencies");
        if !is_dev && !ends_like("dependencies") {
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        findings
            .extend(dependency(folder, name, is_dev).map(|advice| Finding::at_line(source, number, advice)));
    }
    if !shares_lints {
        findings.push(Finding::in_file(source, "add `[lints]` with `workspace = true`"));
    }
    findings
}

/// What is wrong with a crate's dependency on another one.
fn dependency(folder: &str, name: &str, is_dev: bool) -> Option<String> {
    if name == "redis" && !is_dev && !REDIS_USERS.contains(&folder) {
        return Some(
            "only common talks to Redis: use fairlane-common's API, or add what it lacks there".to_owned(),
        );
    }
    if name == TESTKIT && !is_dev {
        return Some(format!("{TESTKIT} is for tests: move it to [dev-dependencies]"));
    }
    // A test may combine two crates that must not depend on each other.
    let rule = FORBIDDEN.iter().find(|(from, to, _)| *from == folder && !is_dev && to.contains(&name));
    rule.map(|(_, _, why)| format!("{folder} must not depend on {name}: {why}"))
}
