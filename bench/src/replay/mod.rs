//! `fairlane replay`: a day of launches through the queue's own scripts, in virtual time.

mod args;
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

use anyhow::Result;
use fairlane_campaign::events::{self, Events, Launch};
use fairlane_campaign::lines::BadLines;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::output::{Output, Tone};
use fairlane_common::clock::{Clock, SimulatedClock};
use fairlane_common::queue::Policy;
use fairlane_common::{Queue, RedisUrl};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use args::Replay;

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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let played = tokio::select! {
        played = play(&args, &day) => played?,
        _ = terminate.recv() => return Ok(Exit::Interrupted),
        _ = interrupt.recv() => return Ok(Exit::Interrupted),
    };
    let unlimited = Outcome::unlimited(&day);
    let baseline = args.baseline.map(|pool| thread_pool::play(&day, pool, args.seed));
    let broken = played.broken.0;
    let report = Report::new(&day, &played, &unlimited, baseline.as_ref());
    report.write(output);
    if let Some(path) = &args.plot {
        plot::draw(path, &day, args.slots, &played.outcome, baseline.as_ref().zip(args.baseline))?;
        output.talk(&format!("The plot is in {}.", path.display()));
    }
    for told in &played.broken.1 {
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
    let day = Day::new(launches, &days.concat(), args.wipe_at, &args.slow)?;
    Ok((day, bad))
}

/// Plays the day through a private redis-server, which ends with it.
async fn play(args: &Replay, day: &Day) -> Result<Played> {
    let redis = OwnServer::start(false).await?;
    let played = play_on(redis.url(), args, day).await;
    redis.stop().await;
    played
}

async fn play_on(url: &RedisUrl, args: &Replay, day: &Day) -> Result<Played> {
    let clock = SimulatedClock::new(day.wipe);
    let queue = Queue::open_simulated(url, "fairlane", Clock::Simulated(clock.clone())).await?;
    let overtake_max_ms = args.overtake_max.map(|span| u64::try_from(span.as_millis())).transpose();
    let policy = Policy {
        order: args.order,
        overtake_max_ms: overtake_max_ms.map_err(Stop::usage)?,
        limit: args.limit,
        burst: args.burst,
        ..Policy::default()
    };
    let progress = ProgressBar::new((day.history.len() + day.asks.len()) as u64);
    let style = "{msg} {wide_bar:.cyan/dim} {percent} %, {eta} left";
    progress.set_style(ProgressStyle::with_template(style)?);
    progress.set_message("playing the day");
    let played = player::play(&queue, &clock, day, args.slots, &policy, &progress).await;
    progress.finish_and_clear();
    played
}
