//! What is drawn over the tables: the open build, help, and questions.

use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Tone, clean};
use fairlane_common::build::BuildState;
use fairlane_dispatcher::api::BuildView;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::app::{App, Popup, Typing};
use super::style::{self, people, span};
use crate::progress::sentence;

/// Most lines that the facts about the open build may take.
const FACTS_MAX: u16 = 8;

/// The open build: its facts, and its log.
pub(super) fn build(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let now = app.now();
    let color = app.color;
    let Some(open) = &mut app.open else { return };
    let facts = open.view.as_ref().map(|build| facts(build, now)).unwrap_or_default();
    let facts: Vec<Line<'_>> = facts
        .into_iter()
        .map(|(name, value)| {
            Line::from(vec![
                Span::styled(format!(" {name:<9}"), style::of(Some(Tone::Faint), color)),
                Span::raw(value),
            ])
        })
        .collect();
    let width = usize::from(area.width.max(1));
    let wanted: usize = facts.iter().map(|line| line.width().div_ceil(width).max(1)).sum();
    let height = u16::try_from(wanted).unwrap_or(FACTS_MAX).min(FACTS_MAX).min(area.height / 2);
    let [top, bar, rest] =
        Layout::vertical([Constraint::Length(height), Constraint::Length(1), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(facts).wrap(Wrap { trim: false }), top);
    let lines = open.log.shown(usize::from(rest.height), color);
    let title = format!(" Log: {}", open.log.place());
    frame.render_widget(Line::styled(format!("{title:<width$}"), style::bar(color)), bar);
    if open.log.is_empty() {
        let queued = open.view.as_ref().is_some_and(|build| build.state == BuildState::Queued);
        let text = match (queued, open.log.is_complete) {
            (true, _) => " The build has not started.",
            (_, true) => " The build wrote nothing.",
            _ => " Nothing yet.",
        };
        frame.render_widget(Line::styled(text, style::of(Some(Tone::Faint), color)), rest);
    } else {
        frame.render_widget(Paragraph::new(lines), rest);
    }
}

fn facts(build: &BuildView, now: u64) -> Vec<(&'static str, String)> {
    let why = build.why.clone().unwrap_or_else(|| sentence(build));
    let mut facts = vec![(
        "state",
        if why.contains(build.state.word()) { why } else { format!("{}: {why}", build.state) },
    )];
    let position = build.position.map(|position| match build.line {
        Some(line) => format!(", {position}. of {line} in line"),
        None => format!(", {position}. in line"),
    });
    let eta = build.eta_seconds.map(|eta| format!(", ready {}", human::about(eta * 1000)));
    facts.push((
        "people",
        format!(
            "{}; requested {}{}{}",
            people(build.people),
            human::ago(build.asked_ms, now),
            position.unwrap_or_default(),
            eta.unwrap_or_default()
        ),
    ));
    if let (Some(since), false) = (build.claimed_ms, build.state == BuildState::Queued) {
        let until = build.ended_ms.unwrap_or(now);
        let worker = build.worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
        let takes = human::span(build.expected_seconds * 1000);
        let ended = build.ended_ms.map(|at| format!(", ended {}", human::ago(at, now))).unwrap_or_default();
        facts.push(("run", format!("{}{worker}, {takes} expected{ended}", span(since, until))));
    }
    facts.extend(build.note.clone().map(|note| ("note", note)));
    if build.failed_attempts > 0 {
        let on = if build.avoid_nodes.is_empty() {
            String::new()
        } else {
            format!(", avoids {}", build.avoid_nodes.join(", "))
        };
        facts.push(("attempts", format!("{} failed{on}", build.failed_attempts)));
    }
    facts.push(("lane", build.lane.to_string()));
    facts.push(("ref", build.reference.clone()));
    facts.push(("image", build.image.clone()));
    facts.into_iter().map(|(name, value)| (name, clean(&value, Colors::Drop))).collect()
}

/// Help or a question, in the middle of the screen.
pub(super) fn popup(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let Some(popup) = &app.popup else { return };
    let (title, lines) = match popup {
        Popup::Help => (" Keys ", help(app)),
        Popup::Sort(at) => (" Sort by ", sorts(app, *at)),
        Popup::Cancel(build) => (" Cancel this build? ", question(build, app)),
    };
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).clamp(24, 66);
    let width = (u16::try_from(widest).unwrap_or(66) + 4).min(area.width);
    let inside = usize::from(width.saturating_sub(4)).max(1);
    let wrapped: usize = lines.iter().map(|line| line.width().div_ceil(inside).max(1)).sum();
    // Word wrapping can take one line more than the number of characters suggests.
    let spare = usize::from(wrapped > lines.len());
    let height = u16::try_from(wrapped + spare + 2).unwrap_or(u16::MAX).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(title).title_style(style::of(Some(Tone::Strong), app.color));
    let inner = block.inner(place);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inner);
}

