//! `fairlane campaign plan`, with Git servers of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use fairlane_testkit::{Process, Said, TempDir, free_port, wait_for};
use serde_json::Value;

use crate::git::git;
use crate::setup::{COMMIT, LIMIT, fairlane, run};

const PREFIX: &str = "registry.example.org/r2d-new-";

/// Repositories `one`, with the tag `v1` and the branch `dev`, and `two`, served by `git daemon`: its address.
pub(crate) async fn serve(home: &TempDir) -> (Process, String) {
    for name in ["one", "two"] {
        let folder = home.join(format!("repos/{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        git(&folder, "init --quiet .");
        git(&folder, &format!("commit --quiet --allow-empty -m {name}"));
        git(&folder, "branch dev");
        git(&folder, "tag v1");
        git(&folder, "commit --quiet --allow-empty -m second");
    }
    let port = free_port();
    // Runs the program itself, because `git daemon` would start it as a child that outlives it.
    let programs = git(home.path(), "--exec-path");
    let mut command = Command::new(format!("{programs}/git-daemon"));
    command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    command.arg(format!("--port={port}")).arg(format!("--base-path={}", home.join("repos").display()));
    let daemon = Process::spawn("git daemon", &mut command);
    let url = format!("git://127.0.0.1:{port}");
    wait_for("git daemon to answer", LIMIT, async || {
        let mut git = Command::new("git");
        git.args(["ls-remote", &format!("{url}/one")]).stdout(Stdio::null()).stderr(Stdio::null());
        git.status().unwrap().success()
    })
    .await;
    (daemon, url)
}

/// An address whose host answers each request with this; without an answer, it never does.
fn host_that_says(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(answer) = answer {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            } else {
                open.push(stream);
            }
        }
    });
    url
}

pub(crate) fn quoted(url: &str) -> String {
    url.replace(':', "%3A").replace('/', "%2F")
}

/// Launch events of these specs of the provider Git, each once a minute.
pub(crate) fn events(home: &TempDir, specs: &[String]) -> String {
    let lines = specs.iter().enumerate().map(|(minute, spec)| {
        format!(
            r#"{{"timestamp": "2026-11-29T10:{minute:02}:30.5Z", "schema": "binderhub.jupyter.org/launch", "version": 6, "provider": "Git", "spec": "{spec}", "ref": "{COMMIT}", "status": "success"}}"#
        )
    });
    let path = home.join("events.jsonl");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path.display().to_string()
}

async fn plan<'a>(home: &TempDir, words: impl IntoIterator<Item = &'a str>) -> Said {
    let words = ["campaign", "plan", "--offline", "--prefix", PREFIX].into_iter().chain(words);
    run(fairlane(home, words)).await
}

