//! The view of campaigns: what it shows, and acting by clicks with what Redis says afterwards.

use fairlane_common::queue::Outcome;
use fairlane_common::queue::campaigns::{Campaign, CampaignState, Pacing};
use fairlane_common::{FailureCause, FailureClass};
use fairlane_testkit::{Browser, RedisServer, axe, wait_for, wait_for_eq};
use secrecy::SecretString;
use serde_json::json;

use super::reason_of;
use super::views::{nonsense, overflow};
use crate::support::{Dispatcher, Run, SOON, Worker, failed, request, send};

/// A campaign on its way: one image built, one failed, one build runs, two are in line, three items wait.
struct Renewal {
    _redis: RedisServer,
    dispatcher: Dispatcher,
    _worker: Worker,
    running: Run,
}

impl Renewal {
    async fn start() -> Self {
        let redis = RedisServer::start_default().await;
        let dispatcher = Dispatcher::start(&redis.url()).await;
        let worker = Worker::start(&dispatcher.queue, 4).await;
        let items: Vec<_> = (0..8)
            .map(|number| {
                let mut item = request(&format!("n{number}"));
                item["spec"] = format!("GitHub:owner/n{number}/HEAD").into();
                item["launches"] = (20 - 2 * number).into();
                item["expected_seconds"] = 180.into();
                item
            })
            .collect();
        let body = json!({
            "name": "cache-2026-11", "launches": 160, "launches_present": 10, "items": items, "state": "running",
            "pacing": { "per_hour": 100, "pause_when_waiting_ms": 60_000 },
        });
        let created = send(dispatcher.post("/v1/campaigns").json(&body)).await;
        assert_eq!(created.status().as_u16(), 201);
        worker.claim().await.finish(Outcome::Succeeded).await;
        let reason = "no matching distribution for tensorflow==1.0";
        let failure = failed(FailureClass::Repository, FailureCause::OTHER, reason);
        worker.claim().await.finish(failure).await;
        let running = worker.claim().await;
        let renewal = Self { _redis: redis, dispatcher, _worker: worker, running };
        wait_for_eq("its builds", SOON, (3, 3), async || {
            let campaign = renewal.campaign().await;
            (campaign.building, campaign.waiting)
        })
        .await;
        renewal
    }

    async fn campaign(&self) -> Campaign {
        let name = "cache-2026-11".parse().unwrap();
        self.dispatcher.queue.campaign(&name).await.unwrap().unwrap().campaigns.remove(0)
    }

    fn view(&self, path: &str) -> String {
        format!("{}/#/{path}", self.dispatcher.url)
    }
}

