//! The command line of `fairlane replay`. Its texts are the help.

#![expect(clippy::doc_markdown, reason = "the comments are the help, which people read as plain text")]

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueHint};
use fairlane_clikit::human;
use fairlane_common::queue::Order;

/// No build of a replay takes longer, nor does anything else: 30 days.
const SECONDS_MAX: u64 = 30 * 86_400;

/// Play a day of launches through the queue, in virtual time
///
/// Reads launch events in the format of mybinder.org's archive, wipes the image cache at a given time of that
/// day (UTC), and plays all later launches through the queue's own scripts, with simulated workers and a
/// private redis-server. Build times are derived from names, so every replay of a day is the same. Reports how
/// long people waited: with Fairlane, with unlimited slots, and on request with BinderHub's thread pool.
/// Compares the waiting times that people were shown with what happened.
///
/// Example: fairlane replay events-2019-03-24.jsonl.gz --wipe-at 07:54 --slots 4
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Launch events of the day, one JSON object a line, plain or gzipped
    #[arg(value_name = "EVENTS", value_hint = ValueHint::FilePath)]
    pub(crate) events: PathBuf,
    /// When the cache is wiped (UTC); earlier launches are ignored
    #[arg(long, value_name = "HH:MM")]
    pub(crate) wipe_at: TimeOfDay,
    /// Builds that can run at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) slots: u32,
    /// Build time of one spec, such as GitHub:owner/name/ref=28800; repeatable
    #[arg(long, value_name = "SPEC=SECONDS")]
    pub(crate) slow: Vec<Slow>,
    /// Launch events of earlier days, from which the queue learns build times
    #[arg(long, value_name = "EVENTS", num_args = 1.., value_hint = ValueHint::FilePath)]
    pub(crate) history: Vec<PathBuf>,
    /// Order of the line: fair (quick and popular builds first) or first-come [default: fair]
    #[arg(long, value_name = "ORDER")]
    pub(crate) order: Option<Order>,
    /// A build cannot be overtaken by one requested more than this much later [default: 4h]
    #[arg(long, value_name = "TIME", value_parser = human::read_span)]
    pub(crate) overtake_max: Option<Duration>,
    /// Builds of one repository at the same time [default: 2, or 1 with fewer than 4 slots]
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: Option<u32>,
    /// The same while more than half of all slots are free [default: 3]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) burst: Option<u32>,
    /// A lane is slow if its builds, or one of its latest ones, take longer than this [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = human::read_span)]
    pub(crate) slow_after: Option<Duration>,
    /// Builds at the same time of all slow lanes together [default: a quarter of the slots, at least 2,
    /// never more than half]
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) slow_limit: Option<u32>,
    /// Also play the day with BinderHub's thread pool: thread-pool:2x64 is 2 replicas with 64 threads
    /// each. A request holds one thread until its build ends, and a second one for the log
    #[arg(long, value_name = "thread-pool:REPLICASxTHREADS")]
    pub(crate) baseline: Option<ThreadPool>,
    /// Seed for the random choice of the baseline's replicas
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Launch events from which a campaign builds the most launched specs ahead; the day is played with and without
    /// it. Specs given as slow are left out
    #[arg(long, value_name = "EVENTS", num_args = 1.., requires = "campaign_start", value_hint = ValueHint::FilePath)]
    pub(crate) campaign_from: Vec<PathBuf>,
    /// How many specs the campaign builds: a number, or all; several, comma-separated, are played in turn
    #[arg(long, value_name = "N", requires = "campaign_from", value_delimiter = ',', default_value = "100")]
    pub(crate) campaign_top: Vec<Top>,
    /// When the campaign starts: the last such time (UTC) before the wipe
    #[arg(long, value_name = "HH:MM", requires = "campaign_from")]
    pub(crate) campaign_start: Option<TimeOfDay>,
    /// Share of the slots that the campaign may use at once, from 0 to 1 [default: 0.75]
    #[arg(long, value_name = "SHARE", requires = "campaign_from", value_parser = share)]
    pub(crate) campaign_share: Option<f64>,
    /// Plot the day: waiting launches, queued builds and running builds; with a campaign, what it saves and the slots
    /// that it uses
    #[arg(long, value_name = "FILE.svg", value_hint = ValueHint::FilePath)]
    pub(crate) plot: Option<PathBuf>,
}

