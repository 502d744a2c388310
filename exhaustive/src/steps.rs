//! What can happen next, and what becomes of it.

use crate::model::{Fault, Lane};
use crate::world::{BUILDS, Held, Life, Outcome, Pod, RUNS, Record, State, Token, Worker, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A worker claims a build; its answer may be lost.
    Claim {
        worker: usize,
        build: usize,
        answered: bool,
    },
    /// It marks the pod of its run, or creates it once the pods of other runs are gone.
    Start {
        worker: usize,
        build: usize,
    },
    Renew {
        worker: usize,
        build: usize,
    },
    /// The pod has ended, and its holder reports it.
    Finish {
        worker: usize,
        build: usize,
    },
    /// The pod is gone, and its holder reports that.
    Gone {
        worker: usize,
        build: usize,
    },
    /// The holder gives a stuck run up.
    GiveUp {
        worker: usize,
        build: usize,
    },
    /// The holder's request to delete the pod is carried out.
    Stop {
        worker: usize,
        build: usize,
    },
    /// The holder's own deadline passes.
    Late {
        worker: usize,
        build: usize,
    },
    /// Redis's lease has run out, and somebody reaps.
    Expire {
        build: usize,
    },
    Adopt {
        worker: usize,
        build: usize,
    },
    Cancel {
        build: usize,
    },
    /// Any worker removes the pod of an ended build, or of an earlier run.
    Sweep {
        worker: usize,
        build: usize,
        run: usize,
    },
    PodEnds {
        build: usize,
        run: usize,
    },
    PodLost {
        build: usize,
        run: usize,
    },
    Die {
        worker: usize,
    },
    Freeze {
        worker: usize,
    },
    Thaw {
        worker: usize,
    },
    /// The replica has everything.
    Replicate,
    Failover,
}

