//! Acting by clicks, and what Redis says afterwards.

use fairlane_common::build::BuildState;
use fairlane_common::{Priority, Rule};
use fairlane_dispatcher::api::BuildPage;
use fairlane_testkit::{Browser, wait_for, wait_for_eq};
use serde_json::json;

use super::{Scene, reason_of};
use crate::support::{SOON, send};

/// Empties the field of the limit and sends the event that typing sends; without it, the page would restore the value.
const EMPTY: &str = "(() => { const input = document.querySelector('dialog input[name=limit]'); input.value = ''; \
                     input.dispatchEvent(new Event('input', { bubbles: true })); })()";

#[tokio::test]
async fn a_lane_is_held_and_released_by_clicks() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    let (queue, pattern) = (&scene.dispatcher.queue, "github.com/owner/queued".parse().unwrap());
    let rule = async || queue.rules().await.unwrap().remove(&pattern);
    browser.open(&scene.view("lane/github.com/owner/queued")).await;
    browser.press("Hold").await;
    browser.sees("1 waiting build (1 person) will not start").await;
    browser.write("//dialog//input[@name='message']", "we look into it").await;
    browser.write("//dialog//input[@name='reason']", "it fills the disks").await;
    assert_eq!(rule().await, None, "nothing is done before it is confirmed");
    browser.press("Hold").await;
    let held = wait_for("the rule", SOON, rule).await.hold.unwrap();
    assert_eq!(held.message.as_deref(), Some("we look into it"));
    assert!(held.until.is_some(), "an hour, unless another time is chosen");
    assert_eq!(reason_of(&scene.dispatcher, "rule set").await.as_deref(), Some("it fills the disks"));
    browser.sees("we look into it").await;
    browser.press("Release").await;
    browser.sees("may start again").await;
    browser.press("Release").await;
    wait_for("the end of the rule", SOON, async || rule().await.is_none()).await;
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn a_lane_is_limited_and_banned_until_built_by_clicks() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    let (queue, pattern) = (&scene.dispatcher.queue, "github.com/owner/popular".parse().unwrap());
    let rule = async || queue.rules().await.unwrap().remove(&pattern).unwrap_or_default();
    browser.open(&scene.view("lane/github.com/owner/popular")).await;
    browser.press("Limit").await;
    browser.sees("1 running build continues").await;
    browser.value(EMPTY).await;
    browser.write("//dialog//input[@name='limit']", "1").await;
    browser.press("Limit").await;
    wait_for_eq("the limit", SOON, Some(1), async || rule().await.limit).await;
    browser.press("Ban").await;
    browser.click("//dialog//select/option[@value='built']").await;
    browser.sees("until a build of the lane succeeds").await;
    browser.write("//dialog//input[@name='message']", "please fix requirements.txt").await;
    browser.press("Ban").await;
    let stop = wait_for("the ban", SOON, async || rule().await.ban).await;
    assert!(stop.until_built && stop.until.is_none());
    assert_eq!(rule().await.limit, Some(1), "the ban leaves the limit as it is");
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn a_build_is_cancelled_a_worker_drained_and_a_node_cleared_by_clicks() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    let queue = &scene.dispatcher.queue;
    browser.open(&scene.view(&format!("build/{}", scene.queued))).await;
    browser.press("Cancel").await;
    browser.sees("It leaves the line").await;
    browser.write("//dialog//input[@name='reason']", "asked for by mistake").await;
    browser.press("Cancel").await;
    let state = async || queue.build(scene.queued).await.unwrap().unwrap().state;
    wait_for_eq("the state", SOON, BuildState::Cancelled, state).await;
    assert_eq!(reason_of(&scene.dispatcher, "cancel").await.as_deref(), Some("asked for by mistake"));
    browser.sees("asked for by mistake").await;

    browser.value("location.hash = '#/workers'").await;
    browser.sees("node-7").await;
    browser.click("//button[@aria-label='Use node-7 again']").await;
    browser.sees("its failures with 3 repositories are forgotten").await;
    browser.press("Use again").await;
    wait_for_eq("avoided nodes", SOON, 0, async || queue.nodes().await.unwrap().len()).await;
    browser.sees("No node is avoided").await;
    browser.click("(//button[@aria-label='Drain fake'])[1]").await;
    browser.sees("claim no more builds").await;
    browser.press("Drain").await;
    wait_for_eq("drained names", SOON, 1, async || queue.drained().await.unwrap().len()).await;
    browser.sees("drained by local").await;
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn what_was_done_is_undone_by_clicks() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    let queue = &scene.dispatcher.queue;
    let rule = async |lane: &str| queue.rules().await.unwrap().remove(&lane.parse().unwrap());
    browser.open(&scene.view("rules")).await;
    browser.click("//button[@aria-label='Remove the rule of github.com/owner/held']").await;
    browser.sees("This ends at once: held: their server is down.").await;
    browser.press("Remove").await;
    wait_for("no rule", SOON, async || rule("github.com/owner/held").await.is_none()).await;

    let popular = "github.com/owner/popular";
    let both: Rule = serde_json::from_value(json!({ "limit": 1, "ban": { "message": "wait" } })).unwrap();
    queue.set_rule(&popular.parse().unwrap(), &both, "ann").await.unwrap();
    browser.open(&scene.view(&format!("lane/{popular}"))).await;
    browser.press("Remove limit").await;
    browser.sees("The lane gets the limit of a more general rule").await;
    browser.press("Remove limit").await;
    wait_for_eq("the limit", SOON, Some(None), async || rule(popular).await.map(|rule| rule.limit)).await;
    assert!(rule(popular).await.unwrap().ban.is_some(), "the ban stays");
    browser.press("Lift ban").await;
    browser.sees("New requests will be accepted again").await;
    browser.press("Lift ban").await;
    wait_for("no rule", SOON, async || rule(popular).await.is_none()).await;

    let found: BuildPage =
        send(scene.dispatcher.get("/v1/builds?q=owner/nightly")).await.json().await.unwrap();
    let nightly = found.builds[0].id;
    browser.open(&scene.view(&format!("build/{nightly}"))).await;
    browser.press("Promote").await;
    browser.sees("It becomes interactive").await;
    browser.press("Promote").await;
    let priority = async || queue.build(nightly).await.unwrap().unwrap().spec.priority;
    wait_for_eq("its priority", SOON, Priority::Interactive, priority).await;

    assert!(send(scene.dispatcher.post("/v1/workers/fake/drain")).await.status().is_success());
    browser.open(&scene.view("workers")).await;
    browser.click("(//button[@aria-label='Use fake again'])[1]").await;
    browser.sees("Its workers claim builds again").await;
    browser.press("Use again").await;
    wait_for_eq("drained names", SOON, 0, async || queue.drained().await.unwrap().len()).await;
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn the_page_says_that_the_dispatcher_is_away_and_recovers_by_itself() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    browser.open(&scene.view("")).await;
    browser.sees("Lanes in line").await;
    scene.redis.freeze();
    browser.sees("Redis does not answer").await;
    browser.sees("What you see is").await;
    assert!(browser.text().await.contains("Lanes in line"), "what was known stays");
    scene.redis.thaw();
    wait_for("fresh data", SOON, async || !browser.text().await.contains("does not answer")).await;
    browser.sees("live").await;
    scene.dispatcher.stop().await;
}
