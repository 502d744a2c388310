//! What each view shows, also on small terminals.

use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::json;

use super::super::app::App;
use super::super::draw::draw;
use super::super::feed::Feed;
use super::{app, data, press, screen};

#[test]
fn the_first_view_has_numbers_problems_and_lanes() {
    insta::assert_snapshot!(screen(&mut app(), 80, 24));
    insta::assert_snapshot!("now_on_a_small_terminal", screen(&mut app(), 60, 20));
}

/// The last hour, with people coming while no more builds run; nothing was sampled from minute 20 to 24.
fn hour(all: &mut serde_json::Value) {
    let now = 1_774_000_000_000_u64 / 60_000 * 60_000;
    let minutes = (0..60).filter(|minute| !(20..25).contains(minute));
    let samples: Vec<_> = minutes
        .map(|minute: u64| {
            let people = if minute < 30 { 4 } else { 4 + 5 * (minute - 30) };
            json!({
                "at_ms": now - (59 - minute) * 60_000, "people": people, "running": if minute < 30 { 2 } else { 1 },
                "slots": 3, "oldest_wait_s": 0, "started": 0, "succeeded": 0, "cancelled": 0,
                "waiting": { "slot": 0, "permit": 0, "shared": 0, "held": 0, "backoff": 0 },
                "failed": { "repository": 0, "infrastructure": 0, "stuck": 0 },
            })
        })
        .collect();
    all["v1/history"] =
        json!({ "now_ms": now + 30_000, "since_ms": 0, "step_ms": 60_000, "samples": samples });
}

#[test]
fn the_last_hour_is_drawn_as_curves_where_there_is_room() {
    let mut app = app();
    app.take(Ok(data(hour)));
    insta::assert_snapshot!(screen(&mut app, 110, 24));
    let narrow = screen(&mut app, 80, 24);
    assert!(narrow.contains("32, most 149 in 44 min"), "{narrow}");
    let low = screen(&mut app, 80, 15);
    assert!(!low.contains("most 149"), "the lanes need the room: {low}");
    // What is older than an hour is not drawn.
    app.take(Ok(data(|all| {
        hour(all);
        all["v1/history"]["now_ms"] = (1_774_000_000_000_u64 + 7_200_000).into();
    })));
    assert!(screen(&mut app, 110, 24).contains("32, most 0 in 60 min"));
}

#[test]
fn builds_that_run_come_first_then_the_line() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('2')]);
    insta::assert_snapshot!(screen(&mut app, 80, 24));
    insta::assert_snapshot!("builds_on_a_wide_terminal", screen(&mut app, 130, 18));
}

#[test]
fn lanes_and_workers() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('3')]);
    let lanes = screen(&mut app, 100, 16);
    press(&mut app, [KeyCode::Tab]);
    insta::assert_snapshot!(lanes + &screen(&mut app, 100, 8));
}

#[test]
fn an_open_build_shows_its_facts_and_its_log() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('2'), KeyCode::Enter]);
    let id = app.open_build().unwrap();
    app.take(Ok(data(|_| {})));
    let lines = (1..40).map(|line| format!("\u{1b}[32mStep {line}\u{1b}[0m of 40")).collect();
    app.take_feed(Feed::Lines(id, lines));
    app.take_feed(Feed::Remark(id, "3 lines are left out here".to_owned()));
    insta::assert_snapshot!(screen(&mut app, 80, 24));
    press(&mut app, [KeyCode::PageUp]);
    assert!(screen(&mut app, 60, 20).contains("End follows"));
}

#[test]
fn help_and_questions_fit_the_smallest_terminal() {
    let mut app = app();
    press(&mut app, [KeyCode::F(1)]);
    let help = screen(&mut app, 60, 20);
    press(&mut app, [KeyCode::Esc, KeyCode::F(6), KeyCode::Down]);
    let sort = screen(&mut app, 60, 20);
    press(&mut app, [KeyCode::Esc, KeyCode::Char('2'), KeyCode::Char('k')]);
    insta::assert_snapshot!([help, sort, screen(&mut app, 60, 20)].join("\n"));
}

