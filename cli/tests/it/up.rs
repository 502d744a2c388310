//! `fairlane up`, from the first build to what remains after it was stopped or killed.

use std::process::Command;

use fairlane_testkit::{Process, TempDir, free_port, wait_for};

use crate::setup::{COMMIT, Gate, LIMIT, Up, fairlane, run};

const ECHO: &str = "/bin/echo built {image} of {repo}";

#[tokio::test]
async fn a_first_build_is_followed_to_its_end() {
    let home = TempDir::new();
    let up = Up::start(&home, ECHO).await;
    let said =
        up.run(&home, ["submit", "https://git.example.org/owner/demo", "--ref", COMMIT, "--watch"]).await;
    let said = said
        .expect(0, "the image will be owner-demo:3f2a91c0d1e2")
        .expect(0, "succeeded: owner-demo:3f2a91c0d1e2");
    assert_eq!(said.data, "built owner-demo:3f2a91c0d1e2 of https://git.example.org/owner/demo\n");
    // A repeated request is answered with the build that just succeeded.
    let again = up.run(&home, ["submit", "https://git.example.org/owner/demo", "--ref", COMMIT]).await;
    let again = again.expect(0, "succeeded just now");
    let id = again.data.trim();
    let log = up.run(&home, ["logs", id]).await.expect(0, "");
    assert_eq!(log.data, said.data);
    let followed = up.run(&home, ["logs", "-f", id]).await.expect(0, "");
    assert_eq!(followed.data, said.data);
    up.stop().await;
}

#[tokio::test]
async fn a_failing_build_exits_with_1_and_a_cancelled_one_with_3() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/cat /no/such/file {repo}").await;
    let said = up.run(&home, ["submit", "https://git.example.org/o/n", "--ref", COMMIT, "--watch"]).await;
    let said = said.expect(1, "failed (repository)");
    assert!(said.data.contains("No such file"), "{said:#?}");
    up.stop().await;

    let gate = Gate::new(&home);
    let up = Up::start(&home, &gate.template()).await;
    let id = up.submit(&home, "other").await;
    let watch = Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &id]));
    watch.wait_for_line("running", LIMIT).await;
    up.run(&home, ["cancel", &id, "--reason", "wrong branch"]).await.expect(0, &id);
    assert_eq!(watch.wait(LIMIT).await.code(), Some(3), "{}", watch.stderr());
    assert!(watch.stderr().contains("wrong branch"), "{}", watch.stderr());
    up.stop().await;
}

#[tokio::test]
async fn json_is_one_object_a_line() {
    let home = TempDir::new();
    let up = Up::start(&home, ECHO).await;
    let said = up
        .run(&home, ["--json", "submit", "https://git.example.org/o/n", "--ref", COMMIT, "--watch"])
        .await
        .expect(0, "");
    let events = said.json();
    assert_eq!(events.first().unwrap()["event"], "submitted");
    let log: Vec<_> = events.iter().filter(|event| event["event"] == "log").collect();
    assert_eq!(log[0]["lines"][0]["text"], "built o-n:3f2a91c0d1e2 of https://git.example.org/o/n");
    assert_eq!(events.last().unwrap()["state"], "succeeded");
    let id = events[0]["id"].as_str().unwrap();
    for line in [
        &["queue"][..],
        &["queue", "--builds"],
        &["lanes", "git.example.org/o/n"],
        &["why", id],
        &["workers"],
        &["logs", id],
        &["doctor"],
    ] {
        let said = up.run(&home, line.iter().copied().chain(["--json"])).await.expect(0, "");
        assert!(!said.json().is_empty(), "{line:?}");
    }
    up.stop().await;
}

#[tokio::test]
async fn the_queue_is_kept_over_a_restart_and_a_watcher_sees_it_through() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let listen = format!("127.0.0.1:{}", free_port());
    let more = ["--slots", "1", "--listen", &listen];
    let up = Up::start_with(&home, &gate.template(), &more).await;
    let (first, second) = (up.submit(&home, "first").await, up.submit(&home, "second").await);
    let watch = Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &first]));
    watch.wait_for_line("running", LIMIT).await;
    up.stop().await;
    let up = Up::start_with(&home, ECHO, &more).await;
    assert_eq!(watch.wait(LIMIT).await.code(), Some(0), "{}", watch.stderr());
    up.run(&home, ["watch", &second]).await.expect(0, "succeeded");
    up.stop().await;
}

