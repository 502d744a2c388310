//! Twenty builds that write five lines a second each: ten processes and ten pods, each watched through a
//! dispatcher. Meanwhile, short builds are requested all the time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlane_common::queue::Submit;
use fairlane_common::{BuildId, BuildSpec, BuildState, Queue};
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{Process, TempDir, redis_url_for, wait_for};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::outage::{Kind, Redis};
use super::report::Report;
use crate::numbered::stored_log;
use crate::setup::{address_of, fairlane, on_cluster};
use crate::system::Watch;

/// Builds and workers of each executor.
const BUILDS: usize = 10;
const WORKERS: usize = 2;
/// Pause between two short builds.
const SHORT_EVERY: Duration = Duration::from_millis(400);
/// Long enough for two Redis servers, a cluster and forty processes to start.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) struct Arena {
    dir: TempDir,
    queue: Queue,
    cluster: Cluster,
    dispatcher: Process,
    workers: Vec<Process>,
    /// The long builds, each with a process that watches it.
    builds: Vec<Watch>,
    short: AbortOnDropHandle<()>,
    stop_short: CancellationToken,
}

impl Arena {
    pub(super) async fn start(redis: &Redis) -> Self {
        let dir = TempDir::new();
        let queue = Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap();
        let stop_short = CancellationToken::new();
        let (dispatcher, url) = dispatcher(&dir, redis).await;
        let mut arena = Self {
            short: AbortOnDropHandle::new(tokio::spawn(std::future::ready(()))),
            cluster: Cluster::start(),
            dispatcher,
            workers: Vec::new(),
            builds: Vec::new(),
            queue,
            dir,
            stop_short: stop_short.clone(),
        };
        let script = script(arena.dir.path());
        for kind in ["process", "kubernetes"] {
            for number in 0..WORKERS {
                let (name, slots) = (format!("{kind}-{number}"), BUILDS / WORKERS);
                arena.worker(redis, &name, kind, slots, &script);
            }
            for worker in arena.workers.iter().rev().take(WORKERS) {
                worker.wait_for_line("worker is ready", PATIENCE).await;
            }
            for number in 0..BUILDS {
                let submit = request(&format!("{kind}-{number}"), "0123abc");
                arena.queue.submit(&submit).await.unwrap();
                let stream = watch(&arena.dir, &url, submit.id);
                arena.builds.push(stream);
            }
            arena.all_go_on().await;
        }
        arena.worker(redis, "short", "process", 2, &script);
        arena.workers[2 * WORKERS].wait_for_line("worker is ready", PATIENCE).await;
        let queue = arena.queue.clone();
        arena.short = AbortOnDropHandle::new(tokio::spawn(ask_on(queue, stop_short)));
        arena
    }

