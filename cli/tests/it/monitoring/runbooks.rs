//! Runs every command of docs/runbooks.md against a live queue. `kubectl` is a stand-in that records its
//! calls; the names in them are compared with the manifests.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use fairlane_common::queue::{Beat, Blame, Claim, Finish, Outcome, Queue, Submit};
use fairlane_common::{BuildId, BuildSpec, FailureCause, FailureClass};
use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, wait_for};

use super::read;
use crate::setup::{COMMIT, LIMIT, address_of, fairlane, run};

/// The commands of each section of the page.
fn commands(page: &str) -> Vec<(&str, Vec<&str>)> {
    let sections = page.split("\n## ").map(|section| {
        let title = section.lines().next().unwrap_or_default();
        let blocks = section.split("\n```sh\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0);
        (title, blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).collect())
    });
    sections.filter(|(_, commands): &(_, Vec<&str>)| !commands.is_empty()).collect()
}

/// A queue with a dispatcher and a worker, whose builds run until they are cancelled.
struct Live {
    home: TempDir,
    redis: RedisServer,
    queue: Queue,
    url: String,
    _dispatcher: Process,
    _worker: Process,
}

impl Live {
    async fn start() -> Self {
        let home = TempDir::new();
        let redis = RedisServer::builder().tcp().append_only(AppendOnly::EverySecond).max_memory(1 << 30);
        let redis = redis.start().await;
        let mut command = fairlane(&home, ["dispatcher", "--listen", "127.0.0.1:0"]);
        command.env("FAIRLANE_REDIS_URL", redis.tcp_url());
        let dispatcher = Process::spawn("dispatcher", &mut command);
        let url = address_of(&dispatcher).await;
        let script = "sh -c 'echo begun; exec sleep 1000' {repo}";
        let arguments = ["worker", "--slots=50", "--host=host0", "--command", script];
        let mut command = fairlane(&home, arguments);
        command.env("FAIRLANE_REDIS_URL", redis.tcp_url());
        let worker = Process::spawn("worker", &mut command);
        worker.wait_for_line("worker is ready", LIMIT).await;
        let queue = Queue::open(&redis.tcp_url().parse().unwrap(), "fairlane").await.unwrap();
        let bin = home.join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fairlane"), bin.join("fairlane")).unwrap();
        let kubectl = bin.join("kubectl");
        std::fs::write(&kubectl, "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$KUBECTL_CALLS\"\n").unwrap();
        std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { home, redis, queue, url, _dispatcher: dispatcher, _worker: worker }
    }

    /// Prepares what the commands of a section refer to: a running build and its lane, a failed build, an
    /// avoided node.
    async fn prepare(&self, number: usize) -> (BuildId, String) {
        self.bad_node(number).await;
        let repo = format!("https://git.example.org/o/slow{number}");
        let image = format!("r/slow:{number}");
        let mut command = fairlane(&self.home, ["submit", &repo, "--ref", COMMIT, "--image", &image]);
        command.env("FAIRLANE_DISPATCHER_URL", &self.url);
        let id: BuildId = run(command).await.expect(0, "").data.trim().parse().unwrap();
        wait_for("the build's log", LIMIT, async || {
            let (last, _) = self.queue.log_end(id, 1, 1).await.unwrap();
            last != "0-0"
        })
        .await;
        (id, format!("git.example.org/o/slow{number}"))
    }

    /// Makes the queue avoid the node `n1`, on which builds of three repositories fail.
    async fn bad_node(&self, number: usize) {
        let place = "k8s:test/builds".to_owned();
        let beat = Beat {
            worker: "w2".parse().unwrap(),
            host: "w2".to_owned(),
            version: "0".to_owned(),
            place: place.clone(),
            slots: 3,
            draining: false,
            paused: None,
            nodes: 6,
            lease: LIMIT,
            held: Vec::new(),
        };
        // The other worker must not claim these builds, which never start.
        self.queue.drain_worker(&"host0".parse().unwrap(), true, "test").await.unwrap();
        self.queue.renew(&beat).await.unwrap();
        let mut submitted = Vec::new();
        for at in 0..3 {
            let spec = BuildSpec::new(
                format!("https://git.example.org/o/bad{number}-{at}").parse().unwrap(),
                COMMIT.parse().unwrap(),
                format!("r/bad{number}:{at}").parse().unwrap(),
            );
            let id = BuildId::new();
            let submit = Submit { id, spec, force: false, override_ban: None, dispatcher: None };
            self.queue.submit(&submit).await.unwrap();
            submitted.push(id);
        }
        let claim = Claim {
            worker: beat.worker.clone(),
            place,
            free: 3,
            lease: LIMIT,
            request: uuid::Uuid::new_v4(),
        };
        let claimed = wait_for("three builds to claim", LIMIT, async || {
            let claimed = self.queue.claim(&claim).await.unwrap().builds;
            if claimed.len() == 3 { Ok(claimed) } else { Err(claimed.len()) }
        });
        for build in claimed.await {
            let (class, cause) = (FailureClass::Infrastructure, FailureCause::of("disk-full"));
            let reason = "no space left on device".to_owned();
            let outcome = Outcome::Failed { class, cause, reason, blame: Blame::Certain };
            let finish = Finish { node: Some("n1".parse().unwrap()), ..Finish::of(outcome) };
            self.queue.finish(&build.token, &finish).await.unwrap();
        }
        for id in submitted {
            self.queue.cancel(id, "test", "").await.unwrap();
        }
        self.queue.drain_worker(&"host0".parse().unwrap(), false, "test").await.unwrap();
    }

