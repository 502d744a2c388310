//! `fairlane bench drain`: claiming and finishing what is queued.

use std::time::{Duration, Instant};

use super::yardstick::Bare;
use anyhow::{Result, bail};
use fairlane_common::id::Token;
use fairlane_common::limits;
use fairlane_common::queue::{Claim, Claimed, Finish, Finished, Outcome};
use futures::{StreamExt, TryStreamExt};

use super::Report;
use super::enqueue::PAYLOAD_BYTES;
use super::meter::{Pair, Sample, at_once};
use super::scene::{Scene, lanes_for, turn_of};

/// Requests in flight while the queue is filled.
const FILL_AT_ONCE: u32 = 64;

pub(super) async fn run(scene: &Scene, n: u32, concurrency: u32, rounds: u32) -> Result<Report> {
    let (lanes, turn) = (lanes_for(n), turn_of(n, rounds, concurrency));
    at_once(0..turn * rounds, FILL_AT_ONCE, |i| async move { scene.submit(i, i % lanes).await.map(drop) })
        .await?;
    let payload = &"x".repeat(PAYLOAD_BYTES);
    at_once(
        0..turn * rounds,
        FILL_AT_ONCE,
        |i| async move { scene.bare.enqueue(u64::from(i), payload).await },
    )
    .await?;
    let mut pair = Pair::default();
    for _ in 0..rounds {
        // As in production, the worker's heartbeat does not renew builds that have ended.
        scene.queue.renew(&scene.beat(&scene.worker, concurrency)).await?;
        let ours = Sample::of(scene.queue.link(), drain(scene, turn, concurrency)).await?;
        let bare = [Bare::Take, Bare::Acknowledge];
        pair.add(ours, scene.rival.turn(&scene.bare, &bare, turn, concurrency, "").await?);
    }
    Ok(Report { line: pair.line("drain"), facts: pair.facts("drain", &scene.rival.name()) })
}

/// Claims in batches and finishes until `count` builds are done.
async fn drain(scene: &Scene, count: u32, slots: u32) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while took.len() < count as usize {
        let begun = Instant::now();
        let left = count as usize - took.len();
        let claimed = claim(scene, left.min(slots as usize)).await?;
        if claimed.is_empty() {
            bail!("nothing can be claimed with {left} builds to go");
        }
        let finishes = claimed.into_iter().map(|claimed| async move {
            finish(scene, &claimed.token).await?;
            anyhow::Ok(begun.elapsed())
        });
        let done: Vec<Duration> =
            futures::stream::iter(finishes).buffer_unordered(slots as usize).try_collect().await?;
        took.extend(done);
    }
    Ok(took)
}

/// Claims up to `free` builds.
pub(super) async fn claim(scene: &Scene, free: usize) -> Result<Vec<Claimed>> {
    let claim = Claim {
        worker: scene.worker.clone(),
        place: format!("process:{}", scene.worker),
        free,
        lease: limits::LEASE,
        request: request_id(),
    };
    Ok(scene.queue.claim(&claim).await?.builds)
}

/// An id for a request.
pub(super) fn request_id() -> uuid::Uuid {
    uuid::Uuid::from_u128(fastrand::u128(..))
}

/// Ends a build as succeeded.
pub(super) async fn finish(scene: &Scene, token: &Token) -> Result<()> {
    let finish = Finish::of(Outcome::Succeeded);
    match scene.queue.finish(token, &finish).await? {
        Finished::Ended(_) => Ok(()),
        other => bail!("the build did not end: {other:?}"),
    }
}
