//! What can go wrong.

use std::time::{Duration, Instant};

use fairlane_testkit::kube::Fault;
use fairlane_testkit::{FaultProxy, wait_for};
use fastrand::Rng;
use tokio::time::sleep;

use super::stage::{DOWN_AFTER, Member, NODES, Role, Stage};

/// How long a failover, or a process that was asked to end, may take.
const LIMIT: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mishap {
    DispatcherKilled,
    DispatcherFrozen,
    DispatchersRolled,
    ClientsCut,
    ClientsSlow,
    WorkerKilled,
    WorkerFrozen,
    WorkersRolled,
    WorkerDiskFull,
    RedisCut,
    RedisSlow,
    RedisRepliesLost,
    RedisFrozen,
    RedisRestarted,
    RedisFailover,
    RedisDiskFull,
    HostClock,
    ApiAway,
    ApiFaults,
    ApiAnswersLost,
    WatchesExpired,
    KubeletStopped,
    NodeDiskFull,
    PodEvicted,
}

/// All of them, how often each is in a deck, and what is done.
pub(super) const ALL: [(Mishap, usize, &str); 24] = [
    (Mishap::DispatcherKilled, 1, "a dispatcher is killed"),
    (Mishap::DispatcherFrozen, 1, "a dispatcher is frozen"),
    (Mishap::DispatchersRolled, 1, "the dispatchers are restarted one after the other"),
    (Mishap::ClientsCut, 1, "all clients of a dispatcher are cut off, or hear nothing for seconds"),
    (Mishap::ClientsSlow, 1, "a dispatcher's connections to its clients are slow"),
    (Mishap::WorkerKilled, 3, "a worker is killed"),
    (Mishap::WorkerFrozen, 3, "a worker is frozen, some for longer than a lease"),
    (Mishap::WorkersRolled, 1, "the workers of one kind are restarted one after the other"),
    (Mishap::WorkerDiskFull, 1, "a worker's disk is full"),
    (Mishap::RedisCut, 2, "a process is cut off from Redis, some for longer than a lease"),
    (Mishap::RedisSlow, 1, "a process's connections to Redis are slow"),
    (Mishap::RedisRepliesLost, 1, "replies of Redis to a process are lost"),
    (Mishap::RedisFrozen, 1, "Redis is frozen for up to two seconds"),
    (Mishap::RedisRestarted, 1, "Redis is restarted"),
    (Mishap::RedisFailover, 2, "Redis is killed, and Sentinel makes the replica master"),
    (Mishap::RedisDiskFull, 1, "the disk of Redis is full"),
    (Mishap::HostClock, 1, "the clock of a host with dispatcher and workers is set, by up to an hour"),
    (Mishap::ApiAway, 1, "the Kubernetes API is away"),
    (Mishap::ApiFaults, 1, "the Kubernetes API is slow, overloaded or answers with errors"),
    (Mishap::ApiAnswersLost, 1, "the Kubernetes API creates pods and its answers are lost"),
    (Mishap::WatchesExpired, 1, "the Kubernetes API cuts all connections and forgets its history"),
    (Mishap::KubeletStopped, 1, "a kubelet is silent for seconds"),
    (Mishap::NodeDiskFull, 1, "the disk of a node is full"),
    (Mishap::PodEvicted, 1, "a pod is evicted"),
];

/// All mishaps in a random order.
pub(super) fn deck(rng: &mut Rng) -> Vec<Mishap> {
    let mut deck: Vec<Mishap> =
        ALL.iter().flat_map(|(mishap, times, _)| std::iter::repeat_n(*mishap, *times)).collect();
    rng.shuffle(&mut deck);
    deck
}

fn seconds(rng: &mut Rng, from: f64, to: f64) -> Duration {
    Duration::from_secs_f64(from + (to - from) * rng.f64())
}

