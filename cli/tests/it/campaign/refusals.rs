//! What a campaign refuses, and what it says about it.

use std::process::Stdio;

use fairlane_testkit::TempDir;

use super::{Stage, header, item};
use crate::setup::{COMMIT, run};

#[tokio::test]
async fn a_plan_that_cannot_be_carried_out_starts_nothing() {
    let stage = Stage::start().await;
    let good = [header(20, 2), item("a", 6), item("b", 4)];
    stage.write("plan.jsonl", &good);
    let broken = format!("{}\n{{\n{}\n{}\n", good[0], good[1], good[1]);
    std::fs::write(stage.home.join("broken.jsonl"), broken).unwrap();
    std::fs::write(stage.home.join("empty.jsonl"), "").unwrap();
    for (words, says) in [
        ("start Spring plan.jsonl", "lowercase letters"),
        ("start spring missing.jsonl", "missing.jsonl cannot be read"),
        ("start spring empty.jsonl", "the plan has no builds"),
        ("start spring broken.jsonl", "line 2: not a build"),
        ("start spring broken.jsonl", "line 4: the image registry.example.org/new-a:1 is already in line 3"),
        ("start spring broken.jsonl", "nothing was started"),
        ("start spring plan.jsonl --share 2", "share"),
        ("start spring plan.jsonl --per-hour 0", "--per-hour"),
        ("start spring plan.jsonl --pause-when-waiting 2", "has no unit"),
        ("start spring plan.jsonl --hours 22-6", "write it as 22:00-06:00"),
        ("start spring plan.jsonl --time-zone Europe/Berlin", "--hours"),
        (
            "start spring plan.jsonl --hours 22:00-06:00 --time-zone Mars/Olympus",
            "is not the name of a time zone",
        ),
        (
            "start spring plan.jsonl --finish-within 30s",
            "the builds would take about 60 s, longer than 30 s; nothing was started",
        ),
        ("status summer", "no campaign has the name 'summer'; `fairlane campaign list` lists them"),
        ("pause summer", "no campaign has the name 'summer'"),
        ("cancel summer", "no campaign has the name 'summer'"),
        ("report summer", "no campaign has the name 'summer'"),
        ("wait summer", "no campaign has the name 'summer'"),
        ("wait summer --coverage 1.5", "a share is a number from 0 to 1"),
    ] {
        let said = stage.campaign(words).await.expect(2, says);
        assert!(said.data.is_empty(), "{words}: {said:#?}");
    }
    stage.campaign("list").await.expect(0, "There are no campaigns; `fairlane campaign start` starts one.");

    // The name is free after all these refusals.
    let start = stage.campaign("start spring broken.jsonl --skip-bad-lines --paused").await;
    let start = start.expect(0, "broken.jsonl: 2 lines were skipped");
    start.expect(0, "spring is created, and paused: 1 build for the images of 30.0 %");
    let again = stage.campaign("start spring plan.jsonl").await;
    again.expect(
        2,
        "a campaign 'spring' exists and is paused; choose another name (`fairlane campaign list` lists those in use)",
    );
    assert_eq!(stage.status("spring").await["items"], 1, "the refused plan adds nothing to it");
    let within = stage.campaign("start summer plan.jsonl --finish-within 1h").await;
    within.expect(0, "The builds will take about 60 s.");
    stage.up.stop().await;
}

#[tokio::test]
async fn a_plan_comes_from_standard_input() {
    let stage = Stage::start().await;
    stage.write("plan.jsonl", &[item("a", 6), item("b", 4)]);
    let mut command = stage.up.command(&stage.home, ["campaign", "start", "spring", "-", "--json"]);
    command.stdin(std::fs::File::open(stage.home.join("plan.jsonl")).unwrap()).stdout(Stdio::piped());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&view["items"], &view["launches"], &view["state"]),
        (&2.into(), &10.0.into(), &"running".into())
    );
    stage.go();
    stage.campaign("wait spring").await.expect(0, "100.0 %");
    stage.up.stop().await;
}

#[tokio::test]
async fn a_token_needs_the_scope_to_operate() {
    let mut stage = Stage::start_with(|home: &TempDir| {
        let tokens = "ops submit,read,operate operators-token\nhub submit,read visitors-token\n";
        std::fs::write(home.join("tokens"), tokens).unwrap();
        std::fs::write(home.join("fairlane.toml"), "[dispatcher]\ntokens_file = 'tokens'\n").unwrap();
    })
    .await;
    stage.write("plan.jsonl", &[item("a", 6)]);
    stage.up.token = Some("visitors-token");
    stage.campaign("start spring plan.jsonl").await.expect(5, "operate");
    stage.campaign("list").await.expect(0, "There are no campaigns");
    stage.up.token = Some("operators-token");
    stage.campaign("start spring plan.jsonl").await.expect(0, "spring is started");
    stage.reaches("spring", "building", 1).await;
    stage.up.token = Some("visitors-token");
    for words in ["pause spring", "resume spring", "cancel spring"] {
        stage.campaign(words).await.expect(5, "operate");
    }
    for words in ["status spring", "report spring"] {
        let said = stage.campaign(words).await.expect(0, "");
        assert!(said.data.contains("0 of 1 done, 1 in line or running"), "{said:#?}");
    }
    stage.campaign("wait spring --timeout 1s").await.expect(6, "the campaign goes on");
    stage.up.token = Some("operators-token");
    stage.up.stop().await;
}

#[tokio::test]
async fn a_plan_for_the_prefix_in_use_asks_for_confirmation() {
    let stage = Stage::start().await;
    stage.go();
    let repo = "https://github.com/o/n";
    let image = format!("registry.example.org/r2d-o-2dn-2d73fe:{COMMIT}");
    let submit = ["submit", repo, "--ref", COMMIT, "--image", &image, "--watch"];
    stage.up.run(&stage.home, submit).await.expect(0, "succeeded");
    std::fs::write(stage.home.join("list"), format!("{repo} {COMMIT}\n")).unwrap();
    let plan = |more: &str| format!("plan --list list --refs-as-given --prefix registry.example.org/{more}");
    let asked = stage.campaign(&plan("R2D_")).await;
    let asked = asked.expect(2, "BinderHub already uses the prefix 'registry.example.org/R2D_'");
    assert!(asked.data.is_empty(), "{asked:#?}");
    asked.expect(2, "add --yes if that is what you want");
    for more in ["r2d- --yes", "r2d-2026-"] {
        let said = stage.campaign(&plan(more)).await.expect(0, "1 build covers 100.0 % of launches");
        std::fs::write(stage.home.join("plan.jsonl"), said.data).unwrap();
    }
    stage.campaign("start spring plan.jsonl").await.expect(0, "spring is started: 1 build for");
    stage.campaign("wait spring").await.expect(0, "100.0 %");
    let mut alone = stage.up.command(&stage.home, ["campaign", "list"]);
    alone.env("FAIRLANE_DISPATCHER_URL", "http://127.0.0.1:1");
    run(alone).await.expect(4, "no dispatcher answers");
    stage.up.stop().await;
}
