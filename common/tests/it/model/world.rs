//! The processes of a history: what they know, and what really runs.

mod meddling;
mod refill;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fairlane_common::queue::{
    Beat, Blame, Claim, Claimed, DispatcherBeat, Finish, Finished, Held, Outcome, Release, Renewal, Submitted,
};
use fairlane_common::{Build, BuildId, BuildState, DispatcherId, FailureClass, Token, WorkerId};
use uuid::Uuid;

use super::Step;
use super::invariants::{self, Broken, State};
use crate::scene::{K8S, START_MS, Scene, ask, background, beat_of, failed};

const LEASE_MS: u64 = 10_000;
pub(crate) const PATTERNS: [&str; 6] =
    ["github.com/a/x", "github.com/a/y", "github.com/b/x", "github.com/a/*", "github.com/*", "*"];
/// Another place, in the same cluster.
const OTHER: &str = "k8s:test/other";
pub(crate) const PLACES: [&str; 2] = [K8S, OTHER];
pub(crate) const REPOS: [&str; 5] = ["a/x", "a/y", "b/x", "b/y", "c/z"];

/// Why a run is begun anew whose place has no worker.
const GIVEN_UP: &str = "no worker of its place came to take the run over";

/// A worker process.
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

/// A run in the world outside.
#[derive(Debug)]
pub(crate) struct Run {
    build: BuildId,
    /// What is written on it: its build, and the holder who last took it.
    claimed: Claimed,
    /// When a process is killed by its supervisor; pods live until somebody ends them.
    dies_at: Option<u64>,
}

pub(crate) struct World<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) workers: Vec<Worker>,
    serial: usize,
    /// Tokens of holders that have crashed, finished or let go.
    ghosts: Vec<Token>,
    runs: Vec<Run>,
    builds: Vec<BuildId>,
    counts: HashMap<(BuildId, usize), u64>,
    seen: HashMap<usize, u64>,
    /// Hosts that an operator has drained.
    drained: HashSet<String>,
    pub(crate) before: State,
    /// Whether somebody has changed Redis by hand: else nothing is ever to be mended.
    tampered: bool,
    /// Whether a newer release has set a timer.
    foreign_timer: bool,
}

fn dispatcher(number: usize) -> DispatcherId {
    format!("d{number}").parse().unwrap()
}

fn pick<T>(items: &[T], number: u8) -> Option<&T> {
    (!items.is_empty()).then(|| &items[usize::from(number) % items.len()])
}

fn ensure(fits: bool, broken: impl FnOnce() -> String) -> Result<(), Broken> {
    if fits { Ok(()) } else { Err(broken()) }
}

fn blamed(blame: Blame) -> Outcome {
    Outcome::Failed { class: FailureClass::Infrastructure, reason: "it broke".to_owned(), blame }
}

impl Worker {
    fn is_in_cluster(&self) -> bool {
        self.place.starts_with("k8s")
    }

