//! The processes of a history: what they know, and which runs are really alive.

mod campaigns;
pub(crate) mod holding;
mod meddling;
mod refill;

use std::collections::{HashMap, HashSet};

use fairlane_common::queue::{Beat, Claimed, DispatcherBeat, Finish, Outcome, Submitted};
use fairlane_common::{Build, BuildId, DispatcherId, Token, WorkerId};

use super::Step;
use super::books::{self, Books};
use super::counts;
use super::invariants::{self, Broken, State};
use crate::scene::{K8S, START_MS, Scene, ask, background, beat_of};

const LEASE_MS: u64 = 10_000;
pub(crate) const PATTERNS: [&str; 6] =
    ["github.com/a/x", "github.com/a/y", "github.com/b/x", "github.com/a/*", "github.com/*", "*"];
/// Another place, in the same cluster.
const OTHER: &str = "k8s:test/other";
pub(crate) const PLACES: [&str; 2] = [K8S, OTHER];
pub(crate) const REPOS: [&str; 5] = ["a/x", "a/y", "b/x", "b/y", "c/z"];

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    host: String,
    pub(crate) place: String,
    pub(crate) slots: usize,
    pub(crate) held: Vec<Token>,
    pub(crate) draining: bool,
    paused: bool,
}

/// A pod or a process.
#[derive(Debug)]
pub(crate) struct Run {
    build: BuildId,
    /// What its pod's annotations say: its build and its latest holder.
    claimed: Claimed,
    /// When a process's supervisor kills it; a pod lives until somebody ends it.
    dies_at: Option<u64>,
}

pub(crate) struct World<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) workers: Vec<Worker>,
    serial: usize,
    /// The host and the place of each worker that ever was: neither of a worker's ever changes.
    homes: HashMap<String, (String, String)>,
    /// Tokens of holders that have crashed, finished or given a build back.
    ghosts: Vec<Token>,
    runs: Vec<Run>,
    builds: Vec<BuildId>,
    counts: HashMap<(BuildId, usize), u64>,
    seen: HashMap<usize, u64>,
    /// Hosts that an operator has drained.
    drained: HashSet<String>,
    pub(crate) before: State,
    /// Whether somebody has changed Redis by hand. If not, nothing may ever need a repair.
    tampered: bool,
    /// Whether a newer release has set a timer.
    foreign_timer: bool,
    /// The id of the last event that was read.
    last_event: Option<String>,
}

fn dispatcher(number: usize) -> DispatcherId {
    format!("d{number}").parse().unwrap()
}

fn pick<T>(items: &[T], number: u8) -> Option<&T> {
    (!items.is_empty()).then(|| &items[usize::from(number) % items.len()])
}

pub(crate) fn ensure(fits: bool, broken: impl FnOnce() -> String) -> Result<(), Broken> {
    if fits { Ok(()) } else { Err(broken()) }
}

impl Worker {
    fn is_in_cluster(&self) -> bool {
        self.place.starts_with("k8s")
    }

    /// How many nodes its cluster has.
    fn nodes(&self) -> usize {
        if self.is_in_cluster() { 3 } else { 0 }
    }

    fn beat(&self) -> Beat {
        Beat {
            paused: self.paused.then(|| "the cluster is full".to_owned()),
            nodes: self.nodes(),
            host: self.host.clone(),
            ..beat_of(self.id.as_str(), &self.place, self.slots, &self.held)
        }
    }
}

impl<'a> World<'a> {
    pub(crate) async fn new(scene: &'a Scene) -> Self {
        scene.clock.set_ms(START_MS);
        scene.begin_anew().await;
        let mut world = Self {
            scene,
            workers: vec![],
            serial: 0,
            homes: HashMap::new(),
            ghosts: vec![],
            runs: vec![],
            builds: vec![],
            counts: HashMap::new(),
            seen: HashMap::new(),
            drained: HashSet::new(),
            before: State::default(),
            tampered: false,
            foreign_timer: false,
            last_event: None,
        };
        for (place, slots) in [(K8S, 3), (K8S, 2), (OTHER, 2), ("process", 3)] {
            let host = format!("h{}", world.workers.len());
            let worker = world.start_worker(host, place, slots);
            world.workers.push(worker);
            world.beat(world.workers.len() - 1).await.unwrap();
        }
        world.before = State::read(scene).await;
        world
    }

    fn start_worker(&mut self, host: String, place: &str, slots: usize) -> Worker {
        self.serial += 1;
        let id: WorkerId = format!("w{}", self.serial).parse().unwrap();
        let place = if place.starts_with("k8s") { place.to_owned() } else { format!("process:{id}") };
        self.homes.insert(id.to_string(), (host.clone(), place.clone()));
        Worker { id, host, place, slots, held: vec![], draining: false, paused: false }
    }

    fn now(&self) -> u64 {
        self.scene.clock.now_ms()
    }

