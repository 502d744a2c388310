//! `fairlane campaign plan`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fairlane_campaign::lines::BadLines;
use fairlane_campaign::names::PREFIX_MAX;
use fairlane_campaign::plan::{self, Header};
use fairlane_campaign::planning::{self, Planned, Terms};
use fairlane_campaign::rank::{self, Candidate};
use fairlane_campaign::resolve::Limits;
use fairlane_campaign::source::Hosts;
use fairlane_campaign::{events, list};
use fairlane_clikit::exit::{self, Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Output, Tone, clean};
use fairlane_common::build::{BuildState, Priority};
use fairlane_common::clock::millis;
use fairlane_common::id::Image;
use fairlane_common::queue::campaigns::{EXPECTED_S, ITEMS_MAX};
use fairlane_common::repo::Lane;
use fairlane_dispatcher::api::{LaneView, QueueView, Totals};

use super::super::builds::{self, Wanted};
use super::super::lists::{PAGE, PAGES_MAX};
use crate::args::CampaignPlan;
use crate::client::Client;

/// Skipped specs that are reported one by one; further ones are only counted.
const TOLD_MAX: usize = 10;
/// Recent builds that show which prefix is in use.
const RECENT: usize = 200;

/// Runs the command.
pub(super) async fn run(args: CampaignPlan, output: Output) -> Result<Exit> {
    check_prefix(&args.prefix)?;
    if args.events.is_empty() && args.list.is_none() && args.from_queue.is_none() {
        return Err(Stop::usage("name files of launch events, or give --list or --from-queue").into());
    }
    let queue = Queue::of(&args, output).await?;
    confirm(&args, queue.as_ref()).await?;
    let mut candidates = read(&args, output)?;
    if let (Some(queue), Some(within)) = (&queue, args.from_queue) {
        candidates.extend(queue.launched(within, &args, output).await?);
    }
    // A list keeps its order.
    candidates.sort_by(|a, b| b.launches.total_cmp(&a.launches));
    let check = args.registry.check().map_err(|error| Stop::usage(exit::in_full(&error)))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked by clap")]
    let slot_seconds = args.slot_hours.map(|hours| (hours * 3600.0) as u64);
    let terms = Terms {
        prefix: args.prefix.clone(),
        hosts: hosts(&args),
        resolve: (!args.refs_as_given)
            .then_some(Limits { per_host: args.per_host.into(), timeout: args.git_timeout }),
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

fn hosts(args: &CampaignPlan) -> Hosts {
    Hosts { github: args.github_host.clone(), gitlab: args.gitlab_host.clone() }
}

fn check_prefix(prefix: &str) -> Result<()> {
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

fn tell_bad(bad: &BadLines, output: Output) {
    if let Some(said) = bad.sentence() {
        output.talk(&format!("{} {said}", output.paint_talk(Tone::Warning, "warning:")));
    }
}

fn tell_skipped(planned: &Planned, output: Output) {
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
    let builds = planned.items.len();
    let cost = human::span(seconds * 1000);
    let Some(slots) = slots else {
        output.talk(&format!("{builds} builds cover {share:.1} % of launches and take {cost} of one slot."));
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
    let with = if slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") };
    output.talk(&format!(
        "{builds} builds cover {share:.1} % of launches and take {cost} of one slot, or {time} with {with}."
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

/// The dispatcher that answers, and what it said.
struct Queue {
    client: Client,
    totals: Totals,
    /// Expected seconds by lane.
    known: RefCell<HashMap<Lane, u64>>,
}

impl Queue {
    /// `None` with `--offline`, or if no dispatcher answers.
    async fn of(args: &CampaignPlan, output: Output) -> Result<Option<Self>> {
        if args.offline {
            return Ok(None);
        }
        let client = Client::new(args.reach.clone())?;
        match client.get::<QueueView>("v1/queue", &[]).await {
            Ok(view) => Ok(Some(Self { client, totals: view.totals, known: RefCell::default() })),
            Err(error) if exit::of(&error) == Exit::Unreachable && args.from_queue.is_none() => {
                output.talk("No dispatcher answers, so each build is expected to take 3 minutes.");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How long a build of this lane is expected to take, in seconds.
    async fn expected(&self, lane: &Lane) -> u64 {
        if let Some(known) = self.known.borrow().get(lane) {
            return *known;
        }
        let mean = self.totals.mean_seconds.unwrap_or(EXPECTED_S);
        let view = self.client.get::<LaneView>(&format!("v1/lanes/{lane}"), &[]).await;
        let seconds = view.ok().and_then(|view| view.mean_seconds).unwrap_or(mean);
        self.known.borrow_mut().insert(lane.clone(), seconds);
        seconds
    }

    /// Whether recent builds have images with this prefix.
    async fn uses(&self, prefix: &str) -> Result<bool> {
        let (recent, _) = builds::list(&self.client, &Wanted { limit: RECENT, ..Wanted::default() }).await?;
        Ok(recent.iter().any(|build| is_of(&build.image, prefix)))
    }

    /// What was built for people within this time, as candidates: each build is one launch.
    async fn launched(
        &self,
        within: Duration,
        args: &CampaignPlan,
        output: Output,
    ) -> Result<Vec<Candidate>> {
        let since = builds::since(&self.client, within).await;
        let limit = (PAGE * PAGES_MAX) as usize;
        let wanted = Wanted { state: Some(BuildState::Succeeded), since, limit, ..Wanted::default() };
        let (built, more) = builds::list(&self.client, &wanted).await?;
        if more {
            output.talk(&format!("Only the latest {limit} builds are considered."));
        }
        let (current, hosts) = (args.current_prefix.as_deref().unwrap_or_default(), hosts(args));
        let days = (within.as_secs_f64() / 86_400.0).max(1.0);
        let (mut found, mut foreign): (HashMap<String, Candidate>, usize) = (HashMap::new(), 0);
        for build in built.iter().filter(|build| build.priority == Priority::Interactive) {
            match planning::built(&build.repo, &build.reference, &build.image, current, &hosts) {
                Some(new) => {
                    let spec = new.spec.clone();
                    found.entry(spec).or_insert(Candidate { launches: 0.0, ..new }).launches += 1.0 / days;
                }
                None => foreign += 1,
            }
        }
        if foreign > 0 {
            let warning = output.paint_talk(Tone::Warning, "warning:");
            output.talk(&format!(
                "{warning} {foreign} builds have no image that BinderHub makes with the prefix '{current}'; they are left out"
            ));
        }
        Ok(found.into_values().collect())
    }
}

/// Whether an image's name consists of this prefix and what `BinderHub` adds: a slug, a hash and a tag.
fn is_of(image: &str, prefix: &str) -> bool {
    let name = image.strip_prefix(prefix).and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
    let hash = name.and_then(|name| name.rsplit_once('-')).filter(|(slug, _)| !slug.contains('/'));
    hash.is_some_and(|(_, hash)| hash.len() == 6 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