    /// The nodes that it knows of.
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
            ghosts: vec![],
            runs: vec![],
            builds: vec![],
            counts: HashMap::new(),
            seen: HashMap::new(),
            drained: HashSet::new(),
            before: State::default(),
            tampered: false,
            foreign_timer: false,
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
        Worker { id, host, place, slots, held: vec![], draining: false, paused: false }
    }

    fn now(&self) -> u64 {
        self.scene.clock.now_ms()
    }

    /// Takes one step, and checks every promise after it.
    pub(crate) async fn take(&mut self, step: &Step) -> Result<(), Broken> {
        self.act(step).await?;
        let after = State::read(self.scene).await;
        invariants::check_step(&self.before, &after)?;
        self.check_people(&after)?;
        let tokens: u64 = self.scene.redis(&["LLEN", &self.scene.queue.keys().wake()]).await;
        invariants::check_wake(&after, tokens)?;
        let report = self.scene.queue.check(10_000).await.unwrap();
        ensure(report.problems.is_empty(), || report.problems.join("; "))?;
        self.check_hands_off().await?;
        self.before = after;
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
            Step::Report { token } => self.report(token).await,
            Step::Finish { token, outcome, again } => self.finish(token, outcome, again).await,
            Step::Release { token, handover, again } => self.release(token, handover, again).await,
            Step::Ghost { token, act } => self.ghost(token, act).await,
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

    /// What operators and time do.
    async fn meddle(&mut self, step: &Step) {
        let workers = self.workers.len();
        match *step {
            Step::Cancel { build } => {
                if let Some(id) = pick(&self.builds, build) {
                    self.scene.turn().cancel(*id, "model", "because").await.unwrap();
                }
            }
            Step::Rule { pattern, kind } => self.rule(pattern, kind).await,
            Step::Unrule { pattern } => {
                let pattern = pick(&PATTERNS, pattern).unwrap().parse().unwrap();
                self.scene.turn().delete_rule(&pattern, "model").await.unwrap();
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
        self.beat_dispatcher(from, None).await;
        request.dispatcher = Some(dispatcher(from));
        let answer = self.scene.turn().submit(&request).await.unwrap();
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

    /// The build's people are the sum over the dispatchers that live.
    fn check_people(&mut self, after: &State) -> Result<(), Broken> {
        let now = self.now();
        let gone: Vec<usize> =
            self.seen.iter().filter(|(_, at)| **at + LEASE_MS <= now).map(|(number, _)| *number).collect();
        // Whoever reaps takes the people of a dispatcher back once its heartbeat is over.
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

    async fn beat(&mut self, at: usize) -> Result<(), Broken> {
        let now = self.now();
        let state = State::read(self.scene).await;
        let beat = self.workers[at].beat();
        let reply = self.scene.turn().renew(&beat).await.unwrap();
        let worker = &mut self.workers[at];
        worker.draining = reply.drained;
        ensure(reply.drained == self.drained.contains(&worker.host), || {
            format!("{} is told drained: {}", worker.host, reply.drained)
        })?;
        let held = std::mem::take(&mut worker.held);
        for (token, renewal) in held.into_iter().zip(reply.renewals) {
            let good = state.builds.get(&token.build).is_some_and(|build| is_current(build, &token));
            ensure(good == matches!(renewal, Renewal::Kept | Renewal::Cancel), || {
                format!("{token:?} was renewed with {renewal:?}")
            })?;
            if renewal == Renewal::Unknown {
                let later = state.builds.get(&token.build).is_some_and(|build| build.epoch >= token.epoch);
                ensure(!later, || format!("{token:?} is not known, though Redis has a later one"))?;
                self.register(at, token).await?;
                continue;
            }
            if !good {
                // Whoever finds its lease gone kills what it runs and touches nothing else.
                self.runs.retain(|run| run.build != token.build || run.dies_at.is_none());
                self.ghosts.push(token);
                continue;
            }
            for run in self.runs.iter_mut().filter(|run| run.build == token.build) {
                run.dies_at = run.dies_at.map(|at| if at > now { now + LEASE_MS - 2000 } else { at });
            }
            self.workers[at].held.push(token);
        }
        Ok(())
    }

    async fn claim(&mut self, at: usize, free: u8, again: bool) -> Result<(), Broken> {
        // A worker that lives has sent a heartbeat; what it holds counts against its slots.
        self.beat(at).await?;
        let before = State::read(self.scene).await;
        let worker = &self.workers[at];
        let room = if worker.paused { 0 } else { worker.slots.saturating_sub(worker.held.len()) };
        let free = usize::from(free) % (room + 1);
        let claim = Claim {
            worker: worker.id.clone(),
            place: worker.place.clone(),
            free,
            lease: Duration::from_millis(LEASE_MS),
            request: Uuid::new_v4(),
        };
        // It was woken: the token is gone, and whatever is left to start must leave another.
        self.scene.redis::<Option<String>>(&["LPOP", &self.scene.queue.keys().wake()]).await;
        let claims = self.scene.turn().claim(&claim).await.unwrap();
        for bad in &claims.unreadable {
            assert!(self.scene.turn().set_aside(&claim.worker, bad).await.unwrap());
        }
        let (claimed, all_read) = (claims.builds, claims.unreadable.is_empty());
        if again && all_read {
            let repeated = self.scene.turn().claim(&claim).await.unwrap().builds;
            let same = repeated.iter().map(|c| &c.token).eq(claimed.iter().map(|c| &c.token));
            ensure(same, || format!("a repeated claim gave {repeated:?}, not {claimed:?}"))?;
        }
        let worker_draining = worker.draining;
        let after = State::read(self.scene).await;
        if all_read {
            // Else one held its lane's permit for a moment.
            invariants::check_claim(&before, &after, &claimed, &claim, worker_draining)?;
        }
        for one in claimed {
            let process = self.workers[at].place.starts_with("process:");
            if !one.adopted {
                let now = self.now();
                let alive = self
                    .runs
                    .iter()
                    .find(|run| run.build == one.build.id && run.dies_at.is_none_or(|at| at > now));
                // At a place without workers its pod may live on unseen.
                let given_up = before.builds[&one.build.id].reason.as_deref() == Some(GIVEN_UP);
                ensure(alive.is_none() || given_up, || {
                    format!("{} starts while {alive:?} is alive", one.build.id)
                })?;
                let dies_at = process.then_some(now + LEASE_MS - 2000);
                self.end_runs(one.build.id);
                self.runs.push(Run { build: one.build.id, claimed: one.clone(), dies_at });
            } else if let Some(run) = self.runs.iter_mut().find(|run| run.build == one.build.id) {
                run.claimed = one.clone();
            }
            self.workers[at].held.push(one.token);
        }
        Ok(())
    }

    /// A token that somebody alive holds, with its holder.
    fn held(&self, number: u8) -> Option<(usize, Token)> {
        let all: Vec<(usize, &Token)> = self
            .workers
            .iter()
            .enumerate()
            .flat_map(|(at, worker)| worker.held.iter().map(move |token| (at, token)))
            .collect();
        pick(&all, number).map(|(at, token)| (*at, (*token).clone()))
    }

    fn drop_token(&mut self, at: usize, token: &Token) {
        self.workers[at].held.retain(|held| held != token);
        self.ghosts.push(token.clone());
    }

    fn end_runs(&mut self, id: BuildId) {
        self.runs.retain(|run| run.build != id);
    }

    async fn report(&mut self, number: u8) -> Result<(), Broken> {
        let Some((_, token)) = self.held(number) else {
            return Ok(());
        };
        let good = self.before.builds.get(&token.build).is_some_and(|build| is_current(build, &token));
        let held = self.scene.turn().report(&token, true, None).await.unwrap();
        ensure(good == (held != Held::Stale), || format!("a report of {token:?} gave {held:?}"))
    }

    async fn finish(&mut self, number: u8, outcome_number: u8, again: bool) -> Result<(), Broken> {
        let Some((at, token)) = self.held(number) else {
            return Ok(());
        };
        let known = self.before.builds.get(&token.build).cloned();
        let Some(build) = known.filter(|build| build.epoch >= token.epoch) else {
            return self.finish_unknown(at, token).await;
        };
        let outcome = match outcome_number % 8 {
            0 | 1 => Outcome::Succeeded,
            2 => blamed(Blame::Suspect { cause: "disk full".to_owned() }),
            3..=5 => blamed(Blame::Certain),
            6 => failed(FailureClass::Repository),
            _ => failed(FailureClass::Stuck),
        };
        let node = self.workers[at].nodes().checked_sub(1).map(|_| format!("n{}", outcome_number / 8 % 2));
        let finish = Finish { node: node.map(|node| node.parse().unwrap()), ..Finish::of(outcome.clone()) };
        let finished = self.scene.turn().finish(&token, &finish).await.unwrap();
        let late_success =
            outcome == Outcome::Succeeded && build.state == BuildState::Queued && build.epoch == token.epoch;
        let good = is_current(&build, &token) || late_success;
        // Ended meanwhile with nobody after it: its last holder is told how.
        let told = build.epoch == token.epoch && finished == Finished::Ended(build.state);
        ensure(good == (finished != Finished::Stale) || told, || {
            format!("finishing with {token:?} gave {finished:?}: {build:?}")
        })?;
        if again {
            let repeated = self.scene.turn().finish(&token, &finish).await.unwrap();
            ensure(repeated == finished, || {
                format!("a repeated finish gave {repeated:?}, not {finished:?}")
            })?;
        }
        if good {
            self.end_runs(token.build);
        }
        self.drop_token(at, &token);
        Ok(())
    }

    async fn release(&mut self, number: u8, handover: bool, again: bool) -> Result<(), Broken> {
        let Some((at, token)) = self.held(number) else {
            return Ok(());
        };
        // A local process cannot be handed over: it ends with its worker.
        let handover = handover && self.workers[at].is_in_cluster();
        let release =
            if handover { Release::Handover } else { Release::Lost { reason: "drained".to_owned() } };
        let build = self.before.builds.get(&token.build).cloned();
        let state = self.scene.turn().release(&token, &release).await.unwrap();
        let current = build.as_ref().is_some_and(|build| is_current(build, &token));
        if current {
            ensure(state.is_some(), || format!("{token:?} could not be released: {build:?}"))?;
            if again {
                let repeated = self.scene.turn().release(&token, &release).await.unwrap();
                ensure(repeated == state, || format!("a repeated release gave {repeated:?}, not {state:?}"))?;
            }
            if !handover {
                self.end_runs(token.build);
            }
        } else if build.is_none() && !handover {
            self.runs.retain(|run| run.claimed.token != token);
        }
        self.drop_token(at, &token);
        Ok(())
    }

    /// Whoever shows an old token changes nothing.
    async fn ghost(&mut self, number: u8, act: u8) -> Result<(), Broken> {
        let Some(token) = pick(&self.ghosts, number).cloned() else {
            return Ok(());
        };
        let Some(build) = self.before.builds.get(&token.build).cloned() else {
            return Ok(());
        };
        let last_holder = build.epoch == token.epoch;
        if last_holder {
            // Not old: nobody has taken the build since.
            return Ok(());
        }
        let stale = match act % 5 {
            0 => {
                let finish = Finish::of(Outcome::Succeeded);
                self.scene.turn().finish(&token, &finish).await.unwrap() == Finished::Stale
            }
            1 => self.scene.turn().report(&token, true, Some("a ghost")).await.unwrap() == Held::Stale,
            2 => self.scene.turn().release(&token, &Release::Handover).await.unwrap().is_none(),
            3 => self.renew_ghost(&token).await == Renewal::Stale,
            _ => {
                let lost = Release::Lost { reason: "a ghost".to_owned() };
                self.scene.turn().release(&token, &lost).await.unwrap().is_none()
            }
        };
        let after = self.scene.build(token.build).await;
        ensure(stale && after.seq == build.seq, || format!("the old {token:?} changed {build:?}"))
    }

    /// A worker that was frozen thaws, and renews what it thinks it holds.
    async fn renew_ghost(&self, token: &Token) -> Renewal {
        let held = std::slice::from_ref(token);
        let live = self.workers.iter().find(|worker| worker.id == token.worker);
        let mut beat = beat_of(token.worker.as_str(), K8S, 1, held);
        if let Some(live) = live {
            // A worker has one host as long as it lives: operators drain it by that name.
            beat.host.clone_from(&live.host);
        }
        self.scene.turn().renew(&beat).await.unwrap().renewals[0]
    }

    fn crash(&mut self, at: usize) {
        let (host, place) = (self.workers[at].host.clone(), self.workers[at].place.clone());
        let fresh = self.start_worker(host, &place, self.workers[at].slots);
        let old = std::mem::replace(&mut self.workers[at], fresh);
        if old.place.starts_with("process:") {
            self.runs.retain(|run| !old.held.iter().any(|token| token.build == run.build));
        }
        self.ghosts.extend(old.held);
    }

    /// Every accepted build comes to an end once the trouble stops.
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
        for _ in 0..60 {
            self.scene.pass(5000).await;
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
            if state.builds.values().all(|build| build.state.is_ended()) {
                return ensure(state.builds.len() == self.builds.len(), || "a build is gone".to_owned());
            }
        }
        let state = State::read(self.scene).await;
        let left: Vec<&Build> = state.builds.values().filter(|build| !build.state.is_ended()).collect();
        Err(format!("never ended: {left:#?}"))
    }
}

/// Whether the token is the build's, and the build is live.
fn is_current(build: &Build, token: &Token) -> bool {
    matches!(build.state, BuildState::Starting | BuildState::Running | BuildState::Orphaned)
        && build.epoch == token.epoch
        && build.worker.as_ref() == Some(&token.worker)
}
