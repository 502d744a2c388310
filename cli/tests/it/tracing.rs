//! Log lines and traces name their build.

use fairlane_testkit::kube::TestCluster;
use fairlane_testkit::{Process, ReceivedSpan, RedisServer, TempDir, TraceCollector, wait_for};
use serde_json::{Value, json};

use crate::setup::{COMMIT, LIMIT, address_of, fairlane, run};

/// The trace and the span of a caller.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A dispatcher and a worker process with log lines in JSON.
struct Pair {
    home: TempDir,
    redis: RedisServer,
    dispatcher: Process,
    worker: Process,
    url: String,
}

impl Pair {
    /// Starts both. The arguments are for the worker, the variables for both.
    async fn start(worker: &[&str], environment: &[(&str, &str)]) -> Self {
        let (home, redis) = (TempDir::new(), RedisServer::start_default().await);
        let spawn = |name: &str, arguments: &[&str]| {
            let mut command = fairlane(&home, arguments.iter().copied());
            command.env("FAIRLANE_REDIS_URL", redis.url()).env("FAIRLANE_LOG_FORMAT", "json");
            command.env("FAIRLANE_LOG", "fairlane_worker=debug,fairlane_dispatcher=debug,info");
            command.envs(environment.iter().copied());
            Process::spawn(name, &mut command)
        };
        let dispatcher = spawn("dispatcher", &["dispatcher", "--listen", "127.0.0.1:0"]);
        let worker = spawn("worker", &[&["worker", "--slots", "1", "--host", "host1"], worker].concat());
        // In a JSON line, the URL ends at a quotation mark.
        let url = address_of(&dispatcher).await.split('"').next().unwrap().to_owned();
        worker.wait_for_line("worker is ready", LIMIT).await;
        Self { home, redis, dispatcher, worker, url }
    }

    /// Requests a build within the caller's trace; returns its id.
    async fn ask(&self, name: &str, flags: &str) -> String {
        let body = json!({ "repo": format!("https://github.com/o/{name}"), "ref": COMMIT, "image": name });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}/v1/builds", self.url)).json(&body);
        let request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }

    async fn ended(&self, id: &str, code: i32) {
        let mut command = fairlane(&self.home, ["watch", id]);
        command.env("FAIRLANE_DISPATCHER_URL", &self.url);
        run(command).await.expect(code, "");
    }
}

/// The spans of that name, once there are `count` of them.
async fn spans(collector: &TraceCollector, name: &str, count: usize) -> Vec<ReceivedSpan> {
    wait_for(&format!("{count} spans '{name}'"), LIMIT, async || {
        let all = collector.spans();
        let found: Vec<_> = all.iter().filter(|span| span.name == name).cloned().collect();
        if found.len() == count { Ok(found) } else { Err(format!("{all:#?}")) }
    })
    .await
}

#[tokio::test]
async fn one_trace_goes_from_the_request_over_the_claim_to_the_end() {
    let collector = TraceCollector::start().await;
    let endpoint = collector.endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=binder%20ops"),
    ];
    let pair = Pair::start(&["--command", "/bin/echo {repo}"], &variables).await;
    let id = pair.ask("one", "01").await;
    pair.ended(&id, 0).await;

    let request = spans(&collector, "POST /v1/builds", 1).await.remove(0);
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, CALLER));
    assert_eq!(
        (request.service.as_str(), request.attributes["build.id"].as_str()),
        ("fairlane-dispatcher", id.as_str())
    );
    let build = spans(&collector, "build", 1).await.remove(0);
    assert_eq!((build.trace.as_str(), &build.parent), (TRACE, &request.id));
    assert_eq!((build.service.as_str(), build.failed), ("fairlane-worker", false));
    for (name, value) in [
        ("build.id", id.as_str()),
        ("build.lane", "github.com/o/one"),
        ("build.attempt", "1"),
        ("build.end", "succeeded"),
    ] {
        assert_eq!(build.attributes[name], value, "{name}");
    }
    assert!(build.attributes["worker.id"].starts_with("host1"), "{build:?}");
    let mut before = 0;
    for name in ["queued", "start", "run", "end"] {
        let step = spans(&collector, name, 1).await.remove(0);
        assert_eq!((step.trace.as_str(), &step.parent), (TRACE, &build.id), "{name}");
        assert!(before <= step.began && step.began <= step.ended && step.ended <= build.ended, "{step:?}");
        before = step.began;
    }
    assert_eq!(collector.header("x-team").as_deref(), Some("binder ops"));

    // If the caller does not record the trace, it gets no spans.
    let id = pair.ask("two", "00").await;
    pair.ended(&id, 0).await;
    // Without a caller's trace, the build's id becomes the trace id.
    let said = fairlane(&pair.home, ["submit", "https://github.com/o/three", "--ref", COMMIT]);
    let mut submit = said;
    submit.env("FAIRLANE_DISPATCHER_URL", &pair.url);
    let id = run(submit).await.expect(0, "").data.trim().to_owned();
    let build = spans(&collector, "build", 2).await.remove(1);
    assert_eq!(build.trace, id.replace('-', ""));
}

