//! The screen: numbers at the top, a table or a log, and the keys at the bottom.

use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Tone, clean};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::app::{App, Typing};
use super::curves::curves;
use super::panes;
use super::problems::problems;
use super::rows::{self, Column, View};
use super::style::{self, people};

/// A column is not cut below this width.
const CUT_MIN: usize = 8;
/// Widest bar of used slots.
const BAR_MAX: u16 = 24;
/// Rows of the view Now that leave room for curves.
const CURVES_FROM: u16 = 16;
/// Data older than this is shown as stale.
const STALE_SECONDS: u64 = 4;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    header(frame, head, app);
    if app.open.is_some() {
        panes::build(frame, body, app);
    } else if app.view == View::Now {
        now(frame, body, app);
    } else {
        table(frame, body, app);
    }
    footer(frame, foot, app);
    panes::popup(frame, body, app);
}

fn header(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let [first, second, third] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let Some(data) = &app.data else { return };
    let totals = &data.queue.totals;
    let busy = totals.leased + totals.orphaned;
    let width = (area.width / 4).min(BAR_MAX);
    let full = (u64::from(width) * busy.min(totals.slots)).checked_div(totals.slots);
    let full = full.and_then(|full| usize::try_from(full).ok()).unwrap_or(0);
    let bar = format!("{}{}", "|".repeat(full), " ".repeat(usize::from(width) - full));
    let strong = style::of(Some(Tone::Strong), app.color);
    let slots = Line::from(vec![
        Span::raw(" Running "),
        Span::styled("[", strong),
        Span::styled(bar, style::of(Some(Tone::Good), app.color)),
        Span::styled("]", strong),
        Span::raw(format!(" {busy} of {}", human::many(totals.slots, "slot"))),
    ]);
    let oldest = totals.oldest_wait_seconds.map(|wait| format!(", oldest {}", human::span(wait * 1000)));
    let waiting = Line::from(vec![
        Span::raw(" Waiting "),
        Span::styled(human::many(totals.queued, "build"), strong),
        Span::styled(oldest.unwrap_or_default(), strong),
        Span::raw("; "),
        Span::styled(people(totals.people), strong),
    ]);
    let (workers, dispatchers) =
        (human::many(totals.workers, "worker"), human::many(totals.dispatchers, "dispatcher"));
    let machines = format!("{workers}, {dispatchers} ");
    with_corner(frame, first, slots, Span::raw(machines), false);
    let (text, tone) = freshness(app);
    with_corner(frame, second, waiting, Span::styled(text, style::of(tone, app.color)), true);
    frame.render_widget(tabs(app), third);
}

/// Draws a line, and a text in its right corner if there is room. An important text is drawn even over the
/// line.
fn with_corner(frame: &mut Frame<'_>, area: Rect, line: Line<'_>, corner: Span<'_>, important: bool) {
    let taken = line.width();
    frame.render_widget(line, area);
    let width = u16::try_from(corner.width()).unwrap_or(u16::MAX).min(area.width);
    if important || taken + usize::from(width) < usize::from(area.width) {
        frame.render_widget(corner, Rect { x: area.x + area.width - width, width, ..area });
    }
}

/// A warning if the data is stale; otherwise empty.
fn freshness(app: &App) -> (String, Option<Tone>) {
    let age = app.age.as_secs();
    if app.failure.is_some() || age >= STALE_SECONDS {
        (format!("STALE: as of {} ago, retrying ", human::span(age.max(1) * 1000)), Some(Tone::Bad))
    } else {
        (String::new(), None)
    }
}

fn tabs(app: &App) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for view in View::ALL {
        let title = format!(" {} {} ", view as usize + 1, view.title());
        let is_here = view == app.view && app.open.is_none();
        spans.push(Span::styled(title, if is_here { style::selected() } else { Style::new() }));
        spans.push(Span::raw(" "));
    }
    if let Some(open) = &app.open {
        let id = open.id.to_string();
        spans.push(Span::styled(format!(" Build {} ", &id[id.len() - 8..]), style::selected()));
    } else if !app.filter.is_empty() {
        spans.push(Span::styled(
            format!(" only '{}' (Esc: all)", app.filter),
            style::of(Some(Tone::Warning), app.color),
        ));
    }
    Line::from(spans)
}

