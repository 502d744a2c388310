//! Processes of this release and of the previous one share a Redis and a cluster: they build a hundred
//! images, and a worker of each release is killed meanwhile. `cargo xtask two-releases` builds the former
//! release and runs this.

use fairlane_common::queue::Submit;
use fairlane_common::{BuildId, BuildSpec, BuildState, Queue};
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, wait_for};

use crate::release::{FORMER, Release};
use crate::setup::{COMMIT, LIMIT, is_pod, on_cluster, run};

const BUILDS: u32 = 100;

struct Scene {
    home: TempDir,
    redis: RedisServer,
    cluster: Cluster,
}

impl Scene {
    async fn dispatcher(&self, release: &Release) -> (Process, String) {
        let name = format!("dispatcher of {} release", release.name);
        release.dispatcher(&name, &self.home, &self.redis).await
    }

    async fn worker(&self, release: &Release, name: &str, executor: &str) -> Process {
        let script = "sh -c 'echo building {repo}; sleep 0.5; echo done'";
        let words = ["worker", "--executor", executor, "--host", name, "--slots=3"];
        let mut command = release.command(&self.home, &words);
        command.env("FAIRLANE_REDIS_URL", release.redis_url("worker", &self.redis));
        on_cluster(&mut command, &self.cluster).args(["--command", script]).args([
            "--lease=5s",
            "--heartbeat=1s",
            "--keep-pods=1s",
        ]);
        let process = Process::spawn(name, &mut command);
        process.wait_for_line("worker is ready", LIMIT).await;
        process
    }
}

fn request(number: u32) -> Submit {
    let name = format!("name{}", number % 25);
    let spec = BuildSpec {
        push: number.is_multiple_of(2),
        labels: [("number".to_owned(), number.to_string())].into(),
        ..BuildSpec::new(
            format!("https://git.example.org/owner/{name}").parse().unwrap(),
            format!("c{number}").parse().unwrap(),
            format!("r.example.org/{name}:c{number}").parse().unwrap(),
        )
    };
    Submit { id: BuildId::new(), spec, force: false, override_ban: None, dispatcher: None }
}

async fn ended(queue: &Queue, ids: &[BuildId]) -> usize {
    let builds = queue.load(ids).await.unwrap();
    assert!(builds.unreadable.is_empty(), "{:?}", builds.unreadable);
    builds.builds.iter().filter(|build| build.state.is_ended()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kube_and_process_builds_by_two_releases() {
    let Some(former) = Release::former() else {
        eprintln!(
            "SKIPPED: {FORMER} names no program of the former release; `cargo xtask two-releases` builds one"
        );
        return;
    };
    let this = Release::this();
    let redis = RedisServer::builder().append_only(AppendOnly::Always).start().await;
    let scene = Scene { home: TempDir::new(), redis, cluster: Cluster::start() };
    let queue = Queue::open(&scene.redis.url().parse().unwrap(), "fairlane").await.unwrap();
    let (_ours, our_url) = scene.dispatcher(&this).await;
    let (_theirs, their_url) = scene.dispatcher(&former).await;
    let mut workers = vec![];
    for executor in ["process", "kubernetes"] {
        for release in [&this, &former] {
            for number in 0..2 {
                let name = format!("{}-{executor}-{number}", release.name);
                workers.push(scene.worker(release, &name, executor).await);
            }
        }
    }

    // Half of the builds are requested through the former release. A request through the other release joins
    // the same build.
    let mut ids = vec![];
    for number in 0..BUILDS {
        let submit = request(number);
        let spec = &submit.spec;
        let (first, second) =
            if number.is_multiple_of(2) { (&our_url, &their_url) } else { (&their_url, &our_url) };
        let release = if number.is_multiple_of(2) { &this } else { &former };
        let (repo, image) = (spec.repo.to_string(), spec.image.to_string());
        let reference = format!("{}{number:06}", &COMMIT[..34]);
        let words = ["submit", &repo, "--ref", &reference, "--image", &image];
        let mut command = release.command(&scene.home, &words);
        let asked = run({
            command.env("FAIRLANE_DISPATCHER_URL", first);
            command
        });
        let id: BuildId = asked.await.expect(0, "").data.trim().parse().unwrap();
        if number.is_multiple_of(10) {
            let mut command = this.command(&scene.home, &words);
            command.env("FAIRLANE_DISPATCHER_URL", second);
            let joined = run(command).await.expect(0, "");
            assert_eq!(joined.data.trim(), id.to_string(), "both ask for the same build");
        }
        ids.push(id);
        if number == BUILDS / 2 {
            // A Kubernetes worker of each release dies; a worker of the other release may adopt its pods.
            for worker in [&workers[4], &workers[6]] {
                worker.kill();
            }
        }
    }
    wait_for("all builds to end", LIMIT * 4, async || {
        let ended = ended(&queue, &ids).await;
        if ended == ids.len() { Ok(()) } else { Err(format!("{ended} have")) }
    })
    .await;
    let builds = queue.load(&ids).await.unwrap().builds;
    for build in &builds {
        assert_eq!(build.state, BuildState::Succeeded, "{build:?}");
    }
    assert_eq!(scene.cluster.pods_created().len(), builds.iter().filter(|b| is_pod(b)).count());
    let report = queue.check(10_000).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(queue.aside().await.unwrap().is_empty());
}
