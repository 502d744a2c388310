//! What each key does, similar to `htop`.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::app::{App, Effect, Popup, Typing};
use super::rows::View;

/// Longest text that can be typed; dispatchers accept reasons of this length.
const TYPED_MAX: usize = 500;

impl App {
    /// Handles a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Effect {
        if key.kind == KeyEventKind::Release {
            return Effect::None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Effect::Quit,
                KeyCode::Char('l') => Effect::Redraw,
                KeyCode::Char('z') => Effect::Suspend,
                _ => Effect::None,
            };
        }
        if let Some(typing) = self.typing {
            return self.typed(typing, key.code);
        }
        if let Some(popup) = self.popup.take() {
            return self.answered(popup, key.code);
        }
        match key.code {
            KeyCode::F(10) | KeyCode::Char('q') => return Effect::Quit,
            KeyCode::F(1) | KeyCode::Char('h' | '?') => self.popup = Some(Popup::Help),
            KeyCode::F(3) | KeyCode::Char('/') => self.type_into(Typing::Search),
            KeyCode::Char('n') => self.find(true, false),
            KeyCode::Char('N') => self.find(false, false),
            KeyCode::F(9) | KeyCode::Char('k') => self.ask_to_cancel(),
            code if self.open.is_some() => return self.key_in_log(code),
            code => return self.key_in_table(code),
        }
        Effect::None
    }

    fn key_in_log(&mut self, code: KeyCode) -> Effect {
        if matches!(code, KeyCode::Esc | KeyCode::Backspace) {
            self.open = None;
            return Effect::Look;
        }
        let Some(open) = &mut self.open else { return Effect::None };
        match code {
            KeyCode::Up => open.log.scroll(-1),
            KeyCode::Down => open.log.scroll(1),
            KeyCode::PageUp => open.log.page(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => open.log.page(1),
            KeyCode::Home => open.log.home(),
            KeyCode::End => open.log.end(),
            KeyCode::Left => open.log.sideways(false),
            KeyCode::Right => open.log.sideways(true),
            _ => {}
        }
        Effect::None
    }

    fn key_in_table(&mut self, code: KeyCode) -> Effect {
        let rows = self.rows();
        let at = self.selected(&rows).unwrap_or(0);
        let page = self.height.max(2) - 1;
        match code {
            KeyCode::Up => self.select(at.saturating_sub(1)),
            KeyCode::Down => self.select(at + 1),
            KeyCode::PageUp => self.select(at.saturating_sub(page)),
            KeyCode::PageDown => self.select(at + page),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(View::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => self.view = View::ALL[digit as usize - '1' as usize],
            KeyCode::F(4) | KeyCode::Char('\\') => self.type_into(Typing::Filter),
            KeyCode::F(6) | KeyCode::Char('<' | '>' | '.' | ',') => {
                self.popup = Some(Popup::Sort(self.place().sort.map_or(0, |(column, _)| column + 1)));
            }
            KeyCode::Char('I') => {
                if let Some((_, descending)) = &mut self.place().sort {
                    *descending = !*descending;
                }
            }
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        Effect::None
    }

    fn turn(&mut self, by: usize) {
        self.view = View::ALL[(self.view as usize + by) % View::ALL.len()];
    }

    fn type_into(&mut self, typing: Typing) {
        self.text(typing).clear();
        self.typing = Some(typing);
    }

    fn text(&mut self, typing: Typing) -> &mut String {
        match typing {
            Typing::Search => &mut self.search,
            Typing::Filter => &mut self.filter,
            Typing::Reason => &mut self.reason,
        }
    }

    /// Handles a key while a text is being typed.
    fn typed(&mut self, typing: Typing, code: KeyCode) -> Effect {
        match code {
            KeyCode::Enter => {
                self.typing = None;
                match typing {
                    // A log is only searched on Enter, because it may be long.
                    Typing::Search if self.open.is_some() => self.find(true, false),
                    Typing::Search | Typing::Filter => {}
                    Typing::Reason => return self.cancel(),
                }
            }
            KeyCode::Esc => {
                self.text(typing).clear();
                self.typing = None;
                if typing == Typing::Reason {
                    self.popup = None;
                }
            }
            KeyCode::F(3) if typing == Typing::Search => self.find(true, false),
            KeyCode::Backspace => {
                self.text(typing).pop();
            }
            KeyCode::Char(c) if self.text(typing).chars().count() < TYPED_MAX => {
                self.text(typing).push(c);
                if typing == Typing::Search && self.open.is_none() {
                    self.find(true, true);
                }
            }
            _ => {}
        }
        Effect::None
    }

    /// Handles a key in a popup, which closes unless it is put back.
    fn answered(&mut self, popup: Popup, code: KeyCode) -> Effect {
        match popup {
            Popup::Help => {}
            Popup::Sort(at) => {
                let last = self.view.columns().len();
                let to = match code {
                    KeyCode::Up => at.saturating_sub(1),
                    KeyCode::Down => (at + 1).min(last),
                    KeyCode::Home => 0,
                    KeyCode::End => last,
                    KeyCode::Enter => {
                        // Numbers are sorted with the largest first.
                        let column = at.checked_sub(1);
                        self.place().sort = None;
                        let columns = self.view.columns();
                        self.place().sort = column.map(|column| (column, columns[column].right));
                        self.select(0);
                        return Effect::None;
                    }
                    KeyCode::Esc | KeyCode::Char('q') | KeyCode::F(_) => return Effect::None,
                    _ => at,
                };
                self.popup = Some(Popup::Sort(to));
            }
            Popup::Cancel(build) => match code {
                KeyCode::Char('y' | 'Y') => {
                    self.reason.clear();
                    self.popup = Some(Popup::Cancel(build));
                    return self.cancel();
                }
                KeyCode::Char('r' | 'R') => {
                    self.popup = Some(Popup::Cancel(build));
                    self.type_into(Typing::Reason);
                }
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {}
                _ => self.popup = Some(Popup::Cancel(build)),
            },
        }
        Effect::None
    }

    fn ask_to_cancel(&mut self) {
        if !self.may_operate {
            return self.say("This token may not cancel builds: it lacks the scope 'operate'");
        }
        match self.build() {
            None => self.say("Select a build first: key 2 lists them"),
            Some(build) if build.state.is_ended() => {
                self.say(format!("This build has ended: {}", build.state));
            }
            Some(build) => self.popup = Some(Popup::Cancel(Box::new(build))),
        }
    }

    fn cancel(&mut self) -> Effect {
        let Some(Popup::Cancel(build)) = self.popup.take() else { return Effect::None };
        let reason = std::mem::take(&mut self.reason);
        self.say("Cancelling…");
        Effect::Cancel(build.id, Some(reason).filter(|reason| !reason.trim().is_empty()))
    }
}
