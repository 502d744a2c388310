//! The screen with recorded responses of a dispatcher, used as a person would.

mod screens;
mod using;

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fairlane_dispatcher::api::{BuildView, History};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::app::{App, Effect};
use super::data::Data;
use super::draw::draw;

/// Recorded from a dispatcher with three slots: seven builds wait, one lane is held.
const BUSY: &str = include_str!("../recorded/busy.json");

fn part<T: DeserializeOwned>(all: &Value, name: &str) -> Arc<T> {
    Arc::new(T::deserialize(&all[name]).unwrap())
}

/// The recorded responses, after `change`.
fn data(change: impl FnOnce(&mut Value)) -> Data {
    let mut all: Value = serde_json::from_str(BUSY).unwrap();
    change(&mut all);
    let builds = ["running", "starting", "orphaned", "queued"];
    Data {
        queue: part(&all, "v1/queue"),
        workers: part(&all, "v1/workers?limit=200"),
        builds: builds.map(|state| part(&all, &format!("v1/builds?state={state}&limit=200"))).to_vec(),
        lanes: part(&all, "v1/lanes?limit=200"),
        history: Option::<History>::deserialize(&all["v1/history"]).unwrap().map(Arc::new),
        warning: all["warning"].as_str().map(str::to_owned),
        build: Some(part::<BuildView>(&all, "build")),
    }
}

/// The state of the screen for an operator, with the recorded queue.
fn app() -> App {
    let mut app = App::new("http://127.0.0.1:8600".to_owned(), true, true);
    app.take(Ok(data(|_| {})));
    app
}

fn press(app: &mut App, codes: impl IntoIterator<Item = KeyCode>) -> Effect {
    let press = |code| app.key(KeyEvent::new(code, KeyModifiers::NONE));
    codes.into_iter().map(press).last().unwrap_or(Effect::None)
}

fn type_text(app: &mut App, text: &str) {
    press(app, text.chars().map(KeyCode::Char));
}

/// The text on a screen of this size.
fn screen(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().to_string()
}
