//! The day as a plot: how many people wait, and how many builds are requested and run.

use std::error::Error;
use std::path::Path;

use anyhow::{Result, anyhow};
use fairlane_clikit::exit::Stop;
use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, clean};
use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Rectangle, Text};
use plotters::series::{AreaSeries, LineSeries};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, WHITE};

use super::args::ThreadPool;
use super::day::Day;
use super::outcome::Outcome;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// The plot is cut off after this time.
const SPAN_MAX_MS: u64 = 36 * HOUR_MS;

const SIZE: (u32, u32) = (1000, 900);
const HEAD_HEIGHT: i32 = 132;
const CAPTION_HEIGHT: i32 = 34;
pub(super) const FAIRLANE: RGBColor = RGBColor(23, 92, 211);
pub(super) const BASELINE: RGBColor = RGBColor(217, 83, 25);
pub(super) const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(225, 228, 232);
pub(super) const FONT: &str = "sans-serif";

/// One scheduler's day, and how it is shown.
pub(super) struct Shown<'a> {
    pub(super) name: String,
    pub(super) outcome: &'a Outcome,
    pub(super) color: RGBColor,
    pub(super) filled: bool,
}

/// The time span that is drawn, in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Checks, before the day is played, that its plot can be written.
///
/// # Errors
/// When the folder does not exist, or the path is a folder.
pub(super) fn check_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Stop::usage(format!("--plot: there is no folder {}", folder.display())).into());
    }
    if path.is_dir() {
        return Err(Stop::usage(format!("--plot: {} is a folder; name a file", path.display())).into());
    }
    Ok(())
}

/// Draws the day to `path`, with the baseline if there is one.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn draw(
    path: &Path,
    day: &Day,
    slots: u32,
    outcome: &Outcome,
    baseline: Option<(&Outcome, ThreadPool)>,
) -> Result<()> {
    let mut shown = Vec::new();
    if let Some((outcome, pool)) = baseline {
        let name = format!("BinderHub's pool of threads, {} replicas of {}", pool.replicas, pool.threads);
        shown.push(Shown { name, outcome, color: BASELINE, filled: true });
    }
    let name = format!("Fairlane, {}", human::many(slots.into(), "slot"));
    shown.push(Shown { name, outcome, color: FAIRLANE, filled: false });
    save(path, picture(day, &shown))
}

/// Writes a picture.
pub(super) fn save(path: &Path, picture: Result<String, Box<dyn Error>>) -> Result<()> {
    let picture = picture.map_err(|error| anyhow!("the plot cannot be drawn: {error}"))?;
    std::fs::write(path, picture)
        .map_err(|error| Stop::usage(format!("the plot {} cannot be written: {error}", path.display())))?;
    Ok(())
}

/// The whole picture, as SVG.
fn picture(day: &Day, shown: &[Shown<'_>]) -> Result<String, Box<dyn Error>> {
    let span = span(day, shown);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD_HEIGHT);
        heading(&head, day, shown)?;
        let panels = body.split_evenly((3, 1));
        let titles = ["People who wait for an image", "Builds requested and not ended", "Builds that run"];
        for ((panel, title), what) in panels.iter().zip(titles).zip([waiting, asked_for, running]) {
            let curves: Vec<Vec<(f64, i64)>> =
                shown.iter().map(|shown| thinned(&curve(span, day, &what(day, shown.outcome)))).collect();
            draw_panel(panel, title, span, day, shown, &curves)?;
        }
        root.present()?;
    }
    Ok(text)
}

