//! `fairlane campaign plan`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Result;
use fairlane_campaign::lines::BadLines;
use fairlane_campaign::names::PREFIX_MAX;
use fairlane_campaign::plan::{self, Header};
use fairlane_campaign::planning::{self, Planned, Terms};
use fairlane_campaign::rank::{self, Candidate};
use fairlane_campaign::{events, list};
use fairlane_clikit::exit::{self, Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Output, Tone, clean};
use fairlane_common::clock::millis;
use fairlane_common::id::Image;
use fairlane_common::queue::campaigns::{EXPECTED_S, ITEMS_MAX};
use fairlane_common::repo::Lane;

use super::queue::Queue;
use crate::args::CampaignPlan;

/// Skipped specs that are reported one by one; further ones are only counted.
const TOLD_MAX: usize = 10;

/// Runs the command.
pub(super) async fn run(args: CampaignPlan, output: Output) -> Result<Exit> {
    check_prefix(&args.prefix)?;
    if args.events.is_empty() && args.list.is_none() && args.from_queue.is_none() {
        return Err(Stop::usage("name files of launch events, or give --list or --from-queue").into());
    }
    let queue = ask(&args, output).await?;
    confirm(&args, queue.as_ref()).await?;
    let mut candidates = read(&args, output)?;
    if let (Some(queue), Some(within)) = (&queue, args.from_queue) {
        let current = args.current_prefix.as_deref().unwrap_or_default();
        candidates.extend(queue.launched(within, current, &args.git.hosts(), output).await?);
    }
    // A list keeps its order.
    candidates.sort_by(|a, b| b.launches.total_cmp(&a.launches));
    let check = args.registry.check().map_err(|error| Stop::usage(exit::in_full(&error)))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked by clap")]
    let slot_seconds = args.slot_hours.map(|hours| (hours * 3600.0) as u64);
    let terms = Terms {
        prefix: args.prefix.clone(),
        hosts: args.git.hosts(),
        resolve: (!args.refs_as_given).then(|| args.git.limits()),
        top: args.top.map(|top| top.min(ITEMS_MAX)).or(Some(ITEMS_MAX)),
        share: args.share,
        slot_seconds,
    };
    let expected = async |lane: &Lane| match &queue {
        Some(queue) => queue.expected(lane).await,
        None => EXPECTED_S,
    };
    let planned = planning::plan(&candidates, &terms, expected, async |image: &Image| {
        check.is_there(image, None).await
    })
    .await;
    tell_skipped(&planned, output);
    let slots = args.slots.map(u64::from).or(queue.as_ref().map(|queue| queue.totals.background_max));
    check_time(&planned, slots, &args, output)?;
    let mut header = Header::new(
        jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        args.prefix.clone(),
        planned.launches,
        &planned.items,
    );
    (header.skipped, header.launches_present) = (planned.reasons(), planned.present);
    let mut lines = Vec::new();
    plan::write(&mut lines, &header, &planned.items)?;
    output.data(String::from_utf8_lossy(&lines).trim_end());
    Ok(if planned.items.is_empty() { Exit::Failed } else { Exit::Good })
}