#[tokio::test]
async fn a_failed_build_is_a_failed_span_of_the_same_trace() {
    let collector = TraceCollector::start().await;
    let endpoint = collector.endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let pair = Pair::start(&["--command", "/bin/false {repo}"], &variables).await;
    let id = pair.ask("bad", "01").await;
    pair.ended(&id, 1).await;
    let build = spans(&collector, "build", 1).await.remove(0);
    assert!(build.failed, "{build:?}");
    assert_eq!((build.trace.as_str(), build.attributes["build.end"].as_str()), (TRACE, "failed"));
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_costs_no_build() {
    // This collector accepts connections but never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in ["http://127.0.0.1:1", &silent] {
        let pair =
            Pair::start(&["--command", "/bin/echo {repo}"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)])
                .await;
        for name in ["one", "two", "three"] {
            let id = pair.ask(name, "01").await;
            pair.ended(&id, 0).await;
        }
        for process in [&pair.worker, &pair.dispatcher] {
            let line = process.wait_for_line("the trace collector does not accept spans", LIMIT).await;
            assert!(line.contains("\"level\":\"WARN\""), "{line}");
            process.terminate();
        }
        for process in [&pair.worker, &pair.dispatcher] {
            assert!(process.wait(LIMIT).await.success());
        }
    }
}

#[tokio::test]
async fn spans_reach_a_collector_that_was_away() {
    let collector = TraceCollector::start().await;
    collector.refuse(true);
    let endpoint = collector.endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let pair = Pair::start(&["--command", "/bin/echo {repo}"], &variables).await;
    let id = pair.ask("one", "01").await;
    pair.ended(&id, 0).await;
    pair.worker.wait_for_line("the trace collector does not accept spans", LIMIT).await;
    collector.refuse(false);
    spans(&collector, "build", 1).await;
    pair.worker.wait_for_line("the trace collector answers again", LIMIT).await;
}

#[tokio::test]
async fn a_collectors_address_that_is_none_is_refused() {
    let home = TempDir::new();
    let redis = RedisServer::start_default().await;
    for command in ["worker", "dispatcher"] {
        let mut command = fairlane(&home, [command, "--otlp-endpoint", "collector:4318"]);
        command.env("FAIRLANE_REDIS_URL", redis.url());
        run(command).await.expect(2, "one looks like http://127.0.0.1:4318");
    }
}

/// A worker's log lines from the modules that handle a single build.
fn lines_of_builds(worker: &Process) -> Vec<Value> {
    let log = worker.stderr();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    let about_a_build = |line: &Value| {
        let target = line["target"].as_str().unwrap();
        ["build", "log", "process::executor", "kubernetes::run"]
            .iter()
            .any(|module| target.starts_with(&format!("fairlane_worker::{module}")))
    };
    lines.filter(about_a_build).collect()
}

fn check_lines(lines: &[Value], id: &str) {
    assert!(!lines.is_empty());
    for line in lines {
        assert_eq!(line["build.id"], id, "{line}");
        for field in ["build.lane", "build.run", "build.attempt", "worker.id"] {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
    }
}

#[tokio::test]
async fn each_line_about_a_build_says_which_build_lane_attempt_and_worker() {
    let home = TempDir::new();
    // While Redis accepts no writes, the tasks that write the log and report the state have something to log.
    let gate = crate::setup::Gate::new(&home);
    let pair = Pair::start(&["--command", &gate.template()], &[]).await;
    let id = pair.ask("one", "01").await;
    pair.worker.wait_for_line("\"message\":\"running\"", LIMIT).await;
    pair.redis.command(&["CLIENT", "PAUSE", "1500", "WRITE"]).await;
    gate.open("a line").await;
    pair.ended(&id, 0).await;
    let lines = lines_of_builds(&pair.worker);
    check_lines(&lines, &id);
    let said = |text: &str| {
        lines.iter().any(|line| line["message"].as_str().is_some_and(|said| said.contains(text)))
    };
    assert!(said("claimed") && said("running") && said("succeeded"), "{lines:#?}");
    let request = pair.dispatcher.wait_for_line("build requested", LIMIT).await;
    let request: Value = serde_json::from_str(&request).unwrap();
    assert_eq!((&request["build.id"], &request["build.lane"]), (&json!(id), &json!("github.com/o/one")));
}

#[tokio::test]
async fn a_kube_pod_carries_the_trace_and_lines_about_it_the_build() {
    let cluster = TestCluster::from_env_or_fake();
    let installation = format!("test-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
    let arguments = [
        "--executor=kubernetes",
        "--docker-socket=none",
        "--replace-entrypoint",
        "--namespace",
        cluster.namespace(),
        "--build-image",
        cluster.image(),
        "--installation",
        &installation,
        "--command",
        "sh -c 'echo $0' {repo}",
    ];
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let pair = Pair::start(&arguments, &[("KUBECONFIG", &kubeconfig)]).await;
    let id = pair.ask("one", "01").await;
    pair.ended(&id, 0).await;
    check_lines(&lines_of_builds(&pair.worker), &id);
    if let Some(fake) = cluster.fake() {
        let pod = &fake.pods_created()[0];
        let annotations = &pod["metadata"]["annotations"];
        // No collector is configured here, so the pod gets the caller's own span.
        assert_eq!(annotations["fairlane/traceparent"], format!("00-{TRACE}-{CALLER}-01"), "{annotations}");
    }
}
