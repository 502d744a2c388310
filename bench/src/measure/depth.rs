//! `fairlane bench depth`: what operations cost Redis with N builds in line, compared with flat scripts that run
//! the same commands on the same sets.
//!
//! A flat script is made from a recorded call, and is given as arguments what the real one finds out itself. It
//! leaves the queue as the real one would, so both take turns on one queue. The bare queue's scripts also take
//! turns with them, to show how much of our distance to the bare queue is commands and how much is Lua.

use super::trace::{Flat, LaneHead, Recorder, lane_head, lane_heads};
use super::yardstick::Bare;
use crate::raw::{RedisCost, now_ms};
use anyhow::{Context, Result, bail};
use fairlane_common::Queue;
use fairlane_common::id::{BuildId, Lane, Token};
use fairlane_common::queue::{Order, Policy};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::drain::{claim, finish};
use super::enqueue::PAYLOAD_BYTES;
use super::meter::{as_f64, at_once, median, round, script_us};
use super::scene::{Scene, lanes_for, leaf, reference};
use super::{Report, profile, rival};

/// Calls of each kind in a turn.
const CALLS: u32 = 20;
/// Requests in flight while the queue is filled.
const FILL_AT_ONCE: u32 = 64;

/// One operation: ours, the flat script of its commands, and the bare queue's.
#[derive(Default)]
struct Operation {
    commands: usize,
    ours_us: Vec<f64>,
    flat_us: Vec<f64>,
    bare_us: Vec<f64>,
    ratios: Vec<f64>,
}

/// A recorded call, and the names that it was recorded with.
struct Recorded {
    flat: Flat,
    names: Vec<String>,
}

pub(super) async fn run(scene: &Scene, n: u32, rounds: u32) -> Result<Report> {
    // First come, first served: the lanes take turns, and every call finds a similar queue.
    scene.queue.configure(&Policy { order: Some(Order::FirstCome), ..Policy::default() }).await?;
    scene.queue.reap().await?;
    scene.queue.renew(&scene.beat(&scene.worker, 64)).await?;
    let lanes = lanes_for(n).max(8 * CALLS);
    at_once(0..n, FILL_AT_ONCE, |i| async move { scene.submit(i, i % lanes).await.map(drop) }).await?;
    let memory = RedisCost::of(scene.queue.link()).await?.memory_bytes;
    let profile = profile::run(scene, n, lanes).await?;
    // Requests of one process are batched into one call to Redis. Here each must be a separate call.
    let askers = try_join_all((0..CALLS).map(|_| scene.another_queue())).await?;
    let mut bench = Bench { scene, askers, lanes, next: n + 1 };
    let recorded = bench.record().await?;
    let mut operations: [Operation; 3] = Default::default();
    for (operation, recorded) in operations.iter_mut().zip(&recorded) {
        operation.commands = recorded.flat.commands();
    }
    for _ in 0..rounds {
        bench.turn(&recorded, &mut operations).await?;
    }
    let [submit, claim, finish] = &operations;
    let facts = json!({
        "bench": "depth",
        "queued": n,
        "lanes": lanes,
        "redis_memory_bytes": memory,
        "bytes_each": (as_f64(memory) / f64::from(n)).round(),
        "submit": submit.facts(),
        "claim": claim.facts(),
        "finish": finish.facts(),
        "commands": profile,
    });
    let line =
        format!("depth {n}: submit {}; claim {}; finish {}", submit.line(), claim.line(), finish.line());
    Ok(Report { line, facts })
}

impl Operation {
    fn facts(&self) -> Value {
        json!({
            "commands": self.commands,
            "ours_us": round(median(&self.ours_us)),
            "flat_us": round(median(&self.flat_us)),
            "bare_us": round(median(&self.bare_us)),
            "flat_to_ours": round(median(&self.ratios)),
        })
    }

    fn line(&self) -> String {
        format!(
            "{} commands, {:.1} µs, {:.0} % of a flat script ({:.1} µs)",
            self.commands,
            median(&self.ours_us),
            median(&self.ratios) * 100.0,
            median(&self.flat_us)
        )
    }

    fn add(&mut self, ours: f64, flat: f64, bare: f64) {
        self.ours_us.push(ours);
        self.flat_us.push(flat);
        self.bare_us.push(bare);
        self.ratios.push(flat / ours);
    }
}

struct Bench<'a> {
    scene: &'a Scene,
    askers: Vec<Queue>,
    lanes: u32,
    next: u32,
}

