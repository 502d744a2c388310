//! Runs every command of docs/renewing-the-cache.md against a live queue. `helm` is a stand-in that records its calls.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use fairlane_testkit::{TempDir, run_within};

use crate::campaign_plan::{events, quoted, serve};
use crate::setup::{LIMIT, Up};

const PAGE: &str = include_str!("../../../../docs/renewing-the-cache.md");
/// Builds of `two` go on until they are cancelled.
const BUILD: &str = r#"sh -c 'case "$0" in *two*) exec sleep 1000;; esac' {repo}"#;
const HELM: &str = "#!/bin/sh\necho \"$*\" >> \"$CALLS\"\n";

/// The page's commands, in order; those of several lines are joined.
fn commands() -> Vec<String> {
    let blocks = PAGE.split("\n```sh\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0);
    let text = blocks.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_command_of_the_page_works_on_a_live_queue() {
    let home = TempDir::new();
    let (_daemon, url) = serve(&home).await;
    let at = |name: &str| format!("{}/main", quoted(&format!("{url}/{name}")));
    // The plan takes the first two: 95 % of launches.
    let launched: Vec<String> = [("one", 18), ("two", 1), ("gone", 1)]
        .into_iter()
        .flat_map(|(name, count)| vec![at(name); count])
        .collect();
    let path = events(&home, &launched);
    let up = Up::start_with(&home, BUILD, &["--slots", "8"]).await;
    let bin = home.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fairlane"), bin.join("fairlane")).unwrap();
    std::fs::write(bin.join("helm"), HELM).unwrap();
    std::fs::set_permissions(bin.join("helm"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let searched = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());

    let commands = commands();
    for command in &commands {
        // It would follow the log for good.
        let ends = if command.contains("campaign watch") { " --once" } else { "" };
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &format!("{command}{ends}")]).current_dir(home.path());
        bash.env("FAIRLANE_DISPATCHER_URL", &up.url).env("PATH", &searched);
        bash.env("EVENTS", &path).env("CALLS", home.join("calls"));
        let said = run_within(LIMIT, bash).await;
        assert_eq!(said.code, 0, "{command}\n{said:#?}");
    }
    assert!(commands.len() >= 10, "{commands:#?}");
    let calls = std::fs::read_to_string(home.join("calls")).unwrap();
    assert_eq!(calls.lines().filter(|call| call.contains("image_prefix=")).count(), 2, "{calls}");
    let wait = up.run(&home, ["campaign", "wait", "cache-2026-07"]).await;
    wait.expect(3, "cache-2026-07 is cancelled: 90.0 % of all expected launches find their image.");
    up.stop().await;
}
