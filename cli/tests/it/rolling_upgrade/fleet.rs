//! Dispatchers behind one address, workers of both executors, a cluster and a Redis.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fairlane_common::queue::inspect::Filter;
use fairlane_common::{Build, BuildId, BuildState, Queue};
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, wait_for};
use futures::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};

use super::Size;
use super::service::Service;
use crate::release::Release;
use crate::setup::{COMMIT, LIMIT, on_cluster};

/// How long the chart lets a process take to end (`terminationGracePeriodSeconds`).
const GRACE: Duration = Duration::from_secs(30);
/// How many builds are requested at the same time.
const ASKED_AT_ONCE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Dispatcher,
    ProcessWorker,
    KubernetesWorker,
}

struct Member {
    kind: Kind,
    host: String,
    /// Where a dispatcher listens.
    address: Option<SocketAddr>,
    process: Process,
}

/// How a process was replaced.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) kind: Kind,
    /// How many streams a dispatcher, or builds a worker had.
    pub(super) load: usize,
    /// From the signal to the end.
    pub(super) took: Duration,
}

pub(super) struct Fleet {
    pub(super) home: TempDir,
    pub(super) redis: RedisServer,
    pub(super) cluster: Cluster,
    pub(super) queue: Queue,
    pub(super) client: Client,
    pub(super) service: Service,
    size: Size,
    members: Vec<Member>,
    /// How many processes were started.
    started: usize,
}

impl Fleet {
    pub(super) async fn start(release: &Release, size: Size) -> Self {
        let redis = RedisServer::builder().append_only(AppendOnly::Always).start().await;
        let mut fleet = Self {
            home: TempDir::new(),
            cluster: Cluster::start(),
            queue: Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap(),
            // Each request has its own connection, so connections are streams.
            client: Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap(),
            service: Service::start().await,
            redis,
            size,
            members: Vec::new(),
            started: 0,
        };
        fs::create_dir(fleet.home.join("open")).unwrap();
        let kinds = [
            (Kind::Dispatcher, size.dispatchers),
            (Kind::ProcessWorker, size.workers),
            (Kind::KubernetesWorker, size.workers),
        ];
        for (kind, count) in kinds {
            for _ in 0..count {
                let member = fleet.member(kind, release).await;
                fleet.members.push(member);
            }
        }
        fleet
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    async fn member(&mut self, kind: Kind, release: &Release) -> Member {
        // As a Deployment does, a new process gets a new name.
        let host = format!("{kind:?}-{}", self.started).to_lowercase();
        self.started += 1;
        let name = format!("{host} of {} release", release.name);
        let (process, address) = if kind == Kind::Dispatcher {
            let (process, url) = release.dispatcher(&name, &self.home, &self.redis).await;
            let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
            self.service.add(address);
            (process, Some(address))
        } else {
            (self.worker(kind, release, &name, &host).await, None)
        };
        Member { kind, host, address, process }
    }

    async fn worker(&self, kind: Kind, release: &Release, name: &str, host: &str) -> Process {
        let executor = if kind == Kind::ProcessWorker { "process" } else { "kubernetes" };
        let slots = self.size.slots.to_string();
        let words = ["worker", "--executor", executor, "--host", host, "--slots", &slots];
        let mut command = release.command(&self.home, &words);
        command.env("FAIRLANE_REDIS_URL", release.redis_url("worker", &self.redis));
        on_cluster(&mut command, &self.cluster).args(["--command", &self.script()]);
        let process = Process::spawn(name, &mut command);
        process.wait_for_line("worker is ready", LIMIT).await;
        process
    }

    /// A build notes that it runs. It writes five lines a second, until it may end.
    fn script(&self) -> String {
        let home = self.home.path().display();
        format!(
            "sh -c 'echo $1 >> {home}/runs; n=0; \
             until [ $n -ge {} ] && [ -e {home}/open/$1 -o -e {home}/open/all ]; do \
             n=$((n+1)); echo line $n; sleep 0.2; done; echo end $n' {{repo}} {{ref}}",
            self.size.lines
        )
    }

    /// Requests that many builds, of which four each are of one repository.
    pub(super) async fn ask(&self, builds: usize) -> Vec<BuildId> {
        let lanes = builds.div_ceil(4);
        let url = format!("{}/v1/builds", self.service.url());
        let answers = (0..builds).map(|number| {
            let (name, reference) =
                (format!("name{}", number % lanes), format!("{}{number:06}", &COMMIT[..34]));
            let request = self.client.post(&url).json(&json!({
                "repo": format!("https://git.example.org/owner/{name}"), "ref": reference,
                "image": format!("registry.example.org/{name}:{number}"),
            }));
            async move {
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 202);
                answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().parse::<BuildId>().unwrap()
            }
        });
        futures::stream::iter(answers).buffered(ASKED_AT_ONCE).collect().await
    }

