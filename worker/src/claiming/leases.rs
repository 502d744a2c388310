//! The leases that this worker holds, and the orders for each build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_common::{BuildId, Token};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::time::boot_time::BootTime;

/// The order for a build, from weakest to strongest: a later order never overrides a stronger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// Go on.
    Run,
    /// Stop or hand over the run, because the worker shuts down.
    Drained,
    /// Stop, because somebody cancelled the build.
    Cancelled,
    /// Let go: another worker has the lease.
    LetGo,
}

struct Entry {
    deadline: watch::Sender<BootTime>,
    wanted: watch::Sender<Wanted>,
    /// How many times Redis turned out not to know it.
    lost: watch::Sender<u64>,
}

/// All builds that this worker works on.
pub(crate) struct Leases {
    slots: usize,
    entries: Mutex<HashMap<Token, Entry>>,
    /// Builds worked on; adopted ones may exceed the slots.
    busy: watch::Sender<usize>,
}

impl Leases {
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { slots, entries: Mutex::default(), busy: watch::Sender::new(0) })
    }

    /// Adds a lease that has to be given up at `deadline`, which occupies a slot.
    pub(crate) fn enter(self: &Arc<Self>, token: Token, deadline: BootTime) -> Lease {
        let (deadline_in, deadline) = watch::channel(deadline);
        let (wanted_in, wanted) = watch::channel(Wanted::Run);
        let (lost_in, lost) = watch::channel(0);
        let entry = Entry { deadline: deadline_in, wanted: wanted_in, lost: lost_in };
        self.entries().insert(token.clone(), entry);
        self.busy.send_modify(|busy| *busy += 1);
        Lease {
            token,
            deadline,
            wanted,
            lost,
            leases: Arc::clone(self),
            settled: false,
            since: Instant::now(),
            before: Duration::ZERO,
        }
    }

    /// Free slots.
    pub(crate) fn free(&self) -> usize {
        self.slots.saturating_sub(*self.busy.borrow())
    }

    /// Notifies when a slot is taken or freed.
    pub(crate) fn changes(&self) -> watch::Receiver<usize> {
        self.busy.subscribe()
    }

    /// The leases to renew.
    pub(crate) fn to_renew(&self) -> Vec<Token> {
        let entries = self.entries();
        entries
            .iter()
            .filter(|(_, entry)| *entry.wanted.borrow() < Wanted::LetGo)
            .map(|(token, _)| token.clone())
            .collect()
    }

    /// Records that a lease was renewed. An earlier renewal whose answer comes late does not shorten it.
    pub(crate) fn renewed(&self, token: &Token, deadline: BootTime) {
        if let Some(entry) = self.entries().get(token) {
            entry.deadline.send_if_modified(|known| {
                let later = deadline > *known;
                *known = deadline.max(*known);
                later
            });
        }
    }

    /// Records that Redis does not know a lease.
    pub(crate) fn lost(&self, token: &Token) {
        if let Some(entry) = self.entries().get(token) {
            entry.lost.send_modify(|count| *count += 1);
        }
    }

    /// Whether this worker works on that build, under any lease.
    pub(crate) fn has(&self, build: BuildId) -> bool {
        self.entries().keys().any(|token| token.build == build)
    }

    pub(crate) fn want(&self, token: &Token, wanted: Wanted) {
        if let Some(entry) = self.entries().get(token) {
            entry.want(wanted);
        }
    }

    /// The same for all leases on that build.
    pub(crate) fn want_build(&self, build: BuildId, wanted: Wanted) {
        for (_, entry) in self.entries().iter().filter(|(token, _)| token.build == build) {
            entry.want(wanted);
        }
    }

    pub(crate) fn want_all(&self, wanted: Wanted) {
        for entry in self.entries().values() {
            entry.want(wanted);
        }
    }

    /// Lets go of older leases on the same build, and waits until their runs are gone.
    pub(crate) async fn older_gone(&self, token: &Token) {
        let mut changes = self.changes();
        let older = |other: &Token| other.build == token.build && other.epoch < token.epoch;
        loop {
            changes.mark_unchanged();
            let mut any = false;
            for (_, entry) in self.entries().iter().filter(|(other, _)| older(other)) {
                entry.want(Wanted::LetGo);
                any = true;
            }
            if !any || changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Token, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|known| {
            let stronger = wanted > *known;
            *known = wanted.max(*known);
            stronger
        });
    }
}

/// A lease on a build, and the slot that it occupies. If it is dropped before it is settled, it expires, and
/// another worker takes the build.
pub(crate) struct Lease {
    token: Token,
    deadline: watch::Receiver<BootTime>,
    wanted: watch::Receiver<Wanted>,
    lost: watch::Receiver<u64>,
    leases: Arc<Leases>,
    settled: bool,
    /// When it was entered, by this process's clock.
    since: Instant,
    /// How long before that its build was claimed by its first holder.
    before: Duration,
}

impl Lease {
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// Notes when the run's first holder claimed the build. Both times are Redis's: an epoch is never below the time
    /// of its claim.
    pub(crate) fn note_claimed(&mut self, claimed: Option<u64>) {
        let epoch = self.token.epoch;
        self.before = Duration::from_millis(epoch.saturating_sub(claimed.unwrap_or(epoch)));
    }

