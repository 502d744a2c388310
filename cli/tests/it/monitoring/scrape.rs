//! A real Prometheus scrapes real dispatchers and workers under load. Every query of the dashboard and every metric of
//! the rules must have data.

use std::collections::BTreeSet;
use std::time::Duration;

use fairlane_testkit::kube::{Cluster, TestCluster};
use fairlane_testkit::{
    AppendOnly, Process, RedisServer, TempDir, free_port, is_installed, redis_url_for, wait_for,
};
use serde_json::Value;

use super::prometheus::Prometheus;
use super::{family, names, read, rules};
use crate::setup::{COMMIT, LIMIT, address_of, fairlane, run};

/// What builds do, by the name of their repository: fail, fail for a reason outside the repository, take long, succeed.
const SCRIPT: &str = "sh -c 'case $0 in *bad*) echo ERROR: no such package; exit 1;; *away*) echo Cannot connect to the \
                      Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?; exit 1;; *slow*) echo \
                      begun; exec sleep 1000;; esac; echo fine' {repo}";
/// How long all series may take to appear.
const DATA: Duration = Duration::from_secs(100);

/// Dispatchers and workers, as processes, and a Prometheus that scrapes them.
struct Watched {
    home: TempDir,
    redis: RedisServer,
    cluster: TestCluster,
    urls: Vec<String>,
    targets: Vec<String>,
    processes: Vec<Process>,
    next: usize,
}

impl Watched {
    async fn start() -> Self {
        let redis = RedisServer::builder().append_only(AppendOnly::EverySecond).max_memory(1 << 30);
        let mut watched = Self {
            home: TempDir::new(),
            redis: redis.start().await,
            cluster: TestCluster::faked(Cluster::start()),
            urls: Vec::new(),
            targets: Vec::new(),
            processes: Vec::new(),
            next: 0,
        };
        for name in ["d1", "d2"] {
            let mut command = fairlane(&watched.home, ["dispatcher", "--listen", "127.0.0.1:0"]);
            command.env("FAIRLANE_REDIS_URL", redis_url_for("dispatcher", &watched.redis.url()));
            let process = Process::spawn(name, &mut command);
            let url = address_of(&process).await;
            watched.targets.push(url.trim_start_matches("http://").to_owned());
            watched.urls.push(url);
            watched.processes.push(process);
        }
        watched
    }

    /// A worker of the cluster, or of processes, that serves metrics.
    async fn worker(&mut self, name: &str, executor: &str) -> Process {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command =
            fairlane(&self.home, ["worker", "--executor", executor, "--host", name, "--slots=4"]);
        command.env("FAIRLANE_REDIS_URL", redis_url_for("worker", &self.redis.url())).args([
            "--lease=4s",
            "--heartbeat=500ms",
            "--metrics-listen",
            &address,
            "--command",
            SCRIPT,
        ]);
        if executor == "kubernetes" {
            let [namespace, image] = [self.cluster.namespace(), self.cluster.image()];
            command.env("KUBECONFIG", self.cluster.kubeconfig()).args(["--docker-socket=none"]).args([
                "--replace-entrypoint",
                "--keep-pods=1s",
                "--installation=test",
                "--namespace",
                namespace,
                "--build-image",
                image,
            ]);
        }
        let process = Process::spawn(name, &mut command);
        process.wait_for_line("worker is ready", LIMIT).await;
        self.targets.push(address);
        process
    }

    /// Starts a campaign.
    async fn campaign(&self) {
        let item = serde_json::json!({ "repo": "https://git.example.org/o/ahead", "ref": COMMIT, "image": "r/ahead:1" });
        let plan = self.home.path().join("plan.jsonl");
        std::fs::write(&plan, item.to_string()).unwrap();
        let plan = plan.display().to_string();
        // Paused, so that it lasts as long as the test.
        let mut command = fairlane(&self.home, ["campaign", "start", "ahead", &plan, "--paused"]);
        command.env("FAIRLANE_DISPATCHER_URL", &self.urls[0]);
        run(command).await.expect(0, "");
    }

