//! How many people wait for which build through this dispatcher, and its heartbeat.
//!
//! Counts are absolute and kept in memory. Changed counts are written at most four times a second. All counts
//! are written when the queue has forgotten them, and also twice a minute: the queue counts a request when it
//! accepts it, and this dispatcher may not know that, because the answer was lost or the Redis client
//! repeated the call.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlane_common::id::{BuildId, DispatcherId};
use fairlane_common::queue::{DispatcherBeat, Policy, Queue};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upkeep::outage::Outage;

/// Shortest time between two writes.
const FLUSH_GAP: Duration = Duration::from_millis(250);
/// Longest time between two heartbeats; a dispatcher is forgotten after 10 s without one.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Most people that one build can have through one dispatcher; more would not change its position.
pub(crate) const PEOPLE_MAX: u64 = 200;
/// How long deregistering may take at shutdown; otherwise the queue forgets this dispatcher after 10 s.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// The people behind this dispatcher's streams and requests.
pub(crate) struct People {
    dispatcher: DispatcherId,
    post_counts: Duration,
    /// Most people that count for one token.
    per_token: u64,
    counted: Mutex<Counts>,
    changed: Notify,
}

#[derive(Default)]
struct Counts {
    builds: HashMap<BuildId, BuildCount>,
    // How many people count for each token, over all builds.
    tokens: HashMap<Arc<str>, u64>,
    next: u64,
}

impl Counts {
    /// A token's name as a shared string, because thousands of streams may have the same.
    fn token(&self, name: &str) -> Arc<str> {
        self.tokens.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
    }

    /// Forgets the requests for a build that match `over`; returns how many there were.
    fn forget_requests(&mut self, id: BuildId, over: impl Fn(&Request) -> bool) -> usize {
        let Some(build) = self.builds.get_mut(&id) else { return 0 };
        let over: Vec<Request> = build.requests.extract_if(.., |request| over(request)).collect();
        for Request { count, token, .. } in &over {
            self.grant(token, *count, 0, 0);
        }
        over.len()
    }

    /// How many of `wanted` people count for a token. `before` of the token's people are replaced by them.
    fn grant(&mut self, token: &Arc<str>, before: u64, wanted: u64, per_token: u64) -> u64 {
        let others = self.tokens.get(token).map_or(0, |all| all.saturating_sub(before));
        let granted = wanted.min(PEOPLE_MAX).min(per_token.saturating_sub(others));
        if others + granted == 0 {
            self.tokens.remove(token);
        } else {
            self.tokens.insert(Arc::clone(token), others + granted);
        }
        granted
    }
}

/// The people of a stream, and its token.
struct Subscriber {
    count: u64,
    token: Arc<str>,
}

/// A person who requested a build.
struct Request {
    /// When it stops counting.
    until: Instant,
    /// 1, or 0 if its token already stands for as many people as allowed.
    count: u64,
    token: Arc<str>,
}

#[derive(Default)]
struct BuildCount {
    subscribers: HashMap<u64, Subscriber>,
    // Requests that no stream follows, oldest first.
    requests: Vec<Request>,
    dirty: bool,
}

impl BuildCount {
    /// How many people wait for the build. If there are streams, only these count, because they know their
    /// people.
    fn count(&self) -> u64 {
        let people: u64 = if self.subscribers.is_empty() {
            self.requests.iter().map(|request| request.count).sum()
        } else {
            self.subscribers.values().map(|subscriber| subscriber.count).sum()
        };
        people.min(PEOPLE_MAX)
    }
}