    fn worker(&mut self, redis: &Redis, name: &str, executor: &str, slots: usize, script: &str) {
        let script = script.replace('{', "{{").replace('}', "}}").replace('\'', r#"'"'"'"#);
        let mut command = fairlane(&self.dir, ["worker"]);
        on_cluster(&mut command, &self.cluster)
            .args([
                "--redis-url",
                &redis_url_for("worker", &redis.url()),
                "--host",
                name,
                "--executor",
                executor,
            ])
            .args(["--slots", &slots.to_string()])
            .arg(format!("--command=sh -c '{script}' {{repo}} {{ref}}"));
        self.workers.push(Process::spawn(name, &mut command));
    }

    /// Waits until each of the long builds has written another line.
    pub(super) async fn all_go_on(&self) {
        let from: Vec<u64> = self.counts();
        wait_for("all builds to write lines", PATIENCE, async || {
            let now = self.counts();
            let stand: Vec<usize> =
                (0..now.len()).filter(|n| now[*n] <= from.get(*n).copied().unwrap_or(0)).collect();
            if now.len() == self.builds.len() && stand.is_empty() { Ok(()) } else { Err(stand) }
        })
        .await;
        for watch in &self.builds {
            self.ends_at(watch.id, BuildState::Running).await;
        }
    }

    pub(super) async fn another_starts(&self) {
        let count = || fs::metadata(self.dir.join("starts")).map_or(0, |data| data.len());
        let before = count();
        wait_for("a short build to start", PATIENCE, async || count() > before).await;
    }

    fn counts(&self) -> Vec<u64> {
        let files = fs::read_dir(self.dir.join("lines")).unwrap();
        let mut counts: Vec<_> = files
            .flatten()
            .map(|file| (file.file_name(), file.metadata().map_or(0, |data| data.len())))
            .collect();
        counts.sort();
        counts.into_iter().map(|(_, length)| length).collect()
    }

    /// Takes Redis away, and returns for how long.
    pub(super) async fn away(&self, redis: &Redis, kind: Kind, length: Duration) -> Duration {
        let began = Instant::now();
        let back = async {
            // At first Redis may still answer, which would prove nothing.
            tokio::time::sleep(Duration::from_millis(500)).await;
            loop {
                let asked = self.queue.apart();
                if matches!(tokio::time::timeout(Duration::from_millis(500), asked.reap()).await, Ok(Ok(_))) {
                    return began.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ((), back) = tokio::join!(redis.goes_away(kind, length), back);
        redis.is_whole_again().await;
        back
    }

    async fn ends_at(&self, id: BuildId, state: BuildState) {
        wait_for(&format!("a build to be {state}"), PATIENCE, async || match self.queue.build(id).await {
            Ok(Some(build)) if build.state == state => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Ends all builds, and reports how they went.
    pub(super) async fn end(mut self, report: &mut Report) {
        self.stop_short.cancel();
        (&mut self.short).await.unwrap();
        fs::write(self.dir.join("stop"), "").unwrap();
        for watch in &self.builds {
            self.ends_at(watch.id, BuildState::Succeeded).await;
            let build = self.queue.build(watch.id).await.unwrap().unwrap();
            report.attempts_used += usize::try_from(build.attempt - 1).unwrap();
            report.log.add(&stored_log(&self.queue, watch.id, build.attempt).await);
            let status = watch.process.wait(PATIENCE).await;
            report.streams_broken += usize::from(!status.success());
            let lines: Vec<String> = watch.lines().into_iter().map(|(_, text)| text).collect();
            report.log.add(&lines);
        }
        let runs = fs::read_to_string(self.dir.join("runs")).unwrap().lines().count();
        report.runs_killed = runs - self.builds.len();
        let starts = fs::read_to_string(self.dir.join("starts")).unwrap_or_default();
        let mut starts: Vec<f64> = starts.lines().map(|at| at.parse().unwrap()).collect();
        starts.sort_by(f64::total_cmp);
        report.starts = starts.len();
        let gap = starts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        report.longest_without_start = Duration::from_secs_f64(gap);
        let problems = self.queue.check(1000).await.unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        for process in self.workers.iter().chain([&self.dispatcher]) {
            assert!(process.is_running(), "{} has ended", process.name());
        }
    }
}

/// Starts a dispatcher; returns its process and its URL.
async fn dispatcher(dir: &TempDir, redis: &Redis) -> (Process, String) {
    let mut command = fairlane(dir, ["dispatcher", "--listen", "127.0.0.1:0"]);
    let process = Process::spawn(
        "dispatcher",
        command.env("FAIRLANE_REDIS_URL", redis_url_for("dispatcher", &redis.url())),
    );
    let url = address_of(&process).await;
    (process, url)
}

fn watch(dir: &TempDir, url: &str, id: BuildId) -> Watch {
    let mut command = fairlane(dir, ["--json", "watch", &id.to_string()]);
    let process = Process::spawn(&format!("watch {id}"), command.env("FAIRLANE_DISPATCHER_URL", url));
    Watch { id, process }
}

/// The build command. A long build records its start and each line in separate files, too.
fn script(dir: &Path) -> String {
    fs::create_dir(dir.join("lines")).unwrap();
    let dir = dir.display();
    format!(
        r#"if [ "$1" = short ]; then date +%s.%N >> {dir}/starts; exit; fi
           name="${{0##*/}}"; echo "$name" >> {dir}/runs; n=0
           while [ ! -e {dir}/stop ]; do
             n=$((n+1)); echo "line $n"; printf . >> "{dir}/lines/$name"; sleep 0.2
           done; echo "end $n""#
    )
}

fn request(name: &str, reference: &str) -> Submit {
    let spec = BuildSpec::new(
        format!("https://git.example.org/owner/{name}").parse().unwrap(),
        reference.parse().unwrap(),
        format!("r.example.org/{name}:{reference}").parse().unwrap(),
    );
    Submit { id: BuildId::new(), spec, force: false, override_ban: None, dispatcher: None }
}

/// Requests short builds one after another, each until the queue accepts it.
async fn ask_on(queue: Queue, stop: CancellationToken) {
    let queue = Arc::new(queue);
    for number in 0.. {
        let submit = request(&format!("short-{number}"), "short");
        while queue.submit(&submit).await.is_err() && !stop.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(SHORT_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