    fn run(&self, command: &str, build: BuildId, lane: &str) -> Result<(), String> {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(self.home.path())
            .env("PATH", format!("{}:{path}", self.home.join("bin").display()))
            .env("HOME", self.home.path())
            .env("KUBECTL_CALLS", self.home.join("calls"))
            // People have a user with all rights.
            .env("FAIRLANE_REDIS_URL", format!("redis://127.0.0.1:{}", self.redis.port()))
            .env("FAIRLANE_DISPATCHER_URL", &self.url)
            .env("BUILD", build.to_string())
            .env("LANE", lane)
            .env("WORKER", "host0")
            .env("NODE", "n1")
            .output()
            .unwrap();
        let says = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // redis-cli exits with 0 even after an error.
        if output.status.success() && !says.starts_with("ERR ") && !says.starts_with("(error)") {
            return Ok(());
        }
        Err(format!("{command}\n{}: {says}", output.status))
    }
}

/// What is wrong with a call of `kubectl`, judged by the manifests.
fn wrong(call: &str, manifests: &str) -> Option<String> {
    let words: Vec<&str> = call.split_whitespace().collect();
    let namespace = words.iter().position(|word| *word == "-n").map(|at| words[at + 1]);
    if namespace
        .is_some_and(|name| !manifests.contains(&format!("namespace: {name}\n")) && name != "fairlane-builds")
    {
        return Some(format!("no namespace {namespace:?}"));
    }
    let verbs = ["get", "describe", "logs", "rollout", "scale", "set", "exec", "cordon", "uncordon"];
    let verb = words[if namespace.is_some() { 2 } else { 0 }];
    if !verbs.contains(&verb) {
        return Some(format!("no verb {verb}"));
    }
    for word in &words {
        let (kind, name) = match word.split_once('/') {
            Some((kind @ ("deployment" | "statefulset"), name)) => (kind, name),
            _ => match word.split_once("app.kubernetes.io/name=") {
                Some(("", name)) => ("label", name),
                _ => continue,
            },
        };
        let known = match kind {
            "deployment" => format!("kind: Deployment\nmetadata:\n  name: {name}\n"),
            "statefulset" => format!("kind: StatefulSet\nmetadata:\n  name: {name}\n"),
            _ => format!("app.kubernetes.io/name: {name}\n"),
        };
        if !manifests.contains(&known) {
            return Some(format!("no {word}"));
        }
    }
    None
}

#[tokio::test]
async fn every_command_of_the_runbooks_works_on_a_live_queue() {
    let page = read("docs/runbooks.md");
    let sections = commands(&page);
    let live = Live::start().await;
    let mut failed = Vec::new();
    let mut count = 0;
    for (number, (title, commands)) in sections.iter().enumerate() {
        let (build, lane) = live.prepare(number).await;
        for command in commands {
            count += 1;
            let ran = live.run(command, build, &lane);
            failed.extend(ran.err().map(|why| format!("{title}: {why}")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(sections.len() >= 16 && count >= 80, "only {count} commands in {} sections", sections.len());
    let calls = std::fs::read_to_string(live.home.join("calls")).unwrap();
    let manifests = read("deploy/kubernetes/fairlane.yaml");
    let wrong: Vec<String> =
        calls.lines().filter_map(|call| Some(format!("{call}: {}", wrong(call, &manifests)?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(calls.lines().count() > 20, "{calls}");
}