/// The view Now: problems, curves if there is room for them, then lanes.
fn now(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let Some(data) = &app.data else { return };
    let all = problems(data);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (tone, text) in &all {
        let mark = if *tone == Tone::Bad { " !! " } else { " !  " };
        let mark = Span::styled(mark, style::of(Some(*tone), app.color).add_modifier(Modifier::BOLD));
        for (number, part) in wrapped(text, usize::from(area.width).saturating_sub(5)).into_iter().enumerate()
        {
            let before = if number == 0 { mark.clone() } else { Span::raw("    ") };
            lines.push(Line::from(vec![before, Span::raw(part)]));
        }
    }
    if lines.is_empty() {
        lines.push(Line::styled(" No problems.", style::of(Some(Tone::Good), app.color)));
    }
    let wanted = lines.len();
    let most = usize::from(area.height / 2).max(1);
    let height = u16::try_from(wanted.min(most)).unwrap_or(1);
    let curves = if area.height >= CURVES_FROM { curves(data, area.width, app.color) } else { Vec::new() };
    let [top, gap, middle, rest] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Length(1),
        Constraint::Length(if curves.is_empty() { 0 } else { 3 }),
        Constraint::Min(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(lines), top);
    frame.render_widget(Paragraph::new(curves), middle);
    if wanted > most {
        let count = human::many(all.len() as u64, "problem");
        let text = format!(" … {count} in all; a larger terminal shows more");
        frame.render_widget(Line::styled(text, style::of(Some(Tone::Warning), app.color)), gap);
    }
    table(frame, rest, app);
}

fn table(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let all = app.rows();
    let selected = app.selected(&all);
    let columns: Vec<(usize, &Column)> =
        app.view.columns().iter().enumerate().filter(|(_, column)| column.from_width <= area.width).collect();
    let more = app.data.as_ref().is_some_and(|data| rows::beyond(app.view, data));
    let height = usize::from(area.height).saturating_sub(1 + usize::from(more));
    app.height = height;
    let place = app.place();
    let at = selected.unwrap_or(0);
    place.offset =
        place.offset.min(at).max((at + 1).saturating_sub(height)).min(all.len().saturating_sub(height));
    let (offset, sort) = (place.offset, place.sort);
    let visible = &all[offset.min(all.len())..(offset + height).min(all.len())];
    let titles: Vec<String> = columns
        .iter()
        .map(|(at, column)| match sort {
            Some((by, descending)) if by == *at => {
                format!("{}{}", column.title, if descending { "▽" } else { "△" })
            }
            _ => column.title.to_owned(),
        })
        .collect();
    let widths = widths(&columns, &titles, visible, usize::from(area.width));
    let fill = |text: &str, column: &Column, width: usize| {
        if column.right { format!("{text:>width$}") } else { text.to_owned() }
    };
    let head = columns.iter().zip(&titles).zip(&widths);
    let head = Row::new(head.map(|(((_, column), title), width)| fill(title, column, *width)))
        .style(style::bar(app.color));
    let body = visible.iter().enumerate().map(|(number, row)| {
        let is_selected = Some(offset + number) == selected;
        let cells = columns.iter().zip(&widths).map(|((at, column), width)| {
            let cell = &row.cells[*at];
            // Colors would be hard to read in the selected row.
            let tone = cell.tone.filter(|_| !is_selected);
            Cell::from(Span::styled(
                fill(&cut(&cell.text, *width, column), column, *width),
                style::of(tone, app.color),
            ))
        });
        Row::new(cells.collect::<Vec<_>>()).style(if is_selected { style::selected() } else { Style::new() })
    });
    let constraints =
        widths.iter().map(|width| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX)));
    frame.render_widget(Table::new(body, constraints).header(head).column_spacing(1), area);
    if all.is_empty() {
        let text = empty(app);
        frame.render_widget(Span::raw(text), line(area, 1));
    } else if more {
        let text = format!(" {} are shown; the command line lists all", human::many(all.len() as u64, "row"));
        frame.render_widget(
            Span::styled(text, style::of(Some(Tone::Faint), app.color)),
            line(area, area.height - 1),
        );
    }
}

