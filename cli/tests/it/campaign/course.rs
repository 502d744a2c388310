//! A campaign from its start to its report.

use fairlane_testkit::{Process, wait_for};
use serde_json::json;

use super::{Stage, header, item};
use crate::setup::{COMMIT, LIMIT};

/// Twenty launches are expected: 2 find their image already, 16 are planned, 2 were left out.
async fn started() -> Stage {
    let stage = Stage::start().await;
    stage.write(
        "plan.jsonl",
        &[header(20, 2), item("a", 6), item("bad", 4), item("c", 3), item("d", 2), item("e", 1)],
    );
    stage
        .campaign("start spring plan.jsonl --share 0.5")
        .await
        .expect(0, "The builds will take about 3 min, if people need no slots.")
        .expect(
            0,
            "spring is started: 5 builds for the images of 80.0 % of all expected launches; 10.0 % find",
        )
        .expect(0, "`fairlane campaign status spring -w` follows it.");
    stage.reaches("spring", "building", 2).await;
    stage
}

/// A line of `status` or `report`.
fn line(text: &str, label: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{label}: {text}"));
    line[label.len()..].trim().to_owned()
}

#[tokio::test]
async fn a_campaign_is_started_paused_resumed_and_reported() {
    let stage = started().await;
    let list = stage.campaign("list").await.expect(0, "").data;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().take(6).collect();
    assert_eq!(row, ["spring", "running", "0/5", "0", "10.0", "%"], "{list}");
    let status = stage.campaign("status spring").await.expect(0, "").data;
    assert_eq!(line(&status, "waits"), "2 of its builds run, its share of the slots");
    assert_eq!(line(&status, "coverage"), "10.0 % of 20 expected launches find their image");
    assert_eq!(line(&status, "builds"), "0 of 5 done, 2 in line or running");
    assert_eq!(line(&status, "pacing"), "at most 50 % of the slots");
    assert_eq!(line(&status, "ends"), "in about 3 min, if people need no slots");

    let pause = stage.campaign("pause spring --reason meeting").await;
    pause.expect(0, "spring is paused; 2 running builds will finish.");
    stage.go();
    stage.reaches("spring", "building", 0).await;
    let status = stage.campaign("status spring").await.expect(0, "").data;
    assert!(line(&status, "waits").starts_with("paused by "), "{status}");
    assert_eq!(line(&status, "builds"), "2 of 5 done, 1 built, 1 failed");
    assert!(!status.contains("ends"), "it is unknown when it goes on: {status}");
    let resume = stage.campaign("resume spring").await;
    resume.expect(0, "spring goes on; 3 builds to start.");

    let wait = stage.campaign("wait spring").await;
    wait.expect(0, "spring is ended: 70.0 % of all expected launches find their image.");
    let wait = stage.campaign("wait spring --coverage 0.7").await;
    wait.expect(0, "spring is ended: 70.0 %");
    let wait = stage.campaign("wait spring --coverage 0.71").await;
    wait.expect(1, "70.0 % of all expected launches find their image, fewer than asked for.");
    let list = stage.campaign("list").await.expect(0, "").data;
    assert!(list.contains("ended") && list.contains("5/5"), "{list}");
    let again = stage.campaign("pause spring").await;
    again.expect(2, "the campaign 'spring' is ended; start a new one under another name");
    reports(&stage).await;
    let audit = stage.up.run(&stage.home, ["audit"]).await.expect(0, "").data;
    for act in
        ["campaign started", "campaign paused", "campaign resumed", "campaign ended", "paused; meeting"]
    {
        assert!(audit.contains(act), "{act}: {audit}");
    }
    stage.up.stop().await;
}

