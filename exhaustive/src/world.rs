//! What Redis, the workers and Kubernetes know at one moment.

pub(crate) const WORKERS: usize = 3;
pub(crate) const BUILDS: usize = 2;
/// A build is run twice at most; if the second run is lost, too, it fails.
pub(crate) const RUNS: usize = 2;

/// What may happen, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Workers that are killed.
    pub(crate) deaths: u8,
    /// Workers that are suspended, and go on later.
    pub(crate) freezes: u8,
    /// Holders that miss their deadline although they live.
    pub(crate) late: u8,
    /// Claims whose answer gets lost.
    pub(crate) lost_answers: u8,
    /// Pods that vanish with their node.
    pub(crate) lost_pods: u8,
    /// Runs that their holder gives up, because they are stuck.
    pub(crate) stuck: u8,
    /// Cancellations of the first build.
    pub(crate) cancels: u8,
    /// Failovers of Redis, each to a replica that may lack any number of the latest writes.
    pub(crate) failovers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Queued,
    Running,
    Orphaned,
    Ended(Outcome),
}

/// The fencing token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) epoch: u8,
    pub(crate) worker: usize,
}

/// A build in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) state: State,
    pub(crate) token: Token,
    pub(crate) run: usize,
    pub(crate) cancelling: bool,
}

impl Record {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, State::Running | State::Orphaned)
    }

    pub(crate) fn is_of(&self, token: Token) -> bool {
        self.is_live() && self.token == token
    }
}

/// A build as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) epoch: u8,
    pub(crate) run: usize,
    pub(crate) adopted: bool,
    /// Its own deadline has passed: it starts nothing any more.
    pub(crate) passed: bool,
    /// It has created the pod, or marked it with its token.
    pub(crate) has_pod: bool,
    /// It stops the run: the build was cancelled, or is stuck.
    pub(crate) stops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Up,
    Frozen,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    pub(crate) held: [Option<Held>; BUILDS],
}

/// A pod in the API, marked with its holder's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pod {
    pub(crate) token: Token,
    pub(crate) done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) builds: [Record; BUILDS],
    /// The builds as the replica has them.
    pub(crate) replica: [Record; BUILDS],
    /// Redis's clock: each claim and adoption comes later than the one before.
    pub(crate) time: u8,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) pods: [[Option<Pod>; RUNS]; BUILDS],
    pub(crate) left: Budget,
    pub(crate) failed_over: bool,
    /// How often watchers were told the end of each build.
    pub(crate) ends: [u8; BUILDS],
    /// An adopter brought a run to its end.
    pub(crate) ended_by_adopter: bool,
    /// Somebody changed a build without holding it.
    pub(crate) stale_change: bool,
    /// Somebody stopped a run that another had taken over.
    pub(crate) foreign_stop: bool,
    /// A former holder marked a pod that its present holder had marked.
    pub(crate) taken_back: bool,
    /// A run that was alive was thrown away.
    pub(crate) wasted: bool,
}

impl World {
    pub(crate) fn new(budget: Budget) -> Self {
        let record =
            Record { state: State::Queued, token: Token { epoch: 0, worker: 0 }, run: 0, cancelling: false };
        Self {
            builds: [record; BUILDS],
            replica: [record; BUILDS],
            time: 0,
            workers: [Worker { life: Life::Up, held: [None; BUILDS] }; WORKERS],
            pods: [[None; RUNS]; BUILDS],
            left: budget,
            failed_over: false,
            ends: [0; BUILDS],
            ended_by_adopter: false,
            stale_change: false,
            foreign_stop: false,
            taken_back: false,
            wasted: false,
        }
    }

    pub(crate) fn epochs(&mut self) -> impl Iterator<Item = &mut u8> {
        let records = self.builds.iter_mut().chain(&mut self.replica).map(|record| &mut record.token.epoch);
        let held = self.workers.iter_mut().flat_map(|worker| worker.held.iter_mut().flatten());
        let pods = self.pods.iter_mut().flatten().flatten().map(|pod| &mut pod.token.epoch);
        records.chain(held.map(|held| &mut held.epoch)).chain(pods)
    }

    /// Numbers the epochs anew: only their order matters, and so more states are the same.
    pub(crate) fn renumber(&mut self) {
        let mut known: Vec<u8> = self.epochs().map(|epoch| *epoch).chain([0]).collect();
        known.sort_unstable();
        known.dedup();
        for epoch in self.epochs() {
            *epoch =
                known.iter().position(|one| one == epoch).and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
        }
        self.time = u8::try_from(known.len() - 1).unwrap_or(u8::MAX);
    }

    pub(crate) fn live_pods(&self, build: usize) -> usize {
        self.pods[build].iter().flatten().filter(|pod| !pod.done).count()
    }

    /// What a worker that is up holds.
    pub(crate) fn held(&self, worker: usize, build: usize) -> Option<Held> {
        let worker = self.workers[worker];
        worker.held[build].filter(|_| worker.life == Life::Up)
    }

    pub(crate) fn end(&mut self, build: usize, outcome: Outcome) {
        self.builds[build].state = State::Ended(outcome);
        self.ends[build] += 1;
    }

    /// A call by a holder: whether it may change the build. Whatever happens, it holds it no longer.
    pub(crate) fn leaves(&mut self, worker: usize, build: usize, held: Held, fenced: bool) -> bool {
        self.workers[worker].held[build] = None;
        let record = self.builds[build];
        let current = record.is_of(Token { epoch: held.epoch, worker });
        let changes = current || !fenced && record.is_live();
        self.stale_change |= changes && !current;
        changes
    }
}
