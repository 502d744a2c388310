//! The heartbeat: it renews the leases and receives orders.
//!
//! If a renewal is not answered within [`RENEWAL_PATIENCE`], another one is sent in parallel, over a fresh
//! connection. The first answer counts, from the time when its own call was sent.

use std::sync::Arc;
use std::time::Duration;

use fairlane_common::limits::RENEWAL_PATIENCE;
use fairlane_common::queue::{Beat, BeatReply, Renewal};
use fairlane_common::{Error, Queue};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::claiming::leases::Wanted;
use crate::claiming::state::Worker;
use crate::time::backoff::jittered;
use crate::time::boot_time::BootTime;

/// How long a call may run in parallel with later ones: Redis may just be slow.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);

/// Renews as long as it is polled. Runs in a separate task, so that no build delays it.
pub(crate) async fn beat_on(worker: Arc<Worker>) {
    // A separate connection, so that what builds write does not delay it.
    let mut queue = None;
    loop {
        let renewed = renew(&worker, queue.take()).await;
        let next = renewed.began + worker.settings.heartbeat;
        worker.counts.heartbeat(renewed.began);
        take_in(&worker, &renewed.beat, renewed.deadline, &renewed.reply);
        queue = Some(renewed.queue);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = worker.beat_now.notified() => {}
        }
    }
}

/// The first heartbeat, which registers the worker.
pub(crate) async fn join(worker: &Worker) -> fairlane_common::Result<()> {
    let (beat, deadline) = (beat_of(worker), worker.deadline());
    let reply = worker.queue.renew(&beat).await?;
    take_in(worker, &beat, deadline, &reply);
    Ok(())
}

/// A heartbeat that was answered.
struct Renewed {
    /// When it was sent.
    began: Instant,
    beat: Beat,
    deadline: BootTime,
    reply: BeatReply,
    /// The connection that the answer came from.
    queue: Queue,
}

type Try = BoxFuture<'static, Result<Renewed, Error>>;

/// Sends heartbeats until one is answered.
async fn renew(worker: &Worker, mut queue: Option<Queue>) -> Renewed {
    let mut tries: FuturesUnordered<Try> = FuturesUnordered::new();
    let (mut next, mut outage) = (Instant::now(), Outage::default());
    loop {
        tokio::select! {
            biased;
            Some(answer) = tries.next() => match answer {
                Ok(renewed) => {
                    outage.over();
                    return renewed;
                }
                Err(error) => {
                    outage.failed(&error);
                    // Whether it failed immediately or was overtaken, the next one is due soon.
                    next = next.min(Instant::now() + jittered(RENEWAL_PATIENCE / 2));
                }
            },
            () = tokio::time::sleep_until(next) => {
                if !tries.is_empty() {
                    outage.failed(&"no answer yet");
                }
                next = Instant::now() + RENEWAL_PATIENCE;
                tries.push(try_with(worker, queue.take().unwrap_or_else(|| worker.queue.apart())));
            }
        }
    }
}

fn try_with(worker: &Worker, queue: Queue) -> Try {
    // Counted from before the call, so that a late answer does not lengthen the lease.
    let (began, deadline, beat) = (Instant::now(), worker.deadline(), beat_of(worker));
    Box::pin(async move {
        let Ok(answer) = tokio::time::timeout(TRY_TIMEOUT, queue.renew(&beat)).await else {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(Error::Unavailable(late.into()));
        };
        Ok(Renewed { began, deadline, reply: answer?, beat, queue })
    })
}

/// Logs once that Redis is away, and once that it is back.
#[derive(Default)]
struct Outage(Option<Instant>);

impl Outage {
    fn failed(&mut self, why: &dyn std::fmt::Display) {
        if self.0.is_none() {
            tracing::warn!(error = %why, "a heartbeat was not answered");
        }
        self.0.get_or_insert_with(Instant::now);
    }

    fn over(&self) {
        if let Some(since) = self.0 {
            tracing::info!(seconds = since.elapsed().as_secs_f32(), "Redis answers again");
        }
    }
}

fn beat_of(worker: &Worker) -> Beat {
    let settings = &worker.settings;
    Beat {
        worker: worker.id.clone(),
        host: settings.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        place: worker.place.clone(),
        slots: settings.slots.get(),
        draining: worker.draining.is_cancelled(),
        paused: worker.paused(),
        nodes: worker.executor.nodes(),
        lease: settings.lease,
        held: worker.leases.to_renew(),
    }
}

