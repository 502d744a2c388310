//! The log of the open build: its last lines, which of them are shown, and in what colors.

use std::collections::VecDeque;

use fairlane_clikit::output::{Colors, Tone, clean, cut};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::style;

/// Most lines that are kept; `fairlane logs` shows all of them.
const LINES_MAX: usize = 10_000;
/// Longest line that is kept, in characters, because drawing takes time for each of them.
const LINE_MAX: usize = 4_000;
/// How far one step to the side goes, in columns.
const STEP: usize = 20;

#[derive(Debug, Clone)]
struct Entry {
    text: String,
    remark: bool,
}

/// The log, and how far it is scrolled.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: VecDeque<Entry>,
    dropped: usize,
    /// The first line that is shown; `None` if the screen follows the end.
    top: Option<usize>,
    aside: usize,
    pub(super) is_complete: bool,
    found: Option<usize>,
    height: usize,
}

impl Log {
    pub(super) fn push(&mut self, text: &str, remark: bool) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
            self.dropped += 1;
            self.top = self.top.map(|top| top.saturating_sub(1));
            self.found = self.found.and_then(|found| found.checked_sub(1));
        }
        self.lines.push_back(Entry { text: cut(text, LINE_MAX), remark });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn is_following(&self) -> bool {
        self.top.is_none()
    }

    fn last_top(&self) -> usize {
        self.lines.len().saturating_sub(self.height)
    }

    /// Scrolls by a number of lines. At the end, the screen follows the log again.
    pub(super) fn scroll(&mut self, by: isize) {
        let top = self.top.unwrap_or_else(|| self.last_top()).saturating_add_signed(by);
        self.top = (top < self.last_top()).then_some(top);
    }

    pub(super) fn page(&mut self, pages: isize) {
        self.scroll(pages * isize::try_from(self.height.max(2) - 1).unwrap_or(1));
    }

    pub(super) fn home(&mut self) {
        self.top = (self.last_top() > 0).then_some(0);
        self.aside = 0;
    }

    pub(super) fn end(&mut self) {
        self.top = None;
    }

    pub(super) fn sideways(&mut self, right: bool) {
        self.aside = if right { self.aside + STEP } else { self.aside.saturating_sub(STEP) };
    }

    /// Goes to the next or previous line that contains `text` (in lower case); returns whether there is one.
    pub(super) fn find(&mut self, text: &str, forward: bool) -> bool {
        let from = self.found.unwrap_or(if forward { self.lines.len().saturating_sub(1) } else { 0 });
        let count = self.lines.len();
        let has = |at: &usize| clean(&self.lines[*at].text, Colors::Drop).to_lowercase().contains(text);
        self.found = if forward {
            (1..=count).map(|step| (from + step) % count).find(has)
        } else {
            (1..=count).map(|step| (from + count - step) % count).find(has)
        };
        if let Some(found) = self.found {
            let top = found.saturating_sub(self.height / 2);
            self.top = (top < self.last_top()).then_some(top);
        }
        self.found.is_some()
    }

    /// Which lines are on the screen, in words.
    pub(super) fn place(&self) -> String {
        let first = self.dropped + self.top.unwrap_or_else(|| self.last_top()) + 1;
        let all = self.dropped + self.lines.len();
        let last = (first + self.height).saturating_sub(1).min(all);
        let follows = match (self.is_following(), self.is_complete) {
            (_, true) => "complete",
            (true, false) => "following",
            (false, false) => "End follows",
        };
        if all == 0 { follows.to_owned() } else { format!("lines {first}-{last} of {all}, {follows}") }
    }

    /// The lines for a screen of this height.
    pub(super) fn shown(&mut self, height: usize, color: bool) -> Vec<Line<'static>> {
        self.height = height;
        let top = self.top.filter(|top| *top < self.last_top());
        self.top = top;
        let top = top.unwrap_or_else(|| self.last_top());
        let lines = self.lines.iter().enumerate().skip(top).take(height);
        lines
            .map(|(at, entry)| {
                let mut line = styled(&entry.text, color, self.aside);
                if entry.remark {
                    line =
                        line.patch_style(style::of(Some(Tone::Warning), color).add_modifier(Modifier::BOLD));
                }
                if self.found == Some(at) { line.patch_style(style::selected()) } else { line }
            })
            .collect()
    }
}

/// A line with its colors, without its first `aside` characters. Its only escape sequences are those for
/// colors.
fn styled(text: &str, color: bool, aside: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut style = Style::new();
    let mut skip = aside;
    let mut rest = text;
    loop {
        let (plain, after) = rest.split_once('\u{1b}').unwrap_or((rest, ""));
        let shown: String = plain.chars().skip(skip).collect();
        skip = skip.saturating_sub(plain.chars().count());
        if !shown.is_empty() {
            spans.push(Span::styled(shown, if color { style } else { Style::new() }));
        }
        let Some((codes, after)) = after.strip_prefix('[').and_then(|after| after.split_once('m')) else {
            return Line::from(spans);
        };
        style = changed(style, codes);
        rest = after;
    }
}

