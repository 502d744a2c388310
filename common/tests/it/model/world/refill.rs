//! Redis is emptied, and workers register their runs.

use std::time::Duration;

use fairlane_common::limits::REFILL;
use fairlane_common::queue::{Finish, Finished, Outcome, Registered, Registration};
use fairlane_common::{BuildId, Token};

use super::{Broken, LEASE_MS, Run, State, World, ensure};

impl World<'_> {
    pub(super) async fn flush(&mut self, late: bool) {
        self.scene.redis::<()>(&["FLUSHALL"]).await;
        self.drained.clear();
        self.builds.clear();
        self.counts.clear();
        self.seen.clear();
        self.last_event = None;
        self.foreign_timer = false;
        self.before = State::read(self.scene).await;
        if late {
            self.scene.pass(REFILL.as_millis().try_into().unwrap()).await;
        }
    }

    /// A build's run that this worker can hold: a pod, or a live process of its own.
    fn alive(&self, at: usize, build: BuildId) -> Option<&Run> {
        let (now, own) = (self.now(), &self.workers[at].id);
        let alive =
            |run: &&Run| run.dies_at.is_none_or(|dies_at| dies_at > now && run.claimed.token.worker == *own);
        self.runs.iter().filter(alive).find(|run| run.build == build)
    }

    /// A worker registers a run that it holds; if it has none, its token is a ghost.
    pub(super) async fn register(&mut self, at: usize, token: Token) -> Result<(), Broken> {
        let Some(run) = self.alive(at, token.build) else {
            self.ghosts.push(token);
            return Ok(());
        };
        let registration = self.registration(at, run, &token);
        self.registered(at, &registration).await
    }

    /// A run ends that Redis does not know, so it is registered first.
    pub(super) async fn finish_unknown(&mut self, at: usize, token: Token) -> Result<(), Broken> {
        let finished = self.scene.turn().finish(&token, &Finish::of(Outcome::Succeeded)).await.unwrap();
        ensure(finished == Finished::Unknown, || format!("{token:?} is not known, and gave {finished:?}"))?;
        self.workers[at].held.retain(|held| *held != token);
        self.register(at, token).await
    }

    /// A worker registers the runs whose holder has died.
    pub(super) async fn sweep(&mut self, at: usize) -> Result<(), Broken> {
        if !self.workers[at].is_in_cluster() {
            return Ok(());
        }
        let known = State::read(self.scene).await;
        let held = |run: &Run| {
            self.workers.iter().any(|worker| worker.held.iter().any(|token| token.build == run.build))
        };
        let place = Some(&self.workers[at].place);
        let pods = self.runs.iter().filter(|run| run.claimed.build.place.as_ref() == place);
        let left = pods.filter(|run| !held(run) && !known.builds.contains_key(&run.build));
        let found: Vec<Registration> =
            left.map(|run| self.registration(at, run, &run.claimed.token)).collect();
        for registration in &found {
            self.registered(at, registration).await?;
        }
        Ok(())
    }

    fn registration(&self, at: usize, run: &Run, token: &Token) -> Registration {
        let build = &run.claimed.build;
        Registration {
            token: token.clone(),
            worker: self.workers[at].id.clone(),
            place: self.workers[at].place.clone(),
            lease: Duration::from_millis(LEASE_MS),
            spec: build.spec.clone(),
            attempt: build.attempt,
            asked: build.asked,
            claimed: build.claimed.unwrap(),
            started: build.started,
            node: None,
        }
    }

    async fn registered(&mut self, at: usize, run: &Registration) -> Result<(), Broken> {
        let answer = self.scene.turn().register(run).await.unwrap();
        let again = self.scene.turn().register(run).await.unwrap();
        ensure(format!("{answer:?}") == format!("{again:?}"), || {
            format!("a repeated registration gave {again:?}, not {answer:?}")
        })?;
        let (id, now) = (run.token.build, self.now());
        match answer {
            Registered::Leased(claimed) => {
                let held = claimed.token.clone();
                ensure(held.epoch >= run.token.epoch, || format!("{run:?} was held with {held:?}"))?;
                for one in self.runs.iter_mut().filter(|one| one.build == id) {
                    one.build = held.build;
                    one.claimed = (*claimed).clone();
                    one.dies_at = one.dies_at.map(|_| now + LEASE_MS - 2000);
                }
                self.know(id);
                self.workers[at].held.push(held);
            }
            Registered::Taken(other) => {
                ensure(self.before.builds.contains_key(&other), || format!("{run:?} was taken by nobody"))?;
                self.know(id);
                self.let_go(run);
            }
            Registered::Ended(_) | Registered::Stale => self.let_go(run),
            Registered::Wait(_) => {
                let holder_may_come = run.worker != run.token.worker;
                ensure(holder_may_come, || format!("{run:?}: its own holder was told to wait"))?;
            }
        }
        Ok(())
    }

    /// Adds a build that Redis knows again.
    fn know(&mut self, id: BuildId) {
        if !self.builds.contains(&id) {
            self.builds.push(id);
        }
    }

    /// Removes a run that may not go on, unless another holder has adopted it.
    fn let_go(&mut self, run: &Registration) {
        self.runs.retain(|one| one.claimed.token != run.token);
        self.ghosts.push(run.token.clone());
    }
}