/// Acts on the answer to a heartbeat.
fn take_in(worker: &Worker, beat: &Beat, deadline: BootTime, reply: &BeatReply) {
    for (token, renewal) in beat.held.iter().zip(&reply.renewals) {
        match renewal {
            Renewal::Kept => worker.leases.renewed(token, deadline),
            Renewal::Cancel => {
                worker.leases.renewed(token, deadline);
                worker.leases.want(token, Wanted::Cancelled);
            }
            Renewal::Unknown => worker.leases.lost(token),
            Renewal::Stale => worker.leases.want(token, Wanted::LetGo),
        }
    }
    worker.note_life(&reply.born);
    worker.pushes.note_limits(reply.push_limits.clone());
    worker.note_drained(reply.drained);
    if !reply.drained {
        worker.note_avoided(reply.host_avoided);
    }
    if reply.orphans > 0 {
        worker.look_for_orphans();
    }
    if reply.startable {
        worker.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use fairlane_common::{BuildId, Token, WorkerId};
    use fairlane_testkit::RedisServer;
    use futures::FutureExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::claiming::leases::Lease;
    use crate::executor::{Executor, Run, RunSpec};
    use crate::settings::Settings;

    /// Starts nothing.
    struct Nothing;

    #[async_trait::async_trait]
    impl Executor for Nothing {
        fn place(&self, _: &WorkerId) -> String {
            "nowhere".to_owned()
        }

        fn outlives(&self) -> bool {
            false
        }

        async fn start(&self, _: RunSpec<'_>) -> anyhow::Result<Box<dyn Run>> {
            bail!("nothing is started here")
        }

        async fn attach(&self, _: RunSpec<'_>) -> anyhow::Result<Option<Box<dyn Run>>> {
            bail!("nothing is started here")
        }
    }

    async fn worker() -> (RedisServer, Worker) {
        let redis = RedisServer::start_default().await;
        let queue = Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap();
        (redis, Worker::new(Settings::default(), queue, Arc::new(Nothing), CancellationToken::new()))
    }

    fn reply(renewals: Vec<Renewal>) -> BeatReply {
        BeatReply {
            renewals,
            drained: false,
            host_avoided: false,
            startable: false,
            orphans: 0,
            avoided: vec![],
            born: "b".to_owned(),
            push_limits: fairlane_common::queue::PushLimits::default(),
        }
    }

    #[tokio::test]
    async fn each_lease_is_told_what_became_of_it() {
        let (_redis, worker) = worker().await;
        let before = BootTime::now();
        let enter = |_| {
            let token = Token { build: BuildId::new(), epoch: 1, worker: worker.id.clone() };
            worker.leases.enter(token, before)
        };
        let mut leases: Vec<Lease> = (0..4).map(enter).collect();
        let mut beat = beat_of(&worker);
        beat.held = leases.iter().map(|lease| lease.token().clone()).collect();
        let later = before.plus(Duration::from_secs(5));
        let verdicts = vec![Renewal::Kept, Renewal::Cancel, Renewal::Unknown, Renewal::Stale];
        take_in(&worker, &beat, later, &reply(verdicts));
        let lost = |lease: &mut Lease| Lease::lost(lease.all_signals().2).now_or_never().is_some();
        let heard: Vec<_> =
            leases.iter_mut().map(|lease| (lease.deadline(), lease.wanted(), lost(lease))).collect();
        assert!(
            heard
                == [
                    (later, Wanted::Run, false),
                    // Until its run is gone, nobody else may have it.
                    (later, Wanted::Cancelled, false),
                    (before, Wanted::Run, true),
                    (before, Wanted::LetGo, false),
                ]
        );
        leases.into_iter().for_each(Lease::settle);
    }

    #[tokio::test]
    async fn a_lease_counts_from_when_its_renewal_was_sent() {
        let (_redis, worker) = worker().await;
        let sent = try_with(&worker, worker.queue.clone());
        let latest = worker.deadline();
        assert!(sent.await.unwrap().deadline <= latest);
    }

    #[tokio::test]
    async fn the_worker_acts_on_what_a_heartbeat_says() {
        let (_redis, worker) = worker().await;
        let hear = |reply: BeatReply| take_in(&worker, &beat_of(&worker), worker.deadline(), &reply);
        let woken = || worker.wake.notified().now_or_never().is_some();
        hear(reply(vec![]));
        assert!(!woken() && !worker.take_orphan_news());
        hear(BeatReply { startable: true, ..reply(vec![]) });
        assert!(woken() && !worker.take_orphan_news());
        hear(BeatReply { orphans: 1, ..reply(vec![]) });
        assert!(woken() && worker.take_orphan_news());
        // A drained worker gets nothing anyway.
        hear(BeatReply { drained: true, host_avoided: true, ..reply(vec![]) });
        assert!(woken() && worker.is_drained() && !worker.is_avoided());
        hear(BeatReply { host_avoided: true, ..reply(vec![]) });
        assert!(woken() && !worker.is_drained() && worker.is_avoided());
        // Redis was emptied.
        assert!(worker.refill.notified().now_or_never().is_none());
        hear(BeatReply { born: "another".to_owned(), ..reply(vec![]) });
        assert!(worker.refill.notified().now_or_never().is_some());
    }
}