/// The style after an escape sequence for colors.
fn changed(mut style: Style, codes: &str) -> Style {
    let mut codes = codes.split([';', ':']).map(|code| code.parse::<u8>().unwrap_or(0));
    while let Some(code) = codes.next() {
        style = match code {
            0 => Style::new(),
            1 => style.add_modifier(Modifier::BOLD),
            2 => style.add_modifier(Modifier::DIM),
            3 => style.add_modifier(Modifier::ITALIC),
            4 => style.add_modifier(Modifier::UNDERLINED),
            7 => style.add_modifier(Modifier::REVERSED),
            22 => style.remove_modifier(Modifier::BOLD | Modifier::DIM),
            30..=37 => style.fg(Color::Indexed(code - 30)),
            90..=97 => style.fg(Color::Indexed(code - 90 + 8)),
            40..=47 => style.bg(Color::Indexed(code - 40)),
            100..=107 => style.bg(Color::Indexed(code - 100 + 8)),
            39 => style.fg(Color::Reset),
            49 => style.bg(Color::Reset),
            38 | 48 => match (extended(&mut codes), code) {
                (Some(color), 38) => style.fg(color),
                (Some(color), _) => style.bg(color),
                (None, _) => style,
            },
            _ => style,
        };
    }
    style
}

/// One of 256 colors, or one of red, green and blue.
fn extended(codes: &mut impl Iterator<Item = u8>) -> Option<Color> {
    match codes.next()? {
        5 => Some(Color::Indexed(codes.next()?)),
        2 => Some(Color::Rgb(codes.next()?, codes.next()?, codes.next()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: usize) -> Log {
        let mut log = Log::default();
        (0..lines).for_each(|line| log.push(&format!("line {line}"), false));
        log
    }

    fn texts(log: &mut Log, height: usize) -> Vec<String> {
        log.shown(height, false).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_log_follows_its_end_until_somebody_scrolls_and_again_from_its_end() {
        let mut log = log(10);
        assert_eq!(texts(&mut log, 2), ["line 8", "line 9"]);
        log.scroll(-3);
        log.push("line 10", false);
        assert_eq!(texts(&mut log, 2), ["line 5", "line 6"]);
        assert_eq!(log.place(), "lines 6-7 of 11, End follows");
        log.scroll(99);
        assert!(log.is_following());
        assert_eq!(texts(&mut log, 2), ["line 9", "line 10"]);
        log.home();
        assert_eq!(texts(&mut log, 2), ["line 0", "line 1"]);
    }

    #[test]
    fn a_long_log_keeps_its_last_lines_and_long_lines_are_cut() {
        let mut log = log(LINES_MAX + 5);
        log.push(&"x".repeat(LINE_MAX * 2), false);
        assert_eq!(log.lines.len(), LINES_MAX);
        assert_eq!(log.lines.back().unwrap().text.chars().count(), LINE_MAX);
        texts(&mut log, 2);
        assert!(log.place().ends_with(&format!("of {}, following", LINES_MAX + 6)), "{}", log.place());
    }

    #[test]
    fn searching_goes_around_in_both_directions() {
        let mut log = log(30);
        log.push("\u{1b}[31mERROR\u{1b}[0m one", false);
        log.push("the end", false);
        texts(&mut log, 4);
        assert!(log.find("line 2", true) && log.found == Some(2));
        assert!(log.find("line 2", true) && log.found == Some(20));
        assert!(log.find("line 2", false) && log.found == Some(2));
        assert!(log.find("error one", true) && log.found == Some(30));
        assert!(!log.find("nowhere", true));
    }

    #[test]
    fn colors_become_styles_and_nothing_else_is_left() {
        let line = styled("a\u{1b}[1;31mred\u{1b}[0m b\u{1b}[38;5;200mc\u{1b}[38;2;1;2;3md", true, 0);
        let styles: Vec<_> = line.spans.iter().map(|span| (span.content.as_ref(), span.style.fg)).collect();
        let red = Some(Color::Indexed(1));
        let expected = [
            ("a", None),
            ("red", red),
            (" b", None),
            ("c", Some(Color::Indexed(200))),
            ("d", Some(Color::Rgb(1, 2, 3))),
        ];
        assert_eq!(styles, expected);
        assert_eq!(styled("ab\u{1b}[31mcd", true, 3).to_string(), "d");
        assert_eq!(styled("ab\u{1b}[31mcd", false, 0).spans[1].style, Style::new());
        assert_eq!(styled("cut \u{1b}[31", true, 0).to_string(), "cut ");
    }
}
