//! Numbers, times and reasons as the page puts them into words, and curves with gaps.

use fairlane_testkit::{Browser, RedisServer};
use serde_json::{Value, json};

use crate::support::Dispatcher;

/// What a lane waits for, as the page's function gets it, and the words for it.
const HELD_BACK: [(&str, &str); 17] = [
    ("{ permits: 0, limit: 2, queued: 0 }", "nothing waits"),
    ("{ permits: 1, limit: 2, queued: 0 }", "nothing more waits"),
    ("{ permits: 1, limit: 1, queued: 3, waits_for: 'full' }", "its permit is in use"),
    ("{ permits: 2, limit: 2, queued: 3, waits_for: 'full' }", "all its 2 permits are in use"),
    ("{ permits: 3, limit: 2, queued: 3, waits_for: 'full' }", "all its 3 permits are in use"),
    (
        "{ permits: 1, limit: 1, burst: 3, queued: 3, waits_for: 'burst' }",
        "its permit is in use; up to 3 while more than half of all slots are free",
    ),
    (
        "{ permits: 2, limit: 2, burst: 4, queued: 3, waits_for: 'burst' }",
        "its 2 permits are in use; up to 4 while more than half of all slots are free",
    ),
    (
        "{ queued: 1, waits_for: 'shared:slow', shared: { name: 'slow', permits: 2, limit: 3 } }",
        "slow lanes share their permits: 2 of 3 in use",
    ),
    (
        "{ queued: 1, waits_for: 'shared:a/*', shared: { name: 'a/*', permits: 1, limit: 1 } }",
        "permits shared by a/*: 1 of 1 in use",
    ),
    ("{ queued: 1, waits_for: 'shared:gone' }", "a shared limit is used up"),
    ("{ queued: 1, waits_for: 'held' }", "held by a rule"),
    (
        "{ queued: 1, waits_for: 'held', held: { pattern: 'a/*', message: 'moving' } }",
        "held by rule a/*: moving",
    ),
    ("{ permits: 0, queued: 0, banned: { pattern: 'a/b' } }", "new requests are refused (rule a/b)"),
    (
        "{ permits: 1, limit: 1, queued: 1, waits_for: 'full', banned: { pattern: 'a/b' } }",
        "its permit is in use; new requests are refused (rule a/b)",
    ),
    ("{ queued: 1, waits_for: 'ready' }, { leased: 2, slots: 3 }", "starts next"),
    ("{ queued: 1, waits_for: 'ready' }, { leased: 3, slots: 3 }", "waits for a free slot"),
    (
        "{ queued: 1, waits_for: 'ready' }, { leased: 0, slots: 3, nobody_takes: 'full' }",
        "no worker accepts builds",
    ),
];

/// Calls of the page's other functions, and what they return.
const WORDS: [(&str, &str); 23] = [
    ("span(0)", "0 s"),
    ("span(-5000)", "0 s"),
    ("span(59_400)", "59 s"),
    ("span(60_000)", "1 min"),
    ("span(90_000)", "1 min 30 s"),
    ("span(599_000)", "9 min 59 s"),
    ("span(601_000)", "10 min"),
    ("span(3_600_000)", "1 h"),
    ("span(5_400_000)", "1 h 30 min"),
    ("span(86_400_000)", "1 d"),
    ("span(90_000_000)", "1 d 1 h"),
    ("many(1, 'build')", "1 build"),
    ("many(1234, 'build')", "1,234 builds"),
    ("many(2, 'person', 'people')", "2 people"),
    ("percent(0)", "0 %"),
    ("percent(0.1875)", "18.8 %"),
    ("percent(1)", "100 %"),
    ("slotHours(1080)", "0.30 h"),
    ("slotHours(36_000)", "10 h"),
    ("shortRef('a'.repeat(40))", "aaaaaaaaaa"),
    ("shortRef('release-2026')", "release-2026"),
    ("whereabouts({ note: 'pulling', worker: 'w' })", "pulling"),
    ("whereabouts({ worker: 'w' })", "on w"),
];

#[tokio::test]
async fn numbers_times_and_reasons_are_put_into_words() {
    let Some(browser) = Browser::start().await else { return };
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    browser.open(&dispatcher.url).await;
    let call = async |file: &str, call: &str| -> Value {
        let place = format!("document.querySelector('script[type=module]').src.replace('app.js', '{file}')");
        browser.promised(&format!("import({place}).then((page) => page.{call})")).await
    };
    for (expression, said) in WORDS {
        assert_eq!(call("words.js", expression).await, said, "{expression}");
    }
    for (lane, said) in HELD_BACK {
        assert_eq!(call("words.js", &format!("holdsBack({lane})")).await, said, "{lane}");
    }
    // A step without a sample is a gap, not a zero.
    let samples = "[{ at_ms: 0, n: 1 }, { at_ms: 60_000, n: 2 }, { at_ms: 240_000, n: 3 }]";
    let columns = call("chart.js", &format!("columns({samples}, 60_000, [(at) => at.n])")).await;
    assert_eq!(columns, json!([[0, 60, 120, 240], [1, 2, null, 3]]));
    dispatcher.stop().await;
}
