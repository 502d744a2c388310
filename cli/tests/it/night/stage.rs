//! The processes of the night: Redis, two dispatchers, three workers on hosts of their own, a Prometheus.

use std::collections::BTreeMap;

use fairlane_testkit::{AppendOnly, Process, RedisServer, TempDir, free_port, redis_url_for};
use reqwest::Client;
use serde_json::Value;

use crate::monitoring::prometheus::Prometheus;
use crate::setup::{LIMIT, address_of, fairlane, run};

/// A host that stays healthy all night; one whose worker freezes; one whose container engine goes away.
const HEALTHY: &str = "host-a";
pub(super) const FROZEN: &str = "host-b";
pub(super) const SICK: &str = "host-c";
/// Their slots: without the other two, the first one still has room for more than the popular lane.
const HOSTS: [(&str, &str); 3] = [(HEALTHY, "6"), (FROZEN, "3"), (SICK, "4")];
/// The lane of the popular repository.
pub(super) const POPULAR: &str = "git.example.org/o/popular";

/// What builds do: the popular repository takes until the morning, others take a few seconds.
const SCRIPT: &str = r#"
echo "Step 1/2 : building $1 on $ON_HOST"
case $1 in
*/popular) while [ ! -e "$NIGHT/morning" ]; do echo "still solving the environment"; sleep 2; done ;;
*) sleep 8 ;;
esac
if [ "$ON_HOST" = host-c ] && [ -e "$NIGHT/sick" ]; then
  echo "Cannot connect to the Docker daemon at $DOCKER_HOST. Is the docker daemon running?"
  exit 1
fi
echo "Step 2/2 : done"
"#;

pub(super) struct Stage {
    home: TempDir,
    pub(super) redis: RedisServer,
    pub(super) urls: Vec<String>,
    pub(super) workers: BTreeMap<&'static str, Process>,
    pub(super) prometheus: Prometheus,
    client: Client,
    _dispatchers: Vec<Process>,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let home = TempDir::new();
        let redis = RedisServer::builder().append_only(AppendOnly::EverySecond).max_memory(1 << 30);
        let redis = redis.start().await;
        std::fs::write(home.join("build.sh"), SCRIPT).unwrap();
        let (mut dispatchers, mut urls, mut targets) = (vec![], vec![], vec![]);
        for name in ["dispatcher-1", "dispatcher-2"] {
            let mut command = fairlane(&home, ["dispatcher", "--listen", "127.0.0.1:0"]);
            let process = Process::spawn(
                name,
                command.env("FAIRLANE_REDIS_URL", redis_url_for("dispatcher", &redis.url())),
            );
            let url = address_of(&process).await;
            targets.push(url.trim_start_matches("http://").to_owned());
            urls.push(url);
            dispatchers.push(process);
        }
        let mut workers = BTreeMap::new();
        for (host, slots) in HOSTS {
            let address = format!("127.0.0.1:{}", free_port());
            let template = format!("/bin/sh {} {{repo}}", home.join("build.sh").display());
            let mut command = fairlane(&home, ["worker", "--host", host, "--slots", slots]);
            command
                .args(["--command", &template, "--metrics-listen", &address])
                .env("FAIRLANE_REDIS_URL", redis_url_for("worker", &redis.url()))
                .env("DOCKER_HOST", "unix:///var/run/no-docker.sock")
                .env("ON_HOST", host)
                .env("NIGHT", home.path());
            let worker = Process::spawn(host, &mut command);
            worker.wait_for_line("worker is ready", LIMIT).await;
            targets.push(address);
            workers.insert(host, worker);
        }
        let prometheus = Prometheus::start(&home, &targets, "15s").await;
        let client = Client::builder().no_proxy().build().unwrap();
        Self { home, redis, urls, workers, prometheus, client, _dispatchers: dispatchers }
    }

    /// From now on builds fail on the sick host, or the popular repository's builds come to their end.
    pub(super) fn turn(&self, what: &str) {
        std::fs::write(self.home.join(what), "").unwrap();
    }

    /// Runs a command of an operator.
    pub(super) async fn operate(&self, words: &[&str]) {
        let mut command = fairlane(&self.home, words.iter().copied());
        command.env("FAIRLANE_DISPATCHER_URL", &self.urls[0]);
        run(command).await.expect(0, "");
    }

    /// An answer of the first dispatcher; `None` while it cannot answer.
    pub(super) async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.client.get(format!("{}{path}", self.urls[0])).send().await.unwrap();
        if answer.status().is_success() { Some(answer.json().await.unwrap()) } else { None }
    }

    /// How many builds the worker on a host runs.
    pub(super) async fn running_on(&self, host: &str) -> u64 {
        let workers = self.get("/v1/workers").await;
        let workers = workers.iter().flat_map(|list| list["workers"].as_array().unwrap());
        workers.filter(|worker| worker["host"] == host).filter_map(|worker| worker["running"].as_u64()).sum()
    }
}