/// Takes one of a budget.
fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl Lane {
    /// Gives a build to a worker, with a new token.
    fn hand_over(&self, world: &mut World, worker: usize, build: usize, adopted: bool) {
        let record = world.builds[build];
        world.time += 1;
        let counted = self.fault == Some(Fault::CountedEpochs);
        let epoch = if counted { record.token.epoch + 1 } else { world.time };
        world.builds[build] = Record { state: State::Running, token: Token { epoch, worker }, ..record };
        let (run, stops) = (record.run, record.cancelling);
        world.workers[worker].held[build] =
            Some(Held { epoch, run, adopted, passed: false, has_pod: false, stops });
    }

    fn permits(&self, world: &World) -> usize {
        let holds = |record: &&Record| match self.fault {
            Some(Fault::OrphanWithoutPermit) => record.state == State::Running,
            _ => record.is_live(),
        };
        world.builds.iter().filter(holds).count()
    }

    fn claim(&self, world: &mut World, worker: usize, build: usize, answered: bool) -> Option<()> {
        let (record, holder) = (world.builds[build], world.workers[worker]);
        let free = holder.life == Life::Up && holder.held[build].is_none();
        if record.state != State::Queued || !free || self.permits(world) >= self.limit {
            return None;
        }
        self.hand_over(world, worker, build, false);
        if answered {
            return Some(());
        }
        world.workers[worker].held[build] = None;
        spend(&mut world.left.lost_answers)
    }

    fn start(&self, world: &mut World, worker: usize, build: usize) -> Option<()> {
        let held = world.held(worker, build).filter(|held| !held.passed && !held.has_pod)?;
        let token = Token { epoch: held.epoch, worker };
        let looks = !(held.adopted && self.fault == Some(Fault::AdopterLooksNot));
        match world.pods[build][held.run].filter(|_| looks) {
            Some(pod) if pod.token.epoch > held.epoch => {
                world.workers[worker].held[build] = None;
                return Some(());
            }
            Some(_) if held.adopted && self.fault == Some(Fault::AdopterMarksNot) => {}
            Some(pod) => {
                world.taken_back |= pod.token != token && world.builds[build].is_of(pod.token);
                world.pods[build][held.run] = Some(Pod { token, ..pod });
            }
            // An adopted run without a pod is lost.
            None if held.adopted || held.stops => return None,
            None => {
                if self.fault != Some(Fault::BesideOthers) {
                    world.wasted |= world.live_pods(build) > 0;
                    world.pods[build] = [None; RUNS];
                }
                world.pods[build][held.run] = Some(Pod { token, done: false });
            }
        }
        world.workers[worker].held[build] = Some(Held { has_pod: true, ..held });
        Some(())
    }

    fn renew(&self, world: &mut World, worker: usize, build: usize) -> Option<()> {
        let held = world.held(worker, build)?;
        let token = Token { epoch: held.epoch, worker };
        let record = &mut world.builds[build];
        let current = record.is_of(token);
        if !(current || self.fault == Some(Fault::RenewUnfenced) && record.is_live()) {
            world.workers[worker].held[build] = None;
            return Some(());
        }
        (record.state, record.token) = (State::Running, token);
        let stops = held.stops || record.cancelling;
        world.stale_change |= !current;
        world.workers[worker].held[build] = Some(Held { passed: false, stops, ..held });
        Some(())
    }

    fn finish(&self, world: &mut World, worker: usize, build: usize) -> Option<()> {
        let held = world.held(worker, build).filter(|held| held.has_pod)?;
        world.pods[build][held.run].filter(|pod| pod.done)?;
        if world.leaves(worker, build, held, self.fault != Some(Fault::FinishUnfenced)) {
            world.end(build, Outcome::Succeeded);
            world.ended_by_adopter |= held.adopted;
        }
        Some(())
    }

    fn gone(&self, world: &mut World, worker: usize, build: usize) -> Option<()> {
        let held = world.held(worker, build)?;
        let looks = self.fault != Some(Fault::AdopterLooksNot);
        let knows = held.has_pod || held.adopted || held.stops;
        let is_there = world.pods[build][held.run].is_some() && (looks || held.has_pod || !held.adopted);
        if !knows || is_there {
            return None;
        }
        if world.leaves(worker, build, held, true) {
            let record = &mut world.builds[build];
            if record.cancelling {
                world.end(build, Outcome::Cancelled);
            } else if record.run + 1 == RUNS {
                world.end(build, Outcome::Failed);
            } else {
                (record.state, record.run) = (State::Queued, record.run + 1);
            }
        }
        Some(())
    }

    fn stop(&self, world: &mut World, worker: usize, build: usize) -> Option<()> {
        // Its deadline may have passed since it sent the request.
        let held = world.held(worker, build).filter(|held| held.stops)?;
        let pod = world.pods[build][held.run]?;
        let own = pod.token == Token { epoch: held.epoch, worker };
        if !own && self.fault != Some(Fault::StopUnfenced) {
            return None;
        }
        let record = world.builds[build];
        let other = record.token.worker != worker
            && record.is_live()
            && world
                .held(record.token.worker, build)
                .is_some_and(|held| held.has_pod && held.run == record.run);
        world.foreign_stop |= other && !pod.done && !record.cancelling;
        world.pods[build][held.run] = None;
        Some(())
    }

    fn expire(&self, world: &mut World, build: usize) -> Option<()> {
        let record = world.builds[build];
        if record.state != State::Running || self.fault == Some(Fault::NoExpiry) {
            return None;
        }
        let holder = &mut world.workers[record.token.worker];
        let life = holder.life;
        if let Some(held) = holder.held[build].as_mut().filter(|held| held.epoch == record.token.epoch) {
            if life == Life::Frozen {
                held.passed = true;
            } else if !held.passed && self.fault != Some(Fault::NoMargin) {
                return None;
            }
        }
        world.builds[build].state = State::Orphaned;
        Some(())
    }

    fn adopt(&self, world: &mut World, worker: usize, build: usize) -> Option<()> {
        let (record, holder) = (world.builds[build], world.workers[worker]);
        if record.state != State::Orphaned || holder.life != Life::Up || holder.held[build].is_some() {
            return None;
        }
        self.hand_over(world, worker, build, true);
        Some(())
    }

    fn cancel(&self, world: &mut World, build: usize) -> Option<()> {
        spend(&mut world.left.cancels)?;
        let at_once = self.fault == Some(Fault::CancelEndsAtOnce);
        match world.builds[build].state {
            State::Ended(_) => return None,
            State::Running | State::Orphaned if !at_once => world.builds[build].cancelling = true,
            _ => world.end(build, Outcome::Cancelled),
        }
        Some(())
    }

    fn sweep(world: &mut World, worker: usize, build: usize, run: usize) -> Option<()> {
        let (pod, record) = (world.pods[build][run]?, world.builds[build]);
        let ended = matches!(record.state, State::Ended(_));
        if world.workers[worker].life != Life::Up || !ended && record.run <= run {
            return None;
        }
        world.wasted |= !pod.done && !ended;
        world.pods[build][run] = None;
        Some(())
    }

    pub(crate) fn take(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Claim { worker, build, answered } => self.claim(world, worker, build, answered),
            Step::Start { worker, build } => self.start(world, worker, build),
            Step::Renew { worker, build } => self.renew(world, worker, build),
            Step::Finish { worker, build } => self.finish(world, worker, build),
            Step::Gone { worker, build } => self.gone(world, worker, build),
            Step::GiveUp { worker, build } => {
                let held =
                    world.held(worker, build).filter(|held| held.has_pod && !held.passed && !held.stops)?;
                world.workers[worker].held[build] = Some(Held { stops: true, ..held });
                spend(&mut world.left.stuck)
            }
            Step::Stop { worker, build } => self.stop(world, worker, build),
            Step::Late { worker, build } => {
                let held = world.held(worker, build).filter(|held| !held.passed)?;
                world.workers[worker].held[build] = Some(Held { passed: true, ..held });
                spend(&mut world.left.late)
            }
            Step::Expire { build } => self.expire(world, build),
            Step::Adopt { worker, build } => self.adopt(world, worker, build),
            Step::Cancel { build } => self.cancel(world, build),
            Step::Sweep { worker, build, run } => Self::sweep(world, worker, build, run),
            Step::PodEnds { build, run } => {
                world.pods[build][run].as_mut()?.done = true;
                Some(())
            }
            Step::PodLost { build, run } => {
                world.pods[build][run].take()?;
                spend(&mut world.left.lost_pods)
            }
            Step::Die { worker } => {
                if world.workers[worker].life == Life::Dead {
                    return None;
                }
                world.workers[worker] = Worker { life: Life::Dead, held: [None; BUILDS] };
                spend(&mut world.left.deaths)
            }
            Step::Freeze { worker } => {
                // Only a holder's suspension makes a difference.
                world.workers[worker].held.iter().flatten().next()?;
                let was = std::mem::replace(&mut world.workers[worker].life, Life::Frozen);
                if was == Life::Up { spend(&mut world.left.freezes) } else { None }
            }
            Step::Thaw { worker } => {
                let was = std::mem::replace(&mut world.workers[worker].life, Life::Up);
                (was == Life::Frozen).then_some(())
            }
            Step::Replicate => {
                world.replica = world.builds;
                Some(())
            }
            Step::Failover => {
                (world.builds, world.failed_over) = (world.replica, true);
                spend(&mut world.left.failovers)
            }
        }
    }
}