    /// Takes one step, then checks every promise.
    pub(crate) async fn take(&mut self, step: &Step) -> Result<(), Broken> {
        if invariants::startable(&self.before).is_none() {
            // A token of an earlier step must not stand for the one that this step should leave.
            self.scene.redis::<()>(&["DEL", &self.scene.queue.keys().wake()]).await;
        }
        self.act(step).await?;
        let after = State::read(self.scene).await;
        invariants::check_step(&self.before, &after)?;
        if !self.scene.is_of_two_releases() {
            let only_reaps = matches!(step, Step::Pass { .. } | Step::Jump { .. });
            counts::check(&self.before, &after, only_reaps)?;
            self.check_books(&after, matches!(step, Step::Pass { .. })).await?;
        }
        self.check_people(&after)?;
        let tokens: u64 = self.scene.redis(&["LLEN", &self.scene.queue.keys().wake()]).await;
        invariants::check_wake(&after, tokens)?;
        let report = self.scene.queue.check(10_000).await.unwrap();
        ensure(report.problems.is_empty(), || report.problems.join("; "))?;
        self.check_hands_off().await?;
        self.before = after;
        Ok(())
    }

    /// Checks what is kept beside the builds; `reaped` if time has passed with reaps.
    async fn check_books(&mut self, after: &State, reaped: bool) -> Result<(), Broken> {
        let books = Books::read(self.scene).await;
        books.check(&self.before, after)?;
        if reaped {
            books.check_nothing_due(after.now)?;
        }
        let events = books::events_after(self.scene, self.last_event.as_deref()).await;
        if !self.tampered {
            books.check_events(&events, &self.before, after)?;
            books::check_sums(&self.before, after)?;
            books::check_due(&self.before, after)?;
            books::check_records(self.scene, after).await?;
        }
        self.last_event = events.last().map(|(id, _)| id.clone()).or(self.last_event.take());
        Ok(())
    }

    async fn act(&mut self, step: &Step) -> Result<(), Broken> {
        let workers = self.workers.len();
        match *step {
            Step::Submit { repo, commit, background, force, dispatcher, again } => {
                self.submit(repo, commit, background, force, usize::from(dispatcher) % 2, again).await
            }
            Step::Watch { dispatcher, build, count } => {
                let count = pick(&self.builds, build).map(|id| (*id, u64::from(count) % 40));
                self.beat_dispatcher(usize::from(dispatcher) % 2, count).await;
                Ok(())
            }
            Step::BeatDispatcher { dispatcher } => {
                self.beat_dispatcher(usize::from(dispatcher) % 2, None).await;
                Ok(())
            }
            Step::Beat { worker } => self.beat(usize::from(worker) % workers).await,
            Step::Claim { worker, free, again } => {
                self.claim(usize::from(worker) % workers, free, again).await
            }
            Step::Report { token, kind } => self.report(token, kind).await,
            Step::Finish { token, outcome, again } => self.finish(token, outcome, again).await,
            Step::Release { token, handover, again } => self.release(token, handover, again).await,
            Step::Ghost { token, act } => self.ghost(token, act).await,
            Step::Campaign { number, kind } => self.campaigns(number, kind).await,
            Step::Feed => self.feed().await,
            Step::Sweep { worker } => self.sweep(usize::from(worker) % workers).await,
            Step::Flush { late } => {
                self.flush(late).await;
                Ok(())
            }
            Step::Pause { worker, on } => {
                self.workers[usize::from(worker) % workers].paused = on;
                Ok(())
            }
            Step::Delete { build } => {
                self.delete(build).await;
                Ok(())
            }
            Step::BadWord { build, worker } => self.bad_word(build, usize::from(worker) % workers).await,
            Step::ForeignTimer => {
                self.set_foreign_timer().await;
                Ok(())
            }
            Step::Crash { worker } => {
                self.crash(usize::from(worker) % workers);
                Ok(())
            }
            _ => {
                self.meddle(step).await;
                Ok(())
            }
        }
    }

    /// Steps of operators, and the passing of time.
    async fn meddle(&mut self, step: &Step) {
        let workers = self.workers.len();
        match *step {
            Step::Cancel { build } => {
                if let Some(id) = pick(&self.builds, build) {
                    self.scene.turn().cancel(*id, "model", "because").await.unwrap();
                }
            }
            Step::Promote { build } => {
                if let Some(id) = pick(&self.builds, build) {
                    self.scene.queue.promote(*id, "model").await.unwrap();
                }
            }
            Step::Rule { pattern, kind } => self.rule(pattern, kind).await,
            Step::Unrule { pattern } => {
                let pattern = pick(&PATTERNS, pattern).unwrap().parse().unwrap();
                let change = self.scene.turn().delete_rule(&pattern, "model").await.unwrap();
                assert_eq!(change.existed, self.before.rules.contains_key(&pattern), "{pattern}");
            }
            Step::Drain { worker, on } => {
                let worker = &mut self.workers[usize::from(worker) % workers];
                let change = self.scene.turn().drain_worker(&worker.id, on, "model").await.unwrap();
                if let Some(change) = change {
                    worker.draining = on;
                    if on {
                        self.drained.insert(change.name)
                    } else {
                        self.drained.remove(&change.name)
                    };
                }
            }
            Step::Pass { ms } => drop(self.scene.pass(u64::from(ms)).await),
            Step::Jump { s } => {
                self.scene.clock.advance_ms(u64::from(s) * 1000);
                self.scene.reap().await;
            }
            _ => unreachable!("a process's step"),
        }
    }