fn help(app: &App) -> Vec<Line<'static>> {
    let mut keys = vec![
        ("Tab 1-4", "views: now, builds, lanes, workers"),
        ("↑ ↓ PgUp PgDn", "move; Home and End: first and last"),
        ("Enter", "a build's log; the builds of a lane or worker"),
        ("Esc", "back; show all rows again"),
        ("F3 /", "search; n and N: next and previous"),
        ("F4 \\", "show only rows that contain a text"),
        ("F6 < >", "sort; I: the other way around"),
        ("F9 k", "cancel a build; asks first"),
        ("← →", "in a log: to the side; End: follow it"),
        ("Ctrl-L", "draw the screen again"),
        ("F10 q", "quit"),
    ];
    keys.retain(|(key, _)| *key != "F9 k" || app.may_operate);
    let mut lines: Vec<Line<'_>> =
        keys.iter().map(|(key, what)| Line::raw(format!("{key:<14} {what}"))).collect();
    if !app.may_operate {
        lines.push(Line::raw("This token may not cancel builds."));
    }
    lines.push(Line::raw(format!("From {}, every second.", app.address)));
    lines
}

fn sorts(app: &App, at: usize) -> Vec<Line<'static>> {
    let titles = app.view.columns().iter().map(|column| column.title);
    let names = std::iter::once("in the queue's order").chain(titles);
    names
        .enumerate()
        .map(|(number, name)| {
            let mark = if number == at { ">" } else { " " };
            let line = Line::raw(format!("{mark} {name:<20}"));
            if number == at { line.patch_style(style::selected()) } else { line }
        })
        .collect()
}

fn question(build: &BuildView, app: &App) -> Vec<Line<'static>> {
    let id = build.id.to_string();
    let now = app.now();
    let what = match (build.state, build.claimed_ms) {
        (BuildState::Queued, _) => "It will leave the line; nothing is running yet.".to_owned(),
        (_, Some(since)) => format!("Its run, {} old, will be stopped.", span(since, now)),
        _ => "Its run will be stopped.".to_owned(),
    };
    let who = match build.people {
        0 => "Nobody waits for it.".to_owned(),
        1 => "1 person waits for it and will see that it was cancelled.".to_owned(),
        many => format!("{many} people wait for it and will see that it was cancelled."),
    };
    let mut lines = vec![
        Line::raw(clean(&format!("{} at {}", build.lane, build.reference), Colors::Drop)),
        Line::raw(id),
        Line::raw(""),
        Line::raw(what),
        Line::raw(who),
        Line::raw("The audit log will record it."),
        Line::raw(""),
    ];
    if app.typing == Some(Typing::Reason) {
        lines.push(Line::raw("Reason, shown to those who wait:"));
        lines.push(Line::raw(format!("{}█", clean(&app.reason, Colors::Drop))));
        lines.push(Line::styled(
            "Enter: cancel the build   Esc: do not",
            style::of(Some(Tone::Strong), app.color),
        ));
    } else {
        lines.push(Line::styled(
            "y: cancel it   r: cancel it with a reason   n: do not",
            style::of(Some(Tone::Strong), app.color),
        ));
    }
    lines
}