fn line(area: Rect, at: u16) -> Rect {
    Rect { y: area.y + at.min(area.height.saturating_sub(1)), height: 1.min(area.height), ..area }
}

fn empty(app: &App) -> String {
    if !app.filter.is_empty() {
        return format!(" Nothing here contains '{}'; Esc shows all.", app.filter);
    }
    match app.view {
        View::Now | View::Lanes => " No lane has a waiting or running build.",
        View::Builds => " No build is waiting or running.",
        View::Workers => " No worker is alive.",
    }
    .to_owned()
}

/// Wraps a text at spaces, to lines of at most this many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let fits =
            |line: &&mut String| line.is_empty() || line.chars().count() + word.chars().count() < width;
        match lines.last_mut().filter(fits) {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => *line += &[" ", word].concat(),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Shortens a text. A lane is cut at its beginning, because lanes differ at the end.
fn cut(text: &str, width: usize, column: &Column) -> String {
    let all = text.chars().count();
    if column.title != "LANE" || all <= width {
        return fairlane_clikit::output::cut(text, width);
    }
    std::iter::once('…').chain(text.chars().skip(all + 1 - width.max(1))).collect()
}

/// Each column is as wide as its widest cell. If there is not enough room, the widest text columns are cut.
fn widths(columns: &[(usize, &Column)], titles: &[String], rows: &[rows::Row], room: usize) -> Vec<usize> {
    let widest = |at: usize| rows.iter().map(|row| row.cells[at].text.chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> =
        columns.iter().zip(titles).map(|((at, _), title)| widest(*at).max(title.chars().count())).collect();
    let gaps = widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > room {
        let words = (0..widths.len()).filter(|at| !columns[*at].1.right && widths[*at] > CUT_MIN);
        let Some(at) = words.max_by_key(|at| widths[*at]) else { break };
        widths[at] -= 1;
    }
    // The last column fills the rest, so that the headline's bar reaches the edge.
    let spare = room.saturating_sub(widths.iter().sum::<usize>() + gaps);
    if let Some(last) = widths.last_mut() {
        *last += spare;
    }
    widths
}

fn footer(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let color = app.color;
    if let Some(typing) = app.typing.filter(|typing| *typing != Typing::Reason) {
        let (name, text) =
            if typing == Typing::Search { ("Search", &app.search) } else { ("Filter", &app.filter) };
        let line = Line::from(vec![
            Span::styled(format!(" {name}: "), style::bar(color)),
            Span::raw(format!(" {}█", clean(text, Colors::Drop))),
        ]);
        return frame.render_widget(line, area);
    }
    let said = app.failure.as_deref().map(|why| first_line(why).to_owned());
    if let Some(text) = said.as_deref().or(app.message()) {
        let tone = if app.failure.is_some() { Tone::Bad } else { Tone::Strong };
        let text = format!(" {}", clean(text, Colors::Drop));
        return frame.render_widget(Line::styled(text, style::of(Some(tone), color)), area);
    }
    let keys: &[(&str, &str)] = if app.open.is_some() {
        &[
            ("F1", "Help"),
            ("Esc", "Back"),
            ("F3", "Search"),
            ("n", "Next"),
            ("End", "Follow"),
            ("k", "Cancel"),
            ("q", "Quit"),
        ]
    } else {
        &[
            ("F1", "Help"),
            ("Tab", "View"),
            ("F3", "Search"),
            ("F4", "Filter"),
            ("F6", "Sort"),
            ("⏎", "Open"),
            ("k", "Cancel"),
            ("q", "Quit"),
        ]
    };
    let mut spans = Vec::new();
    for (key, what) in keys.iter().filter(|(key, _)| *key != "k" || app.may_operate) {
        spans.push(Span::styled(*key, style::of(Some(Tone::Strong), color)));
        spans.push(Span::styled(format!("{what} "), style::bar(color)));
    }
    frame.render_widget(Line::from(spans), area);
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
