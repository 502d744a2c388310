//! The only module that writes output: data goes to standard output, messages to standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// The meaning of a text, shown by color on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// Somebody should look at it.
    Warning,
    /// It went wrong.
    Bad,
    /// Less important.
    Faint,
    /// What a line is about.
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "\u{1b}[32m",
            Self::Warning => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
            Self::Faint => "\u{1b}[2m",
            Self::Strong => "\u{1b}[1m",
        }
    }
}

/// How to write, decided once from the flags and the kind of streams.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    color_data: bool,
    color_talk: bool,
    terminal: bool,
    /// Columns of the terminal that data goes to; `None` if lines may have any length.
    width: Option<usize>,
}

impl Output {
    /// Writes JSON if `json`, and colors only to terminals, unless `NO_COLOR` is set. Tables fit the terminal
    /// unless they are `wide`.
    pub fn new(json: bool, wide: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let (data, talk) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let width = if wide { None } else { terminal_width() };
        Self { json, color_data: wanted && data, color_talk: wanted && talk, terminal: data && talk, width }
    }

    /// Whether data is written as JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person is watching, so that a line may be redrawn.
    pub fn is_live(self) -> bool {
        self.terminal && !self.json && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether tables are made to fit a terminal.
    pub fn is_narrow(self) -> bool {
        self.width.is_some()
    }

    /// Clears the screen, if data goes to a terminal.
    pub fn clear(self) {
        if self.is_live() {
            let mut out = std::io::stdout().lock();
            // If writing fails, the next write will report it.
            let _ = out.write_all(b"\x1b[H\x1b[2J");
        }
    }

    /// Whether data may have colors.
    pub fn has_color(self) -> bool {
        self.color_data
    }

    /// Whether messages may have colors.
    pub fn talks_in_color(self) -> bool {
        self.color_talk
    }

    /// A line of data.
    pub fn data(self, line: &str) {
        write_data(line.as_bytes());
    }

    /// One JSON object on its own line.
    pub fn json(self, value: &impl Serialize) {
        // Only maps whose keys are not strings cannot be serialized, and there are none.
        write_data(&serde_json::to_vec(value).unwrap_or_default());
    }

    /// A message line.
    pub fn talk(self, line: &str) {
        let mut out = std::io::stderr().lock();
        // If standard error is gone, there is nobody left to tell.
        let _ = writeln!(out, "{line}");
    }

    /// `text` as data, in the color of its tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        painted(self.color_data, tone, text)
    }

    /// `text` as a message, in the color of its tone.
    pub fn paint_talk(self, tone: Tone, text: &str) -> String {
        painted(self.color_talk, tone, text)
    }

    /// An aligned table; writes nothing if it has no rows.
    pub fn table(self, table: &Table) {
        for line in table.lines(self) {
            self.data(&line);
        }
    }
}

fn painted(color: bool, tone: Tone, text: &str) -> String {
    if color { format!("{}{text}\u{1b}[0m", tone.code()) } else { text.to_owned() }
}

fn write_data(line: &[u8]) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    let Err(error) = written else { return };
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        // The reader has closed the pipe, as in `fairlane queue | head -1`.
        std::process::exit(0);
    }
    let _ = writeln!(std::io::stderr(), "error: cannot write to standard output: {error}");
    std::process::exit(1);
}

/// The width of the terminal, if standard output is one.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Smallest width for a shortened text column.
const CUT_MIN: usize = 8;

/// Shortens the widest text columns until a line fits.
fn fit(widths: &mut [usize], head: &[(&'static str, Align)], width: Option<usize>) {
    let Some(room) = width else { return };
    let gaps = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > room {
        // A build's id must stay whole, so that it can be pasted.
        let words =
            head.iter().enumerate().filter(|(_, (title, align))| *align == Align::Left && *title != "ID");
        let widest = words.map(|(column, _)| column).max_by_key(|column| widths[*column]);
        match widest {
            Some(column) if widths[column] > CUT_MIN => widths[column] -= 1,
            _ => return,
        }
    }
}

/// Shortens a text to a width, and shows that it was shortened.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Rows under a headline, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

/// How a column's cells are aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table's cell.
#[derive(Debug)]
pub struct Cell(String, Option<Tone>);

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(clean(&text.to_string(), Colors::Drop), None)
    }
}

