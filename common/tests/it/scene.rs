//! A queue for one test, with a clock that the test sets.

use std::cell::Cell;
use std::time::Duration;

use fairlane_common::clock::{Clock, SimulatedClock};
use fairlane_common::queue::{
    Beat, BeatReply, Blame, Claim, Claimed, Claims, Finish, Finished, Outcome, Reaped, Submit, Submitted,
};
use fairlane_common::{
    Build, BuildId, BuildSpec, BuildState, FailureCause, FailureClass, Pattern, Priority, Queue, Rule, Token,
    WorkerId,
};
use fairlane_testkit::RedisServer;
use uuid::Uuid;

use crate::former::FormerRelease;

/// The place of the tests' workers, whose runs others can adopt.
pub(crate) const K8S: &str = "k8s:test/builds";
pub(crate) const START_MS: u64 = 1_795_000_000_000;

pub(crate) struct Scene {
    pub(crate) server: RedisServer,
    pub(crate) queue: Queue,
    pub(crate) clock: SimulatedClock,
    /// The same queue through the former release, if the test uses both.
    former: Option<(FormerRelease, Queue)>,
    turns: Cell<u64>,
    connection: redis::aio::MultiplexedConnection,
}

/// A request for `repo` (owner/name) at commit number `commit`.
pub(crate) fn ask(repo: &str, commit: u32) -> Submit {
    let name = repo.replace('/', "-");
    Submit {
        id: BuildId::new(),
        spec: BuildSpec::new(
            format!("https://github.com/{repo}").parse().unwrap(),
            format!("c{commit}").parse().unwrap(),
            format!("r.example.org/{name}:c{commit}").parse().unwrap(),
        ),
        force: false,
        override_ban: None,
        dispatcher: None,
    }
}

pub(crate) fn background(mut submit: Submit) -> Submit {
    submit.spec.priority = Priority::Background;
    submit
}

pub(crate) fn worker(name: &str) -> WorkerId {
    name.parse().unwrap()
}

/// A heartbeat, which tests may change before they send it.
pub(crate) fn beat_of(name: &str, place: &str, slots: usize, held: &[Token]) -> Beat {
    Beat {
        worker: worker(name),
        host: name.to_owned(),
        version: "0".to_owned(),
        place: place.to_owned(),
        slots,
        draining: false,
        paused: None,
        nodes: 0,
        lease: Duration::from_secs(10),
        held: held.to_vec(),
    }
}

/// A claim, which may be sent again.
pub(crate) fn claim_of(name: &str, place: &str, free: usize) -> Claim {
    Claim {
        worker: worker(name),
        place: place.to_owned(),
        free,
        lease: Duration::from_secs(10),
        request: Uuid::new_v4(),
    }
}

pub(crate) fn failed(class: FailureClass) -> Outcome {
    failed_for(class, FailureCause::OTHER)
}

