//! The log of a build on the page: what it may contain, and how people read it.

use serde_json::json;

use fairlane_testkit::Browser;

use super::Scene;

/// Lines that try to attack the page.
fn hostile() -> Vec<String> {
    vec![
        "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>".to_owned(),
        "\u{1b}]8;;javascript:window.harmed=3\u{1b}\\click me\u{1b}]8;;\u{1b}\\".to_owned(),
        "\u{1b}]8;;https://evil.example.org/\u{7}a link\u{1b}]8;;\u{7} behind it".to_owned(),
        "user\u{202e}txt.exe\u{202c} \u{2066}isolated\u{2069}".to_owned(),
        "bell \u{7} null \u{0} backspace \u{8}\u{8} delete \u{7f} next line \u{85} \u{fffd}".to_owned(),
        "x".repeat(16 * 1024),
        "\u{1b}[31mred \u{1b}[1mbold\u{1b}[0m plain \u{1b}[38;2;1;200;3mtrue\u{1b}[0m \u{1b}[2J\u{1b}[10Akept".to_owned(),
        "10 %\r 50 %\r100 % done".to_owned(),
        "an unfinished \u{1b}[3".to_owned(),
        "&lt;b&gt; ERROR: it failed".to_owned(),
        "the end of it".to_owned(),
    ]
}

#[tokio::test]
async fn hostile_lines_are_shown_and_do_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let mut scene = Scene::start().await;
    scene.running.write_lines(&hostile()).await;
    browser.open(&scene.view(&format!("build/{}", scene.running.claimed.build.id))).await;
    browser.sees("the end of it").await;
    let log = browser.value("document.querySelector('.log').innerText").await;
    let log = log.as_str().unwrap();
    for shown in [
        "<script>window.harmed = 1</script>",
        "click me",
        "a link behind it",
        "user‹U+202E›txt.exe‹U+202C› ‹U+2066›isolated‹U+2069›",
        "bell ␇ null ␀ backspace ␈␈ delete ␡",
        "red bold plain true kept",
        "100 % done",
        "an unfinished ␛[3",
        "&lt;b&gt; ERROR: it failed",
    ] {
        assert!(log.contains(shown), "{shown} is not in {log}");
    }
    assert!(!log.contains("50 %") && !log.contains("evil.example.org"), "{log}");
    assert_eq!(browser.value("String(window.harmed)").await, "undefined");
    assert_eq!(browser.value("document.querySelectorAll('.log a, .log script, .log img').length").await, 0);
    assert_eq!(browser.value("document.querySelector('.ansi-red-fg').textContent").await, "red ");
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The long line is complete, in pieces that the browser can draw.
    let long = "[...document.querySelectorAll('.log .text')].filter((row) => /^x+$/.test(row.textContent)).map((row) => row.textContent.length)";
    let pieces: Vec<usize> = serde_json::from_value(browser.value(long).await).unwrap();
    assert!(
        pieces.iter().all(|piece| *piece <= 1000) && pieces.iter().sum::<usize>() == 16 * 1024,
        "{pieces:?}"
    );
    browser.press("First error").await;
    browser.sees("ERROR: it failed").await;
    assert_eq!(
        browser.value("document.querySelector('.marked .text').textContent").await,
        "&lt;b&gt; ERROR: it failed"
    );
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn a_long_log_is_followed_searched_and_counts_nobody() {
    let Some(browser) = Browser::start().await else { return };
    let mut scene = Scene::start().await;
    let id = scene.running.claimed.build.id;
    let before = scene.dispatcher.queue.build(id).await.unwrap().unwrap().people;
    browser.open(&scene.view(&format!("build/{id}"))).await;
    browser.sees("line 39").await;
    for _ in 0..10 {
        scene.running.write(500).await;
    }
    browser.sees("5,040 lines").await;
    browser.sees("line 5039").await;
    let rows = browser.value("document.querySelectorAll('.log-row').length").await.as_u64().unwrap();
    assert!(rows < 200, "only what can be seen is drawn: {rows} rows");
    browser.write("//input[@aria-label='Search in the log']", "line 77").await;
    browser.sees("11 matches").await;
    browser.click("//button[@aria-label='Next match']").await;
    browser.sees("line 77").await;
    assert_eq!(browser.value("document.querySelector('.marked .text').textContent").await, "line 77");
    scene.running.write(1).await;
    browser.sees("5,041 lines").await;
    assert!(!browser.text().await.contains("line 5040"), "who reads is not scrolled away");
    browser.press("Follow").await;
    browser.sees("line 5040").await;
    let after = scene.dispatcher.queue.build(id).await.unwrap().unwrap().people;
    assert!(after <= before, "who only looks does not wait: {before}, then {after}");
    scene.dispatcher.stop().await;
}

#[tokio::test]
async fn keys_search_move_and_help() {
    let Some(browser) = Browser::start().await else { return };
    let scene = Scene::start().await;
    browser.open(&scene.view("builds")).await;
    browser.sees("github.com/owner/popular").await;
    browser.key("/").await;
    assert_eq!(browser.value("document.activeElement.id").await, "search");
    browser.write("//input[@id='search']", "https://github.com/owner/Popular.git\u{e007}").await;
    browser.sees("What holds it back").await;
    assert_eq!(browser.value("document.querySelector('h1').textContent").await, "github.com/owner/popular");
    browser.value("location.hash = '#/builds'").await;
    browser.sees("Page 1").await;
    browser.key("\u{e015}").await;
    browser.key("\u{e015}").await;
    let second = "document.activeElement.closest('tr') === document.querySelectorAll('[data-row]')[1]";
    assert_eq!(browser.value(second).await, true);
    browser.key("?").await;
    browser.sees("move between rows").await;
    browser.press("Close").await;
    assert_eq!(browser.value("document.querySelector('dialog')").await, json!(null));
    scene.dispatcher.stop().await;
}
