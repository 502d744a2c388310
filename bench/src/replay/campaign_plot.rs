//! What a campaign saves, and the slots that it uses, as a plot.

use std::error::Error;
use std::path::Path;

use anyhow::Result;
use fairlane_clikit::human;
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{Rectangle, Text};
use plotters::style::{Color, IntoFont, ShapeStyle, WHITE};

use super::campaign::Ahead;
use super::day::Day;
use super::outcome::{BuildSpan, Outcome};
use super::plot::{
    Area, BASELINE, FAIRLANE, FONT, INK, Shown, Span, curve, draw_panel, in_hours, save, thinned,
};

const WIDTH: u32 = 1000;
const HEAD_HEIGHT: u32 = 86;
const ROW_HEIGHT: u32 = 34;
const SLOTS_HEIGHT: u32 = 300;
/// Where the bars begin, and the longest of them.
const BAR_LEFT: i32 = 290;
const BAR_LENGTH: f64 = 590.0;

/// Draws to `path`: people-hours without a campaign and with each one, and the slots that the longest one uses.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn draw(
    path: &Path,
    day: &Day,
    slots: u32,
    without: &Outcome,
    campaigns: &[Ahead],
    longest: &Outcome,
) -> Result<()> {
    save(path, picture(day, slots, without, campaigns, longest))
}

fn picture(
    day: &Day,
    slots: u32,
    without: &Outcome,
    campaigns: &[Ahead],
    longest: &Outcome,
) -> Result<String, Box<dyn Error>> {
    let rows = u32::try_from(campaigns.len())? + 1;
    let height = HEAD_HEIGHT + rows * ROW_HEIGHT + 24 + SLOTS_HEIGHT;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD_HEIGHT);
        let (bars, slots_area) = body.split_vertically(rows * ROW_HEIGHT + 24);
        let title = format!("The image cache is wiped: {}", human::moment(day.wipe));
        head.draw(&Text::new(title, (24, 16), (FONT, 22).into_font().color(&INK)))?;
        let line = format!(
            "Hours that people wait in total, by the number of images that a campaign builds from {} on ({slots} slots)",
            human::moment(day.start)
        );
        head.draw(&Text::new(line, (24, 52), (FONT, 15).into_font().color(&INK.mix(0.75))))?;
        draw_bars(&bars, without.figures(day).people_hours, campaigns)?;
        draw_slots(&slots_area, day, longest)?;
        root.present()?;
    }
    Ok(text)
}

fn draw_bars(area: &Area<'_>, without: f64, campaigns: &[Ahead]) -> Result<(), Box<dyn Error>> {
    let most =
        campaigns.iter().map(|one| one.day.people_hours).fold(without, f64::max).max(f64::MIN_POSITIVE);
    let with = campaigns.iter().filter(|one| one.specs > 0).map(|one| {
        let label = format!("{} images, {} slot-hours", one.specs, in_hours(one.slot_hours));
        let found = format!("{} (image found: {:.0} %)", in_hours(one.day.people_hours), one.found);
        (label, one.day.people_hours, found, FAIRLANE)
    });
    let rows = [("no campaign".to_owned(), without, in_hours(without), BASELINE)].into_iter().chain(with);
    for (row, (label, hours, value, color)) in (0..).zip(rows) {
        let top = row * i32::try_from(ROW_HEIGHT)?;
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let right = BAR_LEFT + (hours / most * BAR_LENGTH) as i32;
        let font = || (FONT, 15).into_font().color(&INK);
        area.draw(&Text::new(label, (24, top + 4), font()))?;
        area.draw(&Rectangle::new([(BAR_LEFT, top), (right, top + 22)], ShapeStyle::from(&color).filled()))?;
        area.draw(&Text::new(value, (right + 8, top + 4), font()))?;
    }
    Ok(())
}

/// The slots in use, over time: by everybody, and by the campaign.
fn draw_slots(area: &Area<'_>, day: &Day, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let last = outcome.builds.iter().map(|build| build.ended).max().unwrap_or(day.midnight);
    let span = Span { from: day.start, to: last.min(day.midnight).max(day.wipe) };
    let builds = |wanted: &dyn Fn(&BuildSpan) -> bool| {
        let spans: Vec<(u64, u64)> = outcome
            .builds
            .iter()
            .filter(|build| wanted(build))
            .map(|build| (build.started, build.ended))
            .collect();
        thinned(&curve(span, day, &spans))
    };
    let curves = [builds(&|_| true), builds(&|build| build.ahead)];
    let shown = [(BASELINE, true), (FAIRLANE, false)].map(|(color, filled)| Shown {
        name: String::new(),
        outcome,
        color,
        filled,
    });
    draw_panel(
        area,
        "Slots in use: by people and the largest campaign (filled), by the campaign (line)",
        span,
        day,
        &shown,
        &curves,
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::super::player::Played;
    use super::*;

    #[test]
    fn a_picture_shows_each_campaign() {
        let day = Day { wipe: 7_200_000, ..fixtures::day(&[600, 1200], &[], &[(7300, 0), (7400, 1)]) };
        let without = Outcome::unlimited(&day);
        let mut outcome = without.clone();
        outcome.builds.push(BuildSpan { asked: 0, started: 0, ended: 600_000, ahead: true });
        let with = Played {
            outcome,
            found: vec![Some(600_000), None],
            started: vec![Some(0), Some(7_400_000)],
            told: Vec::new(),
            broken: (0, Vec::new()),
        };
        let campaigns = [Ahead::new(&day, 4, 0, &with, &without), Ahead::new(&day, 4, 2, &with, &without)];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("day.svg");
        draw(&path, &day, 4, &without, &campaigns, &with.outcome).unwrap();
        let picture = std::fs::read_to_string(&path).unwrap();
        for text in
            ["no campaign", "2 images, 0.2 slot-hours", "image found: 50 %", "Slots in use", "4 slots"]
        {
            assert!(picture.contains(text), "{text}");
        }
        assert!(!picture.contains("0 images"), "{picture}");
    }
}
