//! Dispatchers and workers as separate processes, on one Redis.

use std::path::PathBuf;

use fairlane_common::{BuildId, Queue};
use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, redis_url_for, wait_for};
use serde_json::Value;

use crate::setup::{COMMIT, LIMIT, address_of, fairlane, run};

/// The length of the workers' leases, in seconds, by which tests also judge delays.
pub(crate) const LEASE_S: u64 = 5;

/// A script that does `work` and records its run: see [`System::runs`].
pub(crate) fn recorded(work: &str) -> String {
    format!(
        r#"
name=$(echo "$2" | tr '/:' '__')
for other in "$RUNS/$name".*; do
  [ -e "$other" ] && kill -0 "${{other##*.}}" 2>/dev/null && echo "$name" >> "$RUNS/overlap"
done
touch "$RUNS/$name.$$"
{work}
rm "$RUNS/$name.$$"
"#
    )
}

pub(crate) struct System {
    pub(crate) home: TempDir,
    pub(crate) redis: RedisServer,
    pub(crate) dispatchers: Vec<Process>,
    pub(crate) workers: Vec<Process>,
    urls: Vec<String>,
}

impl System {
    /// Starts all processes. Builds run `script`, which is made executable, with the arguments `{repo}` and
    /// `{image}`.
    pub(crate) async fn start(script: &str, dispatchers: usize, workers: usize, slots: usize) -> Self {
        let home = TempDir::new();
        let redis = RedisServer::builder().append_only(AppendOnly::Always).start().await;
        let mut system = Self { home, redis, dispatchers: vec![], workers: vec![], urls: vec![] };
        std::fs::create_dir(system.home.join("runs")).unwrap();
        std::fs::write(system.home.join("build.sh"), script).unwrap();
        for number in 0..dispatchers {
            let mut command = fairlane(&system.home, ["dispatcher", "--listen", "127.0.0.1:0"]);
            command.env("FAIRLANE_REDIS_URL", redis_url_for("dispatcher", &system.redis.url()));
            let process = Process::spawn(&format!("dispatcher {number}"), &mut command);
            system.urls.push(address_of(&process).await);
            system.dispatchers.push(process);
        }
        for number in 0..workers {
            system.start_worker(number, slots).await;
        }
        system
    }

    async fn start_worker(&mut self, number: usize, slots: usize) {
        let template = format!("/bin/sh {} {{repo}} {{image}}", self.home.join("build.sh").display());
        let host = format!("host{number}");
        let slots_text = slots.to_string();
        let mut command =
            fairlane(&self.home, ["worker", "--slots", &slots_text, "--command", &template, "--host", &host]);
        command
            .env("FAIRLANE_REDIS_URL", redis_url_for("worker", &self.redis.url()))
            .env("FAIRLANE_LEASE", format!("{LEASE_S}s"))
            .env("FAIRLANE_HEARTBEAT", "1s")
            .env("RUNS", self.home.join("runs"));
        self.workers.push(Process::spawn(&format!("worker {number}"), &mut command));
        let queue = self.queue().await;
        wait_for("the worker to be seen", LIMIT, async || {
            queue.workers().await.unwrap().iter().any(|worker| worker.host == host)
        })
        .await;
    }

    /// The dispatchers' URLs, starting with the one at `first`.
    fn addresses(&self, first: usize) -> String {
        let mut urls = self.urls.clone();
        urls.rotate_left(first % self.urls.len());
        urls.join(",")
    }

    /// The dispatchers' URLs.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The queue itself, without a dispatcher.
    pub(crate) async fn queue(&self) -> Queue {
        Queue::open(&self.redis.url().parse().unwrap(), "fairlane").await.unwrap()
    }

    /// Requests a build of `git.example.org/o/<name>` at commit number `commit`.
    pub(crate) async fn submit(&self, name: &str, commit: u32) -> BuildId {
        let repo = format!("https://git.example.org/o/{name}");
        let (reference, image) = (format!("{}{commit:06}", &COMMIT[..34]), format!("r/{name}:{commit}"));
        let mut command = fairlane(&self.home, ["submit", &repo, "--ref", &reference, "--image", &image]);
        command.env("FAIRLANE_DISPATCHER_URL", self.addresses(0));
        run(command).await.expect(0, "").data.trim().parse().unwrap()
    }

    /// Follows a build through the dispatcher at `first`, or through another one if that fails.
    pub(crate) fn watch(&self, id: BuildId, first: usize) -> Watch {
        let id_text = id.to_string();
        let mut command = fairlane(&self.home, ["--json", "watch", &id_text]);
        command.env("FAIRLANE_DISPATCHER_URL", self.addresses(first));
        Watch { id, process: Process::spawn(&format!("watch {id}"), &mut command) }
    }

    /// The path of a file that runs have written: there is one for each run, and `overlap` if a build had two
    /// live runs.
    pub(crate) fn runs(&self, file: &str) -> PathBuf {
        self.home.join("runs").join(file)
    }
}

/// A process that follows a build.
pub(crate) struct Watch {
    pub(crate) id: BuildId,
    pub(crate) process: Process,
}

impl Watch {
    /// The events received so far, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        // The last line may be incomplete.
        self.process.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The log lines received so far, with their run numbers.
    pub(crate) fn lines(&self) -> Vec<(u64, String)> {
        let mut lines = vec![];
        for event in self.events().iter().filter(|event| event["event"] == "log") {
            for line in event["lines"].as_array().unwrap() {
                lines.push((event["run"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned()));
            }
        }
        lines
    }

    /// Waits until `count` log lines have arrived.
    pub(crate) async fn wait_for_lines(&self, count: usize) {
        wait_for("lines of the log", LIMIT, async || self.lines().len() >= count).await;
    }

    /// Waits for the end, which must be a success and be reported once.
    pub(crate) async fn success(&self) {
        let status = self.process.wait(LIMIT * 2).await;
        assert!(status.success(), "{status}: {} {}", self.process.stdout(), self.process.stderr());
        let ends = self.events().iter().filter(|event| event["event"] == "end").count();
        assert_eq!(ends, 1, "{}", self.process.stdout());
    }

    /// Checks that the last run's lines are 1 to `count`, each once and in order; returns the run's number.
    pub(crate) fn whole_log(&self, count: usize) -> u64 {
        let lines = self.lines();
        let run = lines.iter().map(|(run, _)| *run).max().unwrap_or(0);
        let last: Vec<&str> =
            lines.iter().filter(|(of, _)| *of == run).map(|(_, text)| text.as_str()).collect();
        let whole: Vec<String> = (1..=count).map(|n| format!("line {n}")).collect();
        assert_eq!(last, whole, "{}", self.process.stdout());
        run
    }
}
