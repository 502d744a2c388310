//! Fairlane's chores. `cargo xtask` lists them; only the Rust toolchain is needed to start one.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person who runs it is its job"
)]

mod binderhub;
mod campaign;
mod chaos;
mod compose;
mod demo;
mod dist;
mod exhaustive;
mod failover;
mod former;
mod full_redis;
mod http;
mod http_api;
mod mutants;
mod night;
mod packages;
mod page_load;
mod push_hook;
mod rolling_upgrade;
mod shell;
mod test;
mod tidy;
mod two_releases;
mod venv;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

/// One chore: its name, what it does, and the function that does it.
type Chore = (&'static str, &'static str, fn(&Path) -> Result<()>);

const CHORES: &[Chore] = &[
    ("demo", "build real Git repositories through a private queue, one of them slow and popular", demo::run),
    ("test", "everything that a change must pass; what continuous integration runs", test::test),
    (
        "test-binderhub",
        "the tests of the Python package for BinderHub; `test` runs them too",
        test::binderhub,
    ),
    (
        "test-http",
        "thousands of valid and invalid requests, generated from the OpenAPI document",
        test::http_api,
    ),
    ("lint", "formatting, clippy and tidy", test::lint),
    ("tidy", "the project's own rules: sizes, Redis keys, Lua headers, invariants, dependencies", tidy::run),
    (
        "dist",
        "what is published of a release: program, chart, adapter, list of parts, image, checksums; in target/dist",
        dist::make,
    ),
    (
        "advisories",
        "known vulnerabilities in dependencies; needs cargo-deny and the network",
        test::advisories,
    ),
];

/// One chore that takes options.
type ChoreWithOptions = (&'static str, &'static str, fn(&Path, &[String]) -> Result<()>);

const WITH_OPTIONS: &[ChoreWithOptions] = &[
    (
        "campaign",
        "a campaign of 200 builds while people come, a worker and a dispatcher are killed, and Redis restarts; --builds=200",
        campaign::run_live,
    ),
    (
        "chaos",
        "everything goes wrong at random while 300 clients ask for builds; --minutes=2, --seed=1, --release",
        chaos::run_live,
    ),
    (
        "compose",
        "compose.yaml on a real container engine: a browser, builds, a killed dispatcher and a killed worker; --release",
        compose::run,
    ),
    (
        "exhaustive",
        "every interleaving of three workers and two builds with two mishaps; takes minutes and gigabytes",
        exhaustive::run_model,
    ),
    (
        "failover",
        "restart, kill, freeze and fail over Redis during 20 builds; --rounds=20, --kinds=restart,…",
        failover::run_rounds,
    ),
    (
        "full-redis",
        "200 builds with 4 MB of log each in a Redis of 60 MB; --memory-mb=60, --builds=200, --log-mb=4, --release",
        full_redis::run_builds,
    ),
    (
        "mutants",
        "plant small faults in the Lua and run the tests that should notice; --sample=100, --seed=1, --files=claim",
        mutants::run,
    ),
    (
        "night",
        "a night like that of the incident, with a real Prometheus; --variant=no-limits, --quiet=330, --screenshots=DIR",
        night::play,
    ),
    (
        "page-load",
        "50 open pages and a log of 1,000 lines a second, with the CPU that they cost; --release",
        page_load::measure,
    ),
    (
        "rolling-upgrade",
        "replace every process by this release and back, during 200 builds; --former=COMMIT, --builds=200, --streams=400",
        rolling_upgrade::run_upgrade,
    ),
    (
        "two-releases",
        "build the previous release, and run processes of both on one Redis; --former=COMMIT",
        two_releases::run_scene,
    ),
];

/// Exit code if something is missing and could not be installed.
const EXIT_MISSING: u8 = 2;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (name, rest) = (words.next(), words.collect::<Vec<_>>());
    let asked = name.as_deref();
    let plain = CHORES.iter().find(|chore| asked == Some(chore.0) && rest.is_empty());
    let with_options = WITH_OPTIONS.iter().find(|chore| asked == Some(chore.0));
    let done = match (plain, with_options) {
        (Some((.., chore)), _) => root().and_then(|root| chore(&root)),
        (_, Some((.., chore))) => root().and_then(|root| chore(&root, &rest)),
        _ => return usage(name.is_none()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            let missing = error.downcast_ref::<packages::Missing>().is_some();
            if missing { ExitCode::from(EXIT_MISSING) } else { ExitCode::FAILURE }
        }
    }
}

fn usage(asked: bool) -> ExitCode {
    println!("usage: cargo xtask COMMAND\n");
    let plain = CHORES.iter().map(|(name, what, _)| (name, what));
    for (name, what) in plain.chain(WITH_OPTIONS.iter().map(|(name, what, _)| (name, what))) {
        println!("  {name:<16}{what}");
    }
    if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_owned).context("xtask is not in a workspace")
}