fn refs(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["ref"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn newest_commits_are_planned_and_the_rest_is_skipped_with_reasons() {
    let home = TempDir::new();
    let (_daemon, url) = serve(&home).await;
    let private = host_that_says(Some(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ));
    let silent = host_that_says(None);
    let at = |name: &str, reference: &str| format!("{}/{reference}", quoted(&format!("{url}/{name}")));
    let path = events(
        &home,
        &[
            at("one", "main"),
            at("one", "main"),
            at("one", "HEAD"),
            at("two", "v1"),
            at("two", "gone"),
            at("deleted", "main"),
            format!("{}/main", quoted(&format!("{private}/o/n"))),
            format!("{}/main", quoted(&format!("{silent}/o/n"))),
            "--upload-pack%3Dtouch%20x/main".to_owned(),
            "ext%3A%3Ash%20-c%20touch/main".to_owned(),
        ],
    );
    let said = plan(&home, [&path, "--git-timeout", "2s"]).await;
    let lines = said.json();
    let (header, items) = lines.split_first().unwrap();
    let commit = |name: &str, reference: &str| {
        git(&home.join(format!("repos/{name}")), &format!("rev-parse {reference}"))
    };
    assert_eq!(refs(items), [commit("one", "HEAD"), commit("two", "v1")], "{said:#?}");
    assert_eq!((&items[0]["launches"], &items[0]["repo"]), (&3.0.into(), &format!("{url}/one").into()));
    let image = items[0]["image"].as_str().unwrap();
    assert!(image.starts_with(&format!("{PREFIX}git-3a-2f-2f127-2e0-2e0-2e1-3a")), "{image}");
    assert_eq!((&header["launches"], &header["slot_seconds"]), (&10.0.into(), &360.into()), "{header}");
    let skipped = &header["skipped"];
    assert_eq!(skipped["the ref does not exist"], 1, "{header}");
    assert_eq!(skipped["the repository is private or deleted"], 2, "{header}");
    assert_eq!(skipped["the host did not answer in time"], 1, "{header}");
    assert_eq!(skipped["the ref or the address is invalid"], 2, "{header}");
    let said = said.expect(0, "there is no branch or tag 'gone'").expect(0, "its host asks for a password");
    said.expect(0, "2 builds cover 40.0 % of launches and take 6 min of one slot");
}

#[tokio::test]
async fn a_list_and_given_commits_need_no_host() {
    let home = TempDir::new();
    let list = home.join("list.txt");
    std::fs::write(&list, format!("https://github.com/o/n {COMMIT}\n\nbroken\n10.5281/zenodo.3242074\n"))
        .unwrap();
    let list = list.display().to_string();
    let path = events(&home, &[quoted("https://git.example.org/x") + "/main"]);
    let broken = std::fs::read_to_string(&path).unwrap() + "\n{\n";
    std::fs::write(&path, broken).unwrap();
    let words = [path.as_str(), "--list", &list, "--refs-as-given"];
    let said = plan(&home, words).await.expect(0, "line 3: neither").expect(0, "line 2: not an event");
    let images: Vec<Value> = said.json()[1..].iter().map(|item| item["image"].clone()).collect();
    assert_eq!(images.len(), 3, "{said:#?}");
    assert_eq!(images[1], format!("{PREFIX}o-2dn-2d73fe:{COMMIT}"));
    assert!(images[0].as_str().unwrap().ends_with(COMMIT), "the commit that the event names");
    assert_eq!(images[2], format!("{PREFIX}zenodo-2d3242074-b993d2:3242074"));
    let two = plan(&home, words.into_iter().chain(["--top", "2"])).await.expect(0, "2 builds cover 66.7 %");
    assert_eq!(two.json().len(), 3);
}

#[tokio::test]
async fn a_plan_that_takes_too_long_or_changes_nothing_is_refused() {
    let home = TempDir::new();
    let list = home.join("list.txt");
    std::fs::write(&list, format!("https://github.com/o/n {COMMIT}\nhttps://github.com/o/m {COMMIT}\n"))
        .unwrap();
    let list = list.display().to_string();
    let words = ["--list", list.as_str(), "--refs-as-given"];
    for (more, code, says) in [
        (vec!["--slots", "1", "--finish-within", "5m"], 2, "the plan would take 6 min, longer than 5 min"),
        (vec!["--slots", "2", "--finish-within", "5m"], 0, "6 min of one slot, or 3 min with 2 slots"),
        (vec!["--finish-within", "5m"], 2, "--finish-within needs a dispatcher, or --slots"),
        (vec!["--current-prefix", "registry.example.org/R2D_new-"], 2, "already uses the prefix"),
        (vec!["--current-prefix", PREFIX, "--yes"], 0, "2 builds cover 100.0 %"),
        (vec!["--current-prefix", "registry.example.org/r2d-old-"], 0, "2 builds"),
        (vec!["--prefix", "no blanks"], 2, "cannot be used multiple times"),
        (vec!["--share", "2"], 2, "a share is a number from 0 to 1"),
    ] {
        let said = plan(&home, words.into_iter().chain(more)).await.expect(code, says);
        assert_eq!(said.data.is_empty(), code != 0, "{said:#?}");
    }
    run(fairlane(&home, ["campaign", "plan", "--offline", "--prefix", "a b", "--list", &list]))
        .await
        .expect(2, "--prefix 'a b' is invalid");
    run(fairlane(&home, ["campaign", "plan", "--prefix", PREFIX]))
        .await
        .expect(2, "name files of launch events");
}
