//! Every view, in light and dark colors, on a phone, and below a base path.

use fairlane_testkit::{Browser, RedisServer, axe};
use secrecy::SecretString;
use serde_json::json;

use super::Scene;
use crate::support::{Dispatcher, request};

/// Every view by its path, with a text that shows that its data has arrived.
fn views(scene: &Scene) -> Vec<(String, &'static str)> {
    vec![
        (String::new(), "Lanes in line"),
        ("builds".to_owned(), "github.com/owner/popular"),
        ("builds?state=failed".to_owned(), "tensorflow==1.0"),
        (format!("build/{}", scene.running.claimed.build.id), "line 39"),
        (format!("build/{}", scene.failed), "tensorflow==1.0"),
        ("lane/github.com/owner/popular".to_owned(), "Held longest"),
        ("workers".to_owned(), "the cluster is full"),
        ("rules".to_owned(), "their server is down"),
        ("capacity".to_owned(), "Failures by node"),
        ("builds?q=popul".to_owned(), "github.com/owner/popular"),
        ("campaigns".to_owned(), "cache-2026-11"),
        ("campaign/cache-2026-11".to_owned(), "paused by ann"),
    ]
}

/// By how many pixels the page is wider than the window.
pub(super) async fn overflow(browser: &Browser) -> i64 {
    let wider =
        browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    wider.as_i64().unwrap()
}

/// What no view may show: a value that is not there.
pub(super) async fn nonsense(browser: &Browser) -> Option<String> {
    let text = browser.text().await;
    ["NaN", "undefined", "Invalid Date", "[object", "null"]
        .into_iter()
        .find(|word| text.contains(word))
        .map(|word| format!("{word} in {text}"))
}

#[tokio::test]
async fn every_view_shows_its_data_and_the_browser_has_no_complaint() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    for (path, text) in views(&scene) {
        browser.open(&scene.view(&path)).await;
        browser.sees(text).await;
        let title = browser.value("document.querySelectorAll('h1').length").await;
        assert_eq!(title, 1, "{path} has one title");
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{path}");
        assert_eq!(nonsense(&browser).await, None, "{path}");
    }
    browser.open(&scene.view("capacity")).await;
    browser.sees("100 %").await;
    browser.open(&scene.view("")).await;
    for sentence in ["the cluster is full", "node-7 gets no builds", "1 lane with waiting builds is held"] {
        browser.sees(sentence).await;
    }
    let hosts = "performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(location.origin)).length";
    assert_eq!(browser.value(hosts).await, 0, "nothing comes from elsewhere");
    let requests = browser.value("performance.getEntriesByType('resource').length").await.as_i64().unwrap();
    assert!(requests < 45, "{requests} requests for the page and its first data");
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn no_view_has_a_barrier_in_light_or_dark() {
    let (Some(browser), Some(axe)) = (Browser::start().await, axe()) else { return };
    let scene = Scene::start().await;
    for colors in ["light", "dark"] {
        browser.colors(colors).await;
        for (path, text) in views(&scene) {
            browser.open(&scene.view(&path)).await;
            browser.sees(text).await;
            assert_eq!(browser.barriers(&axe).await, Vec::<String>::new(), "{path} in {colors}");
        }
        browser.open(&scene.view("lane/github.com/owner/popular")).await;
        browser.press("Hold").await;
        browser.sees("will not start").await;
        assert_eq!(browser.barriers(&axe).await, Vec::<String>::new(), "a dialog in {colors}");
    }
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn a_phone_and_a_large_print_need_no_scrolling_to_the_side() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    // A window of 720 by 900 pixels at a zoom of 200 % is as narrow as a phone.
    for (width, height) in [(360, 740), (640, 450)] {
        browser.size(width, height).await;
        for (path, text) in views(&scene) {
            browser.open(&scene.view(&path)).await;
            browser.sees(text).await;
            assert_eq!(overflow(&browser).await, 0, "{path} at {width} pixels");
        }
    }
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn ten_thousand_builds_in_line_are_shown_page_by_page() {
    let Some(browser) = Browser::start().await else { return };
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    // Few at once, so that none waits too long for Redis on a busy machine.
    for batch in 0..250 {
        let asked = (0..40).map(|number| {
            let name = format!("crowd-{}", batch % 25);
            let mut body = request(&name);
            body["image"] = json!(format!("r/{name}:{batch}-{number}"));
            body["ref"] = json!(format!("{batch}-{number}"));
            let dispatcher = &dispatcher;
            async move { dispatcher.ask(&body).await }
        });
        futures::future::join_all(asked).await;
    }
    browser.open(&format!("{}/#/", dispatcher.url)).await;
    browser.sees("10,000").await;
    browser.open(&format!("{}/#/builds?state=queued", dispatcher.url)).await;
    browser.sees("Page 1").await;
    let first = browser.value("document.querySelector('tbody a').href").await;
    browser.press("Next").await;
    browser.sees("Page 2").await;
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length").await, 100);
    assert_ne!(browser.value("document.querySelector('tbody a').href").await, first);
    dispatcher.stop().await;
}

#[tokio::test]
async fn the_page_works_below_a_path_and_asks_for_a_token_once() {
    let Some(browser) = Browser::start().await else { return };
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.base_path = Some("/services/fairlane".parse().unwrap());
        let tokens = "watch read fedcba9876543210\nops read,operate 0123456789abcdef";
        settings.tokens.add_lines(&SecretString::from(tokens)).unwrap();
    })
    .await;
    let own = "fedcba9876543210";
    dispatcher.queue.set_rule(&"github.com/owner/a".parse().unwrap(), &held(), "ann").await.unwrap();
    browser.open(&format!("{}/services/fairlane/#/lane/github.com/owner/a", dispatcher.url)).await;
    browser.sees("needs a token").await;
    browser.write("//input[@name='token']", "a-wrong-token").await;
    browser.press("Sign in").await;
    browser.sees("unknown token").await;
    browser.value("document.querySelector('input[name=token]').value = ''").await;
    browser.write("//input[@name='token']", own).await;
    browser.press("Sign in").await;
    browser.sees("watch (read only)").await;
    browser.sees("held by rule github.com/owner/a").await;
    assert_eq!(
        browser.value("document.querySelectorAll('.acts button').length").await,
        0,
        "no scope, no buttons"
    );
    assert!(!browser.value("location.href").await.to_string().contains(own), "a token is in no address");
    let stored = browser.value("JSON.stringify(localStorage)").await.to_string();
    assert!(!stored.contains(own), "{stored}");

    // A view opened in the same tab does not ask for the token again.
    browser.value("location.hash = '#/rules'").await;
    browser.sees("Rules in force").await;
    browser.sees("github.com/owner/a").await;
    dispatcher.stop().await;
}

fn held() -> fairlane_common::Rule {
    serde_json::from_value(json!({ "hold": {} })).unwrap()
}
