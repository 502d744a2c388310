//! The scripts one by one, from the call to its answer, against a redis-server of their own.
//!
//! Times include the way to Redis and back; `fairlane bench depth` tells what Redis alone needs.

#![expect(clippy::unwrap_used, reason = "a benchmark that meets the unexpected ends there")]

use criterion::{Criterion, criterion_group, criterion_main};
use fairlane_common::queue::{Beat, Claim, Finish, Outcome, Submit, Submitted};
use fairlane_common::{BuildId, BuildSpec, Queue, Token, WorkerId, limits};
use fairlane_testkit::RedisServer;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Builds in line before anything is measured.
const QUEUED: u32 = 1000;
/// Lanes that they belong to.
const LANES: u32 = 100;

struct Bench {
    runtime: Runtime,
    queue: Queue,
    worker: WorkerId,
    next: std::cell::Cell<u32>,
    _server: RedisServer,
}

impl Bench {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(RedisServer::start_default());
        let queue = runtime.block_on(Queue::open(&server.url().parse().unwrap(), "bench")).unwrap();
        let worker = WorkerId::new("bench");
        let bench = Self { runtime, queue, worker, next: std::cell::Cell::new(0), _server: server };
        bench.renew(&[]);
        for _ in 0..QUEUED {
            bench.submit();
        }
        bench
    }

    fn request(&self) -> Submit {
        let number = self.next.replace(self.next.get() + 1);
        let lane = number % LANES;
        let spec = BuildSpec::new(
            format!("https://github.com/bench/r{lane}").parse().unwrap(),
            format!("c{number}").parse().unwrap(),
            format!("registry.example.org/r{lane}:c{number}").parse().unwrap(),
        );
        Submit { id: BuildId::new(), spec, force: false, override_ban: None, dispatcher: None }
    }

    fn submit(&self) {
        let submitted = self.runtime.block_on(self.queue.submit(&self.request())).unwrap();
        assert!(matches!(submitted, Submitted::New(_)));
    }

    fn renew(&self, held: &[Token]) {
        let beat = Beat {
            worker: self.worker.clone(),
            host: "bench".to_owned(),
            version: String::new(),
            place: "k8s:bench/builds".to_owned(),
            slots: 64,
            draining: false,
            paused: None,
            nodes: 0,
            lease: limits::LEASE,
            held: held.to_vec(),
        };
        self.runtime.block_on(self.queue.renew(&beat)).unwrap();
    }

    fn claim(&self, free: usize) -> Vec<Token> {
        let claim = Claim {
            worker: self.worker.clone(),
            place: "k8s:bench/builds".to_owned(),
            free,
            lease: limits::LEASE,
            request: Uuid::new_v4(),
        };
        let claimed = self.runtime.block_on(self.queue.claim(&claim)).unwrap().builds;
        assert_eq!(claimed.len(), free);
        claimed.into_iter().map(|claimed| claimed.token).collect()
    }

    fn finish(&self, token: &Token) {
        let finish = Finish::of(Outcome::Succeeded);
        self.runtime.block_on(self.queue.finish(token, &finish)).unwrap();
    }
}

fn scripts(criterion: &mut Criterion) {
    let bench = Bench::new();
    criterion.bench_function("submit, claim and finish of one build", |timer| {
        timer.iter(|| {
            bench.submit();
            bench.claim(1).iter().for_each(|token| bench.finish(token));
        });
    });
    criterion.bench_function("the same of eight builds, claimed at once", |timer| {
        timer.iter(|| {
            (0..8).for_each(|_| bench.submit());
            bench.claim(8).iter().for_each(|token| bench.finish(token));
        });
    });
    let request = bench.request();
    criterion.bench_function("join of a queued build", |timer| {
        timer.iter(|| {
            let again = Submit { id: BuildId::new(), ..request.clone() };
            bench.runtime.block_on(bench.queue.submit(&again)).unwrap()
        });
    });
    let held = bench.claim(8);
    criterion.bench_function("renewal of eight leases", |timer| timer.iter(|| bench.renew(&held)));
    criterion.bench_function("reap with nothing due", |timer| {
        timer.iter(|| bench.runtime.block_on(bench.queue.reap()).unwrap());
    });
}

criterion_group!(benches, scripts);
criterion_main!(benches);
