//! `fairlane replay`: a day of launches through the queue's own scripts, in virtual time.

mod args;
mod campaign;
mod campaign_plot;
mod day;
#[cfg(test)]
mod fixtures;
mod model;
mod outcome;
mod player;
mod plot;
mod promises;
mod report;
mod terms;
mod thread_pool;
mod told;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fairlane_campaign::events::{self, Events, Launch};
use fairlane_campaign::lines::BadLines;
use fairlane_campaign::rank;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::{Output, Tone};
use fairlane_common::clock::{Clock, SimulatedClock};
use fairlane_common::queue::Policy;
use fairlane_common::{Queue, RedisUrl};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use args::Replay;

use self::campaign::Ahead;
use self::day::Day;
use self::outcome::Outcome;
use self::player::Played;
use self::report::Report;
use crate::server::OwnServer;

/// Runs the command.
pub(crate) async fn run(args: Replay, output: Output) -> Result<Exit> {
    if let Some(plot) = &args.plot {
        plot::check_folder(plot)?;
    }
    let (day, bad) = read(&args)?;
    for warning in &day.warnings {
        output.talk(&format!("{} {warning}", output.paint_talk(Tone::Warning, "warning:")));
    }
    let ahead: Vec<usize> = args.campaign_top.iter().map(|top| top.of(day.ahead.len())).collect();
    let ahead = if args.campaign_from.is_empty() { Vec::new() } else { ahead };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let all = async {
        let played = play(&args, &day, &[]).await?;
        let mut with = Vec::new();
        for specs in ahead {
            with.push((specs, play(&args, &day, &day.ahead[..specs]).await?));
        }
        Ok::<_, anyhow::Error>((played, with))
    };
    let (played, with) = tokio::select! {
        played = all => played?,
        _ = terminate.recv() => return Ok(Exit::Interrupted),
        _ = interrupt.recv() => return Ok(Exit::Interrupted),
    };
    let unlimited = Outcome::unlimited(&day);
    let baseline = args.baseline.map(|pool| thread_pool::play(&day, pool, args.seed));
    let broken: usize =
        [&played].into_iter().chain(with.iter().map(|(_, with)| with)).map(|one| one.broken.0).sum();
    let campaigns: Vec<Ahead> = with
        .iter()
        .map(|(specs, with)| Ahead::new(&day, args.slots, *specs, with, &played.outcome))
        .collect();
    let report = Report::new(&day, &played, campaigns, &unlimited, baseline.as_ref());
    report.write(output);
    if let Some(path) = &args.plot {
        if let Some((_, longest)) = with.iter().max_by_key(|(specs, _)| *specs) {
            campaign_plot::draw(
                path,
                &day,
                args.slots,
                &played.outcome,
                &report.campaigns,
                &longest.outcome,
            )?;
        } else {
            plot::draw(path, &day, args.slots, &played.outcome, baseline.as_ref().zip(args.baseline))?;
        }
        output.talk(&format!("The plot is in {}.", path.display()));
    }
    for told in with.iter().map(|(_, with)| with).chain([&played]).flat_map(|played| &played.broken.1) {
        output.talk(&format!("{} {told}", output.paint_talk(Tone::Bad, "broken promise:")));
    }
    for said in bad.iter().filter_map(BadLines::sentence) {
        output.talk(&format!("{} {said}", output.paint_talk(Tone::Warning, "warning:")));
    }
    Ok(if broken == 0 { Exit::Good } else { Exit::Failed })
}

/// Reads the events; also returns their bad lines.
fn read(args: &Replay) -> Result<(Day, Vec<BadLines>)> {
    let mut bad = Vec::new();
    let mut take = |path: &Path| -> Result<Vec<Launch>> {
        let Events { launches, bad: lines } = events::read(path)?;
        bad.push(lines);
        Ok(launches)
    };
    let launches = take(&args.events)?;
    let mut days: Vec<Vec<Launch>> = args.history.iter().map(|path| take(path)).collect::<Result<_>>()?;
    days.sort_by_key(|launches| launches.iter().map(|launch| launch.minute).min());
    let mut before = Vec::new();
    for path in &args.campaign_from {
        before.extend(take(path)?);
    }
    let candidates = rank::expected(&before, rank::HALF_LIFE_DAYS);
    let ahead = args.campaign_start.map(|start| (candidates.as_slice(), start));
    let day = Day::new(launches, &days.concat(), args.wipe_at, &args.slow, ahead)?;
    Ok((day, bad))
}

/// Plays the day through a private redis-server, which ends with it.
async fn play(args: &Replay, day: &Day, ahead: &[usize]) -> Result<Played> {
    let redis = OwnServer::start(false).await?;
    let played = play_on(redis.url(), args, day, ahead).await;
    redis.stop().await;
    played
}

async fn play_on(url: &RedisUrl, args: &Replay, day: &Day, ahead: &[usize]) -> Result<Played> {
    let clock = SimulatedClock::new(day.wipe);
    let queue = Queue::open_simulated(url, "fairlane", Clock::Simulated(clock.clone())).await?;
    let ms = |span: Option<Duration>| span.map(|span| u64::try_from(span.as_millis())).transpose();
    let policy = Policy {
        order: args.order,
        overtake_max_ms: ms(args.overtake_max).map_err(Stop::usage)?,
        slow_after_ms: ms(args.slow_after).map_err(Stop::usage)?,
        limit: args.limit,
        burst: args.burst,
        slow_limit: args.slow_limit,
        background_share: args.campaign_share,
        ..Policy::default()
    };
    let progress = ProgressBar::new((day.history.len() + day.asks.len()) as u64);
    let style = "{msg} {wide_bar:.cyan/dim} {percent} %, {eta} left";
    progress.set_style(ProgressStyle::with_template(style)?);
    progress.set_message("playing the day");
    let played = player::play(&queue, &clock, day, args.slots, &policy, ahead, &progress).await;
    progress.finish_and_clear();
    played
}
