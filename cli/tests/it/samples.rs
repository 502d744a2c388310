//! The queue over time.

use fairlane_testkit::{TempDir, wait_for};

use crate::setup::{LIMIT, Up};

#[tokio::test]
async fn history_shows_a_line_a_step_and_says_which_steps_there_are() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let table = wait_for("a sample", LIMIT, async || {
        let shown = up.run(&home, ["history", "--since", "1h", "--step", "5m"]).await.expect(0, "");
        Some(shown.data).filter(|data| data.contains("OLDEST WAIT"))
    })
    .await;
    // Curves are only drawn on a terminal.
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(!table.contains('▁'), "{table}");
    let lines = up.run(&home, ["history", "--json"]).await.json();
    assert!(lines[0]["waiting"]["slot"].is_number() && lines[0]["at_ms"].is_number(), "{lines:?}");
    up.run(&home, ["history", "--step", "7m"]).await.expect(2, "1m, 5m, 10m, 30m, 1h, 2h");
    up.run(&home, ["history", "--since", "8d"]).await.expect(2, "at most 7 days");
    up.stop().await;
}
