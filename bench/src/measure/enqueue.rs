//! `fairlane bench enqueue`: requesting builds.

use super::yardstick::Bare;
use anyhow::Result;

use super::Report;
use super::meter::{Pair, Sample, at_once};
use super::scene::{Scene, lanes_for, turn_of};

/// Size of a job's payload in the bare queue, in bytes.
pub(super) const PAYLOAD_BYTES: usize = 300;

pub(super) async fn run(scene: &Scene, n: u32, concurrency: u32, rounds: u32) -> Result<Report> {
    let payload = "x".repeat(PAYLOAD_BYTES);
    let (lanes, turn) = (lanes_for(n), turn_of(n, rounds, concurrency));
    // All workers are busy, as when builds have to wait.
    scene.queue.renew(&scene.beat(&scene.worker, 64)).await?;
    warm_up(scene, &payload).await?;
    let mut pair = Pair::default();
    for round in 0..rounds {
        let numbers = round * turn..(round + 1) * turn;
        let ours =
            at_once(numbers, concurrency, |i| async move { scene.submit(i, i % lanes).await.map(drop) });
        let ours = Sample::of(scene.queue.link(), ours).await?;
        let bare = scene.rival.turn(&scene.bare, &[Bare::Enqueue], turn, concurrency, &payload).await?;
        pair.add(ours, bare);
    }
    Ok(Report { line: pair.line("enqueue"), facts: pair.facts("enqueue", &scene.rival.name()) })
}

/// Makes both sides compile their scripts and allocate their memory.
async fn warm_up(scene: &Scene, payload: &str) -> Result<()> {
    for i in 0..200 {
        scene.submit(u32::MAX - i, 0).await?;
        scene.bare.enqueue(u64::MAX, payload).await?;
    }
    Ok(())
}
