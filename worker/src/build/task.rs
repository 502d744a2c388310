//! A build whose run is alive: its events, the orders for it, and what follows from both.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::limits::KILL_GRACE;
use fairlane_common::queue::{Outcome, Registered};
use fairlane_common::{Build, FailureCause};
use tokio::time::Instant;

use crate::build::ClaimedBuild;
use crate::build::deadlines::Deadlines;
use crate::build::end::EndedBuild;
use crate::build::judge::{Cause, Facts, Verdict, judge};
use crate::build::pushing::{News, Pushing};
use crate::build::reporter::Reporter;
use crate::claiming::leases::{Lease, Wanted};
use crate::claiming::refill;
use crate::claiming::state::Worker;
use crate::executor::{Ended, Run, RunEvent, RunFailure};
use crate::log::pump::LogPump;

/// How long a run may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long a killed run may take to be gone; one that hangs in the kernel for longer no longer occupies its slot.
const GONE_TIMEOUT: Duration = Duration::from_secs(20);

/// How following a run ended.
pub(crate) enum Followed {
    Ended(Box<EndedBuild>),
    /// The worker attaches to the run again, as another holder would.
    Again(Box<ClaimedBuild>),
}

/// A build whose run is alive.
pub(crate) struct RunningBuild {
    worker: Arc<Worker>,
    lease: Lease,
    build: Build,
    run: Box<dyn Run>,
    /// Whether the run survives this worker.
    outlives: bool,
    log: LogPump,
    facts: Facts,
    deadlines: Deadlines,
    pushing: Pushing,
    stopping: Option<Stopping>,
    /// Whether it was told to hand the run over.
    leaving: bool,
    reporter: Reporter,
}

struct Stopping {
    cause: Cause,
    /// When it is treated as ended; `None` for a run that always reports its own end.
    give_up: Option<Instant>,
}

/// What a step of following a run leads to.
enum Step {
    On,
    /// The run has ended.
    Ended(Ended),
    /// The run is no longer followed, whatever happens to it.
    Over(Verdict),
    /// The run's log was lost, and the run can send its lines again.
    Again,
}

impl RunningBuild {
    pub(crate) fn new(
        worker: Arc<Worker>,
        lease: Lease,
        build: Build,
        run: Box<dyn Run>,
        ran: Option<Duration>,
        log: LogPump,
        waits_to_push: bool,
    ) -> Self {
        let token = lease.token().clone();
        let mut pushing = Pushing::new(Arc::clone(&worker.pushes), token.clone(), build.spec.image.clone());
        if waits_to_push {
            pushing.waits();
        }
        Self {
            pushing,
            deadlines: Deadlines::new(&worker.settings, Arc::clone(&worker.stalls), ran),
            reporter: Reporter::start(worker.queue.clone(), Arc::clone(&worker.leases), token),
            outlives: worker.executor.outlives(),
            worker,
            lease,
            build,
            run,
            log,
            facts: Facts::default(),
            stopping: None,
            leaving: false,
        }
    }

    pub(crate) async fn follow(mut self) -> Followed {
        // Orders that came while the run was being started.
        let wanted = self.lease.wanted();
        let mut step = self.want(wanted);
        let (verdict, node) = loop {
            match step {
                Step::On => {}
                Step::Ended(ended) => {
                    let cause = self.stopping.as_ref().map(|stopping| &stopping.cause);
                    self.facts.note_last_words(ended.last_words.as_deref().unwrap_or_default());
                    break (judge_run(&ended, cause, &self.facts), ended.node);
                }
                Step::Over(verdict) => break (verdict, None),
                Step::Again => {
                    let ran = self.deadlines.ran();
                    let Self { worker, lease, build, .. } = self;
                    return Followed::Again(Box::new(ClaimedBuild {
                        worker,
                        lease,
                        build,
                        adopted: true,
                        ran,
                        avoided: Vec::new(),
                    }));
                }
            }
            step = self.step().await;
        };
        let Self { worker, lease, build, log, facts, reporter, .. } = self;
        let verdict = worker.executor.examine(&build.lane, true, verdict).await;
        let node = node.or_else(|| worker.executor.host().map(str::to_owned));
        let tail = facts.tail();
        let (log, reporter) = (Some(log), Some(reporter));
        let run = build.attempt;
        Followed::Ended(Box::new(EndedBuild { worker, lease, verdict, run, node, log, tail, reporter }))
    }