    /// Asks for a build of another image. All builds of one name are of one lane.
    async fn submit(&mut self, name: &str, more: &[&str]) -> String {
        self.next += 1;
        let (repo, image) = (format!("https://git.example.org/o/{name}"), format!("r/{name}:{}", self.next));
        let mut command = fairlane(&self.home, ["submit", &repo, "--ref", COMMIT, "--image", &image]);
        command.args(more).env("FAIRLANE_DISPATCHER_URL", &self.urls[self.next % 2]);
        run(command).await.expect(0, "").data.trim().to_owned()
    }
}

/// The queries of the dashboard, with Grafana's variables replaced.
fn dashboard_queries() -> BTreeSet<String> {
    fn collect(value: &Value, queries: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(query) = fields.get("expr").and_then(Value::as_str) {
                    queries.insert(query.replace("$__rate_interval", "2m").replace("$__range", "2m"));
                }
                fields.values().for_each(|field| collect(field, queries));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
            _ => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let mut queries = BTreeSet::new();
    collect(&dashboard["panels"], &mut queries);
    queries
}

/// The metrics in the rules, each with its labels. A whole alert has data only when it fires.
fn rule_queries() -> BTreeSet<String> {
    let mut queries = BTreeSet::new();
    for rule in rules() {
        let mut rest = rule["expr"].as_str().unwrap();
        while let Some(at) = rest.find("fairlane") {
            rest = &rest[at..];
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let mut end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            if rest[end..].starts_with('{') {
                end += rest[end..].find('}').unwrap() + 1;
            }
            queries.insert(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    queries
}

#[test]
fn the_dashboard_uses_metrics_that_the_docs_list() {
    let docs = read("docs/metrics.md");
    let queries = dashboard_queries();
    assert!(queries.len() > 50, "only {} queries", queries.len());
    for query in &queries {
        for name in names(query, "fairlane_").iter().chain(&names(query, "process_")) {
            assert!(docs.contains(&format!("| `{}` |", family(name))), "{name} in {query}");
        }
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_and_the_rules_has_data() {
    if !is_installed("prometheus") {
        return;
    }
    let mut watched = Watched::start().await;
    // A pod whose worker will be killed: its lease is lost, and another worker adopts it.
    let first = watched.worker("k1", "kubernetes").await;
    let slow = watched.submit("slow", &[]).await;
    let mut why = fairlane(&watched.home, ["logs", "-f", &slow]);
    why.env("FAIRLANE_DISPATCHER_URL", &watched.urls[0]);
    let follower = Process::spawn("logs", &mut why);
    wait_for("the slow build to run", LIMIT, async || follower.stdout().contains("begun")).await;
    let _second = watched.worker("k2", "kubernetes").await;
    let _third = watched.worker("p1", "process").await;
    // Only the intervals are shorter than in production.
    let prometheus = Prometheus::start(&watched.home, &watched.targets, "1s").await;
    wait_for("all targets to be scraped", LIMIT, async || prometheus.has_data("count(up == 1) == 5").await)
        .await;
    first.kill();
    // The lane of the slow build has two running builds from now on.
    watched.submit("slow", &[]).await;
    watched.campaign().await;
    let mut missing: BTreeSet<String> = dashboard_queries();
    missing.extend(rule_queries());
    let began = std::time::Instant::now();
    while !missing.is_empty() && began.elapsed() < DATA {
        // The load: all kinds of ends.
        for name in ["fine", "bad", "away"] {
            watched.submit(name, &[]).await;
        }
        watched.submit("batch", &["--priority", "background"]).await;
        let queries: Vec<String> = missing.iter().cloned().collect();
        for query in queries {
            if prometheus.has_data(&query).await {
                missing.remove(&query);
            }
        }
    }
    assert!(missing.is_empty(), "no data for:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));

    let groups = prometheus.ask("/api/v1/rules", &[]).await;
    for rule in groups["groups"][0]["rules"].as_array().unwrap() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert!(prometheus.is_running());
}
