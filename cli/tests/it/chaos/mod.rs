//! Everything goes wrong at once, at random: processes are killed and frozen, connections cut, disks filled, clocks set,
//! Redis fails over, and the Kubernetes API has faults. Meanwhile clients ask for builds. In the end every promise must
//! have been kept. `cargo xtask chaos` does it for minutes.
//!
//! The seed decides what goes wrong, how and in which order. When it happens relative to the rest differs from run to run.

#![expect(clippy::print_stdout, reason = "the report is what it is run for")]

mod crowd;
mod gauges;
mod mishap;
mod report;
mod site;
mod stage;
mod verdict;
mod wish;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio_util::task::AbortOnDropHandle;

use self::crowd::Crowd;
use self::gauges::Gauges;
use self::mishap::{Mishap, deck};
use self::stage::Stage;

/// Minutes and seed: `2,7`.
const VARIABLE: &str = "FAIRLANE_CHAOS";
/// A minute of a long run has this many builds.
const BUILDS_PER_MINUTE: f64 = 100.0;
/// So many mishaps at most are under way at once.
const AT_ONCE: usize = 4;
/// How long the last builds may take once all is well: a lease, retries with their backoff, and the build itself.
const AFTERMATH: Duration = Duration::from_secs(150);

/// How long, how much, how random.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    length: Duration,
    builds: usize,
    clients: usize,
    lease: Duration,
    /// The usual time between two mishaps.
    every: Duration,
}

impl Plan {
    /// The plan that the environment names, or a short one.
    fn read() -> Self {
        let Ok(text) = std::env::var(VARIABLE) else { return Self::short() };
        let (minutes, seed) = text.split_once(',').expect("minutes and seed");
        let minutes: f64 = minutes.parse().expect("minutes are a number");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousands")]
        let builds = (minutes * BUILDS_PER_MINUTE) as usize;
        Self {
            seed: seed.parse().expect("a seed is a number"),
            length: Duration::from_secs_f64(60.0 * minutes),
            builds,
            clients: 300,
            lease: Duration::from_secs(10),
            every: Duration::from_secs(4),
        }
    }

    fn short() -> Self {
        Self {
            seed: 1,
            length: Duration::from_secs(20),
            builds: 30,
            clients: 40,
            lease: Duration::from_secs(5),
            every: Duration::from_secs(1),
        }
    }

    /// Whether it was asked for by hand.
    fn is_long(&self) -> bool {
        self.clients >= 300
    }

    /// Where the report and the processes' logs go.
    fn folder(&self) -> PathBuf {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        target.join("chaos").join(format!("seed-{}{}", self.seed, if self.is_long() { "" } else { "-short" }))
    }
}

/// What happened so far.
struct Diary {
    began: Instant,
    happened: Mutex<BTreeMap<Mishap, usize>>,
    /// Processes that ended without anybody's doing.
    ended: Mutex<Vec<String>>,
    /// How often a process found no Redis when it started.
    failed_starts: AtomicU64,
}

impl Diary {
    fn new() -> Self {
        let (happened, ended) = (Mutex::default(), Mutex::default());
        Self { began: Instant::now(), happened, ended, failed_starts: AtomicU64::new(0) }
    }

    fn say(&self, what: &str) {
        println!("{:7.1}  {what}", self.began.elapsed().as_secs_f64());
    }
}

/// Lets things go wrong until the time is over, then waits until all of them are mended.
async fn mishaps(stage: &Stage, plan: &Plan, diary: &Diary) {
    let mut rng = Rng::with_seed(plan.seed);
    let (mut cards, mut under_way) = (Vec::new(), FuturesUnordered::new());
    while diary.began.elapsed() < plan.length {
        let pause = tokio::time::sleep(plan.every.mul_f64(0.5 + rng.f64()));
        let mut pause = std::pin::pin!(pause);
        let mut is_time = false;
        while !is_time || under_way.len() >= AT_ONCE {
            tokio::select! {
                () = &mut pause, if !is_time => is_time = true,
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
            }
        }
        if cards.is_empty() {
            cards = deck(&mut rng);
        }
        let Some(mishap) = cards.pop() else { continue };
        under_way.push(happen(mishap, stage, diary, rng.fork()));
    }
    under_way.collect::<()>().await;
    stage.cluster.all_is_well();
}

async fn happen(mishap: Mishap, stage: &Stage, diary: &Diary, mut rng: Rng) {
    let from = diary.began.elapsed().as_secs_f64();
    match mishap.happens(stage, &mut rng).await {
        Some(what) => {
            diary.say(&format!("{mishap:?} since {from:.1}: {what}"));
            *diary.happened.lock().unwrap().entry(mishap).or_default() += 1;
        }
        None => diary.say(&format!("{mishap:?}: not now")),
    }
}

/// Measures all processes once a second, and starts those again that have ended.
async fn look_on(stage: Arc<Stage>, gauges: Arc<Gauges>, diary: Arc<Diary>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        stage.note_failover().await;
        for (name, was_ready) in stage.keep_alive() {
            diary.say(&format!("{name} has ended by itself and is started again"));
            if was_ready {
                diary.ended.lock().unwrap().push(name);
            } else {
                diary.failed_starts.fetch_add(1, Ordering::Relaxed);
            }
        }
        for member in &stage.members {
            gauges.look(&member.name, member.process().pid());
        }
        for (name, pid) in stage.servers() {
            gauges.look(name, pid);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_goes_wrong_no_promise_is_broken() {
    let plan = Plan::read();
    let stage = Arc::new(Stage::start(&plan).await);
    let (gauges, diary) = (Arc::new(Gauges::new()), Arc::new(Diary::new()));
    let looking = tokio::spawn(look_on(Arc::clone(&stage), Arc::clone(&gauges), Arc::clone(&diary)));
    let looking = AbortOnDropHandle::new(looking);
    let crowd = Crowd::new(&plan, stage.urls());
    let mut clients = crowd.come(plan.clients);
    mishaps(&stage, &plan, &diary).await;
    diary.say("all is mended; waiting for the last builds");
    let everybody = async {
        let mut panicked = Vec::new();
        while let Some(client) = clients.join_next().await {
            panicked.extend(client.err());
        }
        panicked
    };
    let end = tokio::time::timeout(AFTERMATH, everybody).await;
    diary.say(if end.is_ok() { "nobody waits any more" } else { "somebody still waits" });
    let took = diary.began.elapsed();
    let report = verdict::of(&plan, &stage, &crowd, &gauges, &diary, took).await;
    drop(looking);
    println!("\n{}", report.text);
    std::fs::write(stage.logs.join("report.txt"), &report.text).unwrap();
    println!("This report and the logs of all processes are in {}.", stage.logs.display());
    assert!(end.as_ref().map_or(true, Vec::is_empty), "clients panicked: {end:?}");
    assert!(report.broken.is_empty(), "chaos with seed {}: broken: {}", plan.seed, report.broken.join("; "));
}