#[test]
fn no_size_is_too_small_to_draw() {
    let mut app = app();
    for view in ['1', '2', '3', '4'] {
        press(&mut app, [KeyCode::Char(view)]);
        for (width, height) in [(1, 1), (5, 3), (10, 5), (20, 4), (300, 2), (8, 60)] {
            screen(&mut app, width, height);
            press(&mut app, [KeyCode::F(1)]);
            screen(&mut app, width, height);
            press(&mut app, [KeyCode::Esc, KeyCode::End]);
        }
    }
}

#[test]
fn problems_are_sentences_that_say_what_to_do() {
    let mut app = app();
    app.take(Ok(data(|all| {
        all["v1/queue"]["totals"]["orphaned"] = 1.into();
        all["warning"] = "Redis rejects writes".into();
        all["v1/queue"]["problems"] = json!([
            {
                "kind": "incident", "severity": "bad", "link": "#/lane/github.com/popular/slow",
                "sentence": "People waiting grew from 12 to 140 in 2 min, and no more builds run: github.com/popular/slow has 9 of 9 slots.",
                "command": "fairlane rule limit github.com/popular/slow 1",
            },
            {
                "kind": "node-avoided", "severity": "warning", "command": "fairlane nodes clear node-7",
                "sentence": "Node node-7 gets no builds for another 25 min: \u{1b}]0;title\u{7}no space left on device.",
            },
            { "kind": "lanes-held", "severity": "note", "sentence": "1 lane with waiting builds is held by rules." },
        ]);
    })));
    insta::assert_snapshot!(screen(&mut app, 110, 40));
}

#[test]
fn an_empty_queue_says_so() {
    let mut app = app();
    app.take(Ok(data(|all| {
        all["v1/lanes?limit=200"]["lanes"] = json!([]);
        for state in ["running", "queued"] {
            all[format!("v1/builds?state={state}&limit=200")]["builds"] = json!([]);
        }
        all["v1/workers?limit=200"]["workers"] = json!([]);
    })));
    for (key, says) in [
        ('1', "No problems."),
        ('2', "No build is waiting or running."),
        ('3', "No lane has a waiting or running build."),
        ('4', "No worker is alive."),
    ] {
        press(&mut app, [KeyCode::Char(key)]);
        let shown = screen(&mut app, 80, 24);
        assert!(shown.contains(says), "{shown}");
    }
}

#[test]
fn old_data_is_marked_and_time_stands_still_until_a_dispatcher_answers() {
    let mut app = app();
    let fresh = screen(&mut app, 80, 24);
    assert!(!fresh.contains("STALE"));
    let now = app.now();
    app.take(Err("no dispatcher answers at http://127.0.0.1:8600: Connection refused\nStart one".to_owned()));
    app.age = Duration::from_secs(75);
    let shown = screen(&mut app, 80, 24);
    assert!(shown.contains("STALE: as of 75 s ago, retrying"), "{shown}");
    assert!(shown.contains("Connection refused"), "{shown}");
    assert!(shown.contains("github.com/popular/slow"), "the last state stays: {shown}");
    assert_eq!(app.now(), now);
    assert!(screen(&mut app, 60, 20).contains("STALE"));
    app.take(Ok(data(|_| {})));
    assert_eq!(screen(&mut app, 80, 24), fresh);
}

#[test]
fn without_colors_nothing_is_colored() {
    let mut app = App::new(String::new(), true, false);
    app.take(Ok(data(|all| all["v1/queue"]["totals"]["workers"] = 0.into())));
    press(&mut app, [KeyCode::Char('2'), KeyCode::Enter]);
    let id = app.open_build().unwrap();
    app.take_feed(Feed::Lines(id, vec!["\u{1b}[31mred".to_owned()]));
    for leave in [false, true] {
        if leave {
            press(&mut app, [KeyCode::Esc, KeyCode::Char('1')]);
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &mut app)).unwrap();
        let cells = terminal.backend().buffer().content();
        assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}