impl Cell {
    /// A cell in a color.
    pub fn toned(text: impl AsRef<str>, tone: Option<Tone>) -> Self {
        Self(clean(text.as_ref(), Colors::Drop), tone)
    }
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(head: [(&'static str, Align); N]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn lines(&self, output: Output) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let width_of = |column: usize, title: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.0.chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> =
            self.head.iter().enumerate().map(|(column, (title, _))| width_of(column, title)).collect();
        fit(&mut widths, &self.head, output.width);
        let line = |cells: Vec<(&str, Option<Tone>)>| {
            let last = cells.len().saturating_sub(1);
            let mut parts = Vec::new();
            for (column, (text, tone)) in cells.into_iter().enumerate() {
                let text = &cut(text, widths[column]);
                let room = " ".repeat(widths[column].saturating_sub(text.chars().count()));
                let shown = tone.map_or_else(|| text.clone(), |tone| output.paint(tone, text));
                parts.push(match self.head[column].1 {
                    Align::Right => format!("{room}{shown}"),
                    // Spaces at the end of a line would wrap on a narrow terminal.
                    Align::Left if column == last => shown,
                    Align::Left => format!("{shown}{room}"),
                });
            }
            parts.join("  ").trim_end().to_owned()
        };
        let head = line(self.head.iter().map(|(title, _)| (*title, Some(Tone::Faint))).collect());
        let rows =
            self.rows.iter().map(|row| line(row.iter().map(|cell| (cell.0.as_str(), cell.1)).collect()));
        std::iter::once(head).chain(rows).collect()
    }
}

/// What to do with the colors of a foreign text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// They reach the terminal.
    Keep,
    /// They are taken out.
    Drop,
}

/// A foreign text without anything that could move the cursor or change the terminal's settings: a log is
/// written by whoever owns the repository.
pub fn clean(text: &str, colors: Colors) -> String {
    // A progress bar redraws itself after each \r; only its last state is useful in a line.
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(text);
    let mut kept = String::with_capacity(text.len());
    let mut colored = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                if let Some(color) = skip_escape(&mut rest)
                    && colors == Colors::Keep
                {
                    colored = true;
                    kept.push_str(&color);
                }
            }
            '\t' => kept.push_str("    "),
            '\n' => kept.push(' '),
            c if c.is_control() || is_turning(c) => {}
            c => kept.push(c),
        }
    }
    if colored {
        kept.push_str("\u{1b}[0m");
    }
    kept
}

/// Characters that change the writing direction, and so can make a line read differently.
fn is_turning(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips an escape sequence, and returns it if it only sets a color.
fn skip_escape(rest: &mut std::str::Chars<'_>) -> Option<String> {
    match rest.next()? {
        '[' => {
            let mut parameters = String::new();
            for c in rest.by_ref() {
                match c {
                    '0'..='9' | ';' | ':' => parameters.push(c),
                    '@'..='~' => return (c == 'm').then(|| format!("\u{1b}[{parameters}m")),
                    // Private parameters and intermediates never belong to a color.
                    ' '..='?' => {
                        rest.find(|c| matches!(c, '@'..='~'));
                        return None;
                    }
                    _ => return None,
                }
            }
            None
        }
        // Control strings (titles, the clipboard) end with BEL or ESC \.
        ']' | 'P' | '_' | '^' | 'X' => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || (c == '\u{1b}' && rest.next().is_some()) {
                    break;
                }
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_may_do_to_a_terminal() {
        for (text, kept, dropped) in [
            ("plain", "plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m\u{1b}[0m", "red"),
            ("a\u{1b}[2Jb", "ab", "ab"),
            ("\u{1b}]0;title\u{7}x", "x", "x"),
            ("\u{1b}]52;c;AAAA\u{1b}\\x", "x", "x"),
            ("\u{1b}[?1049hx", "x", "x"),
            ("\u{1b}cx\u{7}\u{8}", "x", "x"),
            ("10 %\r50 %\r100 %\r\n", "100 %", "100 %"),
            ("a\tb", "a    b", "a    b"),
            ("\u{9b}31mx", "31mx", "31mx"),
            ("\u{202e}gnp.exe", "gnp.exe", "gnp.exe"),
            ("cut \u{1b}[", "cut ", "cut "),
        ] {
            assert_eq!(clean(text, Colors::Keep), kept, "{text:?}");
            assert_eq!(clean(text, Colors::Drop), dropped, "{text:?}");
        }
    }

    #[test]
    fn tables_line_up() {
        let output =
            Output { json: false, color_data: false, color_talk: false, terminal: false, width: None };
        let mut table = Table::new([("LANE", Align::Left), ("QUEUED", Align::Right), ("WHY", Align::Left)]);
        table.row(["github.com/o/n".into(), 12.into(), "full\u{1b}[2J".into()]);
        table.row(["doi/x".into(), 3.into(), "".into()]);
        assert_eq!(
            table.lines(output),
            ["LANE            QUEUED  WHY", "github.com/o/n      12  full", "doi/x                3",]
        );
        assert_eq!(
            table.lines(Output { width: Some(24), ..output }),
            ["LANE        QUEUED  WHY", "github.co…      12  full", "doi/x            3",]
        );
    }
}
