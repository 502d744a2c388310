//! Colors and formats. Everything that a color says is also said in words.

use fairlane_clikit::human;
use fairlane_clikit::output::Tone;
use ratatui::style::{Color, Modifier, Style};

/// The style for a tone.
pub(super) fn of(tone: Option<Tone>, color: bool) -> Style {
    let style = Style::new();
    match tone {
        Some(Tone::Faint) => style.add_modifier(Modifier::DIM),
        Some(Tone::Bad) if color => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        Some(Tone::Strong | Tone::Bad) => style.add_modifier(Modifier::BOLD),
        Some(Tone::Good) if color => style.fg(Color::Green),
        Some(Tone::Warning) if color => style.fg(Color::Yellow),
        None | Some(Tone::Good | Tone::Warning) => style,
    }
}

/// The headline of a table, and the names of keys.
pub(super) fn bar(color: bool) -> Style {
    if color {
        Style::new().fg(Color::Black).bg(Color::Cyan)
    } else {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// The row or view that is selected.
pub(super) fn selected() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// A short duration: 45s, 12m, 3h20m, 5d. Whole units, rounded down, like a clock.
pub(super) fn short(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..172_800 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

pub(super) fn people(number: u64) -> String {
    if number == 1 { "1 person".to_owned() } else { format!("{number} people") }
}

/// The time between two moments, in words.
pub(super) fn span(from: u64, to: u64) -> String {
    human::span(to.saturating_sub(from))
}
