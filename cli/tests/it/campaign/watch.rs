//! `fairlane campaign watch` with a private Git server.

use std::fs::OpenOptions;
use std::io::Write as _;

use fairlane_testkit::{Process, Said, wait_for};
use serde_json::{Value, json};

use super::{Stage, header, item};
use crate::campaign_plan::{quoted, serve};
use crate::git::git;
use crate::setup::{COMMIT, LIMIT};

const PREFIX: &str = "registry.example.org/r2d-";

/// A queue whose builds succeed at once, a Git server, and a log of launches.
struct Scene {
    stage: Stage,
    _daemon: Process,
    url: String,
}

impl Scene {
    async fn start() -> Self {
        let stage = Stage::start().await;
        stage.go();
        let (daemon, url) = serve(&stage.home).await;
        Self { stage, _daemon: daemon, url }
    }

    /// Somebody launches the branch main of a repository, which is this commit.
    fn launched(&self, name: &str, commit: &str) {
        let spec = format!("{}/main", quoted(&format!("{}/{name}", self.url)));
        self.log(&json!({
            "timestamp": "2026-11-29T10:00:00Z", "schema": "binderhub.jupyter.org/launch", "version": 6,
            "provider": "Git", "spec": spec, "ref": commit, "status": "success",
        }));
    }

    fn log(&self, event: &Value) {
        let path = self.stage.home.join("events.log");
        let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(log, "{event}").unwrap();
    }

    fn head(&self, name: &str) -> String {
        git(&self.stage.home.join(format!("repos/{name}")), "rev-parse HEAD")
    }

    /// Makes a new commit.
    fn commit(&self, name: &str) -> String {
        let folder = self.stage.home.join(format!("repos/{name}"));
        git(&folder, "commit --quiet --allow-empty -m new");
        self.head(name)
    }

    async fn once(&self, more: &str) -> Said {
        self.stage.campaign(&format!("watch events.log --prefix {PREFIX} --top 3 --once {more}")).await
    }

    /// Commits of which the campaign has built an image, in its order.
    async fn built(&self) -> Vec<String> {
        let words = ["queue", "--builds", "--state", "succeeded", "--json"];
        let builds = self.stage.up.run(&self.stage.home, words).await.expect(0, "").json();
        let mut refs: Vec<_> =
            builds.iter().map(|build| (build["asked_ms"].as_u64(), build["ref"].as_str())).collect();
        refs.sort_unstable();
        refs.iter().map(|(_, reference)| reference.unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn new_commits_of_popular_repositories_are_built_ahead_once() {
    let scene = Scene::start().await;
    let stage = &scene.stage;
    // The image of `two` is there: somebody launched its newest commit.
    for (name, commit) in [("one", COMMIT), ("one", COMMIT), ("two", &scene.head("two")), ("gone", COMMIT)] {
        scene.launched(name, commit);
    }
    scene.log(&json!({ "schema": "another" }));
    let said = scene.once("--share 0.5").await.expect(0, "events.log: 1 line was skipped");
    let said = said.expect(0, "skipped 1: the repository is private or deleted");
    assert_eq!(said.data, "fresh builds 1 new image\n");
    stage.reaches("fresh", "built", 1).await;
    stage.reaches("fresh", "waits", "it waits for new items").await;
    let first = scene.head("one");
    assert_eq!(scene.built().await, [first.as_str()]);
    // Another process, such as one after a restart, builds nothing twice. Its pacing is used.
    let again = scene.once("--per-hour 60").await.expect(0, "");
    assert_eq!(again.data, "");
    assert_eq!(stage.status("fresh").await["pacing"], json!({ "per_hour": 60 }));

    let words = ["campaign", "watch", "events.log", "--prefix", PREFIX, "--top", "3", "--every", "10s"];
    let watch = Process::spawn("watch", &mut stage.up.command(&stage.home, words));
    watch.wait_for_line("private or deleted", LIMIT).await;
    let second = scene.commit("one");
    watch.wait_for_line("fresh builds 1 new image", LIMIT).await;
    stage.reaches("fresh", "built", 2).await;
    assert_eq!(scene.built().await, [first, second]);
    let cancel = stage.campaign("cancel fresh").await;
    cancel.expect(0, "fresh is cancelled.");
    assert_eq!(watch.wait(LIMIT).await.code(), Some(3), "{}", watch.stderr());
    assert_eq!(watch.stderr().matches("private or deleted").count(), 1, "it is said once");
    scene
        .once("")
        .await
        .expect(3, "fresh is cancelled, so it builds nothing more; another --name begins anew.");
}

#[tokio::test]
async fn a_paused_campaign_gets_new_commits_and_builds_them_later() {
    let scene = Scene::start().await;
    let stage = &scene.stage;
    scene.launched("one", COMMIT);
    scene.once("").await.expect(0, "");
    stage.reaches("fresh", "built", 1).await;
    stage.campaign("pause fresh").await.expect(0, "fresh is paused");
    // A log of another replica, and the first one after its rotation.
    let log = stage.home.join("events.log");
    std::fs::rename(&log, stage.home.join("events.log.1")).unwrap();
    scene.launched("two", COMMIT);
    let said = scene.once("events.log.1").await.expect(0, "");
    assert_eq!(said.data, "fresh builds 1 new image\n");
    let status = stage.status("fresh").await;
    assert_eq!(
        (&status["state"], &status["waiting"], &status["items"]),
        (&"paused".into(), &1.into(), &2.into())
    );
    let shown = stage.campaign("status fresh").await.expect(0, "").data;
    assert!(shown.contains("paused, until it is cancelled") && !shown.contains("ends "), "{shown}");
    stage.campaign("resume fresh").await.expect(0, "");
    stage.campaign("wait fresh --coverage 1").await.expect(0, "fresh: 100.0 %");
    wait_for("both commits to be built", LIMIT, async || {
        let built = scene.built().await;
        if built == [scene.head("one"), scene.head("two")] { Ok(()) } else { Err(built) }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let scene = Scene::start().await;
    let stage = &scene.stage;
    scene.launched("one", COMMIT);
    stage.write("plan.jsonl", &[header(1, 0), item("a", 1)]);
    stage.campaign("start spring plan.jsonl --paused").await.expect(0, "");
    for (words, says) in [
        ("watch missing.log --prefix r/b-", "missing.log cannot be read"),
        ("watch --prefix r/b-", "EVENTS"),
        ("watch events.log", "--prefix"),
        ("watch events.log --prefix -", "--prefix '-' is invalid"),
        ("watch events.log --prefix r/b- --every 1s", "the shortest interval is 10s"),
        ("watch events.log --prefix r/b- --share 0", "share"),
        ("watch events.log --prefix r/b- --name spring", "the campaign 'spring' is not one of `watch`"),
    ] {
        let said = stage.campaign(&format!("{words} --once")).await.expect(2, says);
        assert!(said.data.is_empty(), "{words}: {said:#?}");
    }
    scene.once("").await.expect(0, "");
    let wait = stage.campaign("wait fresh").await;
    wait.expect(2, "fresh goes on until it is cancelled; name a --coverage");
    let mut alone =
        stage.up.command(&stage.home, ["campaign", "watch", "events.log", "--prefix", PREFIX, "--once"]);
    alone.env("FAIRLANE_DISPATCHER_URL", "http://127.0.0.1:1");
    crate::setup::run(alone).await.expect(4, "no dispatcher answers");
}
