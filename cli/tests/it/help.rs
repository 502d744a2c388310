//! What `--help` says.

use fairlane_testkit::TempDir;

use crate::setup::{fairlane, run};

const COMMANDS: [&str; 20] = [
    "up",
    "dispatcher",
    "worker",
    "submit",
    "watch",
    "logs",
    "queue",
    "top",
    "lanes",
    "why",
    "rule ban",
    "rule unban",
    "rule hold",
    "rule release",
    "rule limit",
    "rule list",
    "workers",
    "drain",
    "nodes",
    "nodes clear",
];

#[tokio::test]
async fn the_top_level() {
    let home = TempDir::new();
    let said = run(fairlane(&home, ["--help"])).await.expect(0, "");
    insta::assert_snapshot!(said.data);
}

#[tokio::test]
async fn every_command_has_an_example_and_fits_a_screen() {
    let home = TempDir::new();
    for command in COMMANDS.into_iter().chain([
        "events",
        "audit",
        "cancel",
        "retry",
        "doctor",
        "import-binderhub",
        "completions",
        "campaign plan",
        "campaign start",
        "campaign report",
        "campaign wait",
        "campaign watch",
    ]) {
        let said = run(fairlane(&home, command.split(' ').chain(["--help"]))).await.expect(0, "");
        assert!(said.data.contains("Example"), "{command}: {}", said.data);
        for line in said.data.lines() {
            assert!(line.chars().count() <= 140, "{command}: {line}");
        }
    }
}

#[tokio::test]
async fn completions_for_every_shell() {
    let home = TempDir::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = run(fairlane(&home, ["completions", shell])).await.expect(0, "");
        assert!(said.data.contains("fairlane") && said.data.contains("until-built"), "{shell}");
    }
    run(fairlane(&home, ["completions", "dos"])).await.expect(2, "invalid value 'dos'");
}

#[tokio::test]
async fn options_are_below_the_heading_that_they_belong_to() {
    let home = TempDir::new();
    for (command, option, heading) in [
        ("worker", "--log <", "Options:"),
        ("worker", "--otlp-headers", "Options:"),
        ("worker", "--namespace", "Kubernetes:"),
        ("campaign cancel", "--running", "Options:"),
        ("campaign cancel", "--token", "Dispatcher:"),
    ] {
        let said = run(fairlane(&home, command.split(' ').chain(["--help"]))).await.expect(0, "");
        let (above, _) = said.data.split_once(option).unwrap_or_else(|| panic!("no {option}: {}", said.data));
        let found = above.lines().rev().find(|line| line.ends_with(':') && !line.starts_with(' '));
        assert_eq!(found, Some(heading), "{command} {option}");
    }
}