/// From the wipe to the end of the day, or until nobody is waiting.
fn span(day: &Day, shown: &[Shown<'_>]) -> Span {
    let quick = |outcome: &Outcome| waiting(day, outcome).iter().map(|(_, to)| *to).max();
    let last = shown.iter().filter_map(|shown| quick(shown.outcome)).max().unwrap_or(day.midnight);
    Span { from: day.wipe, to: last.max(day.midnight).min(day.wipe + SPAN_MAX_MS) }
}

/// The wait of each person, from and to; without slow specs.
fn waiting(day: &Day, outcome: &Outcome) -> Vec<(u64, u64)> {
    let waits = day.asks.iter().zip(&outcome.ready);
    waits.filter(|(ask, _)| !day.specs[ask.spec].slow).map(|(ask, ready)| (ask.at, *ready)).collect()
}

fn asked_for(_: &Day, outcome: &Outcome) -> Vec<(u64, u64)> {
    outcome.builds.iter().map(|build| (build.asked, build.ended)).collect()
}

fn running(_: &Day, outcome: &Outcome) -> Vec<(u64, u64)> {
    outcome.builds.iter().map(|build| (build.started, build.ended)).collect()
}

/// For each full minute, how many of these spans include it: (hour of the day, count).
pub(super) fn curve(span: Span, day: &Day, spans: &[(u64, u64)]) -> Vec<(f64, i64)> {
    let minutes = usize::try_from((span.to - span.from) / MINUTE_MS).unwrap_or(0) + 1;
    let mut changes = vec![0_i64; minutes + 1];
    let minute_of = |at: u64| {
        let minute = at.saturating_sub(span.from).div_ceil(MINUTE_MS);
        usize::try_from(minute).map_or(minutes, |minute| minute.min(minutes))
    };
    for (from, to) in spans {
        changes[minute_of(*from)] += 1;
        changes[minute_of(*to)] -= 1;
    }
    let mut count = 0;
    (0_u64..)
        .zip(&changes[..minutes])
        .map(|(minute, change)| {
            count += change;
            (hour_of(day, span.from + minute * MINUTE_MS), count)
        })
        .collect()
}

/// Omits the points of a curve that lie between two of the same height.
pub(super) fn thinned(points: &[(f64, i64)]) -> Vec<(f64, i64)> {
    let needed = |at: usize| {
        let same = |other: Option<&(f64, i64)>| other.is_some_and(|other| other.1 == points[at].1);
        !(at > 0 && same(points.get(at - 1)) && same(points.get(at + 1)))
    };
    (0..points.len()).filter(|at| needed(*at)).map(|at| points[at]).collect()
}

/// Hours since the day's first midnight; before it, less than 0.
fn hour_of(day: &Day, at: u64) -> f64 {
    let start = day.midnight.saturating_sub(24 * HOUR_MS);
    #[expect(clippy::cast_precision_loss, reason = "a position in a picture")]
    let hours = (at as f64 - start as f64) / HOUR_MS as f64;
    hours
}

fn clock_time(hours: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "minutes of two days")]
    let minutes = ((hours * 60.0).round() as i64).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The title and the legend.
fn heading(area: &Area<'_>, day: &Day, shown: &[Shown<'_>]) -> Result<(), Box<dyn Error>> {
    let title = format!("The image cache is wiped: {}", human::moment(day.wipe));
    area.draw(&Text::new(title, (24, 16), (FONT, 22).into_font().color(&INK)))?;
    area.draw(&Text::new(slow_ones(day), (24, 48), (FONT, 15).into_font().color(&INK.mix(0.75))))?;
    for (row, shown) in (0..).zip(shown.iter().rev()) {
        let top = 76 + row * 24;
        let key = Rectangle::new([(26, top + 2), (46, top + 14)], ShapeStyle::from(&shown.color).filled());
        area.draw(&key)?;
        let hours = shown.outcome.figures(day).people_hours;
        let text = format!("{}: people wait {} hours in total", shown.name, in_hours(hours));
        area.draw(&Text::new(text, (56, top), (FONT, 16).into_font().color(&INK)))?;
    }
    Ok(())
}

