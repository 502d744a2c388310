//! `fairlane history`: the queue over time.

use anyhow::Result;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Output, Table, Tone};
use fairlane_dispatcher::api::{History as Answer, SampleView};

use crate::args::History;
use crate::client::Client;

/// Widest curve, in columns.
const CURVE_WIDTH: u64 = 72;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) async fn history(args: History, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    let since = human::parse_span(&args.since)?;
    let query = [("since", format!("{}s", since.as_secs().max(1))), ("step", args.step.clone())];
    let history: Answer = client.get("v1/history", &query).await?;
    if output.is_json() {
        for sample in &history.samples {
            output.json(sample);
        }
        return Ok(Exit::Good);
    }
    if history.samples.is_empty() {
        output.talk(&format!(
            "No samples of the last {}: a dispatcher or worker takes the first one within a minute of its start.",
            args.since
        ));
        return Ok(Exit::Good);
    }
    output.table(&table(&history.samples));
    if output.is_live() {
        output.data("");
        let row = |name: &str, of: fn(&SampleView) -> f64| {
            let values: Vec<(u64, f64)> =
                history.samples.iter().map(|sample| (sample.at_ms, of(sample))).collect();
            let (most, latest) = (highest(&values), values.last().map_or(0.0, |(_, value)| *value));
            let name = output.paint(Tone::Strong, name);
            let line = curve(&values, history.step_ms);
            output.data(&format!("{name}  {line}  most {}, latest {}", number(most), number(latest)));
        };
        row("people waiting", |sample| sample.people);
        row("builds running", |sample| sample.running);
    }
    Ok(Exit::Good)
}

fn table(samples: &[SampleView]) -> Table {
    let right = |name| (name, Align::Right);
    let mut table = Table::new([
        right("TIME (UTC)"),
        right("PEOPLE"),
        right("WAITING"),
        right("RUNNING"),
        right("SLOTS"),
        right("OLDEST WAIT"),
        right("STARTED"),
        right("SUCCEEDED"),
        right("FAILED"),
        right("CANCELLED"),
    ]);
    for sample in samples {
        let waiting = &sample.waiting;
        let waiting = waiting.slot + waiting.permit + waiting.shared + waiting.held + waiting.backoff;
        let failed = sample.failed.repository + sample.failed.infrastructure + sample.failed.stuck;
        table.row([
            human::instant(sample.at_ms).into(),
            number(sample.people).into(),
            number(waiting).into(),
            number(sample.running).into(),
            number(sample.slots).into(),
            human::span(sample.oldest_wait_s * 1000).into(),
            sample.started.to_string().into(),
            sample.succeeded.to_string().into(),
            failed.to_string().into(),
            sample.cancelled.to_string().into(),
        ]);
    }
    table
}

/// A mean with at most one digit after the decimal point.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A bar chart in one line: each block is as high as the largest value in its part of the time, and blank
/// without a sample.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a level is from 0 to 7")]
fn curve(values: &[(u64, f64)], step: u64) -> String {
    let (Some((first, _)), Some((last, _))) = (values.first(), values.last()) else { return String::new() };
    let steps = (last - first) / step.max(1) + 1;
    let width = steps.min(CURVE_WIDTH);
    let mut columns: Vec<Option<f64>> = vec![None; usize::try_from(width).unwrap_or(1)];
    for (at, value) in values {
        let column = usize::try_from((at - first) / step.max(1) * width / steps).unwrap_or(0);
        columns[column] = Some(columns[column].unwrap_or(0.0).max(*value));
    }
    let most = highest(values).max(f64::MIN_POSITIVE);
    let block = |value: f64| LEVELS[((value / most * 7.0).ceil() as usize).min(7)];
    columns.into_iter().map(|value| value.map_or(' ', block)).collect()
}

fn highest(values: &[(u64, f64)]) -> f64 {
    values.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_a_block_a_step_blanks_for_gaps_and_a_bounded_width() {
        let minutes = |values: &[(u64, f64)]| {
            let values: Vec<_> = values.iter().map(|(minute, value)| (minute * 60_000, *value)).collect();
            curve(&values, 60_000)
        };
        assert_eq!(minutes(&[(5, 0.0), (6, 1.0), (8, 7.0), (9, 3.5)]), "▁▂ █▅");
        assert_eq!(minutes(&[(5, 0.0)]), "▁");
        let week: Vec<(u64, f64)> = (0..10_080).map(|minute| (minute, 1.0)).collect();
        assert_eq!(minutes(&week), "█".repeat(72));
        assert_eq!([0.0, 2.0, 2.04, 1.96, 0.25].map(number), ["0", "2", "2", "2", "0.2"]);
    }
}