    async fn submit(
        &mut self,
        repo: u8,
        commit: u8,
        bg: bool,
        force: bool,
        from: usize,
        again: bool,
    ) -> Result<(), Broken> {
        let mut request = ask(pick(&REPOS, repo).unwrap(), u32::from(commit) % 3);
        if bg {
            request = background(request);
        }
        request.force = force;
        request.spec.secrets = (commit % 2 == 1).then(|| "ka:sealed".to_owned());
        self.beat_dispatcher(from, None).await;
        request.dispatcher = Some(dispatcher(from));
        let answer = self.scene.turn().submit(&request).await.unwrap();
        // In this test, all requests for an image name the same repository, ref and arguments.
        ensure(!matches!(answer, Submitted::Conflict { .. }), || format!("{request:?} gave {answer:?}"))?;
        if let Submitted::New(build) | Submitted::Joined(build) = &answer {
            *self.counts.entry((build.id, from)).or_default() += 1;
        }
        if let Submitted::New(build) = &answer {
            self.builds.push(build.id);
            if again {
                let repeated = self.scene.turn().submit(&request).await.unwrap();
                ensure(repeated == answer, || {
                    format!("a repeated submit gave {repeated:?}, not {answer:?}")
                })?;
            }
        }
        Ok(())
    }

    async fn beat_dispatcher(&mut self, number: usize, count: Option<(BuildId, u64)>) {
        let beat = DispatcherBeat { dispatcher: dispatcher(number), counts: count.into_iter().collect() };
        let reply = self.scene.turn().beat_dispatcher(&beat).await.unwrap();
        if reply.forgotten {
            self.counts.retain(|(_, from), _| *from != number);
        }
        if let Some((id, count)) = count {
            self.counts.insert((id, number), count);
        }
        self.seen.insert(number, self.now());
    }

    /// A build's people are the sum over all live dispatchers.
    fn check_people(&mut self, after: &State) -> Result<(), Broken> {
        let now = self.now();
        let gone: Vec<usize> =
            self.seen.iter().filter(|(_, at)| **at + LEASE_MS <= now).map(|(number, _)| *number).collect();
        // When a dispatcher's heartbeats have stopped, any reap subtracts its people.
        for number in gone {
            if !after.dispatchers.contains(&format!("d{number}")) {
                self.counts.retain(|(_, from), _| *from != number);
            }
        }
        for build in after.builds.values().filter(|build| !build.state.is_ended()) {
            let sum: u64 =
                self.counts.iter().filter(|((id, _), _)| *id == build.id).map(|(_, count)| *count).sum();
            ensure(build.people == sum, || format!("{} has {} people, not {sum}", build.id, build.people))?;
        }
        Ok(())
    }

    /// Every accepted build ends once the faults stop.
    pub(crate) async fn settle(&mut self) -> Result<(), Broken> {
        for pattern in PATTERNS {
            self.scene.turn().delete_rule(&pattern.parse().unwrap(), "model").await.unwrap();
        }
        for at in 0..self.workers.len() {
            let id = self.workers[at].id.clone();
            self.workers[at].paused = false;
            self.beat(at).await?;
            self.scene.turn().drain_worker(&id, false, "model").await.unwrap();
            self.drained.remove(&self.workers[at].host);
        }
        self.resume_campaigns().await;
        for _ in 0..60 {
            self.scene.pass(5000).await;
            self.feed().await?;
            for at in 0..self.workers.len() {
                self.claim(at, u8::MAX, false).await?;
                let full = u8::try_from(
                    self.workers[at].slots - self.workers[at].held.len().min(self.workers[at].slots),
                )
                .unwrap();
                self.claim(at, full, false).await?;
                while let Some(token) = self.workers[at].held.first().cloned() {
                    let finish = Finish::of(Outcome::Succeeded);
                    self.scene.turn().finish(&token, &finish).await.unwrap();
                    self.end_runs(token.build);
                    self.drop_token(at, &token);
                }
            }
            let state = State::read(self.scene).await;
            let all_ended = state.builds.values().all(|build| build.state.is_ended());
            if all_ended && self.campaigns_are_over().await? {
                return ensure(state.builds.len() == self.builds.len(), || "a build is gone".to_owned());
            }
        }
        let state = State::read(self.scene).await;
        let left: Vec<&Build> = state.builds.values().filter(|build| !build.state.is_ended()).collect();
        Err(format!("never ended: {left:#?}"))
    }
}
