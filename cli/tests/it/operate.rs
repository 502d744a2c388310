//! What operators do: rules, draining, looking at the queue, with several dispatchers.

use fairlane_testkit::TempDir;

use crate::setup::{COMMIT, Gate, LIMIT, Up, run};

const LANE: &str = "git.example.org/o/n";
const REPO: &str = "https://git.example.org/o/n";

#[tokio::test]
async fn rules_are_set_and_ended_part_by_part() {
    let home = TempDir::new();
    // The second token is for requests without scope `operate`, which cannot override a ban.
    std::fs::write(
        home.join("tokens"),
        "ops submit,read,operate operators-token\nhub submit,read visitors-token\n",
    )
    .unwrap();
    std::fs::write(home.join("fairlane.toml"), "[dispatcher]\ntokens_file = 'tokens'\n").unwrap();
    let mut up = Up::start(&home, "/bin/echo {repo}").await;
    up.token = Some("operators-token");
    up.run(&home, ["rule", "list"]).await.expect(0, "There are no rules");
    up.run(&home, ["rule", "limit", LANE, "4", "--burst", "6"]).await.expect(0, "may have 4 builds running");
    let ban = ["rule", "ban", REPO, "--message", "being repaired", "--for", "2h"];
    up.run(&home, ban).await.expect(0, "refuses new requests");
    let mut visitor = up.command(&home, ["submit", REPO, "--ref", COMMIT]);
    visitor.env("FAIRLANE_TOKEN", "visitors-token");
    run(visitor).await.expect(5, "being repaired");
    let rules = up.run(&home, ["rule", "list", "--json"]).await.json();
    assert_eq!(rules[0]["pattern"], LANE);
    assert_eq!(
        (&rules[0]["rule"]["limit"], &rules[0]["rule"]["burst"]),
        (&4.into(), &6.into()),
        "the ban keeps the limit"
    );
    let list = up.run(&home, ["rule", "list"]).await.expect(0, "");
    assert!(list.data.contains("banned, ends in 2 h: being repaired"), "{}", list.data);
    assert!(list.data.contains("limit 4, burst 6"), "{}", list.data);
    up.run(&home, ["rule", "unban", LANE]).await.expect(0, "The ban of git.example.org/o/n has ended");
    up.run(&home, ["rule", "unban", LANE]).await.expect(2, "there is no ban of git.example.org/o/n");
    up.run(&home, ["submit", REPO, "--ref", COMMIT, "--watch"]).await.expect(0, "succeeded");
    up.run(&home, ["rule", "limit", LANE, "--clear"])
        .await
        .expect(0, "The limit of git.example.org/o/n has ended");
    up.run(&home, ["rule", "list"]).await.expect(0, "There are no rules");
    up.run(&home, ["rule", "limit", LANE, "2", "--together"]).await.expect(2, "needs a pattern");
    up.run(&home, ["rule", "hold", LANE, "--until", "2020-01-01T00:00:00Z"]).await.expect(2, "in the past");
    up.run(&home, ["rule", "hold", LANE, "--for", "2"]).await.expect(2, "has no unit");
    up.stop().await;
}

#[tokio::test]
async fn a_held_lane_waits_until_it_is_released() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    up.run(&home, ["rule", "hold", "git.example.org/o/*", "--message", "registry moves"])
        .await
        .expect(0, "starts no builds");
    let id = up.run(&home, ["submit", REPO, "--ref", COMMIT]).await.expect(0, "").data.trim().to_owned();
    let why = up.run(&home, ["why", &id]).await.expect(0, "");
    assert!(why.data.contains("registry moves"), "{}", why.data);
    let lanes = up.run(&home, ["lanes"]).await.expect(0, "");
    assert!(lanes.data.contains("rule git.example.org/o/*: registry moves"), "{}", lanes.data);
    up.run(&home, ["rule", "release", "git.example.org/o/*"]).await.expect(0, "has ended");
    up.run(&home, ["watch", &id]).await.expect(0, "succeeded");
    up.stop().await;
}

#[tokio::test]
async fn without_tokens_a_ban_stops_everybody_who_does_not_override_it() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    up.run(&home, ["rule", "ban", REPO, "--message", "being repaired"])
        .await
        .expect(0, "refuses new requests");
    up.run(&home, ["submit", REPO, "--ref", COMMIT]).await.expect(5, "being repaired");
    up.run(&home, ["submit", REPO, "--ref", COMMIT, "--override-ban", "--watch"])
        .await
        .expect(0, "succeeded");
    up.stop().await;
}