/// Of launches after the end, those of two images found what was built, and one found nothing.
async fn reports(stage: &Stage) {
    let launch = |name: &str| {
        json!({
            "timestamp": "2099-01-01T10:00:00Z", "schema": "binderhub.jupyter.org/launch", "version": 6,
            "provider": "GitHub", "spec": format!("o/{name}/HEAD"), "ref": COMMIT, "status": "success",
        })
    };
    stage.write("events.jsonl", &[launch("a"), launch("a"), launch("d"), launch("bad")]);
    let report = stage.campaign("report spring --events events.jsonl").await.expect(0, "").data;
    assert_eq!(line(&report, "builds"), "5 of 5 done, 4 built, 1 failed");
    assert!(
        line(&report, "saved").starts_with("3 launches found one of 2 images that it built;"),
        "{report}"
    );
    assert!(report.contains("Failed, by cause: "), "{report}");
    let failure = report.lines().last().unwrap();
    assert!(failure.starts_with("https://github.com/o/bad "), "{report}");
    let json = stage.campaign("report spring --events events.jsonl --json").await.expect(0, "").json();
    assert_eq!((&json[0]["campaign"]["built"], &json[0]["saved"]["launches"]), (&4.into(), &3.into()));
    assert_eq!(json[0]["failures"][0]["ref"], COMMIT);
}

#[tokio::test]
async fn wait_says_by_its_exit_code_what_became_of_the_campaign() {
    let stage = started().await;
    let late = stage.campaign("wait spring --coverage 0.5 --timeout 1s").await;
    let late = late.expect(6, "10.0 % of all expected launches find their image");
    late.expect(6, "The timeout is over; the campaign goes on.");
    stage.campaign("wait spring --coverage 0.1").await.expect(0, "spring: 10.0 %");
    let words = ["campaign", "wait", "spring", "--coverage", "0.3"];
    let reached = Process::spawn("wait 0.3", &mut stage.up.command(&stage.home, words));
    let words = ["campaign", "wait", "spring", "--coverage", "0.3", "--json"];
    let never = Process::spawn("wait until cancelled", &mut stage.up.command(&stage.home, words));
    reached.wait_for_line("10.0 % of all", LIMIT).await;
    let cancel = stage.campaign("cancel spring --reason done").await;
    let cancel = cancel.expect(0, "spring is cancelled; 3 builds will not be made.");
    cancel.expect(0, "2 running builds will finish.");
    // What runs still counts: 8 of 20.
    assert!(reached.is_running() && never.is_running());
    stage.go();
    assert_eq!(reached.wait(LIMIT).await.code(), Some(0), "{}", reached.stderr());
    assert_eq!(never.wait(LIMIT).await.code(), Some(0), "{}", never.stderr());
    assert!(never.stderr().is_empty() && never.stdout().contains("\"launches_covered\":8.0"));
    let cancelled = stage.campaign("wait spring").await;
    cancelled.expect(3, "spring is cancelled: 40.0 % of all expected launches find their image.");
    stage.campaign("wait spring --coverage 0.5").await.expect(3, "spring is cancelled");
    stage.campaign("wait spring --coverage 0.4").await.expect(0, "spring is cancelled: 40.0 %");
    stage.up.stop().await;
}

#[tokio::test]
async fn running_builds_are_cancelled_on_request_and_people_are_served() {
    let stage = started().await;
    let person = stage.up.submit(&stage.home, "person").await;
    let cancel = stage.campaign("cancel spring --running").await;
    cancel.expect(0, "2 running builds will be stopped.");
    stage.reaches("spring", "cancelled", 2).await;
    stage.go();
    let watch = stage.up.run(&stage.home, ["watch", &person]).await;
    watch.expect(0, "succeeded");
    stage.campaign("wait spring").await.expect(3, "spring is cancelled: 10.0 %");
    stage.up.stop().await;
}

#[tokio::test]
async fn status_follows_a_campaign_to_its_end() {
    let stage = started().await;
    let words = ["campaign", "status", "spring", "--watch"];
    let status = Process::spawn("status -w", &mut stage.up.command(&stage.home, words));
    status.wait_for_line("0 of 5 done", LIMIT).await;
    stage.go();
    status.wait_for_line("5 of 5 done", LIMIT).await;
    assert_eq!(status.wait(LIMIT).await.code(), Some(0), "{}", status.stderr());
    wait_for("the campaign to be shown as ended", LIMIT, async || status.stdout().contains("ended")).await;
    stage.up.stop().await;
}