#[tokio::test]
async fn a_killed_up_leaves_no_redis_behind_and_the_next_one_goes_on() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &gate.template(), &["--slots", "1"]).await;
    let id = up.submit(&home, "demo").await;
    let watch = Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &id]));
    watch.wait_for_line("running", LIMIT).await;
    watch.kill();
    let lock = home.join(".local/share/fairlane/redis.lock");
    up.process.kill();
    wait_for("redis-server to end", LIMIT, async || {
        std::fs::File::open(&lock).unwrap().try_lock().map_err(|e| e.to_string())
    })
    .await;
    let up = Up::start_with(&home, ECHO, &["--slots", "1"]).await;
    up.run(&home, ["watch", &id]).await.expect(0, "succeeded");
    let said = up.run(&home, ["logs", &id]).await.expect(0, "");
    assert!(said.data.contains("built owner-demo"), "{said:#?}");
    up.stop().await;
}

#[tokio::test]
async fn a_second_one_on_the_same_folder_or_address_says_so() {
    let home = TempDir::new();
    let up = Up::start(&home, ECHO).await;
    run(fairlane(&home, ["up", "--command", ECHO])).await.expect(1, "another `fairlane up` is using");
    let listen = up.url.trim_start_matches("http://").to_owned();
    let other = home.join("other");
    let line = ["up", "--command", ECHO, "--listen", &listen, "--data", other.to_str().unwrap()];
    run(fairlane(&home, line)).await.expect(1, "is in use");
    up.stop().await;
}

#[tokio::test]
async fn a_redis_that_dies_is_started_again_with_its_data() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &gate.template(), &["--slots", "1"]).await;
    let id = up.submit(&home, "demo").await;
    let watch = Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &id]));
    watch.wait_for_line("running", LIMIT).await;
    let socket = home.join(".local/share/fairlane/redis.sock");
    let shutdown =
        Command::new("redis-cli").arg("-s").arg(&socket).args(["shutdown", "nosave"]).output().unwrap();
    assert!(shutdown.status.success(), "{shutdown:?}");
    up.process.wait_for_line("starting it again with its data", LIMIT).await;
    gate.open("through the gate").await;
    assert_eq!(watch.wait(LIMIT).await.code(), Some(0), "{}", watch.stderr());
    assert_eq!(watch.stdout(), "through the gate\n");
    up.stop().await;
}

#[tokio::test]
async fn the_second_interrupt_ends_it_at_once() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &gate.template(), &["--slots", "1"]).await;
    let id = up.submit(&home, "demo").await;
    let watch = Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &id]));
    watch.wait_for_line("running", LIMIT).await;
    up.process.terminate();
    up.process.wait_for_line("Shutting down after the running builds", LIMIT).await;
    assert!(up.process.is_running());
    up.process.terminate();
    assert!(!up.process.wait(LIMIT).await.success());
}

#[tokio::test]
async fn a_build_that_ends_while_it_stops_is_followed_to_its_end() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let mut command = fairlane(&home, ["up", "--listen", "127.0.0.1:0", "--command", &gate.template()]);
    let up = Up::of(Process::spawn("fairlane up", &mut command)).await;
    let id = up.submit(&home, "demo").await;
    let watch = Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &id]));
    watch.wait_for_line("running", LIMIT).await;
    up.process.terminate();
    up.process.wait_for_line("Shutting down after the running builds", LIMIT).await;
    gate.open("the last line").await;
    assert_eq!(watch.wait(LIMIT).await.code(), Some(0), "{}", watch.stderr());
    assert_eq!(watch.stdout(), "the last line\n");
    assert!(up.process.wait(LIMIT).await.success());
}

#[tokio::test]
async fn credentials_work_without_further_ado_and_are_never_readable() {
    let home = TempDir::new();
    let secret = "correct-horse-battery";
    std::fs::write(home.join("credentials"), format!("username=me\npassword={secret}\n")).unwrap();
    let up = Up::start(&home, ECHO).await;
    let line =
        ["submit", "https://git.example.org/o/n", "--ref", COMMIT, "--git-credentials-file", "credentials"];
    up.run(&home, line.into_iter().chain(["--watch"])).await.expect(0, "succeeded");
    up.stop().await;
    let mut files = 0;
    for file in std::fs::read_dir(home.join(".local/share/fairlane/appendonlydir")).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(secret));
        files += 1;
    }
    assert!(files > 0);
}

