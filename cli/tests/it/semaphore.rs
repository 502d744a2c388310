//! The limit of a lane, live: 16 commits of one repository and 40 other repositories are requested, on 8
//! slots. The others start at once. With a limit of 16 for that lane they have to wait, so this test can
//! fail.
//!
//! Everything takes a fifth of its time here (6 s and 0.4 s), unless `FAIRLANE_TEST_FULL=1` is set (30 s and
//! 2 s).

use std::time::Duration;

use fairlane_common::{BuildId, Queue, Rule};
use fairlane_testkit::wait_for;

use crate::setup::LIMIT;
use crate::system::System;

/// How long each of the 40 others waited before it was claimed, in ms, sorted.
#[expect(clippy::print_stdout, reason = "the figures of a run by hand")]
async fn waits(system: &System, queue: &Queue, scale: f64) -> Vec<u64> {
    for commit in 0..16 {
        system.submit("slow", commit).await;
    }
    let mut others: Vec<BuildId> = vec![];
    // Like visitors, they arrive over the time that the slow builds take.
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(20.0 / 40.0 * scale));
    for number in 0..40 {
        ticks.tick().await;
        others.push(system.submit(&format!("other{number}"), 1).await);
    }
    let mut waits = vec![];
    for id in others {
        let claimed = wait_for("another repository's build to start", LIMIT * 4, async || {
            let build = queue.build(id).await.unwrap().unwrap();
            build.claimed.map(|at| at - build.asked)
        })
        .await;
        waits.push(claimed);
    }
    waits.sort_unstable();
    println!("waits of the others: p50 {} ms, p95 {} ms, max {} ms", waits[19], waits[37], waits[39]);
    waits
}

async fn run(limit: Option<u32>) -> Vec<u64> {
    let scale = if std::env::var_os("FAIRLANE_TEST_FULL").is_some() { 1.0 } else { 0.2 };
    let script =
        format!("case $1 in */slow) sleep {} ;; *) sleep {} ;; esac; echo built", 30.0 * scale, 2.0 * scale);
    let system = System::start(&script, 1, 2, 4).await;
    let queue = system.queue().await;
    if let Some(limit) = limit {
        let rule = Rule { limit: Some(limit), ..Rule::default() };
        queue.set_rule(&"git.example.org/o/slow".parse().unwrap(), &rule, "test").await.unwrap();
    }
    waits(&system, &queue, scale).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_commits_of_one_repository_hold_nobody_up() {
    let waits = run(None).await;
    assert!(waits[37] <= 1000, "p95 of the others is {} ms: {waits:?}", waits[37]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_lanes_limit_they_would() {
    let waits = run(Some(16)).await;
    assert!(waits[37] > 1000, "the others did not wait: {waits:?}");
}