impl People {
    /// `per_token` limits the people that count for one token; `None` for no limit.
    pub(crate) fn new(dispatcher: DispatcherId, post_counts: Duration, per_token: Option<u64>) -> Arc<Self> {
        let per_token = per_token.unwrap_or(u64::MAX);
        Arc::new(Self {
            dispatcher,
            post_counts,
            per_token,
            counted: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Notes a request with `token`, which the queue has already counted as one person.
    pub(crate) fn asked(&self, id: BuildId, token: &str) {
        let mut counted = self.counted();
        let build = counted.builds.entry(id).or_default();
        let (is_alone, has_room) = (build.subscribers.is_empty(), (build.requests.len() as u64) < PEOPLE_MAX);
        let request = has_room.then(|| {
            let token = counted.token(token);
            let count = counted.grant(&token, 0, 1, self.per_token);
            Request { until: Instant::now() + self.post_counts, count, token }
        });
        let counts = is_alone && request.as_ref().is_some_and(|request| request.count > 0);
        let build = counted.builds.entry(id).or_default();
        build.requests.extend(request);
        // The queue has added one to this dispatcher's count. If that is wrong, the count is written again.
        build.dirty |= !counts;
        drop(counted);
        if !counts {
            self.changed.notify_one();
        }
    }

    /// Notes a stream with `token` that stands for `count` people.
    pub(crate) fn subscribe(self: &Arc<Self>, id: BuildId, count: u64, token: &str) -> Subscription {
        let mut counted = self.counted();
        counted.next += 1;
        let serial = counted.next;
        let token = counted.token(token);
        counted.forget_requests(id, |_| true);
        let count = counted.grant(&token, 0, count, self.per_token);
        let build = counted.builds.entry(id).or_default();
        build.subscribers.insert(serial, Subscriber { count, token });
        build.dirty = true;
        drop(counted);
        self.changed.notify_one();
        Subscription { people: Arc::clone(self), build: id, serial }
    }

    /// Sets how many people a stream stands for; returns how many the build has here, or `None` if this
    /// dispatcher has no such stream.
    pub(crate) fn set(&self, id: BuildId, serial: u64, count: u64) -> Option<u64> {
        let mut counted = self.counted();
        let subscriber = counted.builds.get(&id)?.subscribers.get(&serial)?;
        let (before, token) = (subscriber.count, Arc::clone(&subscriber.token));
        let count = counted.grant(&token, before, count, self.per_token);
        let build = counted.builds.get_mut(&id)?;
        build.subscribers.insert(serial, Subscriber { count, token });
        build.dirty = true;
        let people = build.count();
        drop(counted);
        self.changed.notify_one();
        Some(people)
    }

    fn leave(&self, id: BuildId, serial: u64) {
        let mut counted = self.counted();
        if let Some(build) = counted.builds.get_mut(&id) {
            build.dirty = true;
            if let Some(Subscriber { count, token }) = build.subscribers.remove(&serial) {
                counted.grant(&token, count, 0, self.per_token);
            }
        }
        drop(counted);
        self.changed.notify_one();
    }

    /// The name of a stream's subscriber: this dispatcher, and the stream's number.
    pub(crate) fn name(&self, serial: u64) -> String {
        format!("{}.{serial}", self.dispatcher)
    }

    /// The number in a subscriber's name; `None` if another dispatcher gave it.
    pub(crate) fn serial(&self, name: &str) -> Option<u64> {
        let (dispatcher, serial) = name.rsplit_once('.')?;
        (dispatcher == self.dispatcher.as_str()).then(|| serial.parse().ok())?
    }

    /// Returns the counts to write, and forgets builds for which nobody waits any more.
    fn take(&self, all: bool, now: Instant) -> Vec<(BuildId, u64)> {
        let mut counted = self.counted();
        let waiting = counted.builds.iter().filter(|(_, build)| !build.requests.is_empty());
        let waiting: Vec<BuildId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            if counted.forget_requests(id, |request| request.until <= now) > 0
                && let Some(build) = counted.builds.get_mut(&id)
            {
                build.dirty |= build.subscribers.is_empty();
            }
        }
        let mut counts = Vec::new();
        counted.builds.retain(|id, build| {
            if all || build.dirty {
                counts.push((*id, build.count()));
            }
            build.dirty = false;
            !build.subscribers.is_empty() || !build.requests.is_empty()
        });
        counts
    }

    /// Builds for which the queue counts people of this dispatcher, but that have none here.
    fn strangers(&self, watched: Vec<BuildId>) -> HashSet<BuildId> {
        let counted = self.counted();
        watched.into_iter().filter(|id| !counted.builds.contains_key(id)).collect()
    }

    /// Marks counts that could not be written, so that they are written again.
    fn put_back(&self, counts: &[(BuildId, u64)]) {
        let mut counted = self.counted();
        for (id, _) in counts {
            counted.builds.entry(*id).or_default().dirty = true;
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counts> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes counts and heartbeats until `shutdown`, then deregisters this dispatcher.
    pub(crate) async fn run(
        self: Arc<Self>,
        queue: Queue,
        policy: Option<Policy>,
        shutdown: CancellationToken,
    ) {
        let mut all = true;
        let (mut born, mut refilling) = (String::new(), false);
        let mut policy_of = String::new();
        let mut outage = Outage::new("the heartbeat");
        let mut strangers = HashSet::new();
        let mut recount_at = Instant::now() + self.post_counts;
        loop {
            let mut counts = Vec::new();
            if Instant::now() >= recount_at
                && let Ok(watched) = queue.watched(&self.dispatcher).await
            {
                recount_at = Instant::now() + self.post_counts;
                let now = self.strangers(watched);
                // A build is only corrected at the second check: at the first, the answer to a request may
                // still be on its way.
                counts.extend(now.intersection(&strangers).map(|id| (*id, 0)));
                strangers = now;
                all = true;
            }
            counts.extend(self.take(all, Instant::now()));
            let beat = DispatcherBeat { dispatcher: self.dispatcher.clone(), counts };
            match queue.beat_dispatcher(&beat).await {
                Ok(reply) => {
                    outage.over();
                    // The first heartbeat is also answered with "forgotten", but has already sent everything.
                    if policy_of != reply.born && put_in_force(&queue, policy.as_ref()).await {
                        policy_of.clone_from(&reply.born);
                    }
                    let again = reply.forgotten || (!born.is_empty() && reply.born != born);
                    // Counts for builds that were not yet registered were not accepted.
                    let again = again || (refilling && !reply.refilling);
                    refilling = reply.refilling;
                    let news = again && !all;
                    born = reply.born;
                    all = news;
                    if news {
                        tracing::info!("the queue had forgotten this dispatcher; sending all counts again");
                        self.changed.notify_one();
                    }
                }
                Err(error) => {
                    self.put_back(&beat.counts);
                    outage.failed(&error);
                }
            }
            let pause = async {
                tokio::time::sleep(FLUSH_GAP).await;
                let _ =
                    tokio::time::timeout(HEARTBEAT.saturating_sub(FLUSH_GAP), self.changed.notified()).await;
            };
            tokio::select! {
                () = pause => {}
                () = shutdown.cancelled() => break,
            }
        }
        let goodbye = queue.leave_dispatcher(&self.dispatcher);
        if !matches!(tokio::time::timeout(GOODBYE_WAIT, goodbye).await, Ok(Ok(()))) {
            tracing::info!("could not deregister this dispatcher; the queue will remove it after a timeout");
        }
    }
}

/// Sets the configured policy, unless the queue has one. A Redis that is new to us may have none yet, or may
/// have been emptied. Returns whether the call succeeded.
async fn put_in_force(queue: &Queue, policy: Option<&Policy>) -> bool {
    let Some(policy) = policy else { return true };
    let done = queue.default_policy(policy).await;
    match &done {
        Ok(true) => tracing::info!(?policy, "applied the configured policy"),
        Ok(false) => {}
        Err(error) => tracing::debug!(error = %error, "could not apply the configured policy"),
    }
    done.is_ok()
}

/// The people of a stream, which are removed on drop.
pub(crate) struct Subscription {
    people: Arc<People>,
    build: BuildId,
    serial: u64,
}

impl Subscription {
    pub(crate) fn name(&self) -> String {
        self.people.name(self.serial)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.people.leave(self.build, self.serial);
    }
}

#[cfg(test)]
mod tests;
