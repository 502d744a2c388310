//! Claim, lease, fence, adoption, cancel and failover, as small as they can be told.
//!
//! A call is one step, because each is one script in Redis or one request with preconditions to Kubernetes. Time is
//! only order: a holder's own deadline passes before Redis's lease does, and a frozen holder's deadline passes as
//! well. Left out: a request to create a pod that is carried out after its worker has died (I3 states that bound),
//! and that holders register runs which Redis lost in a failover.

use stateright::{Model, Property};

use crate::steps::Step;
use crate::world::{BUILDS, Budget, Life, RUNS, Record, State, Token, WORKERS, World};

/// Faults that are planted to see whether the model finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `finish` does not compare the token.
    FinishUnfenced,
    /// `renew` does not compare the token, and takes the build back.
    RenewUnfenced,
    /// The next epoch is the last one plus one, whatever time it is.
    CountedEpochs,
    /// An adopter does not mark the pod with its token.
    AdopterMarksNot,
    /// A pod is deleted by its name, whoever holds it.
    StopUnfenced,
    /// An adopter does not look for the pod.
    AdopterLooksNot,
    /// A run starts although the pod of another run of its build is still there.
    BesideOthers,
    /// A running build that is cancelled ends before its run does.
    CancelEndsAtOnce,
    /// An orphan does not keep its permit.
    OrphanWithoutPermit,
    /// Redis's lease may end before the holder's own deadline.
    NoMargin,
    /// Leases do not end.
    NoExpiry,
}

/// The model of one lane.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// How many of its builds may run at once.
    pub(crate) limit: usize,
    pub(crate) budget: Budget,
    pub(crate) fault: Option<Fault>,
}

impl Model for Lane {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for worker in 0..WORKERS {
            for build in 0..BUILDS {
                steps.extend([true, false].map(|answered| Step::Claim { worker, build, answered }));
                steps.extend([Step::Start { worker, build }, Step::Renew { worker, build }]);
                steps.extend([Step::Finish { worker, build }, Step::Gone { worker, build }]);
                steps.extend([Step::GiveUp { worker, build }, Step::Stop { worker, build }]);
                steps.extend([Step::Late { worker, build }, Step::Adopt { worker, build }]);
            }
            steps.extend([Step::Die { worker }, Step::Freeze { worker }, Step::Thaw { worker }]);
        }
        // Whoever sweeps does the same.
        let sweeper = world.workers.iter().position(|worker| worker.life == Life::Up);
        for build in 0..BUILDS {
            for run in 0..RUNS {
                steps.extend(sweeper.map(|worker| Step::Sweep { worker, build, run }));
                steps.extend([Step::PodEnds { build, run }, Step::PodLost { build, run }]);
            }
            steps.push(Step::Expire { build });
        }
        steps.push(Step::Cancel { build: 0 });
        if world.left.failovers > 0 {
            steps.extend([Step::Replicate, Step::Failover]);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = *last;
        self.take(&mut world, step)?;
        if world.left.failovers == 0 {
            world.replica =
                last.replica.map(|record| Record { token: Token { epoch: 0, worker: 0 }, ..record });
        }
        if self.fault != Some(Fault::CountedEpochs) {
            world.renumber();
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a build has at most one live run", |_, world: &World| {
                (0..BUILDS).all(|build| world.live_pods(build) <= 1)
            }),
            Property::always("a lane runs no more than its limit", |lane: &Self, world: &World| {
                world.failed_over
                    || (0..BUILDS).map(|build| world.live_pods(build)).sum::<usize>() <= lane.limit
            }),
            Property::always("a build ends once", |_, world: &World| {
                world.failed_over || world.ends.iter().all(|ends| *ends <= 1)
            }),
            Property::always("a stale holder changes nothing", |_, world: &World| !world.stale_change),
            Property::always("nobody stops a run that another holds", |_, world: &World| !world.foreign_stop),
            Property::always("nobody takes a pod from its holder", |_, world: &World| !world.taken_back),
            Property::always("a run that lives is kept", |_, world: &World| {
                world.failed_over || !world.wasted
            }),
            Property::eventually("every build ends", |_, world: &World| {
                world.builds.iter().all(|record| matches!(record.state, State::Ended(_)))
            }),
        ]
    }
}
