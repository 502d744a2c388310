//! Builds of a real Git repository, whose HEAD and branches are looked up.

use std::process::{Command, Stdio};

use fairlane_testkit::{Process, TempDir, free_port, wait_for};

use crate::setup::{LIMIT, Up, fairlane, run};

pub(crate) fn git(folder: &std::path::Path, line: &str) -> String {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "init.defaultBranch=main",
    ]);
    let output = command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository `demo` with a tag `v1` and one more commit, served by `git daemon`.
async fn serve(home: &TempDir) -> (Process, String, String, String) {
    let folder = home.join("repos/demo");
    std::fs::create_dir_all(&folder).unwrap();
    git(&folder, "init --quiet .");
    git(&folder, "commit --quiet --allow-empty -m first");
    git(&folder, "tag -a v1 -m one");
    let tagged = git(&folder, "rev-parse HEAD");
    git(&folder, "commit --quiet --allow-empty -m second");
    let head = git(&folder, "rev-parse HEAD");
    let port = free_port();
    // Runs the program itself, because `git daemon` would start it as a child that outlives it.
    let programs = git(&folder, "--exec-path");
    let mut command = Command::new(format!("{programs}/git-daemon"));
    command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    command.arg(format!("--port={port}")).arg(format!("--base-path={}", home.join("repos").display()));
    let daemon = Process::spawn("git daemon", &mut command);
    let url = format!("git://127.0.0.1:{port}/demo");
    wait_for("git daemon to answer", LIMIT, async || {
        Command::new("git")
            .args(["ls-remote", &url])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    })
    .await;
    (daemon, url, tagged, head)
}

#[tokio::test]
async fn head_and_tags_are_looked_up_and_built() {
    let home = TempDir::new();
    let (daemon, repo, tagged, head) = serve(&home).await;
    let up = Up::start(&home, "/usr/bin/env git ls-remote --heads {repo}").await;
    let said = up.run(&home, ["submit", &repo, "--watch"]).await;
    let said = said
        .expect(0, &format!("HEAD of {repo} is {head}"))
        .expect(0, &format!("the image will be demo:{}", &head[..12]));
    assert_eq!(said.data, format!("{head}\trefs/heads/main\n").replace('\t', "    "));
    let said = up
        .run(&home, ["--json", "submit", &repo, "--ref", "v1"])
        .await
        .expect(0, &format!("v1 of {repo} is {tagged}"));
    let build = up.run(&home, ["--json", "why", said.json()[0]["id"].as_str().unwrap()]).await.expect(0, "");
    assert_eq!(build.json()[0]["ref"], tagged);
    up.run(&home, ["submit", &repo, "--ref", "nothing"]).await.expect(2, "has no branch or tag 'nothing'");
    drop(daemon);
    up.run(&home, ["submit", &repo, "--ref", "v1"]).await.expect(0, "'v1' is used as is");
    up.run(&home, ["submit", &repo]).await.expect(1, "git cannot look up HEAD");
    up.stop().await;
}

#[tokio::test]
async fn without_git_head_needs_a_commit() {
    let home = TempDir::new();
    let mut command = fairlane(&home, ["submit", "https://git.example.org/o/n"]);
    command.env("PATH", home.path());
    run(command).await.expect(2, "name the commit with --ref");
}