    /// Waits for what comes first. Deadlines are checked before lines, so that a flood of lines does not delay
    /// them. While the log is full, no line is read, so that the run's source waits. A run that is being stopped
    /// is always read, even if its lines are lost.
    async fn step(&mut self) -> Step {
        let full = self.stopping.is_none() && !self.leaving && !self.log.has_room();
        self.deadlines.pause(full);
        self.deadlines.hold(self.pushing.is_waiting());
        let lease_end = self.lease.peek_deadline();
        let run_end = self.deadlines.next();
        let give_up = self.stopping.as_ref().and_then(|stopping| stopping.give_up);
        let watched = self.stopping.is_none();
        let (wanted, renewals, lost) = self.lease.all_signals();
        tokio::select! {
            biased;
            wanted = Lease::wanted_anew(wanted) => return self.want(wanted),
            deadline = Lease::renewed(renewals) => self.run.renewed(deadline),
            // A run that outlives this worker is not stopped because Redis is away.
            () = lease_end.reached(), if watched && !self.outlives => {
                let reason = "its lease could not be renewed, so its run was killed before the lease expired".to_owned();
                // The supervisor does the same at the same time.
                self.stop(Cause::Lost(reason), KILL_GRACE);
            }
            () = tokio::time::sleep_until(run_end), if watched => {
                // After a suspension, the deadline has moved.
                if self.deadlines.next() <= Instant::now() {
                    let (cause, reason) = self.deadlines.passed();
                    self.stop(Cause::Stuck(cause, reason), GRACE);
                }
            }
            () = tokio::time::sleep_until(give_up.unwrap_or(run_end)), if give_up.is_some() => {
                tracing::error!("the run is still alive after SIGKILL");
                self.run.abandon();
                return Step::Ended(Ended::default());
            }
            () = Lease::lost(lost) => return self.register().await,
            () = self.log.emptied() => return self.register().await,
            () = self.log.room(), if full => {}
            news = self.pushing.news(), if watched && !self.leaving => self.take_push_news(news),
            event = self.run.follow(), if !full => return self.take_in(event),
        }
        Step::On
    }

    /// Redis has lost the build or its log: registers the run again.
    async fn register(&mut self) -> Step {
        let token = self.lease.token().clone();
        let registering = refill::register(&self.worker, &self.build, &token);
        let registered = tokio::select! {
            registered = registering => registered,
            () = self.lease.let_go() => return self.want(Wanted::LetGo),
        };
        match registered {
            Registered::Leased(claimed) if claimed.token == token => {
                tracing::info!("Redis had lost this build; its run is registered again");
                self.worker.beat_now.notify_one();
                self.pushing.lost();
                if self.outlives { Step::Again } else { Step::On }
            }
            Registered::Leased(claimed) => {
                tracing::info!(to = %claimed.token.build, "another build has taken over the run");
                refill::take_over(&self.worker, *claimed, self.outlives).await;
                self.want(Wanted::LetGo)
            }
            _ => self.want(Wanted::LetGo),
        }
    }

    fn take_push_news(&mut self, news: News) {
        match news {
            News::Go => {
                tracing::info!("pushing");
                self.run.open_gate();
                self.reporter.note(String::new());
            }
            News::Wait(note) => self.reporter.note(note),
        }
    }

