//! People waiting and builds running over the last hour, a bar for each minute.

use fairlane_clikit::output::Tone;
use fairlane_dispatcher::api::{History, SampleView};
use ratatui::text::{Line, Span};

use super::data::Data;
use super::style;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const MINUTES: u64 = 60;
const MINUTE_MS: u64 = 60_000;
/// Room for a label, and for the numbers behind the bars.
const BESIDE: usize = 36;

/// The two curves whose parting was the incident, each as a line of this width; none without a history.
pub(super) fn curves(data: &Data, width: u16, color: bool) -> Vec<Line<'static>> {
    let Some(history) = data.history.as_ref().filter(|history| !history.samples.is_empty()) else {
        return Vec::new();
    };
    let totals = &data.queue.totals;
    let room = u64::from(width).saturating_sub(BESIDE as u64).min(MINUTES);
    let curve = |label: &str, now: u64, of: fn(&SampleView) -> f64, most: f64, tone: Tone| {
        let highest = recent(history, room).map(of).fold(0.0, f64::max);
        let bars = bars(history, room, of, most.max(highest));
        Line::from(vec![
            Span::raw(format!(" {label:<8}")),
            Span::styled(bars, style::of(Some(tone), color)),
            Span::raw(format!(" {now}, most {highest:.0} in {room} min")),
        ])
    };
    let slots = recent(history, room).map(|sample| sample.slots).fold(0.0, f64::max);
    vec![
        curve("People", totals.people, |sample| sample.people, 0.0, Tone::Warning),
        curve("Running", totals.leased + totals.orphaned, |sample| sample.running, slots, Tone::Good),
    ]
}

/// How many minutes before the newest one a sample was taken.
fn minutes_ago(history: &History, sample: &SampleView) -> u64 {
    (history.now_ms / MINUTE_MS).saturating_sub(sample.at_ms / MINUTE_MS)
}

fn recent(history: &History, minutes: u64) -> impl Iterator<Item = &SampleView> {
    history.samples.iter().filter(move |sample| minutes_ago(history, sample) < minutes)
}

/// One character a minute, the newest last; a minute without a sample is blank.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
fn bars(history: &History, minutes: u64, of: fn(&SampleView) -> f64, most: f64) -> String {
    let mut columns = vec![' '; usize::try_from(minutes).unwrap_or(0)];
    for sample in recent(history, minutes) {
        let share = if most > 0.0 { of(sample) / most } else { 0.0 };
        let column = minutes - 1 - minutes_ago(history, sample);
        if let Some(place) = usize::try_from(column).ok().and_then(|at| columns.get_mut(at)) {
            *place = BARS[((share * 8.0).ceil().clamp(1.0, 8.0) as usize) - 1];
        }
    }
    columns.into_iter().collect()
}
