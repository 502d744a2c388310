//! What a measurement runs on: a Redis, and a queue in it with a separate prefix.

use anyhow::{Context, Result, bail};
use fairlane_common::id::{BuildId, DispatcherId, WorkerId};
use fairlane_common::queue::{Beat, Submit, Submitted};
use fairlane_common::{BuildSpec, Queue, RedisUrl, limits};
use serde_json::{Value, json};

use super::rival::Rival;
use super::yardstick::BareQueue;
use crate::raw;
use crate::server::OwnServer;

/// Builds per lane: as on a busy day, most lanes have several builds, and none has most of them.
pub(super) const BUILDS_PER_LANE: u32 = 10;

/// A queue to measure.
pub(super) struct Scene {
    server: Option<OwnServer>,
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) queue: Queue,
    pub(super) bare: BareQueue,
    pub(super) rival: Rival,
    pub(super) worker: WorkerId,
    pub(super) dispatcher: DispatcherId,
}

impl Scene {
    /// Opens a queue at `redis_url`, or on a private server, which writes to disk only if `append_only`.
    pub(super) async fn open(redis_url: Option<&str>, append_only: bool) -> Result<Self> {
        let name = format!("bench-{:08x}", fastrand::u32(..));
        let (server, url) = if let Some(url) = redis_url {
            (None, url.to_owned())
        } else {
            let server = OwnServer::start(append_only).await?;
            let url = format!("unix://{}", server.socket().display());
            (Some(server), url)
        };
        let address: RedisUrl = url.parse()?;
        let queue = Queue::open(&address, &name).await.with_context(|| format!("the queue in {address}"))?;
        let bare = BareQueue::open(queue.link(), queue.keys()).await?;
        let rival = Rival::find(server.as_ref().map(OwnServer::socket)).await;
        let (worker, dispatcher) = (WorkerId::new("bench"), DispatcherId::new("bench"));
        Ok(Self { server, url, prefix: name, queue, bare, rival, worker, dispatcher })
    }

    /// Removes what the measurement left.
    pub(super) async fn close(self) -> Result<()> {
        match self.server {
            Some(server) => server.stop().await,
            None => raw::wipe(self.queue.link(), self.queue.keys()).await?,
        }
        Ok(())
    }

    /// Describes the machine and the server.
    pub(super) async fn machine(&self) -> Result<Value> {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim());
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(json!({
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "cpu": model,
            "load": load.split(' ').next().and_then(|load| load.parse::<f64>().ok()),
            "redis": raw::release(self.queue.link()).await?,
            "own_server": self.server.is_some(),
            "release_build": !cfg!(debug_assertions),
        }))
    }

    /// A request for build number `i` in a lane.
    pub(super) fn request(&self, i: u32, lane: u32) -> Result<Submit> {
        let (leaf, reference) = (leaf(lane), reference(i));
        Ok(Submit {
            id: BuildId::new(),
            spec: BuildSpec {
                push: true,
                ..BuildSpec::new(
                    format!("https://github.com/bench/{leaf}").parse()?,
                    reference.parse()?,
                    format!("registry.example.org/bench/{leaf}:{reference}").parse()?,
                )
            },
            force: false,
            override_ban: None,
            dispatcher: Some(self.dispatcher.clone()),
        })
    }

    /// Requests build number `i`.
    pub(super) async fn submit(&self, i: u32, lane: u32) -> Result<BuildId> {
        self.submit_through(&self.queue, i, lane).await
    }

    /// The same queue, opened again as by another process.
    pub(super) async fn another_queue(&self) -> Result<Queue> {
        Ok(Queue::open(&self.url.parse()?, &self.prefix).await?)
    }

    /// Requests build number `i` through `queue`, one of several processes.
    pub(super) async fn submit_through(&self, queue: &Queue, i: u32, lane: u32) -> Result<BuildId> {
        match queue.submit(&self.request(i, lane)?).await? {
            Submitted::New(build) => Ok(build.id),
            other => bail!("a new build was expected: {other:?}"),
        }
    }

    /// The heartbeat of a worker with `slots` slots.
    pub(super) fn beat(&self, worker: &WorkerId, slots: u32) -> Beat {
        Beat {
            worker: worker.clone(),
            host: self.prefix.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            place: format!("process:{worker}"),
            slots: slots as usize,
            draining: false,
            paused: None,
            nodes: 0,
            lease: limits::LEASE,
            held: vec![],
        }
    }
}

/// The name of a repository; never a substring of another one's.
pub(super) fn leaf(lane: u32) -> String {
    format!("repository-{lane:07}")
}

/// The name of a commit; never a substring of another one's.
pub(super) fn reference(i: u32) -> String {
    format!("commit-{i:09}-1f3a5c7e9b2d4f60")
}

/// Operations of one turn: whole batches, because redis-benchmark sends only those, and sometimes aborts when it
/// has sent more than requested.
pub(super) fn turn_of(n: u32, rounds: u32, concurrency: u32) -> u32 {
    (n / rounds).max(1).next_multiple_of(concurrency.max(1))
}

/// The number of lanes for `n` builds.
pub(super) fn lanes_for(n: u32) -> u32 {
    (n / BUILDS_PER_LANE).max(1)
}
