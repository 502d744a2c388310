//! Fairlane's chores. `cargo xtask` lists them; they need the Rust toolchain and nothing else to start.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person who runs it is its job"
)]

mod binderhub;
mod demo;
mod failover;
mod full_redis;
mod http_api;
mod packages;
mod shell;
mod test;
mod tidy;
mod venv;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

/// One chore: its name, what it does, and the function that does it.
type Chore = (&'static str, &'static str, fn(&Path) -> Result<()>);

const CHORES: &[Chore] = &[
    (
        "demo",
        "build real Git repositories through a queue of its own, one of them slow and popular",
        demo::run,
    ),
    ("test", "everything that a change must pass; what continuous integration runs", test::test),
    (
        "test-binderhub",
        "the tests of the Python package for BinderHub; `test` runs them too",
        test::binderhub,
    ),
    (
        "test-http",
        "thousands of requests made up from the API's document; `test` makes a few hundred of them",
        test::http_api,
    ),
    ("lint", "formatting, clippy and tidy", test::lint),
    ("tidy", "the project's own rules: sizes, Redis keys, Lua headers, invariants, dependencies", tidy::run),
    (
        "advisories",
        "known vulnerabilities in dependencies; needs cargo-deny and the network",
        test::advisories,
    ),
];

/// The chores that take options.
const FAILOVER: &str = "failover";
const FULL_REDIS: &str = "full-redis";

/// Something that must be there is missing, and could not be installed: exit code 2.
const EXIT_MISSING: u8 = 2;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (name, rest) = (words.next(), words.collect::<Vec<_>>());
    let done = match (name.as_deref(), CHORES.iter().find(|chore| name.as_deref() == Some(chore.0))) {
        (Some(FAILOVER), _) => root().and_then(|root| failover::run_rounds(&root, &rest)),
        (Some(FULL_REDIS), _) => root().and_then(|root| full_redis::run_builds(&root, &rest)),
        (_, Some((_, _, chore))) if rest.is_empty() => root().and_then(|root| chore(&root)),
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
    for (name, what, _) in CHORES {
        println!("  {name:<16}{what}");
    }
    let what = "Redis restarts, dies, freezes and fails over under 20 builds; --rounds=20, --kinds=restart,…";
    println!("  {FAILOVER:<16}{what}");
    let what = "200 builds of 4 MB of log in a Redis with 60 MB; --memory-mb=60, --builds=200, --log-mb=4";
    println!("  {FULL_REDIS:<16}{what}");
    if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_owned).context("xtask lies in no workspace")
}
