//! Each rule reports what breaks it, and nothing else.

use super::{Finding, Source, crates, invariants, keys, lua, sizes, versions, words};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn places(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.place.as_str()).collect()
}

#[test]
fn a_long_file_is_found_and_a_test_file_may_be_longer() {
    let text = "//\n".repeat(401);
    let sources =
        [source("a/src/lib.rs", &text), source("a/tests/it/main.rs", &text), source("a/b.md", &text)];
    assert_eq!(places(&sizes::check(&sources)), ["a/src/lib.rs"]);
}

#[test]
fn a_long_function_is_found_wherever_it_is() {
    let function = |lines: usize| {
        format!("    pub(crate) async fn f<T>(\n    ) {{\n{}    }}\n", "        x();\n".repeat(lines))
    };
    let text = format!("impl A {{\n{}\n{}}}\n", function(67), function(68));
    let found = sizes::check(&[source("a/src/lib.rs", &text)]);
    assert_eq!(places(&found), ["a/src/lib.rs:73"]);
    assert!(found[0].advice.starts_with("`f` has 71 lines"), "{}", found[0].advice);
}

#[test]
fn a_redis_key_is_found_outside_its_file_comments_and_tests() {
    let key = concat!("f(\"{fair", "lane}:queued\");\n");
    let text = format!("// {key}{key}#[cfg(test)]\n{key}");
    let paths = ["common/src/keys.rs", "common/tests/it/main.rs", "worker/src/lib.rs"];
    let sources = paths.map(|path| source(path, &text));
    assert_eq!(places(&keys::check(&sources)), ["worker/src/lib.rs:2"]);
}

#[test]
fn a_script_without_its_contract_is_found() {
    let whole = "-- Purpose: x\n-- KEYS[1] x\n-- W: nothing\n-- Returns ok\nreturn 1\n";
    let late = "-- Purpose: x\n-- KEYS[1] x\n-- W: nothing\nreturn 1\n-- Returns ok\n";
    let sources = [
        source("common/lua/whole.lua", whole),
        source("common/lua/late.lua", late),
        source("common/lua/prelude.lua", "-- Purpose: x\n"),
    ];
    assert_eq!(places(&lua::check(&sources)), ["common/lua/late.lua"]);
}

#[test]
fn an_invariant_that_names_no_test_is_found() {
    let document = "- **I1** Is proven by\n  `queue::it_holds`.\n- **I2** By `helper`.\n- **I3** By nothing.\n\nSee **I1**: `it_holds`.\n";
    let tests = "#[tokio::test]\nasync fn it_holds() {}\nfn helper() {}\n";
    let sources = [source("ARCHITECTURE.md", document), source("common/tests/it/main.rs", tests)];
    assert_eq!(places(&invariants::check(&sources)), ["ARCHITECTURE.md:3", "ARCHITECTURE.md:4"]);
}

#[test]
fn a_test_or_a_file_that_does_not_exist_is_found() {
    let document = "`start` (`common/src/main.rs`, `main.rs`) and `gone.rs`\n\n| what | test |\n|---|---|\n\
                    | a `thing` | `it_holds`, `test_of_python` |\n| another | `it_is_gone` |\n\n| `x` | `y` |\n";
    let sources = [
        source("ARCHITECTURE.md", document),
        source("common/src/main.rs", "#[test]\nfn it_holds() {}\n"),
        source("binderhub/tests/test_it.py", "async def test_of_python(place):\n    pass\n"),
    ];
    assert_eq!(places(&invariants::check(&sources)), ["ARCHITECTURE.md:6", "ARCHITECTURE.md:1"]);
}

#[test]
fn a_threat_whose_test_does_not_exist_is_found() {
    let document =
        "| they cannot | test |\n|---|---|\n| a `thing` | `it_holds` |\n| b | `it_is_gone` |\n| c | none |\n";
    let sources = [
        source("ARCHITECTURE.md", ""),
        source("docs/threat-model.md", document),
        source("common/src/main.rs", "#[test]\nfn it_holds() {}\n"),
    ];
    assert_eq!(places(&invariants::check(&sources)), ["docs/threat-model.md:4", "docs/threat-model.md:5"]);
}

#[test]
fn a_note_to_oneself_is_found() {
    let text = concat!("// TO", "DO: later\n// TO", "DOS is another word\n");
    assert_eq!(places(&words::check(&[source("a.rs", text)])), ["a.rs:1"]);
}

#[test]
fn forbidden_dependencies_and_missing_lints_are_found() {
    let lints = "[lints]\nworkspace = true\n";
    let arrow = format!("{lints}[dependencies]\nfairlane-worker.workspace = true\nredis.workspace = true\n");
    let dev =
        format!("{lints}[dev-dependencies]\nredis.workspace = true\nfairlane-testkit.workspace = true\n");
    let sources = [
        source("dispatcher/Cargo.toml", &arrow),
        source("worker/Cargo.toml", &dev),
        source(
            "common/Cargo.toml",
            "[dependencies]\nredis.workspace = true\nfairlane-testkit.workspace = true\n",
        ),
    ];
    let expected =
        ["dispatcher/Cargo.toml:4", "dispatcher/Cargo.toml:5", "common/Cargo.toml:3", "common/Cargo.toml"];
    assert_eq!(places(&crates::check(&sources)), expected);
}

#[test]
fn a_part_with_another_version_is_found() {
    let manifest = "[workspace.package]\nversion = \"1.2.3\"\n";
    let chart = |version: &str, app: &str| {
        let text = format!("apiVersion: v2\nversion: {version}\nappVersion: \"{app}\"\n");
        source("deploy/helm/fairlane/Chart.yaml", &text)
    };
    let found = |chart| {
        let sources = [source("Cargo.toml", manifest), chart];
        places(&versions::check(&sources)).join(" ")
    };
    assert_eq!(found(chart("1.2.3", "1.2.3")), "");
    assert_eq!(found(chart("1.2.30", "1.2.3")), "deploy/helm/fairlane/Chart.yaml:2");
    assert_eq!(found(chart("1.2.3", "1.2.2")), "deploy/helm/fairlane/Chart.yaml:3");
    let silent = source("deploy/helm/fairlane/Chart.yaml", "apiVersion: v2\n");
    assert_eq!(
        found(silent),
        "deploy/helm/fairlane/Chart.yaml deploy/helm/fairlane/Chart.yaml",
        "both are missing"
    );
}