/// A sentence that names the slow specs, if any, and says that their people are not counted.
fn slow_ones(day: &Day) -> String {
    let mut slow = day.specs.iter().filter(|spec| spec.slow);
    match (slow.next(), slow.count()) {
        (None, _) => String::new(),
        (Some(spec), 0) => {
            let (name, took) = (clean(&spec.name, Colors::Drop), human::span(spec.build_ms));
            format!("{name} takes {took} to build; the people who wait for it are left out")
        }
        (Some(_), more) => {
            format!("{} images are slow to build; the people who wait for them are left out", more + 1)
        }
    }
}

pub(super) fn in_hours(hours: f64) -> String {
    if hours < 100.0 { format!("{hours:.1}") } else { format!("{hours:.0}") }
}

pub(super) fn draw_panel(
    area: &Area<'_>,
    title: &str,
    span: Span,
    day: &Day,
    shown: &[Shown<'_>],
    curves: &[Vec<(f64, i64)>],
) -> Result<(), Box<dyn Error>> {
    let hours = usize::try_from((span.to - span.from) / HOUR_MS).unwrap_or(0);
    let top = curves.iter().flatten().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    area.draw(&Text::new(title, (24, 6), (FONT, 16).into_font().color(&INK)))?;
    let mut chart = ChartBuilder::on(area)
        .margin_right(28)
        .margin_bottom(6)
        .x_label_area_size(28)
        .y_label_area_size(58)
        .margin_top(CAPTION_HEIGHT)
        .build_cartesian_2d(hour_of(day, span.from)..hour_of(day, span.to), 0..top + top / 12 + 1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(INK.mix(0.5))
        .label_style((FONT, 13).into_font().color(&INK))
        .x_labels(hours.div_ceil(2) + 2)
        .y_labels(5)
        .x_label_formatter(&|hours| clock_time(*hours))
        .draw()?;
    for (shown, curve) in shown.iter().zip(curves) {
        let points = curve.iter().copied();
        if shown.filled {
            let area = AreaSeries::new(points, 0, shown.color.mix(0.22)).border_style(shown.color);
            chart.draw_series(area)?;
        } else {
            chart.draw_series(LineSeries::new(points, shown.color.stroke_width(2)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::day;
    use super::*;

    #[test]
    fn spans_are_counted_at_full_minutes() {
        let day = day(&[60], &[], &[]);
        let span = Span { from: 60_000, to: 300_000 };
        let spans = [(0, 60_000), (0, 60_001), (60_000, 180_000), (90_000, 100_000), (200_000, 900_000)];
        let counts: Vec<i64> = curve(span, &day, &spans).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 1, 1]);
        let flat = [(0.0, 1), (1.0, 1), (2.0, 1), (3.0, 2), (4.0, 1), (5.0, 1)];
        assert_eq!(thinned(&flat), [(0.0, 1), (2.0, 1), (3.0, 2), (4.0, 1), (5.0, 1)]);
    }

    #[test]
    fn a_picture_names_both_and_the_times() {
        let day = day(&[600, 1200], &[1], &[(0, 0), (30, 1), (90, 1)]);
        let outcome = Outcome::unlimited(&day);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("day.svg");
        draw(&path, &day, 4, &outcome, Some((&outcome, ThreadPool { replicas: 2, threads: 64 }))).unwrap();
        let picture = std::fs::read_to_string(&path).unwrap();
        for text in [
            "Fairlane, 4 slots",
            "2 replicas of 64",
            "12:00",
            "Builds that run",
            "wiped: 1970-01-01 00:00 UTC",
            "GitHub:o/1/main takes 20 min",
        ] {
            assert!(picture.contains(text), "{text}");
        }
    }

    #[test]
    fn places_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_folder(folder.path()).unwrap_err().to_string().contains("is a folder"));
        let missing = folder.path().join("missing/day.svg");
        assert!(check_folder(&missing).unwrap_err().to_string().contains("there is no folder"));
        assert!(check_folder(Path::new("day.svg")).is_ok());
        let times = [7.9, 24.0, 25.5, -1.5].map(clock_time);
        assert_eq!(times, ["07:54", "00:00", "01:30", "22:30"]);
    }
}
