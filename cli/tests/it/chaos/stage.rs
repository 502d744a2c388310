//! Everything that runs: Redis with Sentinel, a Kubernetes cluster, three dispatchers and six workers, and what can be
//! done to each of them.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairlane_common::{Queue, limits};
use fairlane_testkit::kube::{Cluster, Node};
use fairlane_testkit::{
    AppendOnly, FaultProxy, Process, RedisServer, SentinelSet, SmallDisk, SteppedClock, TempDir, Upstream,
    free_port, redis_url_for, wait_for,
};
use fastrand::Rng;
use tokio::sync::OwnedMutexGuard;

use super::Plan;
use super::site::Site;
use super::wish::ruled_lanes;
use crate::setup::{fairlane, on_cluster, run};

const DISPATCHERS: usize = 3;
/// Workers of each executor.
const WORKERS: usize = 3;
const SLOTS: &str = "3";
pub(super) const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
/// How long Sentinel waits until it considers a silent master down.
pub(super) const DOWN_AFTER: Duration = Duration::from_secs(3);
/// A process may start while Redis is away.
const READY: Duration = Duration::from_secs(90);
/// The disk of a worker, which builds nothing with less than 64 MB, and those of Redis.
const WORKER_DISK_MB: u32 = 80;
const REDIS_DISK_MB: u32 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Dispatcher,
    ProcessWorker,
    KubeWorker,
}

/// The connections of one process to Sentinel and to both Redis servers.
pub(super) struct Wires {
    sentinel: FaultProxy,
    servers: [FaultProxy; 2],
    url: String,
}

impl Wires {
    async fn to(redis: &SentinelSet) -> Self {
        let ports = [redis.master().port(), redis.replica().port()];
        let to = |port: u16| Upstream::Tcp(([127, 0, 0, 1], port).into());
        let servers = [FaultProxy::start(to(ports[0])).await, FaultProxy::start(to(ports[1])).await];
        let renamed = [(ports[0], servers[0].address().port()), (ports[1], servers[1].address().port())];
        let sentinel = FaultProxy::renaming(to(redis.sentinel().port()), &renamed).await;
        let at = |port: u16| format!("@127.0.0.1:{port}/");
        let url = redis.url().replace(&at(redis.sentinel().port()), &at(sentinel.address().port()));
        Self { sentinel, servers, url }
    }

    /// All of them.
    pub(super) fn all(&self) -> [&FaultProxy; 3] {
        [&self.sentinel, &self.servers[0], &self.servers[1]]
    }
}

/// A process of ours that is started again when it has ended.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) role: Role,
    /// Whether it is never killed or restarted: then its memory can be compared over the whole run.
    pub(super) is_spared: bool,
    pub(super) wires: Option<Wires>,
    command: Mutex<Command>,
    process: Mutex<Arc<Process>>,
    /// Held while something is done to it.
    busy: Arc<tokio::sync::Mutex<()>>,
    log: PathBuf,
}

impl Member {
    pub(super) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap())
    }

    /// Starts it again; what the former process has written is kept.
    pub(super) fn start_again(&self) {
        let next = Arc::new(Process::spawn(&self.name, &mut self.command.lock().unwrap()));
        let former = std::mem::replace(&mut *self.process.lock().unwrap(), next);
        self.keep_log(&former);
    }

    fn keep_log(&self, process: &Process) {
        let file = File::options().create(true).append(true).open(&self.log);
        let text = format!("---- process {}\n{}{}", process.pid(), process.stdout(), process.stderr());
        file.and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
    }

    /// Whether the process has ever done its work. One that finds no Redis when it starts ends with an error.
    fn was_ready(&self, process: &Process) -> bool {
        let says = if self.role == Role::Dispatcher { " listens on " } else { "worker is ready" };
        process.stdout().contains(says) || process.stderr().contains(says)
    }

    /// Waits until a process that was just started does its work; starts it again if it ends before.
    pub(super) async fn is_ready(&self) {
        wait_for(&format!("{} to be ready", self.name), READY, async || {
            let process = self.process();
            let is_ready = self.was_ready(&process);
            if !is_ready && !process.is_running() {
                self.start_again();
            }
            is_ready
        })
        .await;
    }

    /// Waits until nothing is done to it any more.
    pub(super) async fn reserve(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.busy).lock_owned().await
    }
}

pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) redis: SentinelSet,
    /// Held while something is done to Redis.
    pub(super) redis_busy: tokio::sync::Mutex<()>,
    pub(super) cluster: Cluster,
    pub(super) members: Vec<Member>,
    /// What stands between clients and each dispatcher.
    pub(super) doors: Vec<FaultProxy>,
    /// The clock of the hosts of a dispatcher and two workers.
    pub(super) clock: Option<SteppedClock>,
    /// The disks of both Redis servers, and that of a worker.
    pub(super) disks: Option<[SmallDisk; 3]>,
    pub(super) queue: Queue,
    pub(super) lease: Duration,
    /// The port of the master, and when another server was seen to be master.
    pub(super) failovers: Mutex<(u16, Vec<Instant>)>,
    pub(super) logs: PathBuf,
    home: TempDir,
}

impl Stage {
    pub(super) async fn start(plan: &Plan) -> Self {
        let logs = plan.folder();
        let _ = std::fs::remove_dir_all(&logs);
        std::fs::create_dir_all(&logs).unwrap();
        let disk = |megabytes| if plan.is_long() { SmallDisk::mount(megabytes) } else { None };
        let disks = disk(REDIS_DISK_MB).zip(disk(REDIS_DISK_MB)).zip(disk(WORKER_DISK_MB));
        let disks = disks.map(|((first, second), third)| [first, second, third]);
        let server = |number: usize| {
            let server = RedisServer::builder().append_only(AppendOnly::EverySecond);
            match &disks {
                Some(disks) => server.config_line(&format!("dir {}", disks[number].path().display())),
                None => server,
            }
        };
        let redis = SentinelSet::of([server(0), server(1)], DOWN_AFTER).await;
        let first = redis.master().port();
        let builder = NODES.iter().fold(Cluster::builder(), |builder, name| builder.node(Node::named(name)));
        let mut stage = Self {
            site: Site::new(),
            queue: Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap(),
            redis,
            redis_busy: tokio::sync::Mutex::default(),
            cluster: builder.start(),
            members: vec![],
            doors: vec![],
            clock: SteppedClock::new(),
            disks,
            lease: plan.lease,
            failovers: Mutex::new((first, Vec::new())),
            logs,
            home: TempDir::new(),
        };
        for number in 0..DISPATCHERS {
            stage.add_dispatcher(number).await;
        }
        for number in 0..WORKERS {
            stage.add_worker(number, Role::ProcessWorker).await;
            stage.add_worker(number, Role::KubeWorker).await;
        }
        stage.set_limits().await;
        stage
    }

    /// Notes a failover, whatever the reason: a master with a full disk also counts as dead.
    pub(super) async fn note_failover(&self) {
        let port = self.redis.master_port().await;
        let mut failovers = self.failovers.lock().unwrap();
        if std::mem::replace(&mut failovers.0, port) != port {
            failovers.1.push(Instant::now());
        }
    }

    async fn add_dispatcher(&mut self, number: usize) {
        let address = format!("127.0.0.1:{}", free_port());
        let command = fairlane(&self.home, ["dispatcher", "--listen", &address]);
        self.doors.push(FaultProxy::start(Upstream::Tcp(address.parse().unwrap())).await);
        self.add(number, Role::Dispatcher, command).await;
    }

    async fn add_worker(&mut self, number: usize, role: Role) {
        let (executor, host) = match role {
            Role::KubeWorker => ("kubernetes", format!("kube-{number}")),
            _ => ("process", format!("process-{number}")),
        };
        let mut command =
            fairlane(&self.home, ["worker", "--executor", executor, "--host", &host, "--slots", SLOTS]);
        on_cluster(&mut command, &self.cluster)
            .args(["--lease", &format!("{}s", self.lease.as_secs()), "--command", &self.site.template()])
            .args(["--keep-pods=3s", "--drain-timeout=3s"]);
        if self.lease < limits::LEASE {
            command.args(["--heartbeat", "1s"]);
        }
        self.add(number, role, command).await;
    }

