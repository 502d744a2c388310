//! `fairlane bench latency`: from the request for a build to its claim by an idle worker.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fairlane_common::id::Token;
use fairlane_common::queue::Waiter;

use super::Report;
use super::drain::{claim, finish};
use super::meter::{Pair, Sample};
use super::scene::{Scene, lanes_for};

/// How long a worker waits for a token before the measurement fails.
const TOKEN_LIMIT: Duration = Duration::from_secs(2);

pub(super) async fn run(scene: &Scene, n: u32, rounds: u32) -> Result<Report> {
    let (lanes, turn) = (lanes_for(n), (n / rounds).max(1));
    let mut waiter = scene.queue.waiter();
    let mut pair = Pair::default();
    // The first turn opens connections and compiles scripts, so it does not count.
    for round in 0..=rounds {
        scene.queue.renew(&scene.beat(&scene.worker, 4)).await?;
        let numbers = round * turn..(round + 1) * turn;
        let ours = async {
            let mut took = Vec::new();
            for i in numbers.clone() {
                let (time, token) = wake_up(scene, &mut waiter, i, i % lanes).await?;
                took.push(time);
                finish(scene, &token).await?;
            }
            Ok(took)
        };
        let ours = Box::pin(Sample::of(scene.queue.link(), ours)).await?;
        let bare = async {
            let mut took = Vec::new();
            for i in numbers.clone() {
                let begun = Instant::now();
                scene.bare.enqueue(u64::from(i), "x").await?;
                if !scene.bare.take(u64::from(i)).await? {
                    bail!("the bare queue is empty");
                }
                took.push(begun.elapsed());
                scene.bare.acknowledge(u64::from(i)).await?;
            }
            Ok(took)
        };
        let bare = Box::pin(Sample::of(scene.queue.link(), bare)).await?;
        if round > 0 {
            pair.add(ours, bare);
        }
    }
    let mut facts = pair.facts("latency", "own client");
    facts["yardstick_is"] =
        "an enqueue and a take of the bare queue, one after the other, without a wake-up".into();
    Ok(Report { line: pair.line("latency"), facts })
}

/// An idle worker waits, a build is requested, the worker wakes up and claims it.
async fn wake_up(scene: &Scene, waiter: &mut Waiter, i: u32, lane: u32) -> Result<(Duration, Token)> {
    let request = scene.request(i, lane)?;
    let worker = async {
        loop {
            if !waiter.wait(TOKEN_LIMIT).await? {
                bail!("no token came within {} s", TOKEN_LIMIT.as_secs());
            }
            // The token may be a leftover of a build that was claimed together with another one.
            if let Some(claimed) = claim(scene, 1).await?.pop() {
                return Ok((Instant::now(), claimed.token));
            }
        }
    };
    let asker = async {
        // The worker's wait is sent first; then both are in flight.
        tokio::task::yield_now().await;
        let begun = Instant::now();
        scene.queue.submit(&request).await?;
        anyhow::Ok(begun)
    };
    let ((claimed, token), begun) = tokio::try_join!(worker, asker)?;
    Ok((claimed.saturating_duration_since(begun), token))
}