/// The queue, unless it is not to be asked, or no dispatcher answers and none has to.
async fn ask(args: &CampaignPlan, output: Output) -> Result<Option<Queue>> {
    if args.offline {
        return Ok(None);
    }
    match Queue::of(args.reach.clone()).await {
        Ok(queue) => Ok(Some(queue)),
        Err(error) if exit::of(&error) == Exit::Unreachable && args.from_queue.is_none() => {
            output.talk("No dispatcher answers, so each build is expected to take 3 minutes.");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let sample = fairlane_campaign::names::image(prefix, "slug", "ref");
    let invalid = |why: String| Stop::usage(format!("--prefix '{prefix}' is invalid: {why}"));
    if prefix.is_empty() || prefix.len() > PREFIX_MAX {
        return Err(invalid(format!("it must have from 1 to {PREFIX_MAX} bytes")).into());
    }
    sample.parse::<Image>().map(drop).map_err(|error| invalid(error.why).into())
}

/// The candidates of the files, best first.
fn read(args: &CampaignPlan, output: Output) -> Result<Vec<Candidate>> {
    let mut launches = Vec::new();
    for path in &args.events {
        let found = events::read(path)?;
        launches.extend(found.launches);
        tell_bad(&found.bad, output);
    }
    let mut candidates = rank::expected(&launches, args.half_life.as_secs_f64() / 86_400.0);
    if let Some(path) = &args.list {
        let (found, bad) = read_list(path)?;
        tell_bad(&bad, output);
        candidates.extend(found);
    }
    Ok(candidates)
}

fn read_list(path: &Path) -> Result<(Vec<Candidate>, BadLines)> {
    let name = path.display().to_string();
    let file =
        File::open(path).map_err(|error| Stop::usage(format!("the list {name} cannot be read: {error}")))?;
    Ok(list::read(&mut BufReader::new(file), name))
}

pub(super) fn tell_bad(bad: &BadLines, output: Output) {
    if let Some(said) = bad.sentence() {
        output.talk(&format!("{} {said}", output.paint_talk(Tone::Warning, "warning:")));
    }
}

pub(super) fn tell_skipped(planned: &Planned, output: Output) {
    for (reason, count) in planned.reasons() {
        output.talk(&format!("{} skipped {count}: {reason}", output.paint_talk(Tone::Warning, "warning:")));
        let first = planned.skipped.iter().filter(|one| one.reason == reason).take(TOLD_MAX);
        for one in first {
            output.talk(&clean(&format!("  {}: {}", one.spec, one.detail), Colors::Drop));
        }
        if count > TOLD_MAX as u64 {
            output.talk(&format!("  and {} more", count - TOLD_MAX as u64));
        }
    }
}

/// Says what the plan covers and how long it takes.
///
/// # Errors
/// When it would take longer than it may.
fn check_time(planned: &Planned, slots: Option<u64>, args: &CampaignPlan, output: Output) -> Result<()> {
    let share = if planned.launches > 0.0 { planned.covered() * 100.0 / planned.launches } else { 0.0 };
    let seconds = planned.slot_seconds();
    let (builds, take) = match planned.items.len() {
        1 => ("1 build covers".to_owned(), "takes"),
        count => (format!("{count} builds cover"), "take"),
    };
    let cost = human::span(seconds * 1000);
    let Some(slots) = slots else {
        output.talk(&format!("{builds} {share:.1} % of launches and {take} {cost} of one slot."));
        if args.finish_within.is_some() {
            return Err(Stop::usage("--finish-within needs a dispatcher, or --slots").into());
        }
        return Ok(());
    };
    if slots == 0 {
        return Err(
            Stop::usage("the queue has no slots for background builds; name some with --slots").into()
        );
    }
    let longest = planned.items.iter().filter_map(|item| item.expected_seconds).max().unwrap_or_default();
    let takes = (seconds / slots).max(longest);
    let time = human::span(takes * 1000);
    let with = human::many(slots, "slot");
    output.talk(&format!(
        "{builds} {share:.1} % of launches and {take} {cost} of one slot, or {time} with {with}."
    ));
    match args.finish_within {
        Some(within) if takes > within.as_secs() => {
            let within = human::span(millis(within));
            let message = format!(
                "the plan would take {time}, longer than {within}; plan fewer builds with --top, --share or --slot-hours"
            );
            Err(Stop::usage(message).into())
        }
        _ => Ok(()),
    }
}

/// As `BinderHub` writes it into names.
fn normal(prefix: &str) -> String {
    prefix.replace('_', "-").to_lowercase()
}

/// Refuses a prefix that is in use already, unless the user insists.
async fn confirm(args: &CampaignPlan, queue: Option<&Queue>) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let in_use = match (&args.current_prefix, queue) {
        (Some(current), _) => normal(current) == normal(&args.prefix),
        (None, Some(queue)) => queue.uses(&normal(&args.prefix)).await?,
        (None, None) => false,
    };
    if in_use {
        let message = format!(
            "BinderHub already uses the prefix '{}', so images that are there would not be built again; \
             add --yes if that is what you want",
            args.prefix
        );
        return Err(Stop::usage(message).into());
    }
    Ok(())
}
