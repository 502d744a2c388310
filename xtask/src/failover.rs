//! `failover`: Redis goes away again and again while builds run; no build may be affected.

use std::path::Path;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::{live, run};

/// Default number of rounds of each kind.
const ROUNDS: &str = "20";
/// The kinds, and the names of their tests.
const KINDS: [(&str, &str); 5] = [
    ("restart", "failover::builds_survive_a_restart_of_redis"),
    ("kill", "failover::builds_survive_a_killed_redis"),
    ("freeze", "failover::builds_survive_a_frozen_redis"),
    ("sentinel", "failover::builds_survive_a_sentinel_failover"),
    ("cluster", "failover::builds_survive_a_cluster_failover"),
];

/// Runs the rounds, one kind after the other: in parallel, each outage would last longer than intended.
pub(crate) fn run_rounds(root: &Path, words: &[String]) -> Result<()> {
    let (mut rounds, mut kinds) = (ROUNDS.to_owned(), KINDS.map(|(kind, _)| kind).join(","));
    for word in words {
        match word.split_once('=') {
            Some(("--rounds", value)) if value.parse::<u32>().is_ok_and(|count| count > 0) => {
                value.clone_into(&mut rounds);
            }
            Some(("--kinds", value)) => value.clone_into(&mut kinds),
            _ => bail!("unknown option '{word}'; the options are --rounds=20 and --kinds={kinds}"),
        }
    }
    let mut tests = Vec::new();
    for kind in kinds.split(',') {
        match KINDS.iter().find(|known| known.0 == kind) {
            Some((_, test)) => tests.push(*test),
            None => bail!("unknown kind '{kind}'; the kinds are {}", KINDS.map(|known| known.0).join(", ")),
        }
    }
    packages::ensure(&[packages::REDIS])?;
    let mut failed = Vec::new();
    for test in tests {
        if run(live(root, false, test).env("FAIRLANE_FAILOVER_ROUNDS", &rounds)).is_err() {
            failed.push(test);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
