//! `fairlane campaign report`.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use fairlane_campaign::events;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Colors, Output, Table, Tone, clean};
use fairlane_dispatcher::api::{CampaignItemView, CampaignView};
use serde::Serialize;

use super::super::lists::now;
use super::status::describe;
use super::{get, items};
use crate::args::CampaignReport;
use crate::client::Client;

/// Failed builds that are shown.
const FAILURES_SHOWN: usize = 50;

/// What a campaign has done.
#[derive(Debug, Serialize)]
struct Report {
    campaign: CampaignView,
    /// How many items failed, by cause.
    causes: BTreeMap<String, u64>,
    failures: Vec<CampaignItemView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<Saved>,
}

/// What people have of it.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Saved {
    /// Launches of specs whose image it built, after it was built.
    launches: u64,
    /// How many of its images were launched.
    images: u64,
    /// How long people would have waited for these images to be built, without the time in line.
    waiting_seconds: f64,
}

pub(super) async fn run(args: CampaignReport, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    let campaign = get(&client, &args.name).await?;
    let failures = items(&client, &args.name, Some("failed")).await?;
    let mut causes = BTreeMap::new();
    for item in &failures {
        *causes.entry(item.cause.clone().unwrap_or_else(|| "other".to_owned())).or_default() += 1;
    }
    let saved = if args.events.is_empty() {
        None
    } else {
        let built = items(&client, &args.name, Some("built")).await?;
        let mut launches = Vec::new();
        for file in &args.events {
            let read = events::read(file)?;
            if let Some(bad) = read.bad.sentence() {
                output.talk(&bad);
            }
            launches.extend(read.launches.into_iter().map(|launch| (launch.minute, launch.spec)));
        }
        Some(saved(&built, launches))
    };
    let report = Report { campaign, causes, failures, saved };
    if output.is_json() {
        output.json(&report);
    } else {
        show(&report, now(&client).await, output);
    }
    Ok(Exit::Good)
}

/// What people have of the images that a campaign built. Without it, the first launch of each would have started a
/// build, and all launches until its end would have waited for it.
fn saved(built: &[CampaignItemView], mut launches: Vec<(u64, String)>) -> Saved {
    launches.sort_unstable();
    let by_spec: HashMap<&str, &CampaignItemView> =
        built.iter().filter_map(|item| Some((item.spec.as_deref()?, item))).collect();
    let mut ready: HashMap<&str, f64> = HashMap::new();
    let mut saved = Saved::default();
    for (minute, spec) in &launches {
        let Some(item) = by_spec.get(spec.as_str()) else { continue };
        if item.done_ms.is_none_or(|done| done > *minute) {
            continue;
        }
        saved.launches += 1;
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        let at = *minute as f64 / 1000.0;
        let end = *ready.entry(spec.as_str()).or_insert_with(|| {
            saved.images += 1;
            at + item.slot_seconds.unwrap_or(0.0)
        });
        saved.waiting_seconds += (end - at).max(0.0);
    }
    saved
}

fn show(report: &Report, now: u64, output: Output) {
    describe(&report.campaign, now, output);
    if let Some(saved) = &report.saved {
        output.data(&format!(
            "{:<12} {} launches found one of {} images that it built; without it, people would have waited {} for the \
             builds, and longer in line",
            "saved",
            saved.launches,
            saved.images,
            human::span_of_seconds(saved.waiting_seconds)
        ));
    }
    if report.failures.is_empty() {
        return;
    }
    output.data("");
    let causes: Vec<String> = report.causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    output.data(&format!("Failed, by cause: {}", causes.join(", ")));
    let mut table =
        Table::new([("REPOSITORY", Align::Left), ("CAUSE", Align::Left), ("REASON", Align::Left)]);
    for item in report.failures.iter().take(FAILURES_SHOWN) {
        let reason = clean(item.reason.as_deref().unwrap_or_default(), Colors::Drop);
        table.row([
            clean(&item.repo, Colors::Drop).as_str().into(),
            Cell::toned(item.cause.clone().unwrap_or_default(), Some(Tone::Bad)),
            reason.as_str().into(),
        ]);
    }
    output.table(&table);
    if report.failures.len() > FAILURES_SHOWN {
        output.talk(&format!(
            "There are {} more: --json lists them all.",
            report.failures.len() - FAILURES_SHOWN
        ));
    }
}

#[cfg(test)]
mod tests {
    use fairlane_dispatcher::api::ItemState;

    use super::*;

    #[test]
    fn launches_until_the_end_of_the_build_would_have_waited() {
        let item = CampaignItemView {
            number: 0,
            repo: "https://github.com/o/n".to_owned(),
            reference: "abc".to_owned(),
            image: "r/o-n:abc".to_owned(),
            spec: Some("GitHub:o/n/HEAD".to_owned()),
            launches: 1.0,
            expected_seconds: 100,
            state: ItemState::Built,
            build: None,
            done_ms: Some(60_000),
            slot_seconds: Some(100.0),
            cause: None,
            reason: None,
        };
        let launch = |minute: u64, spec: &str| (minute * 60_000, spec.to_owned());
        let of = "GitHub:o/n/HEAD";
        // Before it was built, at once, while the build would still have run, afterwards; and another one.
        let launches =
            vec![launch(0, of), launch(4, of), launch(1, of), launch(2, of), launch(1, "GitHub:o/m/HEAD")];
        let found = saved(&[item], launches);
        assert_eq!(found, Saved { launches: 3, images: 1, waiting_seconds: 100.0 + 40.0 });
    }
}
