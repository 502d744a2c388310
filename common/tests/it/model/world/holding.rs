//! What workers do: heartbeats, claims, and ending the builds that they hold.

use std::time::Duration;

use fairlane_common::queue::{Blame, Claim, Finish, Finished, GiveBack, Outcome, Renewal, Reported};
use fairlane_common::{Build, BuildId, BuildState, FailureCause, FailureClass, Token};
use uuid::Uuid;

use super::{Broken, LEASE_MS, Run, State, World, counts, ensure, invariants, pick};
use crate::scene::{beat_of, failed_for};

/// The reason for a new run if the old one's place has no worker left.
const GIVEN_UP: &str = "no other worker of its cluster and namespace took over the run";

/// How long a log is whose end a worker has reported.
pub(crate) const LOG_BYTES: u64 = 1000;

fn blamed(cause: FailureCause, blame: Blame) -> Outcome {
    Outcome::Failed { class: FailureClass::Infrastructure, cause, reason: "it broke".to_owned(), blame }
}

impl World<'_> {
    pub(super) async fn beat(&mut self, at: usize) -> Result<(), Broken> {
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
                // A worker that has lost a lease kills its run and changes nothing else.
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

    pub(super) async fn claim(&mut self, at: usize, free: u8, again: bool) -> Result<(), Broken> {
        // A live worker sends heartbeats; the builds it holds count against its slots.
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
        // The worker was woken, so its token is gone. If anything else can start, the claim must leave
        // another one.
        self.scene.redis::<Option<String>>(&["LPOP", &self.scene.queue.keys().wake()]).await;
        let counted = self.scene.queue.counts().await.unwrap();
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
            // Otherwise, an unreadable build held a permit of its lane for a moment.
            invariants::check_claim(&before, &after, &claimed, &claim, worker_draining)?;
            if !self.scene.is_of_two_releases() {
                counts::check_counted_claim(&counted, &after, &claimed)?;
            }
        }
        for one in claimed {
            let process = self.workers[at].place.starts_with("process:");
            if !one.adopted {
                let now = self.now();
                let alive = self
                    .runs
                    .iter()
                    .find(|run| run.build == one.build.id && run.dies_at.is_none_or(|at| at > now));
                // If its place has no workers, an old pod may still be alive there.
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

    /// A token held by a live worker, and the index of that worker.
    pub(super) fn held(&self, number: u8) -> Option<(usize, Token)> {
        let all: Vec<(usize, &Token)> = self
            .workers
            .iter()
            .enumerate()
            .flat_map(|(at, worker)| worker.held.iter().map(move |token| (at, token)))
            .collect();
        pick(&all, number).map(|(at, token)| (*at, (*token).clone()))
    }

    pub(super) fn drop_token(&mut self, at: usize, token: &Token) {
        self.workers[at].held.retain(|held| held != token);
        self.ghosts.push(token.clone());
    }

    pub(super) fn end_runs(&mut self, id: BuildId) {
        self.runs.retain(|run| run.build != id);
    }

    pub(super) async fn report(&mut self, number: u8, kind: u8) -> Result<(), Broken> {
        let Some((_, token)) = self.held(number) else {
            return Ok(());
        };
        let (runs, note) =
            (!kind.is_multiple_of(4), [None, Some("waits"), Some("pulls")][usize::from(kind / 4 % 3)]);
        let old = self.before.builds.get(&token.build).filter(|build| is_current(build, &token)).cloned();
        let held = self.scene.turn().report(&token, runs, note).await.unwrap();
        let due = old.as_ref().map_or(Reported::Stale, |old| Reported::Taken { cancelling: old.cancelling });
        ensure(held == due, || format!("a report of {token:?} gave {held:?}, not {due:?}"))?;
        let Some(old) = old else { return Ok(()) };
        let new = self.scene.build(token.build).await;
        let began = runs && old.started.is_none();
        let started = if began { Some(self.now()) } else { old.started };
        let state = if began && old.state == BuildState::Starting { BuildState::Running } else { old.state };
        // What is known already is no news.
        let is_news = !runs || began || old.note.as_deref() != note;
        let fits = new.started == started
            && new.state == state
            && new.note.as_deref() == note
            && new.seq == old.seq + u64::from(is_news);
        ensure(fits, || format!("a report (running: {runs}, {note:?}) made {new:?} of {old:?}"))
    }

    pub(super) async fn finish(&mut self, number: u8, outcome_number: u8, again: bool) -> Result<(), Broken> {
        let Some((at, token)) = self.held(number) else {
            return Ok(());
        };
        let known = self.before.builds.get(&token.build).cloned();
        let Some(build) = known.filter(|build| build.epoch >= token.epoch) else {
            return self.finish_unknown(at, token).await;
        };
        let causes = [FailureCause::OTHER, FailureCause::of("package"), FailureCause::of("silent")];
        let cause = causes[usize::from(outcome_number / 16) % 3];
        let outcome = match outcome_number % 8 {
            0 | 1 => Outcome::Succeeded,
            2 => blamed(cause, Blame::Suspect { cause: "disk full".to_owned() }),
            3..=5 => blamed(cause, Blame::Certain),
            6 => failed_for(FailureClass::Repository, cause),
            _ => failed_for(FailureClass::Stuck, cause),
        };
        let node = self.workers[at].nodes().checked_sub(1).map(|_| format!("n{}", outcome_number / 8 % 2));
        let node = node.map(|node| node.parse().unwrap());
        let finish = Finish {
            node,
            log_bytes: Some(LOG_BYTES),
            log_end: Some("5-5".to_owned()),
            log_tail: Some(format!("line {outcome_number}")),
            ..Finish::of(outcome.clone())
        };
        let finished = self.scene.turn().finish(&token, &finish).await.unwrap();
        let late_success =
            outcome == Outcome::Succeeded && build.state == BuildState::Queued && build.epoch == token.epoch;
        let good = is_current(&build, &token) || late_success;
        // If the build has ended and nobody claimed it since, its last holder learns how it ended.
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
        // The former release keeps less.
        if is_current(&build, &token) && !self.scene.is_of_two_releases() {
            check_kept(&build, &self.scene.build(token.build).await, &finish)?;
        }
        if good {
            self.end_runs(token.build);
        }
        self.drop_token(at, &token);
        Ok(())
    }

    pub(super) async fn release(&mut self, number: u8, handover: bool, again: bool) -> Result<(), Broken> {
        let Some((at, token)) = self.held(number) else {
            return Ok(());
        };
        // A process cannot be handed over: it ends with its worker.
        let handover = handover && self.workers[at].is_in_cluster();
        let release =
            if handover { GiveBack::Handover } else { GiveBack::Lost { reason: "drained".to_owned() } };
        let build = self.before.builds.get(&token.build).cloned();
        let state = self.scene.turn().give_back(&token, &release).await.unwrap();
        let current = build.as_ref().is_some_and(|build| is_current(build, &token));
        if current {
            ensure(state.is_some(), || format!("{token:?} could not be released: {build:?}"))?;
            if again {
                let repeated = self.scene.turn().give_back(&token, &release).await.unwrap();
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

    /// A former holder's token must change nothing.
    pub(super) async fn ghost(&mut self, number: u8, act: u8) -> Result<(), Broken> {
        let Some(token) = pick(&self.ghosts, number).cloned() else {
            return Ok(());
        };
        let Some(build) = self.before.builds.get(&token.build).cloned() else {
            return Ok(());
        };
        let last_holder = build.epoch == token.epoch;
        if last_holder {
            // This token is still current, because nobody has claimed the build since.
            return Ok(());
        }
        let stale = match act % 5 {
            0 => {
                let finish = Finish::of(Outcome::Succeeded);
                self.scene.turn().finish(&token, &finish).await.unwrap() == Finished::Stale
            }
            1 => self.scene.turn().report(&token, true, Some("a ghost")).await.unwrap() == Reported::Stale,
            2 => self.scene.turn().give_back(&token, &GiveBack::Handover).await.unwrap().is_none(),
            3 => self.renew_ghost(&token).await == Renewal::Stale,
            _ => {
                let lost = GiveBack::Lost { reason: "a ghost".to_owned() };
                self.scene.turn().give_back(&token, &lost).await.unwrap().is_none()
            }
        };
        let after = self.scene.build(token.build).await;
        ensure(stale && after.seq == build.seq, || format!("the old {token:?} changed {build:?}"))
    }

    /// A frozen worker wakes up and renews what it thinks it holds.
    pub(super) async fn renew_ghost(&self, token: &Token) -> Renewal {
        let held = std::slice::from_ref(token);
        let (host, place) = &self.homes[token.worker.as_str()];
        let mut beat = beat_of(token.worker.as_str(), place, 1, held);
        beat.host.clone_from(host);
        self.scene.turn().renew(&beat).await.unwrap().renewals[0]
    }

    pub(super) fn crash(&mut self, at: usize) {
        let (host, place) = (self.workers[at].host.clone(), self.workers[at].place.clone());
        let fresh = self.start_worker(host, &place, self.workers[at].slots);
        let old = std::mem::replace(&mut self.workers[at], fresh);
        if old.place.starts_with("process:") {
            self.runs.retain(|run| !old.held.iter().any(|token| token.build == run.build));
        }
        self.ghosts.extend(old.held);
    }
}

/// Whether the build is live and held with this token.
fn is_current(build: &Build, token: &Token) -> bool {
    matches!(build.state, BuildState::Starting | BuildState::Running | BuildState::Orphaned)
        && build.epoch == token.epoch
        && build.worker.as_ref() == Some(&token.worker)
}

/// What a worker said of a run's end is kept with its build.
fn check_kept(old: &Build, new: &Build, finish: &Finish) -> Result<(), Broken> {
    let node = finish.node.as_ref().map(ToString::to_string).or_else(|| old.node.clone());
    let mut fits = new.node == node;
    if new.state.is_ended() {
        fits = fits && new.log_run == Some(old.attempt) && new.log_end == finish.log_end;
        fits = fits && new.worker == old.worker && new.attempt == old.attempt;
    }
    if let (Outcome::Failed { class, cause, blame, .. }, false) = (&finish.outcome, old.cancelling) {
        fits = fits && new.cause.as_deref() == Some(cause.word()) && new.log_tail == finish.log_tail;
        fits = fits && (new.class == Some(*class) || *blame != Blame::Nobody);
        fits = fits && new.reason.is_some();
    }
    ensure(fits, || format!("{finish:?} made {new:?} of {old:?}"))
}
