//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fairlane_clikit::output::Colors;

use super::super::app::{App, Effect, Popup};
use super::super::feed::Feed;
use super::super::rows::View;
use super::{app, data, press, screen, type_text};
use crate::progress::lines_of;

/// The selected row, as shown.
fn row(app: &mut App) -> String {
    let rows = app.rows();
    let at = app.selected(&rows).unwrap();
    rows[at].cells.iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_turn_pages_and_leave() {
    let mut app = app();
    for (key, view) in [
        (KeyCode::Tab, View::Builds),
        (KeyCode::Right, View::Lanes),
        (KeyCode::BackTab, View::Builds),
        (KeyCode::Char('4'), View::Workers),
        (KeyCode::Tab, View::Now),
    ] {
        press(&mut app, [key]);
        assert_eq!(app.view, view, "{key:?}");
    }
    assert_eq!(press(&mut app, [KeyCode::Char('q')]), Effect::Quit);
    assert_eq!(press(&mut app, [KeyCode::F(10)]), Effect::Quit);
    assert_eq!(app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Effect::Quit);
    assert_eq!(app.key(KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL)), Effect::Suspend);
    press(&mut app, [KeyCode::Char('h')]);
    assert_eq!(press(&mut app, [KeyCode::Char('q')]), Effect::None, "q leaves the help first");
}

#[test]
fn a_selected_build_stays_selected_when_others_come_before_it() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('2'), KeyCode::Down, KeyCode::Down]);
    let before = row(&mut app);
    app.take(Ok(data(|all| {
        let all = all["v1/builds?state=running&limit=200"]["builds"].as_array_mut().unwrap();
        all.remove(0);
    })));
    assert_eq!(row(&mut app), before);
    press(&mut app, [KeyCode::End]);
    assert!(row(&mut app).contains("#7 "), "{}", row(&mut app));
    press(&mut app, [KeyCode::Home, KeyCode::PageDown, KeyCode::Up]);
    screen(&mut app, 80, 24);
}

#[test]
fn searching_moves_to_rows_and_filtering_hides_the_others() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('3'), KeyCode::Char('/')]);
    type_text(&mut app, "HELD/");
    assert!(row(&mut app).contains("github.com/held/one"));
    press(&mut app, [KeyCode::Enter, KeyCode::F(4)]);
    type_text(&mut app, "popular");
    press(&mut app, [KeyCode::Enter]);
    assert_eq!(app.rows().len(), 1);
    assert!(screen(&mut app, 80, 24).contains("only 'popular' (Esc: all)"));
    press(&mut app, [KeyCode::Esc, KeyCode::Char('/')]);
    type_text(&mut app, "nowhere");
    press(&mut app, [KeyCode::Enter]);
    assert!(screen(&mut app, 80, 24).contains("No row contains 'nowhere'"));
}

#[test]
fn rows_are_sorted_by_a_column_and_the_other_way_around() {
    let mut app = app();
    press(
        &mut app,
        [KeyCode::Char('2'), KeyCode::F(6), KeyCode::Down, KeyCode::Down, KeyCode::Down, KeyCode::Enter],
    );
    assert!(screen(&mut app, 80, 24).contains("PEOPLE▽"));
    let people =
        |app: &App| app.rows().iter().map(|row| row.cells[2].text.parse().unwrap()).collect::<Vec<u64>>();
    let descending = people(&app);
    assert!(descending.is_sorted_by(|one, other| one >= other) && descending[0] == 23, "{descending:?}");
    press(&mut app, [KeyCode::Char('I')]);
    assert!(people(&app).is_sorted());
    press(&mut app, [KeyCode::Char('<'), KeyCode::Home, KeyCode::Enter]);
    assert!(row(&mut app).contains("running"), "the queue's order again");
}

#[test]
fn enter_opens_the_builds_of_a_lane_and_then_a_log() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('3'), KeyCode::Char('/')]);
    type_text(&mut app, "popular");
    press(&mut app, [KeyCode::Enter]);
    assert_eq!(press(&mut app, [KeyCode::Enter]), Effect::None);
    assert_eq!((app.view, app.rows().len()), (View::Builds, 5));
    assert_eq!(press(&mut app, [KeyCode::Enter]), Effect::Look);
    assert!(app.open_build().is_some());
    assert_eq!(press(&mut app, [KeyCode::Esc]), Effect::Look);
    assert!(app.open_build().is_none());
}

#[test]
fn a_build_is_cancelled_only_after_a_question_and_only_by_who_may() {
    let mut app = app();
    press(&mut app, [KeyCode::Char('2'), KeyCode::Char('k')]);
    assert!(matches!(app.popup, Some(Popup::Cancel(_))));
    for other in [KeyCode::Enter, KeyCode::Char('x'), KeyCode::Down] {
        assert_eq!(press(&mut app, [other]), Effect::None);
        assert!(app.popup.is_some(), "{other:?} is no answer");
    }
    let asked = screen(&mut app, 80, 24);
    assert!(asked.contains("will be stopped") && asked.contains("1 person waits for it"), "{asked}");
    let id = app.build().unwrap().id;
    // Another row may be selected by now; the question is still about the first build.
    app.take(Ok(data(|all| {
        all["v1/builds?state=running&limit=200"]["builds"].as_array_mut().unwrap().remove(0);
    })));
    assert_eq!(press(&mut app, [KeyCode::Char('y')]), Effect::Cancel(id, None));

    press(&mut app, [KeyCode::F(9)]);
    assert_eq!(press(&mut app, [KeyCode::Esc]), Effect::None);
    assert!(app.popup.is_none());
    press(&mut app, [KeyCode::F(9), KeyCode::Char('r')]);
    type_text(&mut app, "wrong branch");
    let Effect::Cancel(_, reason) = press(&mut app, [KeyCode::Enter]) else { panic!("it is cancelled") };
    assert_eq!(reason.as_deref(), Some("wrong branch"));

    app.may_operate = false;
    assert_eq!(press(&mut app, [KeyCode::Char('k'), KeyCode::Char('y')]), Effect::None);
    let shown = screen(&mut app, 90, 24);
    assert!(shown.contains("lacks the scope 'operate'") && app.popup.is_none(), "{shown}");
}

#[test]
fn nothing_that_builds_write_reaches_the_terminal_as_a_sequence() {
    let evil = "a\u{1b}]8;;http://evil.example\u{1b}\\link\u{1b}[2J\u{202e}\u{7}\u{9b}31m<script>";
    let mut app = app();
    app.take(Ok(data(|all| {
        all["v1/builds?state=running&limit=200"]["builds"][0]["note"] = evil.into();
        all["v1/workers?limit=200"]["workers"][0]["paused"] = evil.into();
        all["v1/lanes?limit=200"]["lanes"][0]["held"] =
            serde_json::json!({ "pattern": "*", "message": evil });
        all["build"]["note"] = evil.into();
        all["build"]["reference"] = evil.into();
    })));
    let mut shown = String::new();
    for view in ['1', '2', '3', '4', '2'] {
        press(&mut app, [KeyCode::Char(view)]);
        shown += &screen(&mut app, 200, 24);
    }
    press(&mut app, [KeyCode::Home, KeyCode::Enter]);
    let id = app.open_build().unwrap();
    app.take_feed(Feed::Lines(id, lines_of(evil, Colors::Keep)));
    shown += &screen(&mut app, 200, 24);
    assert!(shown.contains("<script>"), "it is shown as text");
    let bad = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!shown.contains(bad), "{:?}", shown.chars().find(|c| bad(*c)));
}
