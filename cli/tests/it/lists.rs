//! Lists that answer an operator's questions, and commands on many builds at once.

use std::fs::File;
use std::process::Stdio;

use fairlane_testkit::{TempDir, wait_for};

use crate::setup::{COMMIT, LIMIT, Up, fairlane, run};

const REPO: &str = "https://git.example.org/owner/name";
const LANE: &str = "git.example.org/owner/name";

async fn held(home: &TempDir) -> Up {
    let up = Up::start(home, "/bin/echo {repo}").await;
    up.run(home, ["rule", "hold", LANE, "--message", "registry moves"]).await.expect(0, "starts no builds");
    up
}

async fn submit(up: &Up, home: &TempDir, reference: &str) -> String {
    up.run(home, ["submit", REPO, "--ref", reference]).await.expect(0, "").data.trim().to_owned()
}

#[tokio::test]
async fn why_and_lists_say_where_a_build_stands() {
    let home = TempDir::new();
    let up = held(&home).await;
    let other = up.run(&home, ["rule", "limit", "git.example.org/*", "1", "--dry-run"]).await;
    other.expect(0, "Nothing was changed: 0 builds in 0 lanes would be affected");
    let id = submit(&up, &home, COMMIT).await;
    let why = up.run(&home, ["why", &id]).await.expect(0, "").data;
    assert!(why.contains("position in line") && why.contains("1 of 1"), "{why}");
    let list = up.run(&home, ["queue", "--builds"]).await.expect(0, "").data;
    assert!(list.contains("position 1"), "{list}");
    // The beginning of an id is enough if only one build has it.
    let short = up.run(&home, ["why", &id[..20]]).await.expect(0, "").data;
    assert!(short.contains(LANE), "{short}");
    up.run(&home, ["why", "ffffffff"])
        .await
        .expect(2, "no build has an id that begins or ends with 'ffffffff'");
    up.run(&home, ["why", "xyz"]).await.expect(2, "not a build id");
    up.run(&home, ["rule", "release", LANE]).await.expect(0, "");
    up.run(&home, ["watch", &id]).await.expect(0, "succeeded");
    let why = up.run(&home, ["why", &id]).await.expect(0, "").data;
    assert!(why.starts_with("succeeded\n"), "said once: {why}");
    up.stop().await;
}

#[tokio::test]
async fn queue_and_why_name_the_campaign_of_a_build() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/sleep 1000").await;
    let none = up.run(&home, ["queue"]).await.expect(0, "").data;
    assert!(!none.contains("campaigns"), "{none}");
    let plan = home.path().join("plan.jsonl");
    let item = serde_json::json!({ "repo": REPO, "ref": COMMIT, "image": "r/ahead:1" });
    std::fs::write(&plan, item.to_string()).unwrap();
    let plan = plan.display().to_string();
    up.run(&home, ["campaign", "start", "spring", &plan]).await.expect(0, "");
    let list = wait_for("its build", LIMIT, async || {
        let list = up.run(&home, ["queue", "--builds", "--state", "running"]).await;
        list.data.contains(LANE).then_some(list.data)
    })
    .await;
    assert!(list.contains("(campaign spring)"), "{list}");
    let totals = up.run(&home, ["queue"]).await.expect(0, "").data;
    assert!(totals.contains("1 running, 1 of their builds in line or running"), "{totals}");
    let build = up.run(&home, ["queue", "--builds", "--json"]).await.json().remove(0);
    assert_eq!(build["campaign"], "spring");
    let why = up.run(&home, ["why", build["id"].as_str().unwrap()]).await.expect(0, "").data;
    assert!(why.lines().any(|line| line.starts_with("campaign ") && line.ends_with(" spring")), "{why}");
}

#[tokio::test]
async fn all_builds_of_a_lane_are_cancelled_at_once_and_a_dry_run_cancels_none() {
    let home = TempDir::new();
    let up = held(&home).await;
    let other = COMMIT.replace('3', "4");
    let ids = [submit(&up, &home, COMMIT).await, submit(&up, &home, &other).await];
    let ban = up.run(&home, ["rule", "ban", "git.example.org/*", "--dry-run"]).await;
    let ban = ban.expect(0, "Nothing was changed: 2 builds in 1 lane would be affected.");
    assert!(ids.iter().all(|id| ban.data.contains(id)), "{ban:?}");
    up.run(&home, ["cancel", "--lane", LANE, "--state", "queued", "--dry-run"])
        .await
        .expect(0, "2 builds in 1 lane would be cancelled.");
    assert_eq!(up.run(&home, ["queue", "--builds", "--state", "queued", "--json"]).await.json().len(), 2);
    up.run(&home, ["cancel", "--lane", LANE, "--state", "running"])
        .await
        .expect(0, "0 builds were cancelled.");
    up.run(&home, ["cancel", "--lane", LANE]).await.expect(0, "2 builds were cancelled.");
    assert_eq!(up.run(&home, ["queue", "--builds", "--state", "cancelled", "--json"]).await.json().len(), 2);
    up.run(&home, ["cancel"]).await.expect(2, "<ID|--lane <LANE>>");
    up.stop().await;
}