#[tokio::test]
async fn a_ban_until_built_without_a_build_warns() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    up.run(&home, ["rule", "ban", LANE, "--until-built"]).await.expect(0, "--build starts a build");
    up.stop().await;
}

#[tokio::test]
async fn the_queue_the_lanes_and_the_workers() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &gate.template(), &["--slots", "1"]).await;
    let (first, second) = (up.submit(&home, "one").await, up.submit(&home, "two").await);
    let watch = fairlane_testkit::Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &first]));
    watch.wait_for_line("running", LIMIT).await;
    let queue = up.run(&home, ["queue"]).await.expect(0, "").data;
    assert!(queue.contains("1 build on 1 slot") && queue.contains("git.example.org/owner/two"), "{queue}");
    let builds = up.run(&home, ["queue", "--builds", "--state", "queued"]).await.expect(0, "").data;
    assert!(builds.contains(&second) && !builds.contains(&first), "{builds}");
    let lane = up.run(&home, ["lanes", "https://git.example.org/owner/one"]).await.expect(0, "").data;
    assert!(lane.contains(&first), "{lane}");
    let why = up.run(&home, ["why", &second]).await.expect(0, "").data;
    assert!(why.starts_with("queued: "), "{why}");

    let workers = up.run(&home, ["workers", "--json"]).await.json();
    let worker = workers[0]["id"].as_str().unwrap();
    assert_eq!((&workers[0]["slots"], &workers[0]["draining"]), (&1.into(), &false.into()));
    up.run(&home, ["drain", worker]).await.expect(0, "no more builds, even after a restart");
    let shown = up.run(&home, ["workers"]).await.expect(0, "").data;
    assert!(shown.contains("drained by "), "{shown}");
    up.run(&home, ["nodes"]).await.expect(0, "No node and no host is avoided");
    up.run(&home, ["nodes", "clear", "node-1"]).await.expect(2, "no node of that name is avoided");
    up.run(&home, ["nodes", "clear", "no/node"]).await.expect(2, "a node's name has");
    up.run(&home, ["drain", "nobody"]).await.expect(2, "`fairlane workers` lists them");
    gate.open("done").await;
    assert_eq!(watch.wait(LIMIT).await.code(), Some(0));
    // A queued build waits until the drain is undone. The host's name can be used for that, too.
    let why = up.run(&home, ["why", &second]).await.expect(0, "").data;
    assert!(why.starts_with("queued: "), "{why}");
    let host = workers[0]["host"].as_str().unwrap();
    up.run(&home, ["drain", host, "--undo"]).await.expect(0, "builds again");
    let watch =
        fairlane_testkit::Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &second]));
    gate.open("done").await;
    assert_eq!(watch.wait(LIMIT).await.code(), Some(0));
    up.run(&home, ["why", "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d"]).await.expect(2, "no build has the id");
    up.stop().await;
}

/// The commands in docs/binderhub.md for going back from Fairlane to plain `BinderHub`: for those who let the
/// queue finish, and for those who do not.
fn way_back() -> [String; 2] {
    let page = include_str!("../../../docs/binderhub.md");
    let (_, rest) = page.split_once("\nBack: ").unwrap();
    let mut blocks = rest.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0.to_owned());
    [blocks.next().unwrap(), blocks.next().unwrap()]
}

/// Runs commands of that page, with `fairlane` in `PATH`.
fn follow_the_page(up: &Up, home: &TempDir, commands: &str) -> fairlane_testkit::Process {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_fairlane")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", commands]).current_dir(home.path()).env("PATH", path);
    command.env("FAIRLANE_DISPATCHER_URL", &up.url).env("HOME", home.path());
    fairlane_testkit::Process::spawn("the way back", &mut command)
}