/// A time of the day, in minutes after midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeOfDay(pub(crate) u64);

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = |part: &str| part.parse::<u64>().ok().filter(|_| digits(part));
        match text.split_once(':').map(|(hour, minute)| (number(hour), number(minute))) {
            Some((Some(hour @ 0..24), Some(minute @ 0..60))) => Ok(Self(hour * 60 + minute)),
            _ => Err("a time of day is written HH:MM, from 00:00 to 23:59".to_owned()),
        }
    }
}

/// How many specs a campaign builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// The first ones.
    First(usize),
    /// All that were launched.
    All,
}

impl Top {
    /// The number of specs, of this many.
    pub(crate) fn of(self, all: usize) -> usize {
        match self {
            Self::First(count) => count.min(all),
            Self::All => all,
        }
    }
}

impl FromStr for Top {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count) => Ok(Self::First(count)),
            Err(_) if text == "all" => Ok(Self::All),
            Err(_) => Err("write a number of specs, or all".to_owned()),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1, such as 0.75".to_owned())
}

/// How long the builds of one spec take, whatever its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slow {
    /// `Provider:spec`.
    pub(crate) spec: String,
    /// Milliseconds.
    pub(crate) build_ms: u64,
}

impl FromStr for Slow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.rsplit_once('=').filter(|(spec, _)| !spec.is_empty());
        let seconds = |text: &str| text.parse::<u64>().ok().filter(|n| (1..=SECONDS_MAX).contains(n));
        match split.map(|(spec, text)| (spec, seconds(text))) {
            Some((spec, Some(seconds))) => Ok(Self { spec: spec.to_owned(), build_ms: seconds * 1000 }),
            _ => Err(format!(
                "write it like GitHub:owner/name/ref=28800, with a number of seconds from 1 to {SECONDS_MAX}"
            )),
        }
    }
}

/// BinderHub's replicas and the threads of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadPool {
    /// Replicas.
    pub(crate) replicas: usize,
    /// Threads of one replica.
    pub(crate) threads: usize,
}

impl FromStr for ThreadPool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=10_000).contains(n));
        let sizes = text.strip_prefix("thread-pool:").and_then(|sizes| sizes.split_once('x'));
        match sizes.map(|(replicas, threads)| (number(replicas), number(threads))) {
            Some((Some(replicas), Some(threads))) => Ok(Self { replicas, threads }),
            _ => {
                Err("the only baseline is thread-pool:REPLICASxTHREADS, such as thread-pool:2x64".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_can_be_taken() {
        assert_eq!("07:54".parse(), Ok(TimeOfDay(474)));
        assert_eq!("00:00".parse(), Ok(TimeOfDay(0)));
        let slow: Slow = "Git:a=b/c=28800".parse().unwrap();
        assert_eq!(slow, Slow { spec: "Git:a=b/c".to_owned(), build_ms: 28_800_000 });
        assert_eq!("thread-pool:2x64".parse(), Ok(ThreadPool { replicas: 2, threads: 64 }));
        assert_eq!(["20", "all"].map(|text| text.parse::<Top>().unwrap().of(10)), [10, 10]);
        assert_eq!("first-come".parse(), Ok(Order::FirstCome));
    }

    #[test]
    fn values_that_cannot() {
        for text in ["", "7:54", "24:00", "07:60", "07.54", "+7:54", "07:54:00"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
        for text in ["", "=1", "spec", "spec=", "spec=0", "spec=1.5", "spec=-1", "spec=99999999999"] {
            assert!(text.parse::<Slow>().is_err(), "{text}");
        }
        for text in ["", "thread-pool", "thread-pool:2", "thread-pool:0x64", "thread-pool:2x", "threads:2x64"]
        {
            assert!(text.parse::<ThreadPool>().is_err(), "{text}");
        }
        for text in ["", "-1", "some", "1.5"] {
            assert!(text.parse::<Top>().is_err(), "{text}");
        }
        for text in ["", "-0.1", "1.1", "NaN", "half"] {
            assert!(share(text).is_err(), "{text}");
        }
        for text in ["", "Fair", "first"] {
            assert!(text.parse::<Order>().is_err(), "{text}");
        }
    }
}
