//! The command line, as a tree of types. Its texts are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use fairlane_clikit::line::Everywhere;
use fairlane_clikit::redis_server::Guard;

use crate::replay::Replay;

/// Measure the queue, and replay days of launches; people call it as `fairlane bench` and `fairlane replay`
#[derive(Debug, Parser)]
#[command(
    name = "fairlane-bench",
    bin_name = "fairlane",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(Box<Bench>),
    Replay(Box<Replay>),
    /// Become the redis-server of a measurement (internal)
    #[command(hide = true)]
    RedisGuard(Guard),
}

/// Measure what the queue costs, compared with a bare queue in the same run
///
/// Starts a private redis-server, or uses a running one (with its own keys, which are removed at the
/// end). Fairlane and the bare queue take turns, so that other load on the machine affects both alike:
/// compare the ratios, not the rates.
///
/// Example: fairlane bench enqueue 100000 --json
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure
    #[command(subcommand)]
    pub(crate) measure: Measure,
    /// A running Redis, to be used instead of a private one
    #[arg(long, global = true, env = "FAIRLANE_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// Turn on the private server's append-only file
    #[arg(long, global = true)]
    pub(crate) append_only: bool,
    /// How many turns each side takes
    #[arg(long, global = true, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Append the result to this file, as a line of JSON
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) keep: Option<PathBuf>,
}

impl Measure {
    /// Whether redis-benchmark may send the yardstick's requests.
    pub(crate) const fn has_rival(&self) -> bool {
        matches!(self, Self::Enqueue { .. } | Self::Drain { .. })
    }
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// Request N builds; the yardstick is a script of five commands, sent by redis-benchmark
    Enqueue {
        /// Builds
        n: u32,
        /// Requests in flight
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
        concurrency: u32,
    },
    /// Claim and finish N builds; the yardstick is two scripts of four commands, sent by
    /// redis-benchmark
    Drain {
        /// Builds
        n: u32,
        /// Slots, and finishes in flight
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=64))]
        concurrency: u32,
    },
    /// Measure the time from a request to its claim by an idle worker, N times
    Latency {
        /// Builds
        n: u32,
    },
    /// Run N builds in lanes of which a few are popular (Zipf 1.1), and compare with the ideal schedule
    Skewed {
        /// Builds
        n: u32,
        /// Lanes
        #[arg(long, value_name = "L", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        lanes: u32,
        /// Permits of each lane
        #[arg(long, value_name = "M", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Workers, each with 4 slots
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
        workers: u32,
        /// How long each build takes
        #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
        build_ms: u32,
    },
    /// Measure submit, claim and finish with N builds queued, compared with flat scripts of the same commands
    Depth {
        /// Queued builds; a queue holds a million at most, and a few more are requested here
        #[arg(value_parser = clap::value_parser!(u32).range(1..=990_000))]
        n: u32,
    },
    /// Serve N event streams of one build from one dispatcher, at five lines a second
    Watchers {
        /// Streams
        n: u32,
        /// How long the build writes lines
        #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
}
