//! The figures of a replay, as a table or as one JSON object.

use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Output, Table, Tone};
use serde::Serialize;

use super::campaign::Ahead;
use super::day::Day;
use super::outcome::{Figures, Outcome};
use super::player::Played;
use super::told::{Classes, Nearness};

/// The figures of all schedulers that played the day.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The queue.
    fairlane: Figures,
    /// A cluster with unlimited slots.
    unlimited: Figures,
    /// `BinderHub`'s own builds, if a baseline was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Figures>,
    /// The waiting times that launches were told, compared with the real ones.
    told: Nearness,
    /// The day with campaigns that build ahead, in the order in which they were requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) campaigns: Vec<Ahead>,
}

impl Report {
    /// Computes the figures.
    pub(super) fn new(
        day: &Day,
        played: &Played,
        campaigns: Vec<Ahead>,
        unlimited: &Outcome,
        baseline: Option<&Outcome>,
    ) -> Self {
        let fairlane = Figures { broken_promises: Some(played.broken.0), ..played.outcome.figures(day) };
        let baseline = baseline.map(|outcome| outcome.figures(day));
        let told = Nearness::new(day, &played.outcome, &played.told);
        Self { fairlane, unlimited: unlimited.figures(day), baseline, told, campaigns }
    }

    /// Writes it as data.
    pub(super) fn write(&self, output: Output) {
        if output.is_json() {
            output.json(self);
            return;
        }
        let mut table = Table::new([
            ("SCHEDULER", Align::Left),
            ("LAUNCHES", Align::Right),
            ("PEOPLE-HOURS", Align::Right),
            ("OTHER LANES", Align::Right),
            ("MEAN", Align::Right),
            ("P50", Align::Right),
            ("P95", Align::Right),
            ("P99", Align::Right),
            ("MAX", Align::Right),
            ("BUILDS", Align::Right),
            ("AT ONCE", Align::Right),
            ("BROKEN PROMISES", Align::Right),
        ]);
        let rows = [("fairlane", Some(&self.fairlane)), ("unlimited", Some(&self.unlimited))];
        for (name, figures) in rows.into_iter().chain([("baseline", self.baseline.as_ref())]) {
            let Some(figures) = figures else { continue };
            let broken = broken_cell(figures);
            table.row([
                name.into(),
                figures.launches.into(),
                format!("{:.1}", figures.people_hours).into(),
                format!("{:.1}", figures.people_hours_outside_slow_lanes).into(),
                human::span_of_seconds(figures.mean).into(),
                human::span_of_seconds(figures.p50).into(),
                human::span_of_seconds(figures.p95).into(),
                human::span_of_seconds(figures.p99).into(),
                human::span_of_seconds(figures.max).into(),
                figures.builds.into(),
                figures.running_max.into(),
                broken,
            ]);
        }
        output.table(&table);
        self.write_campaigns(output);
        self.write_told(output);
    }

    /// Writes what building ahead changes.
    fn write_campaigns(&self, output: Output) {
        let mut table = Table::new([
            ("CAMPAIGN", Align::Left),
            ("BEFORE WIPE", Align::Right),
            ("SLOT-HOURS", Align::Right),
            ("AT ONCE", Align::Right),
            ("FOUND", Align::Right),
            ("PEOPLE-HOURS", Align::Right),
            ("P99", Align::Right),
            ("MAX", Align::Right),
            ("DELAYED", Align::Right),
            ("DELAY ADDED", Align::Right),
            ("BROKEN PROMISES", Align::Right),
        ]);
        for one in &self.campaigns {
            table.row([
                format!("top {}", one.specs).into(),
                one.before_wipe.into(),
                format!("{:.1}", one.slot_hours).into(),
                one.running_max.into(),
                format!("{:.1} %", one.found).into(),
                format!("{:.1}", one.day.people_hours).into(),
                human::span_of_seconds(one.day.p99).into(),
                human::span_of_seconds(one.day.max).into(),
                one.delayed.into(),
                format!("{:.2} %", one.delay).into(),
                broken_cell(&one.day),
            ]);
        }
        output.table(&table);
    }

    /// Writes how accurate the waiting times were.
    fn write_told(&self, output: Output) {
        let mut table = Table::new([
            ("TOLD", Align::Left),
            ("LANES", Align::Left),
            ("LAUNCHES", Align::Right),
            ("WITHIN FACTOR 2", Align::Right),
            ("TOLD / CAME (MEDIAN)", Align::Right),
        ]);
        let Nearness { one_in, asked, minute_later } = &self.told;
        for (when, classes) in [("when asked", asked), ("a minute later", minute_later)] {
            let Classes { slow_lanes, others, all } = classes;
            for (lanes, share) in [("slow", slow_lanes), ("others", others), ("all", all)] {
                let within =
                    share.within_factor_2.map_or_else(|| "-".to_owned(), |part| format!("{part:.0} %"));
                let ratio = share.median_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                table.row([when.into(), lanes.into(), share.launches.into(), within.into(), ratio.into()]);
            }
        }
        output.table(&table);
        if *one_in > 1 {
            output.talk(&format!("Expected times were compared for one launch in {one_in}."));
        }
    }
}

fn broken_cell(figures: &Figures) -> Cell {
    match figures.broken_promises {
        None => "-".into(),
        Some(0) => Cell::toned("0", Some(Tone::Good)),
        Some(count) => Cell::toned(count.to_string(), Some(Tone::Bad)),
    }
}