#[tokio::test]
async fn a_campaign_is_shown_with_its_progress_its_cost_and_its_failures() {
    let (Some(browser), Some(axe)) = (Browser::start().await, axe()) else { return };
    let renewal = Renewal::start().await;
    browser.open(&renewal.view("campaigns")).await;
    for text in ["cache-2026-11", "running", "2 of 8", "18.8 %", "in about"] {
        browser.sees(text).await;
    }
    browser.key("j").await;
    browser.key("\u{e007}").await;
    for text in [
        "30 of 160 expected launches find their image",
        "1 built, 1 failed",
        "20 launches",
        "expected to find an image that it built",
        "of slots",
        "about 0.30 h are left",
        "no matching distribution for tensorflow==1.0",
        "other 1",
        "longer than 1 min",
        "if people need no slots",
        "GitHub:owner/n7/HEAD",
    ] {
        browser.sees(text).await;
    }
    assert_eq!(browser.value("document.querySelector('.tiles .bar span').style.width").await, "18.75%");
    assert_eq!(nonsense(&browser).await, None);
    for colors in ["light", "dark"] {
        browser.colors(colors).await;
        for (width, height) in [(1280, 900), (360, 740)] {
            browser.size(width, height).await;
            assert_eq!(overflow(&browser).await, 0, "{colors} at {width} pixels");
            assert_eq!(browser.barriers(&axe).await, Vec::<String>::new(), "{colors} at {width} pixels");
        }
    }
    browser.size(1280, 900).await;
    browser.press("Pause").await;
    browser.sees("starts no build until it is resumed").await;
    assert_eq!(browser.barriers(&axe).await, Vec::<String>::new(), "a dialog");
    browser.press("Close").await;
    browser.click("//select/option[@value='failed']").await;
    wait_for("the failed item alone", SOON, async || {
        let rows = "document.querySelectorAll('[aria-label=Items] tbody tr').length";
        browser.value(rows).await == 1
    })
    .await;
    assert!(browser.value("location.hash").await.as_str().unwrap().ends_with("?state=failed"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The views of its builds and of the queue lead to it.
    browser.value("location.hash = '#/'").await;
    browser.sees("1 campaign runs; 3 builds of campaigns are in line or run").await;
    let build = renewal.running.claimed.build.id;
    let lane = &renewal.running.claimed.build.lane;
    for path in [format!("build/{build}"), format!("lane/{lane}")] {
        browser.open(&renewal.view(&path)).await;
        browser.sees("cache-2026-11").await;
        browser.click("//a[@href='#/campaign/cache-2026-11']").await;
        browser.sees("expected launches find their image").await;
    }
    renewal.dispatcher.stop().await;
}

#[tokio::test]
async fn a_campaign_changes_on_the_page_as_it_goes_on() {
    let Some(browser) = Browser::start().await else { return };
    let renewal = Renewal::start().await;
    browser.open(&renewal.view("campaign/cache-2026-11")).await;
    browser.sees("1 built, 1 failed").await;
    renewal.running.finish(Outcome::Succeeded).await;
    browser.sees("2 built, 1 failed").await;
    browser.sees("46 of 160 expected launches").await;
    renewal.dispatcher.stop().await;
}

#[tokio::test]
async fn a_campaign_is_paused_paced_resumed_and_cancelled_by_clicks() {
    let Some(browser) = Browser::start().await else { return };
    let renewal = Renewal::start().await;
    browser.open(&renewal.view("campaign/cache-2026-11")).await;
    browser.press("Pause").await;
    browser.sees("It starts no build until it is resumed: 5 items wait.").await;
    browser.sees("1 running build continues, and 2 builds in line go back to the campaign").await;
    browser.write("//dialog//input[@name='reason']", "the registry is slow").await;
    let state = renewal.campaign().await.state;
    assert_eq!(state, CampaignState::Running, "nothing is done before it is confirmed");
    browser.press("Pause").await;
    wait_for_eq("the pause", SOON, CampaignState::Paused, async || renewal.campaign().await.state).await;
    assert_eq!((renewal.campaign().await.building, renewal.campaign().await.waiting), (1, 5));
    assert_eq!(
        reason_of(&renewal.dispatcher, "campaign paused").await.as_deref(),
        Some("the registry is slow")
    );
    browser.sees("paused by local").await;
    browser.sees("known once it is resumed").await;

    browser.press("Change pacing").await;
    browser.sees("at most 3 of 4 slots at a time, at most 100 starts an hour, none while people wait").await;
    let clear = "document.querySelectorAll('dialog input').forEach((input) => { input.value = ''; \
                 input.dispatchEvent(new Event('input', { bubbles: true })); })";
    browser.value(clear).await;
    browser
        .sees("at most 3 of 4 slots at a time. The rest takes about 6 min, if people need no slots.")
        .await;
    browser.write("//dialog//input[@name='perHour']", "10").await;
    browser.sees("at most 10 starts an hour. The rest takes about 30 min, if people need no slots.").await;
    browser.write("//dialog//input[@name='share']", "50").await;
    browser.write("//dialog//input[@name='hours']", "late").await;
    browser.press("Change pacing").await;
    browser.sees("write it as 22:00-06:00").await;
    browser.value(clear).await;
    browser.write("//dialog//input[@name='share']", "50").await;
    browser.write("//dialog//input[@name='hours']", "00:00-23:59").await;
    browser.write("//dialog//input[@name='timeZone']", "Europe/Berlin").await;
    browser.write("//dialog//input[@name='pauseWhenWaiting']", "90").await;
    browser.sees("at most 2 of 4 slots at a time, none while people wait longer than 1 min 30 s, only 00:00-23:59 Europe/Berlin").await;
    browser.press("Change pacing").await;
    let half = json!({
        "share": 0.5, "pause_when_waiting_ms": 90_000, "hours": "00:00-23:59", "time_zone": "Europe/Berlin",
    });
    let half: Pacing = serde_json::from_value(half).unwrap();
    wait_for_eq("the pacing", SOON, half, async || renewal.campaign().await.pacing).await;
    browser.press("Resume").await;
    browser.sees("It starts builds again: 5 items wait.").await;
    browser.press("Resume").await;
    wait_for_eq("a build", SOON, 2, async || renewal.campaign().await.building).await;
    browser.sees("its share of the slots").await;
    browser.press("Cancel").await;
    browser
        .sees("5 items will not be built, and 1 running build finishes. 1 image that it built stays.")
        .await;
    browser.click("//dialog//select/option[@value='true']").await;
    browser.sees("1 running build is stopped").await;
    browser.write("//dialog//input[@name='reason']", "a wrong prefix").await;
    browser.press("Cancel").await;
    wait_for_eq("its end", SOON, CampaignState::Cancelled, async || renewal.campaign().await.state).await;
    assert_eq!(reason_of(&renewal.dispatcher, "campaign cancelled").await.as_deref(), Some("a wrong prefix"));
    let build = renewal.dispatcher.queue.build(renewal.running.claimed.build.id).await.unwrap().unwrap();
    assert!(build.cancelling);
    browser.sees("its last builds are running").await;
    wait_for("no buttons", SOON, async || {
        browser.value("document.querySelectorAll('.acts button').length").await == 0
    })
    .await;
    renewal.dispatcher.stop().await;
}

#[tokio::test]
async fn without_the_scope_a_campaign_has_no_buttons() {
    let Some(browser) = Browser::start().await else { return };
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        let tokens = "watch read fedcba9876543210\nops read,operate 0123456789abcdef";
        settings.tokens.add_lines(&SecretString::from(tokens)).unwrap();
    })
    .await;
    let body = json!({ "name": "spring", "items": [request("a")] });
    let created = dispatcher.post("/v1/campaigns").bearer_auth("0123456789abcdef").json(&body);
    assert_eq!(send(created).await.status().as_u16(), 201);
    for (token, buttons) in [("fedcba9876543210", 0), ("0123456789abcdef", 3)] {
        browser.open(&format!("{}/#/campaign/spring", dispatcher.url)).await;
        if buttons > 0 {
            browser.press("Sign out").await;
        }
        browser.write("//input[@name='token']", token).await;
        browser.press("Sign in").await;
        browser.sees("its items are still being loaded, or it was not started").await;
        assert_eq!(
            browser.value("document.querySelectorAll('.acts button').length").await,
            buttons,
            "{token}"
        );
    }
    dispatcher.stop().await;
}
