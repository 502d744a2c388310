//! `fairlane bench skewed`: a few lanes have most builds. How close does the queue get to the ideal schedule?

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use fairlane_common::id::WorkerId;
use fairlane_common::limits;
use fairlane_common::queue::{Claim, Claimed, Policy};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::Report;
use super::drain::{finish, request_id};
use super::meter::{Sample, at_once, round};
use super::scene::Scene;

/// Slots of one worker.
const SLOTS: u32 = 4;
/// How steeply popularity falls: a usual exponent for requests by people.
const ZIPF: f64 = 1.1;
/// How long a worker waits for a token, as real workers do.
const WAIT: Duration = Duration::from_secs(2);

/// Parameters of the measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) builds: u32,
    pub(super) lanes: u32,
    pub(super) limit: u32,
    pub(super) workers: u32,
    pub(super) build_ms: u32,
}

/// Counts that are kept outside the queue while it runs.
struct Watch {
    plan: Plan,
    running: Mutex<HashMap<String, u32>>,
    left: AtomicU32,
    over_limit: AtomicU32,
}

pub(super) async fn run(scene: &Scene, plan: Plan) -> Result<Report> {
    let policy = Policy { limit: Some(plan.limit), burst: Some(plan.limit), ..Policy::default() };
    scene.queue.configure(&policy).await?;
    let counts = shares(plan);
    let order = shuffled(&counts);
    let order = &order;
    at_once(0..plan.builds, 64, |i| async move { scene.submit(i, order[i as usize]).await.map(drop) })
        .await?;
    let workers: Vec<WorkerId> = (0..plan.workers).map(|_| WorkerId::new("bench")).collect();
    let watch = Watch {
        plan,
        running: Mutex::default(),
        left: AtomicU32::new(plan.builds),
        over_limit: AtomicU32::new(0),
    };
    let begun = Instant::now();
    let work = async {
        let work: FuturesUnordered<_> = workers.iter().map(|worker| serve(scene, worker, &watch)).collect();
        let took: Vec<Vec<Duration>> = work.try_collect().await?;
        Ok(took.into_iter().flatten().collect())
    };
    let sample = Sample::of(scene.queue.link(), work).await?;
    let makespan = begun.elapsed().as_secs_f64();
    let ideal = ideal(plan, counts.iter().copied().max().unwrap_or(0));
    let over = watch.over_limit.load(Ordering::Relaxed);
    let facts = json!({
        "bench": "skewed",
        "ours": sample.facts(),
        "lanes": plan.lanes,
        "limit": plan.limit,
        "slots": plan.workers * SLOTS,
        "build_ms": plan.build_ms,
        "most_builds_of_a_lane": counts.iter().max(),
        "makespan_seconds": round(makespan),
        "ideal_seconds": round(ideal),
        "ratio_of_makespan": round(makespan / ideal),
        "starts_over_the_limit": over,
    });
    let line = format!(
        "skewed: {makespan:.2} s for {} builds, {:.2} times the ideal {ideal:.2} s, {over} starts over the limit",
        plan.builds,
        makespan / ideal
    );
    Ok(Report { line, facts })
}

/// How many builds each lane has.
fn shares(plan: Plan) -> Vec<u32> {
    let weights: Vec<f64> = (1..=plan.lanes).map(|rank| f64::from(rank).powf(-ZIPF)).collect();
    let all: f64 = weights.iter().sum();
    let mut reached = 0.0;
    let mut given = 0;
    let mut counts = Vec::new();
    for weight in weights {
        reached += weight / all * f64::from(plan.builds);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the builds")]
        let up_to = (reached.round() as u32).min(plan.builds);
        counts.push(up_to - given);
        given = up_to;
    }
    if let Some(last) = counts.last_mut() {
        *last += plan.builds - given;
    }
    counts
}

/// The lane of each build, in an order that is the same in each run.
fn shuffled(counts: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> =
        (0_u32..).zip(counts).flat_map(|(lane, count)| std::iter::repeat_n(lane, *count as usize)).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    order
}

/// A lower bound for any schedule: all slots are always busy, or the permits of the largest lane are.
fn ideal(plan: Plan, most: u32) -> f64 {
    let waves = |builds: u32, at_once: u32| f64::from(builds.div_ceil(at_once));
    let busiest = waves(plan.builds, plan.workers * SLOTS).max(waves(most, plan.limit));
    busiest * f64::from(plan.build_ms) / 1000.0
}

/// Runs one worker until all builds are done; returns how long each build occupied its slot.
async fn serve(scene: &Scene, worker: &WorkerId, watch: &Watch) -> Result<Vec<Duration>> {
    scene.queue.renew(&scene.beat(worker, SLOTS)).await?;
    let mut waiter = scene.queue.waiter();
    let mut runs = FuturesUnordered::new();
    let mut took = Vec::new();
    let mut look = true;
    while watch.left.load(Ordering::Relaxed) > 0 || !runs.is_empty() {
        let free = (SLOTS as usize).saturating_sub(runs.len());
        if look && free > 0 {
            for claimed in claim(scene, worker, free).await? {
                watch.begin(&claimed);
                runs.push(build(scene, watch, claimed));
            }
        }
        let free = (SLOTS as usize).saturating_sub(runs.len());
        tokio::select! {
            Some(done) = runs.next(), if !runs.is_empty() => {
                took.push(done?);
                // A worker with a newly freed slot looks for work without a token.
                look = true;
            }
            token = waiter.wait(WAIT), if free > 0 => look = token?,
        }
    }
    Ok(took)
}

async fn claim(scene: &Scene, worker: &WorkerId, free: usize) -> Result<Vec<Claimed>> {
    let claim = Claim {
        worker: worker.clone(),
        place: format!("process:{worker}"),
        free,
        lease: limits::LEASE,
        request: request_id(),
    };
    Ok(scene.queue.claim(&claim).await?.builds)
}

/// One build: it takes its time and succeeds.
async fn build(scene: &Scene, watch: &Watch, claimed: Claimed) -> Result<Duration> {
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(u64::from(watch.plan.build_ms))).await;
    watch.end(&claimed);
    finish(scene, &claimed.token).await?;
    watch.left.fetch_sub(1, Ordering::Relaxed);
    Ok(begun.elapsed())
}

impl Watch {
    fn begin(&self, claimed: &Claimed) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(claimed.build.lane.to_string()).or_default();
        *count += 1;
        if *count > self.plan.limit {
            self.over_limit.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn end(&self, claimed: &Claimed) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(claimed.build.lane.as_str()) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_shared_out_by_popularity() {
        let plan = Plan { builds: 1000, lanes: 50, limit: 2, workers: 8, build_ms: 50 };
        let counts = shares(plan);
        assert_eq!(counts.iter().sum::<u32>(), 1000);
        assert!(counts[0] > counts[1] && counts[1] > counts[10]);
        assert_eq!(shuffled(&counts).len(), 1000);
        assert!((ideal(plan, counts[0]) - f64::from(counts[0].div_ceil(2)) * 0.05).abs() < 1e-9);
    }
}