/// Creates a Git repository with one commit; returns the commit.
fn repository(folder: &std::path::Path) -> String {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("requirements.txt"), "numpy\n").unwrap();
    let git = |line: &str| {
        let mut git = Command::new("git");
        git.arg("-C").arg(folder).args(["-c", "user.name=x", "-c", "user.email=x@x"]);
        let done = git.args(line.split(' ')).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git("init -q -b main");
    git("add -A");
    git("commit -q -m first");
    git("rev-parse HEAD")
}

#[tokio::test]
async fn a_folder_is_built_without_the_internet() {
    let home = TempDir::new();
    let notes = home.path().join("my notes");
    let commit = repository(&notes);
    let up = Up::start(&home, "/usr/bin/git clone -q -n {repo} clone-of-{ref}").await;
    let said = up.run(&home, ["submit", notes.to_str().unwrap(), "--watch"]).await;
    let said = said.expect(0, "succeeded");
    assert!(said.talk.contains(&commit), "{said:#?}");
    std::fs::write(notes.join("more"), "x").unwrap();
    up.run(&home, ["submit", notes.to_str().unwrap()]).await.expect(0, "uncommitted changes");
    let below = notes.join("below");
    std::fs::create_dir(&below).unwrap();
    up.run(&home, ["submit", below.to_str().unwrap()]).await.expect(2, "--arg=--subdir=below");
    let plain = home.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    up.run(&home, ["submit", plain.to_str().unwrap()]).await.expect(2, "not a Git repository");
    up.run(&home, ["submit", "./no-such-folder"]).await.expect(2, "no folder ./no-such-folder");
    // A folder that could only exist on another host.
    let id = up.run(&home, ["submit", "file:///no/such/folder", "--ref", COMMIT]).await.data;
    let why = "will be retried: there is no folder /no/such/folder on the worker";
    up.process.wait_for_line(why, LIMIT).await;
    up.run(&home, ["cancel", id.trim()]).await.expect(0, "");
    up.process.wait_for_line("cancelled", LIMIT).await;
    assert!(up.process.stderr().contains("building my-notes:"), "{}", up.process.stderr());
    up.stop().await;
}

#[tokio::test]
async fn a_doi_needs_no_ref() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo} at {ref}").await;
    let said = up.run(&home, ["submit", "10.5281/zenodo.3242074", "--watch"]).await.expect(0, "succeeded");
    assert_eq!(said.data, "10.5281/zenodo.3242074 at 3242074\n");
    up.stop().await;
}

#[tokio::test]
async fn an_installation_that_cannot_build_is_said_before_the_first_build() {
    let home = TempDir::new();
    let program = home.path().join("jupyter-repo2docker");
    std::fs::write(&program, "#!/bin/sh\necho \"No module named 'docker'\" >&2; exit 1\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let command = format!("{} {{repo}}", program.display());
    let up = Up::start(&home, &command).await;
    up.process.wait_for_line("Builds will fail", LIMIT).await;
    let said = up.process.stderr();
    assert!(said.contains("No module named 'docker'") && said.contains("chardet==5.2.0"), "{said}");
    let looked = up.run(&home, ["doctor", "--command", &command]).await;
    assert!(looked.code == 1 && looked.data.contains("No module named 'docker'"), "{looked:#?}");
    up.stop().await;
}

#[tokio::test]
async fn a_release_that_builds_with_buildx_is_not_well_without_it() {
    let home = TempDir::new();
    let tools = home.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let tool = |name: &str, script: &str| {
        let path = tools.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    tool("git", "");
    tool("hg", "");
    tool("docker", "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1");
    let look = async || {
        let mut doctor = fairlane(&home, ["doctor", "--command", "jupyter-repo2docker {repo}"]);
        doctor.env("PATH", format!("{}:/usr/bin:/bin", tools.display()));
        run(doctor).await.data
    };
    let missing = "which fails: docker: 'buildx' is not a docker command";
    tool("jupyter-repo2docker", "echo 2026.4.0");
    let said = look().await;
    assert!(said.contains(missing) && said.contains("docker-buildx"), "{said}");
    tool("jupyter-repo2docker", "echo 2024.07.0");
    let said = look().await;
    assert!(!said.contains(missing) && said.contains("release 2024.07.0"), "{said}");
    tool("jupyter-repo2docker", "echo 2026.4.0");
    tool("docker", "echo github.com/docker/buildx v0.12.1");
    let said = look().await;
    assert!(said.contains("release 2026.4.0"), "{said}");
}