    /// How long ago the run's first holder claimed the build.
    pub(crate) fn age(&self) -> Duration {
        self.before + self.since.elapsed()
    }

    /// When it has to be given up, unless it is renewed.
    pub(crate) fn deadline(&mut self) -> BootTime {
        *self.deadline.borrow_and_update()
    }

    /// The same, without marking a renewal as seen.
    pub(crate) fn peek_deadline(&self) -> BootTime {
        *self.deadline.borrow()
    }

    pub(crate) fn wanted(&mut self) -> Wanted {
        *self.wanted.borrow_and_update()
    }

    /// The next order.
    pub(crate) async fn wanted_anew(wanted: &mut watch::Receiver<Wanted>) -> Wanted {
        match wanted.changed().await {
            Ok(()) => *wanted.borrow_and_update(),
            Err(_) => std::future::pending().await,
        }
    }

    /// The next renewal.
    pub(crate) async fn renewed(deadline: &mut watch::Receiver<BootTime>) -> BootTime {
        match deadline.changed().await {
            Ok(()) => *deadline.borrow_and_update(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until Redis turns out not to know it.
    pub(crate) async fn lost(lost: &mut watch::Receiver<u64>) {
        if lost.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Orders, renewals and losses.
    pub(crate) fn all_signals(
        &mut self,
    ) -> (&mut watch::Receiver<Wanted>, &mut watch::Receiver<BootTime>, &mut watch::Receiver<u64>) {
        (&mut self.wanted, &mut self.deadline, &mut self.lost)
    }

    /// Orders and renewals, to wait for both at once.
    pub(crate) fn signals(&mut self) -> (&mut watch::Receiver<Wanted>, &mut watch::Receiver<BootTime>) {
        (&mut self.wanted, &mut self.deadline)
    }

    /// Waits for the order to let go.
    pub(crate) async fn let_go(&mut self) {
        if self.wanted.wait_for(|wanted| *wanted == Wanted::LetGo).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the worker shuts down or the lease has to be let go; returns which.
    pub(crate) async fn leaving(&mut self) -> Wanted {
        let leaves = |wanted: &Wanted| matches!(wanted, Wanted::Drained | Wanted::LetGo);
        let found = self.wanted.wait_for(leaves).await.map(|wanted| *wanted);
        match found {
            Ok(wanted) => wanted,
            Err(_) => std::future::pending().await,
        }
    }

    /// Marks it as settled: the queue knows how the build ended, or another worker has it.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            tracing::warn!(build.id = %self.token.build, "a build was dropped before its end; its lease will expire");
        }
        self.leases.entries().remove(&self.token);
        self.leases.busy.send_modify(|busy| *busy = busy.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fairlane_common::WorkerId;

    use super::*;

    fn token(epoch: u64) -> Token {
        let build = "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d".parse().unwrap();
        Token { build, epoch, worker: WorkerId::new("host") }
    }

    #[test]
    fn slots_and_words() {
        let leases = Leases::new(1);
        let mut lease = leases.enter(token(1), BootTime::now());
        assert_eq!(leases.free(), 0);
        leases.want_all(Wanted::Cancelled);
        leases.want_all(Wanted::Drained);
        assert_eq!(lease.wanted(), Wanted::Cancelled);
        assert_eq!(leases.to_renew().len(), 1);
        leases.want(&lease.token().clone(), Wanted::LetGo);
        assert!(leases.to_renew().is_empty(), "what is let go is not renewed");
        lease.settle();
        assert_eq!(leases.free(), 1);
    }

    #[test]
    fn a_late_answer_shortens_no_lease() {
        let leases = Leases::new(1);
        let now = BootTime::now();
        let mut lease = leases.enter(token(1), now);
        let later = now.plus(Duration::from_secs(5));
        leases.renewed(&lease.token().clone(), later);
        leases.renewed(&lease.token().clone(), now);
        assert_eq!(lease.deadline(), later);
        lease.settle();
    }

    #[tokio::test]
    async fn an_adoption_waits_for_the_older_run() {
        let leases = Leases::new(2);
        let mut old = leases.enter(token(1), BootTime::now());
        let new = leases.enter(token(2), BootTime::now());
        let gone = async {
            old.let_go().await;
            old.settle();
        };
        tokio::join!(leases.older_gone(new.token()), gone);
        new.settle();
    }

    #[tokio::test]
    async fn an_adoption_that_waits_hears_that_its_worker_ends() {
        let leases = Leases::new(2);
        let old = leases.enter(token(1), BootTime::now());
        let mut new = leases.enter(token(2), BootTime::now());
        leases.want_all(Wanted::Drained);
        let token = new.token().clone();
        let heard = tokio::select! {
            () = leases.older_gone(&token) => panic!("the older one is there"),
            wanted = new.leaving() => wanted,
        };
        assert_eq!(heard, Wanted::Drained);
        leases.want(&token, Wanted::LetGo);
        assert_eq!(new.leaving().await, Wanted::LetGo);
        old.settle();
        new.settle();
    }
}
