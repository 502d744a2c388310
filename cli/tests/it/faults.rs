//! Each process is killed, frozen or restarted in turn while builds run and people watch. Every build ends
//! once, streams continue without losing or repeating a line, other lanes are not delayed, and a build never
//! has two live runs.

use std::time::{Duration, Instant};

use fairlane_common::BuildState;
use fairlane_testkit::wait_for;

use crate::setup::LIMIT;
use crate::system::{LEASE_S, System, Watch, recorded};

/// Lines in a build's log; it writes ten a second.
const LINES: usize = 60;

/// What a run does.
const WORK: &str = r#"i=1; while [ $i -le 60 ]; do echo "line $i"; i=$((i+1)); sleep 0.1; done"#;

struct Scene {
    system: System,
    watches: Vec<Watch>,
}

impl Scene {
    /// Four running builds of four lanes, followed alternately through the two dispatchers.
    async fn start() -> Self {
        let system = System::start(&recorded(WORK), 2, 3, 3).await;
        let mut watches = vec![];
        for (name, first) in [("a", 0), ("b", 1), ("c", 0), ("d", 1)] {
            let id = system.submit(name, 1).await;
            watches.push(system.watch(id, first));
        }
        for watch in &watches {
            watch.wait_for_lines(5).await;
        }
        Self { system, watches }
    }

    /// The number of the worker that runs a watched build.
    async fn worker_of(&self, watch: usize) -> usize {
        let build = self.system.queue().await.build(self.watches[watch].id).await.unwrap().unwrap();
        let worker = build.worker.unwrap().to_string();
        worker.strip_prefix("host").and_then(|rest| rest.split('-').next()).unwrap().parse().unwrap()
    }

    /// A build of another lane starts within a lease and 2 s.
    async fn others_are_not_held_up(&self, name: &str) {
        let queue = self.system.queue().await;
        let asked = Instant::now();
        let id = self.system.submit(name, 1).await;
        let limit = Duration::from_secs(LEASE_S + 2);
        wait_for("another lane's build to start", limit, async || {
            queue.build(id).await.unwrap().unwrap().state != BuildState::Queued
        })
        .await;
        assert!(asked.elapsed() <= limit);
    }

    /// Waits until all builds have succeeded; returns the number of each one's last run.
    async fn all_end(&self) -> Vec<u64> {
        let mut runs = vec![];
        for watch in &self.watches {
            watch.success().await;
            runs.push(watch.whole_log(LINES));
        }
        assert!(!self.system.runs("overlap").exists(), "two runs of one build were alive at once");
        assert_eq!(
            self.system.redis.denied().await,
            Vec::<String>::new(),
            "each has the rights that it needs"
        );
        let report = self.system.queue().await.check(10_000).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        runs
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_dispatcher_costs_nothing() {
    let scene = Scene::start().await;
    scene.system.dispatchers[0].kill();
    scene.others_are_not_held_up("e").await;
    assert_eq!(scene.all_end().await, [1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_dispatcher_costs_nothing() {
    let scene = Scene::start().await;
    scene.system.dispatchers[1].freeze();
    scene.others_are_not_held_up("e").await;
    assert_eq!(scene.all_end().await, [1; 4]);
    scene.system.dispatchers[1].thaw();
}

/// A process ends with its worker, so this build ran twice. Other builds of that worker may have, too.
fn one_worker_was_lost(runs: &[u64], lost: usize) {
    assert_eq!(runs[lost], 2, "{runs:?}");
    assert!(runs.iter().all(|run| *run <= 2), "{runs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_builds_are_built_by_others() {
    let scene = Scene::start().await;
    let victim = scene.worker_of(0).await;
    scene.system.workers[victim].kill();
    scene.others_are_not_held_up("e").await;
    one_worker_was_lost(&scene.all_end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_workers_runs_are_dead_before_others_build() {
    let scene = Scene::start().await;
    let victim = scene.worker_of(1).await;
    scene.system.workers[victim].freeze();
    scene.others_are_not_held_up("e").await;
    let runs = scene.all_end().await;
    one_worker_was_lost(&runs, 1);
    // After waking up, the worker finds its leases gone and changes nothing. Then it accepts builds again.
    let queue = scene.system.queue().await;
    let before = queue.build(scene.watches[1].id).await.unwrap().unwrap();
    scene.system.workers[victim].thaw();
    wait_for("the thawed worker to be seen", LIMIT, async || queue.workers().await.unwrap().len() == 3).await;
    let after = queue.build(scene.watches[1].id).await.unwrap().unwrap();
    assert_eq!((before.seq, before.state), (after.seq, after.state));
    scene.all_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_redis_costs_nothing() {
    let scene = Scene::start().await;
    scene.system.redis.restart().await;
    scene.others_are_not_held_up("e").await;
    assert_eq!(scene.all_end().await, [1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_that_comes_back_costs_nothing() {
    let scene = Scene::start().await;
    scene.system.redis.kill();
    scene.system.redis.start().await;
    scene.others_are_not_held_up("e").await;
    assert_eq!(scene.all_end().await, [1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_that_goes_on_costs_nothing() {
    let scene = Scene::start().await;
    scene.system.redis.freeze();
    // This is shorter than a lease, which a process must not outlive.
    let frozen = Instant::now();
    wait_for("a second of silence", LIMIT, async || frozen.elapsed() > Duration::from_secs(1)).await;
    scene.system.redis.thaw();
    scene.others_are_not_held_up("e").await;
    assert_eq!(scene.all_end().await, [1; 4]);
}