#[tokio::test]
async fn the_way_back_from_fairlane_builds_what_is_queued() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &gate.template(), &["--slots", "1"]).await;
    let ids = [up.submit(&home, "one").await, up.submit(&home, "two").await];
    let page = follow_the_page(&up, &home, &way_back()[0]);
    let watch =
        fairlane_testkit::Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &ids[0]]));
    gate.open("first").await;
    // All builds wait at the same gate, so the first one must end before the gate is opened again.
    assert_eq!(watch.wait(LIMIT).await.code(), Some(0));
    assert!(page.is_running(), "a build is left");
    gate.open("second").await;
    assert!(page.wait(LIMIT).await.success(), "{}", page.stderr());
    for id in &ids {
        let why = up.run(&home, ["why", id]).await.expect(0, "").data;
        assert!(why.starts_with("succeeded"), "{why}");
    }
    up.stop().await;
}

#[tokio::test]
async fn the_way_back_from_fairlane_can_leave_what_is_queued() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &gate.template(), &["--slots", "1"]).await;
    let (running, queued) = (up.submit(&home, "one").await, up.submit(&home, "two").await);
    let watch =
        fairlane_testkit::Process::spawn("fairlane watch", &mut up.command(&home, ["watch", &running]));
    watch.wait_for_line("running", LIMIT).await;
    let page = follow_the_page(&up, &home, &way_back()[1]);
    page.wait_for_line("is drained", LIMIT).await;
    gate.open("done").await;
    assert!(page.wait(LIMIT).await.success(), "{}", page.stderr());
    let why = up.run(&home, ["why", &running]).await.expect(0, "").data;
    assert!(why.starts_with("succeeded"), "{why}");
    let why = up.run(&home, ["why", &queued]).await.expect(0, "").data;
    assert!(why.starts_with("queued"), "{why}");
    up.stop().await;
}

#[tokio::test]
async fn any_dispatcher_will_do() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let both = format!("http://127.0.0.1:1,{}", up.url);
    up.run(&home, ["submit", REPO, "--ref", COMMIT, "--watch", "--dispatcher-url", &both])
        .await
        .expect(0, "succeeded");
    up.stop().await;
}

#[tokio::test]
async fn a_token_is_needed_where_one_is_set() {
    let home = TempDir::new();
    std::fs::write(home.join("fairlane.toml"), "token = 'a-long-enough-token'").unwrap();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    up.run(&home, ["queue"]).await.expect(0, "");
    let mut command = up.command(&home, ["queue"]);
    command.env("FAIRLANE_TOKEN", "another-token-than-that");
    run(command).await.expect(5, "unknown token");
    up.stop().await;
}

#[tokio::test]
async fn the_policy_is_shown_set_and_unset() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let shown = up.run(&home, ["policy"]).await.expect(0, "").data;
    assert!(shown.contains("background_share") && shown.contains("0.75"), "{shown}");
    let set = up.run(&home, ["policy", "set", "limit=7", "overtake_max=2h"]).await.expect(0, "Set by local");
    assert!(set.data.contains('7') && set.data.contains("2h"), "{}", set.data);
    up.run(&home, ["policy", "set", "limit=0"]).await.expect(2, "from 1 to 10000");
    up.run(&home, ["policy", "set", "limits=3"]).await.expect(2, "known fields: limit");
    let push = "push_limit.registry.example.org";
    let set = up.run(&home, ["policy", "set", &format!("{push}=3")]).await.expect(0, "");
    assert!(set.data.contains("registry.example.org=3"), "{}", set.data);
    let left = up.run(&home, ["policy", "unset", "limit", push, "--json"]).await.expect(0, "").data;
    assert!(left.contains(r#""set":{"overtake_max_ms":7200000}"#), "{left}");
    up.stop().await;
}

#[tokio::test]
async fn logs_of_ended_builds_are_pruned() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let id = up.run(&home, ["submit", REPO, "--ref", COMMIT, "--watch"]).await;
    id.expect(0, "succeeded");
    up.run(&home, ["logs", "prune"]).await.expect(2, "--older-than");
    up.run(&home, ["logs", "prune", "--to", "many"]).await.expect(2, "must be a size");
    up.run(&home, ["logs", "prune", "--older-than", "0s", "--dry-run"])
        .await
        .expect(0, "1 log would be removed");
    up.run(&home, ["logs", "prune", "--older-than", "0s"])
        .await
        .expect(0, "1 log removed or shortened, which freed");
    let audit = up.run(&home, ["audit"]).await.expect(0, "");
    assert!(audit.data.contains("logs pruned"), "{}", audit.data);
    up.stop().await;
}