impl Bench<'_> {
    fn new_build(&mut self) -> (u32, u32) {
        let number = self.next;
        self.next += 1;
        (number, number % self.lanes)
    }

    async fn head(&self, lane: u32) -> Result<LaneHead> {
        let lane: Lane = format!("github.com/bench/{}", leaf(lane)).parse()?;
        lane_head(&self.scene.queue, &lane).await
    }

    /// Records a submit, a claim and a finish.
    async fn record(&mut self) -> Result<[Recorded; 3]> {
        let scene = self.scene;
        let mut recorder = Recorder::start(scene.queue.link()).await?;
        let (number, lane) = self.new_build();
        let head = self.head(lane).await?;
        recorder.commands().await?;
        let at = now_ms(scene.queue.link()).await?;
        let id = scene.submit(number, lane).await?;
        let names = names(&id.to_string(), number, lane, &head.first.1);
        let submit = self.recorded(&mut recorder, names, at).await?;

        let head = lane_heads(&scene.queue, 1).await?.pop().context("no lane can start")?;
        recorder.commands().await?;
        let at = now_ms(scene.queue.link()).await?;
        let claimed = claim(scene, 1).await?.pop().context("nothing was claimed")?;
        if claimed.token.build.to_string() != head.first.0 {
            bail!("the claimed build is not the first one of the first lane");
        }
        let number = number_of(claimed.build.spec.reference.as_str())?;
        let names = names_of_head(&head, number, self.lanes);
        let claim = self.recorded(&mut recorder, names.clone(), at).await?;

        let at = now_ms(scene.queue.link()).await?;
        finish(scene, &claimed.token).await?;
        let finish = self.recorded(&mut recorder, names, at).await?;
        Ok([submit, claim, finish])
    }

    async fn recorded(&self, recorder: &mut Recorder, names: Vec<String>, at: u64) -> Result<Recorded> {
        let queue = &self.scene.queue;
        let commands = recorder.commands().await?;
        let words: Vec<&str> = names.iter().map(String::as_str).collect();
        let flat = Flat::of(queue.link(), queue.keys().schema(), &commands, &words, at).await?;
        Ok(Recorded { flat, names })
    }

    /// A turn of each operation: ours, then the flat script. The calls of a turn are sent concurrently.
    async fn turn(&mut self, recorded: &[Recorded; 3], operations: &mut [Operation; 3]) -> Result<()> {
        let scene = self.scene;
        let [submit, claims, finishes] = recorded;
        let ours: Vec<(u32, u32)> = (0..CALLS).map(|_| self.new_build()).collect();
        let flat = self.names_of_new().await?;
        let start = self.cost().await?;
        let askers = self.askers.iter().zip(ours);
        try_join_all(askers.map(|(queue, (number, lane))| scene.submit_through(queue, number, lane))).await?;
        let between = self.cost().await?;
        self.replay(submit, &flat).await?;
        let flat = script_us(&between, &self.cost().await?);
        operations[0].add(script_us(&start, &between), flat, self.bare(Bare::Enqueue).await?);

        let start = self.cost().await?;
        let held = try_join_all((0..CALLS).map(|_| claim(scene, 1))).await?;
        let ours = script_us(&start, &self.cost().await?);
        let taken = self.names_of_next().await?;
        let between = self.cost().await?;
        self.replay(claims, &taken).await?;
        let flat = script_us(&between, &self.cost().await?);
        operations[1].add(ours, flat, self.bare(Bare::Take).await?);

        let held: Vec<Token> = held.into_iter().flatten().map(|claimed| claimed.token).collect();
        let start = self.cost().await?;
        try_join_all(held.iter().map(|token| finish(scene, token))).await?;
        let between = self.cost().await?;
        self.replay(finishes, &taken).await?;
        let flat = script_us(&between, &self.cost().await?);
        operations[2].add(script_us(&start, &between), flat, self.bare(Bare::Acknowledge).await?);
        Ok(())
    }

    /// What a script of the bare queue costs.
    async fn bare(&self, operation: Bare) -> Result<f64> {
        let start = self.cost().await?;
        rival::own(&self.scene.bare, &[operation], CALLS, CALLS, &"x".repeat(PAYLOAD_BYTES)).await?;
        Ok(script_us(&start, &self.cost().await?))
    }

    /// New builds for flat submits.
    async fn names_of_new(&mut self) -> Result<Vec<Vec<String>>> {
        let mut all = Vec::new();
        for _ in 0..CALLS {
            let (number, lane) = self.new_build();
            let head = self.head(lane).await?;
            all.push(names(&BuildId::new().to_string(), number, lane, &head.first.1));
        }
        Ok(all)
    }

    /// The builds that are next, each the first of its lane, for flat claims.
    async fn names_of_next(&self) -> Result<Vec<Vec<String>>> {
        let queue = &self.scene.queue;
        let mut all = Vec::new();
        for head in lane_heads(queue, CALLS as usize).await? {
            let build = queue.build(head.first.0.parse()?).await?.context("a build in line is unknown")?;
            let number = number_of(build.spec.reference.as_str())?;
            all.push(names_of_head(&head, number, self.lanes));
        }
        Ok(all)
    }

    async fn replay(&self, recorded: &Recorded, calls: &[Vec<String>]) -> Result<()> {
        let queue = &self.scene.queue;
        let now = now_ms(queue.link()).await?;
        let pairs = |call: &Vec<String>| -> Vec<(String, String)> {
            recorded.names.iter().cloned().zip(call.iter().cloned()).collect()
        };
        let calls: Vec<_> = calls.iter().map(pairs).collect();
        try_join_all(calls.iter().map(|names| recorded.flat.run(queue.link(), names, now))).await?;
        Ok(())
    }

    async fn cost(&self) -> Result<RedisCost> {
        RedisCost::of(self.scene.queue.link()).await
    }
}

/// What differs from build to build: its id, its commit, its repository, and the due that its lane has in the sets
/// afterwards.
fn names(id: &str, number: u32, lane: u32, due: &str) -> Vec<String> {
    vec![due.to_owned(), id.to_owned(), reference(number), leaf(lane)]
}

/// The same for the first build of a lane, once it is claimed.
fn names_of_head(head: &LaneHead, number: u32, lanes: u32) -> Vec<String> {
    names(&head.first.0, number, number % lanes, &head.then_due)
}

fn number_of(reference: &str) -> Result<u32> {
    Ok(reference.split('-').nth(1).context("not a build of this benchmark")?.parse()?)
}