    /// Replaces a process while it has work: it is told to end, or killed, and once it has ended, another one starts.
    pub(super) async fn replace(&mut self, at: usize, release: &Release, kills: bool) -> Replaced {
        let old = &self.members[at];
        let load = wait_for(&format!("{} to have work", old.process.name()), LIMIT, async || {
            Some(self.load(old).await).filter(|load| *load > 0)
        })
        .await;
        let began = Instant::now();
        if let Some(address) = old.address {
            self.service.remove(address);
        }
        if kills {
            old.process.kill();
        } else {
            old.process.terminate();
            if old.kind == Kind::ProcessWorker {
                wait_for(&format!("{} to end", old.process.name()), GRACE, async || {
                    // It waits for its builds, also for one that it has just claimed.
                    self.let_builds_end(&self.builds_of(old).await);
                    !old.process.is_running()
                })
                .await;
            }
            let status = old.process.wait(GRACE).await;
            assert!(status.success(), "{status}: {}", old.process.stderr());
        }
        let replaced = Replaced { kind: old.kind, load, took: began.elapsed() };
        self.members[at] = self.member(replaced.kind, release).await;
        if replaced.kind != Kind::ProcessWorker {
            self.let_builds_end(&self.builds(BuildState::Running).await);
        }
        replaced
    }

    /// How many streams or builds a process has.
    async fn load(&self, member: &Member) -> usize {
        match member.address {
            Some(address) => self.service.connections(address),
            None => self.builds_of(member).await.len(),
        }
    }

    async fn builds_of(&self, member: &Member) -> Vec<Build> {
        let mut builds = self.builds(BuildState::Running).await;
        builds.extend(self.builds(BuildState::Starting).await);
        builds.retain(|build| {
            let worker = build.worker.as_ref().map(ToString::to_string).unwrap_or_default();
            worker.strip_prefix(&member.host).is_some_and(|rest| rest.starts_with('-'))
        });
        builds
    }

    async fn builds(&self, state: BuildState) -> Vec<Build> {
        let filter = Filter { state: Some(state), ..Filter::default() };
        self.queue.builds(&filter).await.unwrap().items
    }

    fn let_builds_end(&self, builds: &[Build]) {
        for build in builds {
            fs::write(self.home.join("open").join(build.spec.reference.to_string()), "").unwrap();
        }
    }

    /// Lets all builds end, and waits for it.
    pub(super) async fn let_all_builds_end(&self, ids: &[BuildId]) {
        fs::write(self.home.join("open/all"), "").unwrap();
        let limit = LIMIT + Duration::from_secs(ids.len() as u64);
        wait_for("all builds to end, and nobody to wait", limit, async || {
            let now = self.queue.snapshot().await.unwrap();
            let left = [now.queued, now.leased, now.orphaned, now.people];
            if left == [0; 4] { Ok(()) } else { Err(left) }
        })
        .await;
    }
}