    fn take_in(&mut self, event: RunEvent) -> Step {
        match event {
            RunEvent::Note(note) => {
                self.deadlines.note(&note);
                self.reporter.note(note);
            }
            RunEvent::Up(after) => {
                tracing::info!("running");
                // Of a run that was already up, its first holder has counted it.
                if let Some(after) = after.filter(|_| self.build.started.is_none()) {
                    self.worker.counts.pod_started(after);
                }
                self.deadlines.up();
                self.reporter.up();
                // Needed in case Redis loses it; an approximate time is enough.
                self.build.started = self.build.started.or(self.build.claimed);
            }
            RunEvent::Unheard => self.deadlines.line(),
            // Nobody would hear that it waits to push.
            RunEvent::Unreadable if self.build.spec.push && self.pushing.unheard() => self.run.open_gate(),
            RunEvent::Unreadable => {}
            RunEvent::GateOpen => self.pushing.pushes(),
            RunEvent::Line(line) => {
                let phase = self.facts.note(&line.text);
                self.pushing.heard(phase);
                self.deadlines.line();
                if self.leaving { self.log.push_whole(line) } else { self.log.push(line) }
            }
            RunEvent::Exited(ended) => {
                if self.outlives {
                    self.log.note_unread();
                }
                return Step::Ended(ended);
            }
            RunEvent::Lost(reason) => return Step::Over(self.lost(reason)),
            RunEvent::HandedOver => return Step::Over(Verdict::HandOver),
            RunEvent::Taken => return self.want(Wanted::LetGo),
        }
        Step::On
    }

    /// There is no run any more: a cancelled build is cancelled, any other goes back into line.
    fn lost(&self, reason: String) -> Verdict {
        match self.stopping.as_ref().map(|stopping| &stopping.cause) {
            Some(Cause::Cancelled) => Verdict::Finish(Outcome::Cancelled),
            _ => Verdict::Lost(reason),
        }
    }

    fn want(&mut self, wanted: Wanted) -> Step {
        match wanted {
            Wanted::Run => {}
            Wanted::Drained if self.outlives => {
                self.leaving = true;
                self.run.hand_over();
            }
            Wanted::Drained => self.stop(Cause::Lost("its worker shut down".to_owned()), GRACE),
            Wanted::Cancelled => self.stop(Cause::Cancelled, GRACE),
            Wanted::LetGo if self.outlives => {
                tracing::info!("another worker has the lease: leaving the run to it");
                return Step::Over(Verdict::LetGo);
            }
            Wanted::LetGo => {
                tracing::info!("another worker has the lease: killing this worker's run");
                self.stop(Cause::Stale, Duration::ZERO);
            }
        }
        Step::On
    }

    /// Stops the run. A lost lease outweighs every earlier cause; a cancellation outweighs all others.
    fn stop(&mut self, cause: Cause, grace: Duration) {
        if let Some(stopping) = &mut self.stopping {
            if cause == Cause::Stale || (cause == Cause::Cancelled && stopping.cause != Cause::Stale) {
                stopping.cause = cause;
            }
        } else {
            tracing::info!(?cause, "stopping the run");
            let give_up = (!self.outlives).then(|| Instant::now() + grace + GONE_TIMEOUT);
            self.stopping = Some(Stopping { cause, give_up });
        }
        self.run.stop(grace);
    }
}

/// The verdict on a run that has ended. What happened to its pod outweighs its log, but not the reason it was
/// stopped for, and not a success.
fn judge_run(ended: &Ended, cause: Option<&Cause>, facts: &Facts) -> Verdict {
    match &ended.failure {
        Some(RunFailure { class, cause: of, reason, blame }) if cause.is_none() => {
            let (reason, blame) = (reason.clone(), blame.clone());
            return Verdict::Finish(Outcome::Failed { class: *class, cause: *of, reason, blame });
        }
        _ => {}
    }
    match (cause, ended.kept_by) {
        // What kept it from starting says more than that it did not start.
        (Some(Cause::Stuck(FailureCause::PENDING, reason)), Some(kept_by)) => {
            judge(ended.exit, Some(&Cause::Stuck(kept_by, reason.clone())), facts)
        }
        _ => judge(ended.exit, cause, facts),
    }
}