fn shown(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl Mishap {
    /// Lets it happen, and waits until it is over. Returns what was done; `None` if there is nobody to whom it can be
    /// done now.
    pub(super) async fn happens(self, stage: &Stage, rng: &mut Rng) -> Option<String> {
        match self {
            Self::DispatcherKilled => killed(stage, rng, |role| role == Role::Dispatcher).await,
            Self::WorkerKilled => killed(stage, rng, |role| role != Role::Dispatcher).await,
            Self::DispatcherFrozen => frozen(stage, rng, |role| role == Role::Dispatcher).await,
            Self::WorkerFrozen => frozen(stage, rng, |role| role != Role::Dispatcher).await,
            Self::DispatchersRolled => rolled(stage, Role::Dispatcher).await,
            Self::WorkersRolled => {
                rolled(stage, if rng.bool() { Role::ProcessWorker } else { Role::KubeWorker }).await
            }
            Self::ClientsCut | Self::ClientsSlow => Some(self.of_clients(stage, rng).await),
            Self::RedisCut | Self::RedisSlow | Self::RedisRepliesLost => self.of_wires(stage, rng).await,
            Self::WorkerDiskFull | Self::HostClock => self.of_host(stage, rng).await,
            Self::RedisFrozen | Self::RedisRestarted | Self::RedisFailover | Self::RedisDiskFull => {
                let _guard = stage.redis_busy.lock().await;
                self.of_redis(stage, rng).await
            }
            _ => self.of_cluster(stage, rng).await,
        }
    }

    async fn of_clients(self, stage: &Stage, rng: &mut Rng) -> String {
        let number = rng.usize(..stage.doors.len());
        let door = &stage.doors[number];
        if self == Self::ClientsSlow {
            let (delay, length) = (Duration::from_millis(rng.u64(50..400)), seconds(rng, 2.0, 8.0));
            is_slow(&[door], delay, length).await;
            return format!("dispatcher-{number}, {} ms for {}", delay.as_millis(), shown(length));
        }
        door.cut();
        if rng.bool() {
            return format!("dispatcher-{number}, cut");
        }
        let length = seconds(rng, 1.0, 6.0);
        is_silent(&[door], length).await;
        format!("dispatcher-{number}, silent for {}", shown(length))
    }

    async fn of_wires(self, stage: &Stage, rng: &mut Rng) -> Option<String> {
        let (member, _guard) = stage.pick(rng, |member| member.wires.is_some())?;
        let wires = member.wires.as_ref()?.all();
        Some(match self {
            Self::RedisSlow => {
                let (delay, length) = (Duration::from_millis(rng.u64(20..250)), seconds(rng, 2.0, 10.0));
                is_slow(&wires, delay, length).await;
                format!("{}, {} ms for {}", member.name, delay.as_millis(), shown(length))
            }
            Self::RedisRepliesLost => {
                for _ in 0..3 {
                    for wire in wires {
                        wire.drop_next_reply();
                    }
                    sleep(seconds(rng, 0.5, 1.5)).await;
                }
                for wire in wires {
                    wire.resume();
                }
                member.name.clone()
            }
            _ => {
                let length = stage.lease.mul_f64(0.1 + 1.3 * rng.f64());
                let is_cut = rng.bool();
                if is_cut {
                    for wire in wires {
                        wire.cut();
                    }
                }
                is_silent(&wires, length).await;
                let how = if is_cut { "cut, then silent" } else { "silent" };
                format!("{}, {how} for {}", member.name, shown(length))
            }
        })
    }

    async fn of_host(self, stage: &Stage, rng: &mut Rng) -> Option<String> {
        if self == Self::HostClock {
            let by = rng.i64(-3600..3600);
            let sum = stage.clock.as_ref()?.step(by);
            return Some(format!("{by:+} s, so it is wrong by {sum} s"));
        }
        let length = seconds(rng, 3.0, 8.0);
        let disk = &stage.disks.as_ref()?[2];
        disk.fill();
        sleep(length).await;
        disk.clear();
        Some(format!("process-1, for {}", shown(length)))
    }

    async fn of_redis(self, stage: &Stage, rng: &mut Rng) -> Option<String> {
        let (master, replica) = stage.redis.master_and_replica().await;
        let number = usize::from(master.port() != stage.redis.master().port());
        // Otherwise a failover would lose more than Sentinel can know.
        stage.redis.rejoin(replica).await;
        let began = Instant::now();
        match self {
            Self::RedisFrozen => {
                master.freeze();
                sleep(seconds(rng, 0.2, DOWN_AFTER.as_secs_f64() - 1.0)).await;
                master.thaw();
            }
            Self::RedisRestarted => master.restart().await,
            Self::RedisDiskFull => {
                let disk = &stage.disks.as_ref()?[number];
                disk.fill();
                sleep(seconds(rng, 2.0, 5.0)).await;
                disk.clear();
                // After a short write, Redis 7.0 may leave an append-only file that it cannot read when it starts again.
                master.command(&["BGREWRITEAOF"]).await;
                wait_for("a new append-only file", LIMIT, async || {
                    let info: redis::RedisResult<String> =
                        redis::cmd("INFO").arg("persistence").query_async(&mut master.connect().await).await;
                    info.is_ok_and(|info| info.contains("aof_rewrite_in_progress:0"))
                })
                .await;
            }
            _ => {
                master.kill();
                wait_for("Sentinel to name another master", LIMIT, async || {
                    stage.redis.master_port().await == replica.port()
                })
                .await;
                let took = began.elapsed();
                sleep(seconds(rng, 0.0, 2.0)).await;
                master.start().await;
                stage.redis.rejoin(master).await;
                return Some(format!("redis-{number}; the other one was master after {}", shown(took)));
            }
        }
        Some(format!("redis-{number}, for {}", shown(began.elapsed())))
    }

    async fn of_cluster(self, stage: &Stage, rng: &mut Rng) -> Option<String> {
        let (cluster, node) = (&stage.cluster, NODES[rng.usize(..NODES.len())]);
        let length = seconds(rng, 2.0, 8.0);
        match self {
            Self::ApiAway => {
                cluster.api_goes_away();
                sleep(length).await;
                cluster.api_comes_back();
                Some(shown(length))
            }
            Self::ApiFaults => {
                let faults = [
                    Fault::Delay(Duration::from_millis(600)),
                    Fault::Throttled(1),
                    Fault::Fails(500),
                    Fault::Fails(503),
                    Fault::Cut,
                ];
                let fault = rng.choice(&faults)?;
                let on = rng.choice(["* *", "create pods", "get pods/log", "patch pods", "delete pods"])?;
                cluster.next_times(rng.usize(3..20), on, fault.clone());
                sleep(length).await;
                cluster.all_is_well();
                Some(format!("{fault:?} on {on} for {}", shown(length)))
            }
            Self::ApiAnswersLost => {
                cluster.next_times(3, "create pods", Fault::LosesAnswer);
                sleep(length).await;
                Some("3 pods".to_owned())
            }
            Self::WatchesExpired => {
                cluster.watches_expire();
                cluster.connections_are_cut();
                Some(String::new())
            }
            Self::KubeletStopped => {
                cluster.node(node).kubelet_stops();
                sleep(length).await;
                cluster.node(node).kubelet_starts();
                Some(format!("{node}, for {}", shown(length)))
            }
            Self::NodeDiskFull => {
                cluster.node(node).has_no_space_left();
                sleep(length).await;
                cluster.node(node).is_well_again();
                Some(format!("{node}, for {}", shown(length)))
            }
            _ => {
                let pods = cluster.pods();
                let names = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
                let names: Vec<&str> = names.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
                let name = rng.choice(names)?;
                cluster.pod(name).is_evicted("The node was low on resource: memory.");
                Some(name.to_owned())
            }
        }
    }
}

async fn is_slow(wires: &[&FaultProxy], delay: Duration, length: Duration) {
    for wire in wires {
        wire.delay(delay);
    }
    sleep(length).await;
    for wire in wires {
        wire.delay(Duration::ZERO);
    }
}

async fn is_silent(wires: &[&FaultProxy], length: Duration) {
    for wire in wires {
        wire.stall();
    }
    sleep(length).await;
    for wire in wires {
        wire.resume();
    }
}

async fn killed(stage: &Stage, rng: &mut Rng, fits: impl Fn(Role) -> bool) -> Option<String> {
    let (member, _guard) = stage.pick(rng, |member| !member.is_spared && fits(member.role))?;
    member.process().kill();
    let away = seconds(rng, 0.0, 4.0);
    sleep(away).await;
    member.start_again();
    Some(format!("{}, started again after {}", member.name, shown(away)))
}

async fn frozen(stage: &Stage, rng: &mut Rng, fits: impl Fn(Role) -> bool) -> Option<String> {
    let (member, _guard) = stage.pick(rng, |member| fits(member.role) && member.process().is_running())?;
    let length = stage.lease.mul_f64(0.1 + 1.5 * rng.f64());
    let process = member.process();
    process.freeze();
    sleep(length).await;
    process.thaw();
    Some(format!("{}, for {}", member.name, shown(length)))
}

async fn rolled(stage: &Stage, role: Role) -> Option<String> {
    let fits = |member: &&Member| member.role == role && !member.is_spared;
    let mut took = Vec::new();
    for member in stage.members.iter().filter(fits) {
        let _guard = member.reserve().await;
        let (process, began) = (member.process(), Instant::now());
        if process.is_running() {
            process.terminate();
            process.wait(LIMIT).await;
        }
        took.push(format!("{} ended after {}", member.name, shown(began.elapsed())));
        member.start_again();
        member.is_ready().await;
    }
    Some(took.join(", "))
}