pub(crate) fn failed_for(class: FailureClass, cause: FailureCause) -> Outcome {
    Outcome::Failed { class, cause, reason: "it broke".to_owned(), blame: Blame::Nobody }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let server = RedisServer::start_default().await;
        let clock = SimulatedClock::new(START_MS);
        let url = server.url().parse().unwrap();
        let queue = Queue::open_simulated(&url, "fairlane", Clock::Simulated(clock.clone())).await.unwrap();
        let connection = server.connect().await;
        Self { connection, server, queue, clock, former: None, turns: Cell::new(0) }
    }

    /// A queue that is changed by this release and by the former one in turns.
    pub(crate) async fn of_two_releases() -> Self {
        let mut scene = Self::new().await;
        let former = FormerRelease::beside(&scene.server).await;
        let (url, clock) = (former.url().parse().unwrap(), Clock::Simulated(scene.clock.clone()));
        let queue = Queue::open_simulated(&url, "fairlane", clock).await.unwrap();
        scene.former = Some((former, queue));
        scene
    }

    /// What the names of this release's functions end in.
    pub(crate) async fn library(&self) -> String {
        let found: Vec<Vec<redis::Value>> =
            self.redis(&["FUNCTION", "LIST", "LIBRARYNAME", "fairlane_*"]).await;
        // The answer begins with the word `library_name`, then the name.
        let name: String = redis::from_redis_value_ref(&found[0][1]).unwrap();
        name.rsplit('_').next().unwrap().to_owned()
    }

    /// Whether the former release makes some of the changes.
    pub(crate) fn is_of_two_releases(&self) -> bool {
        self.former.is_some()
    }

    /// The queue that makes the next change. The turns of a history are the same each time.
    pub(crate) fn turn(&self) -> &Queue {
        let Some((_, former)) = &self.former else { return &self.queue };
        // Knuth's linear congruential generator; only its high bits are random enough.
        let next =
            self.turns.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.turns.set(next);
        if next >> 63 == 0 { &self.queue } else { former }
    }

    /// Empties Redis, and lets the refill window pass.
    pub(crate) async fn begin_anew(&self) {
        self.turns.set(0);
        self.redis::<()>(&["FLUSHALL"]).await;
        self.queue.snapshot().await.unwrap();
        self.clock.advance_ms(20_000);
        self.reap().await;
    }

    pub(crate) async fn submit(&self, submit: &Submit) -> BuildId {
        match self.turn().submit(submit).await.unwrap() {
            Submitted::New(build) | Submitted::Joined(build) => build.id,
            other => panic!("not admitted: {other:?}"),
        }
    }

    /// A heartbeat of a worker whose runs others can adopt.
    pub(crate) async fn beat(&self, name: &str, slots: usize, held: &[Token]) -> BeatReply {
        self.beat_at(name, K8S, slots, held).await
    }

    pub(crate) async fn beat_at(&self, name: &str, place: &str, slots: usize, held: &[Token]) -> BeatReply {
        self.turn().renew(&beat_of(name, place, slots, held)).await.unwrap()
    }

    pub(crate) async fn claim(&self, name: &str, free: usize) -> Vec<Claimed> {
        self.claim_at(name, K8S, free).await
    }

    pub(crate) async fn claim_at(&self, name: &str, place: &str, free: usize) -> Vec<Claimed> {
        self.claims_at(name, place, free).await.builds
    }

    pub(crate) async fn claims_at(&self, name: &str, place: &str, free: usize) -> Claims {
        self.turn().claim(&claim_of(name, place, free)).await.unwrap()
    }

    pub(crate) async fn claim_ids(&self, name: &str, free: usize) -> Vec<BuildId> {
        self.claim(name, free).await.iter().map(|claimed| claimed.build.id).collect()
    }

    pub(crate) async fn finish(&self, token: &Token, outcome: Outcome) -> Finished {
        let finish = Finish::of(outcome);
        self.turn().finish(token, &finish).await.unwrap()
    }

    pub(crate) async fn rule(&self, pattern: &str, rule: &Rule) {
        let pattern: Pattern = pattern.parse().unwrap();
        self.turn().set_rule(&pattern, rule, "test").await.unwrap();
    }

    pub(crate) async fn build(&self, id: BuildId) -> Build {
        self.queue.build(id).await.unwrap().unwrap()
    }

    pub(crate) async fn state(&self, id: BuildId) -> BuildState {
        self.build(id).await.state
    }

    /// Reaps until nothing is due.
    pub(crate) async fn reap(&self) -> Reaped {
        let mut all = Reaped::default();
        loop {
            let one = self.turn().reap().await.unwrap();
            all.orphaned += one.orphaned;
            all.lost += one.lost;
            all.timers += one.timers;
            if one.orphaned + one.lost + one.timers == 0 {
                return all;
            }
        }
    }

    /// Lets time pass with a reap at least once a second, so that Redis never seems to have been away.
    pub(crate) async fn pass(&self, ms: u64) -> Reaped {
        let mut all = self.reap().await;
        let mut left = ms;
        while left > 0 {
            let step = left.min(1000);
            self.clock.advance_ms(step);
            let one = self.reap().await;
            all.orphaned += one.orphaned;
            all.lost += one.lost;
            all.timers += one.timers;
            left -= step;
        }
        all
    }

    /// Checks that nothing in Redis contradicts anything else.
    pub(crate) async fn check(&self) {
        let report = self.queue.check(100_000).await.unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }

    pub(crate) async fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        cmd.query_async(&mut self.connection.clone()).await.unwrap()
    }
}