    /// Of each role, the first process is never killed, the second one can be cut off from Redis, and the third one has
    /// a clock that is wrong. The second process worker has a small disk.
    async fn add(&mut self, number: usize, role: Role, mut command: Command) {
        let wires = if number == 1 { Some(Wires::to(&self.redis).await) } else { None };
        let url = wires.as_ref().map_or_else(|| self.redis.url(), |wires| wires.url.clone());
        let (user, name) = match role {
            Role::Dispatcher => ("dispatcher", format!("dispatcher-{number}")),
            Role::ProcessWorker => ("worker", format!("process-{number}")),
            Role::KubeWorker => ("worker", format!("kube-{number}")),
        };
        command.env("FAIRLANE_REDIS_URL", redis_url_for(user, &url));
        if let Some(clock) = self.clock.as_ref().filter(|_| number == 2) {
            command.envs(clock.environment());
        }
        if let Some(disks) = self.disks.as_ref().filter(|_| number == 1 && role == Role::ProcessWorker) {
            command.env("TMPDIR", disks[2].path());
        }
        let process = Arc::new(Process::spawn(&name, &mut command));
        let member = Member {
            log: self.logs.join(format!("{name}.log")),
            name,
            role,
            is_spared: number == 0,
            wires,
            command: Mutex::new(command),
            process: Mutex::new(process),
            busy: Arc::default(),
        };
        member.is_ready().await;
        self.members.push(member);
    }

    /// Lanes never borrow, and two of them have limits of their own.
    async fn set_limits(&self) {
        let ruled = ruled_lanes();
        let mut commands = vec![vec!["policy", "set", "limit=2", "burst=2"]];
        commands.extend(ruled.iter().map(|(lane, limit)| vec!["rule", "limit", lane, limit]));
        for words in commands {
            let mut command = fairlane(&self.home, words);
            command.env("FAIRLANE_DISPATCHER_URL", &self.urls()[0]);
            run(command).await.expect(0, "");
        }
    }

    /// Addresses of the dispatchers, for clients.
    pub(super) fn urls(&self) -> Vec<String> {
        self.doors.iter().map(|door| format!("http://{}", door.address())).collect()
    }

    /// One of the members that `fits` and to which nothing is being done; nothing else will be, as long as the guard
    /// is there.
    pub(super) fn pick(
        &self,
        rng: &mut Rng,
        fits: impl Fn(&Member) -> bool,
    ) -> Option<(&Member, OwnedMutexGuard<()>)> {
        let mut fitting: Vec<&Member> = self.members.iter().filter(|member| fits(member)).collect();
        rng.shuffle(&mut fitting);
        fitting.iter().find_map(|member| Some((*member, Arc::clone(&member.busy).try_lock_owned().ok()?)))
    }

    /// Starts processes again that have ended without our doing, as systemd or Kubernetes would; returns their names, and
    /// whether they were ever ready.
    pub(super) fn keep_alive(&self) -> Vec<(String, bool)> {
        let mut ended = Vec::new();
        for member in &self.members {
            let Ok(_guard) = Arc::clone(&member.busy).try_lock_owned() else { continue };
            let process = member.process();
            if !process.is_running() {
                member.start_again();
                ended.push((member.name.clone(), member.was_ready(&process)));
            }
        }
        ended
    }

    /// Every server of Redis that runs, with its process id.
    pub(super) fn servers(&self) -> Vec<(&'static str, u32)> {
        let servers = [("redis-0", self.redis.master()), ("redis-1", self.redis.replica())];
        servers.into_iter().filter_map(|(name, server)| Some((name, server.running_pid()?))).collect()
    }

    /// Keeps what all processes have written, and returns lines that no process should write.
    pub(super) fn keep_logs(&self) -> Vec<String> {
        let mut panics = Vec::new();
        for member in &self.members {
            member.keep_log(&member.process());
            let log = String::from_utf8_lossy(&std::fs::read(&member.log).unwrap()).into_owned();
            let found = log.lines().filter(|line| line.contains("panicked at"));
            panics.extend(found.map(|line| format!("{}: {line}", member.name)));
        }
        for (name, server) in [("redis-0", self.redis.master()), ("redis-1", self.redis.replica())] {
            std::fs::write(self.logs.join(format!("{name}.log")), server.log()).unwrap();
        }
        std::fs::write(self.logs.join("sentinel.log"), self.redis.sentinel().log()).unwrap();
        panics
    }
}
