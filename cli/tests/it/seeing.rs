//! What an operator sees of running builds, and how errors and refusals read.

use fairlane_testkit::{Process, TempDir, wait_for};

use crate::setup::{COMMIT, Gate, LIMIT, Up, fairlane, run};

/// The command of a build that writes a line and then waits at a gate.
fn talkative(home: &TempDir, gate: &Gate) -> String {
    use std::os::unix::fs::PermissionsExt;
    let script = home.join("build.sh");
    std::fs::write(&script, format!("#!/bin/sh\necho 'Step 3/7 : RUN pip'\nexec {}\n", gate.template()))
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{} {{repo}}", script.display())
}

#[tokio::test]
async fn a_running_build_is_shown_with_its_worker_and_its_last_line() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &talkative(&home, &gate), &["--slots", "1"]).await;
    let id = up.submit(&home, "one").await;
    let log = Process::spawn("fairlane logs", &mut up.command(&home, ["logs", "-f", &id]));
    log.wait_for_line("Step 3/7", LIMIT).await;
    let list = up.run(&home, ["queue", "--builds"]).await.expect(0, "").data;
    assert!(list.contains(" of about 3 min, last line "), "{list}");
    let why = up.run(&home, ["why", &id[28..]]).await.expect(0, "").data;
    assert!(why.contains("last line") && why.contains("Step 3/7 : RUN pip"), "{why}");
    assert!(why.contains("worker"), "{why}");
    gate.open("done").await;
    assert_eq!(log.wait(LIMIT).await.code(), Some(0));
    let why = up.run(&home, ["why", &id]).await.expect(0, "").data;
    assert!(!why.contains("last line"), "it has ended: {why}");
    up.stop().await;
}

#[tokio::test]
async fn builds_are_listed_by_time_and_in_another_order_and_the_queue_is_watched() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    up.run(&home, ["rule", "hold", "git.example.org/*"]).await.expect(0, "");
    let mut watch = up.command(&home, ["queue", "-w"]);
    let watch = Process::spawn("fairlane queue -w", &mut watch);
    watch.wait_for_line("0 builds", LIMIT).await;
    let (second, first) = (up.submit(&home, "b").await, up.submit(&home, "a").await);
    watch.wait_for_line("git.example.org/owner/b", LIMIT).await;
    let list =
        up.run(&home, ["queue", "--builds", "--sort", "lane", "--since", "1h"]).await.expect(0, "").data;
    assert!(list.find(&first).unwrap() < list.find(&second).unwrap(), "{list}");
    let line = up.run(&home, ["queue", "--builds", "--sort", "age"]).await.expect(0, "").data;
    assert!(line.find(&second).unwrap() < line.find(&first).unwrap(), "{line}");
    // A second after a build was requested, it is no longer listed.
    wait_for("the builds to be old", LIMIT, async || {
        let late = up.run(&home, ["queue", "--builds", "--since", "1s"]).await.expect(0, "");
        (!late.data.contains(&first)).then_some(())
    })
    .await;
    up.run(&home, ["queue", "--builds", "--since", "soon"]).await.expect(2, "not a length of time");
    up.stop().await;
}

#[tokio::test]
async fn errors_name_commands_and_not_paths_of_the_api() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let nobody = "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d";
    for (line, command) in [
        (vec!["nodes", "clear", "node-1"], "`fairlane nodes` lists"),
        (vec!["drain", "nobody"], "`fairlane workers` lists"),
        (vec!["lanes", "git.example.org/o/n"], "`fairlane lanes` lists"),
        (vec!["why", nobody], "`fairlane queue --builds` lists"),
        (vec!["cancel", nobody], "`fairlane queue --builds` lists"),
        (vec!["logs", nobody], "`fairlane queue --builds` lists"),
        (vec!["watch", nobody], "`fairlane queue --builds` lists"),
    ] {
        let said = up.run(&home, line).await.expect(2, command);
        assert!(!said.talk.contains("/v1/"), "{said:?}");
    }
    up.stop().await;
}

#[tokio::test]
async fn a_missing_argument_shows_how_the_command_is_used() {
    let home = TempDir::new();
    for (line, usage) in [
        (vec!["watch"], "Usage: fairlane watch [OPTIONS] <ID>"),
        (vec!["drain"], "Usage: fairlane drain [OPTIONS] <WORKER>"),
        (vec!["rule", "ban"], "Usage: fairlane rule ban [OPTIONS] <PATTERN>"),
        (
            vec!["submit", "https://github.com/o/n", "--no-such-option"],
            "Usage: fairlane submit [OPTIONS] <REPO>",
        ),
    ] {
        let mut command = fairlane(&home, line);
        command.env("FAIRLANE_TOKEN", "secret-token").env("FAIRLANE_DISPATCHER_URL", "http://127.0.0.1:1");
        let said = run(command).await.expect(2, usage);
        assert!(!said.talk.contains("--token") && !said.talk.contains("secret-token"), "{said:?}");
    }
}

#[tokio::test]
async fn states_and_the_like_are_named_and_completed() {
    let home = TempDir::new();
    for (line, says) in [
        (vec!["queue", "--builds", "--state", "asleep"], "[possible values: queued, starting, running,"),
        (vec!["retry", "--failed", "--class", "bad"], "[possible values: repository, infrastructure, stuck]"),
        (vec!["queue", "--builds", "--sort", "up"], "[possible values: line, age, ran, people, lane]"),
        (
            vec!["submit", "https://github.com/o/n", "--ref", COMMIT, "--priority", "urgent"],
            "interactive, background]",
        ),
    ] {
        run(fairlane(&home, line)).await.expect(2, says);
    }
    let script = run(fairlane(&home, ["completions", "bash"])).await.expect(0, "").data;
    assert!(script.contains("queued starting running orphaned succeeded failed cancelled"));
}