#[tokio::test]
async fn failed_builds_are_listed_with_their_reason_and_built_again_together() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/false").await;
    let id = submit(&up, &home, COMMIT).await;
    up.run(&home, ["watch", &id]).await.expect(1, "");
    let list = up.run(&home, ["queue", "--builds", "--state", "failed"]).await.expect(0, "").data;
    assert!(list.contains("repository, ") && list.contains("exit code 1"), "{list}");
    let retry = |more: &'static [&'static str]| {
        ["retry", "--failed", "--since", "1h"].into_iter().chain(more.iter().copied())
    };
    up.run(&home, retry(&["--class", "infrastructure", "--dry-run"])).await.expect(0, "0 builds in 0 lanes");
    up.run(&home, retry(&["--class", "repository", "--dry-run"]))
        .await
        .expect(0, "1 build in 1 lane would be built again");
    up.run(&home, retry(&["--class", "repository"])).await.expect(0, "1 build was requested again.");
    let list = up.run(&home, ["queue", "--builds", "--json"]).await.json();
    assert_eq!(list.len(), 2, "{list:?}");
    assert_ne!(list[0]["id"], list[1]["id"]);
    up.stop().await;
}

#[tokio::test]
async fn what_happened_and_who_did_it_can_be_read() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/false").await;
    up.run(&home, ["rule", "limit", LANE, "3"]).await.expect(0, "");
    let id = submit(&up, &home, COMMIT).await;
    up.run(&home, ["watch", &id]).await.expect(1, "");
    let events = up.run(&home, ["events", "--since", "1h", "--lane", LANE]).await.expect(0, "").data;
    let (queued, failed) = (events.find("queued"), events.find("failed"));
    assert!(queued.is_some() && queued < failed && events.contains("exit code 1"), "{events}");
    let failed = up.run(&home, ["events", "--state", "failed", "--json"]).await.json();
    assert_eq!((failed.len(), failed[0]["build"].as_str()), (1, Some(id.as_str())));
    up.run(&home, ["events", "--lane", "git.example.org/no/body"])
        .await
        .expect(0, "No changes match in the last 10m");
    let audit = up.run(&home, ["audit"]).await.expect(0, "").data;
    assert!(audit.contains("rule set") && audit.contains(LANE), "{audit}");
    let of_it = up.run(&home, ["events", "--since", "1h", "--build", &id[28..]]).await.expect(0, "").data;
    assert!(of_it.contains(&id) && of_it.lines().count() > 1, "{of_it}");
    up.run(&home, ["audit", "--what", "nobody"]).await.expect(0, "Nothing in the audit log matches");
    up.run(&home, ["audit", "--act", "cancelled"]).await.expect(0, "Known acts: rule set, rule removed,");
    let audit = up.run(&home, ["audit", "--what", LANE]).await.expect(0, "").data;
    assert!(!audit.contains('{'), "a rule is shown in words: {audit}");
    up.run(&home, ["audit", "--act", "drain"])
        .await
        .expect(0, "Nothing in the audit log matches in the last 7d");
    let mut command = up.command(&home, ["events", "-f", "--state", "queued"]);
    let follower = fairlane_testkit::Process::spawn("fairlane events", &mut command);
    let other = submit(&up, &home, &COMMIT.replace('3', "4")).await;
    follower.wait_for_line(&other, crate::setup::LIMIT).await;
    up.stop().await;
}

#[tokio::test]
async fn what_cannot_be_written_is_an_error() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let mut command = up.command(&home, ["queue"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot write to standard output: No space left"), "{said}");
    up.stop().await;
}

#[tokio::test]
async fn help_and_mistakes_are_in_plain_words() {
    let home = TempDir::new();
    let help = run(fairlane(&home, ["help", "rule", "ban"])).await.expect(0, "");
    assert!(help.data.contains("Refuse new requests"), "{help:?}");
    assert!(run(fairlane(&home, ["help"])).await.expect(0, "").data.contains("Exit codes"));
    run(fairlane(&home, ["worker", "--slots", "0"])).await.expect(2, "it must be at least 1");
    run(fairlane(&home, ["worker", "--slots", "many"])).await.expect(2, "it must be a whole number");
    run(fairlane(&home, ["up", "--slots", "many"])).await.expect(2, "it must be a whole number");
}
