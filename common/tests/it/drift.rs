//! Whatever does not belong in a set is taken out of it, whichever set it is, and nothing else changes.

use fairlane_common::queue::inspect::Snapshot;
use fairlane_common::queue::{GiveBack, Outcome, Policy, PushAsk};
use fairlane_common::rule::Stop;
use fairlane_common::{BuildId, Lane, Rule, Token};
use fairlane_testkit::Saved;

use crate::scene::{Scene, ask, background, worker};

const OTHER: &str = "k8s:other/builds";
const R: &str = "r.example.org";
const NOBODY: &str = "8fae8c5c-0000-7000-8000-000000000000";

fn lane(name: &str) -> Lane {
    format!("github.com/{name}").parse().unwrap()
}

/// A queue with builds in every state, and in every set that has builds or lanes.
struct Full {
    scene: Scene,
    saved: Saved,
    at: u64,
    held: Vec<Token>,
    queued: BuildId,
    running: BuildId,
    ended: BuildId,
    orphan: BuildId,
}

impl Full {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let policy = Policy { push_limit: Some(1), ..Policy::default() };
        scene.queue.set_policy(&policy, "test").await.unwrap();
        scene.rule("github.com/full/*", &Rule { limit: Some(1), ..Rule::default() }).await;
        scene.rule("github.com/held/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
        scene.rule("github.com/s/*", &Rule { limit: Some(1), together: true, ..Rule::default() }).await;
        scene.reap().await;
        scene.beat_at("x", OTHER, 1, &[]).await;
        let orphan = scene.submit(&ask("o/orphan", 1)).await;
        let theirs = scene.claim_at("x", OTHER, 1).await.remove(0).token;
        scene.queue.give_back(&theirs, &GiveBack::Handover).await.unwrap();
        scene.beat("w", 8, &[]).await;
        let done = scene.submit(&ask("o/done", 1)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.finish(&token, Outcome::Succeeded).await;
        for repo in ["full/a", "s/a", "o/runs"] {
            scene.submit(&ask(repo, 1)).await;
        }
        scene.submit(&background(ask("o/back", 1))).await;
        let claimed = scene.claim("w", 8).await;
        assert_eq!(claimed.len(), 4);
        let of = |name: &str| claimed.iter().find(|one| one.build.lane == lane(name)).unwrap().token.clone();
        let held = ["full/a", "s/a", "o/runs", "o/back"].map(of).to_vec();
        let wants = |token: &Token| PushAsk { token: token.clone(), registry: R.to_owned(), pushing: false };
        scene.queue.push(&worker("w"), &[wants(&held[0]), wants(&held[1])]).await.unwrap();
        for repo in ["full/a", "s/a", "held/a"] {
            scene.submit(&ask(repo, 2)).await;
        }
        let queued = scene.submit(&ask("o/waits", 1)).await;
        let running = held[2].build;
        let saved = scene.server.save().await.unwrap();
        scene.check().await;
        let at = scene.clock.now_ms();
        Self { saved, at, held, queued, running, ended: done, orphan, scene }
    }

    /// Time for the repair to look at everything, while all workers live.
    async fn walk(&self) {
        for _ in 0..3 {
            self.scene.pass(8000).await;
            self.scene.beat("w", 8, &self.held).await;
            self.scene.beat_at("x", OTHER, 1, &[]).await;
        }
    }

    /// The numbers of the queue after these changes and their repair, and how often something was repaired.
    async fn mended(&self, changes: &[&[&str]]) -> (String, u64) {
        self.scene.server.restore(&self.saved).await.unwrap();
        self.scene.clock.set_ms(self.at);
        for words in changes {
            self.scene.redis::<redis::Value>(words).await;
        }
        self.walk().await;
        let report = self.scene.queue.check(1000).await.unwrap();
        assert!(report.problems.is_empty(), "{changes:?}: {:?}", report.problems);
        let numbers = self.scene.queue.snapshot().await.unwrap();
        let repairs = numbers.repairs;
        (format!("{:?}", Snapshot { repairs: 0, aside: 0, ..numbers }), repairs)
    }
}

#[tokio::test]
async fn what_does_not_belong_into_a_set_is_taken_out_of_it() {
    let full = Full::new().await;
    let keys = full.scene.queue.keys().clone();
    let (numbers, repairs) = full.mended(&[]).await;
    assert_eq!(repairs, 0);
    let ids = [full.queued, full.running, full.ended, full.orphan].map(|id| id.to_string());
    let [queued, running, ended, orphan] = ids.each_ref().map(String::as_str);
    let (waits, shared) = (lane("o/waits"), "github.com/s/*");
    let strangers: [(String, &[&str]); 9] = [
        (keys.queued(), &[running, ended, orphan, NOBODY]),
        (keys.leases(), &[queued, ended, orphan, NOBODY]),
        (keys.orphans(), &[queued, running, ended, NOBODY]),
        (keys.lane(&waits), &[running, ended, orphan, NOBODY]),
        (keys.permits(&waits), &[queued, ended, NOBODY]),
        (keys.permits_shared(shared), &[queued, ended, NOBODY]),
        (keys.pushes_to(R), &[queued, running, ended, NOBODY]),
        (keys.push_line(R), &[queued, running, ended, NOBODY]),
        (keys.pushes(), &["old.example.org"]),
    ];
    let far = (full.at + 3_600_000).to_string();
    for (set, members) in &strangers {
        for member in *members {
            // The reaper sees to leases that have run out.
            let score = if set == &keys.leases() { &far } else { "5" };
            let (after, repairs) = full.mended(&[&["ZADD", set, score, member]]).await;
            assert_eq!(after, numbers, "{member} was in {set}");
            let told = set != &keys.pushes();
            assert!(repairs > 0 || !told, "{member} was in {set}, and no repair was counted");
        }
    }
}

#[tokio::test]
async fn what_is_missing_from_a_set_or_counted_wrong_is_made_good() {
    let full = Full::new().await;
    let keys = full.scene.queue.keys().clone();
    let (numbers, _) = full.mended(&[]).await;
    let (running, orphan, queued) =
        (full.running.to_string(), full.orphan.to_string(), full.queued.to_string());
    let (totals, stats) = (keys.totals(), keys.stats(&lane("o/waits")));
    let pushes = full.held[0].build.to_string();
    for words in [
        vec!["ZREM", &keys.leases(), &running],
        vec!["ZREM", &keys.orphans_at(OTHER), &orphan],
        vec!["ZREM", &keys.places(), OTHER],
        vec!["ZREM", &keys.permits(&lane("o/runs")), &running],
        vec!["ZREM", &keys.permits(&lane("o/orphan")), &orphan],
        vec!["ZREM", &keys.lane(&lane("o/waits")), &queued],
        vec!["ZADD", &keys.lanes_full(), "5", "github.com/o/nobody"],
        vec!["ZADD", &keys.lanes(), "5", "@github.com/nobody/*"],
        vec!["ZADD", &keys.lanes(), "5", "@github.com/s/*"],
        vec!["HINCRBY", &totals, "slots", "3"],
        vec!["HINCRBY", &totals, "people", "-3"],
        vec!["HINCRBY", &totals, "background", "2"],
        vec!["HSET", &totals, "avoided", "2", "campaigns", "4"],
    ] {
        let (after, _) = full.mended(&[&words]).await;
        assert_eq!(after, numbers, "{words:?}");
    }
    // A push that nobody knows of any more is asked for again by its worker.
    full.mended(&[&["ZREM", &keys.pushes_to(R), &pushes]]).await;
    let build = full.scene.build(full.held[0].build).await;
    assert_eq!((build.push_since, build.push_go), (None, None));
    // A lane in the wrong set is moved.
    let (waits, lanes, of_held) = ("github.com/o/waits", keys.lanes(), keys.lanes_held());
    let moved: [&[&str]; 3] =
        [&["ZREM", &lanes, waits], &["ZADD", &of_held, "5", waits], &["HSET", &stats, "at", "lanes:held"]];
    assert_eq!(full.mended(&moved).await.0, numbers);
}
