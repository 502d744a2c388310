//! A dispatcher in this process, a worker that the test controls, and a client.

use std::net::SocketAddr;
use std::time::Duration;

use eventsource_stream::Eventsource;
use fairlane_common::id::{BuildId, WorkerId};
use fairlane_common::log::{LogLine, LogWriter};
use fairlane_common::queue::{
    Beat, Blame, Claim, Claimed, Finish, Finished, Outcome, Queue, Registered, Registration,
};
use fairlane_common::{FailureCause, FailureClass, RedisUrl};
use fairlane_dispatcher::api::{BuildAnswer, EndEvent, LogEvent, StateEvent};
use fairlane_dispatcher::{AllowedArgs, Bounds, ClientLimits, ConnectionLimits, Settings, Tokens, serve};
use fairlane_testkit::{redis_url_for, wait_for};
use futures::StreamExt;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine with two slow cores. Every wait in these tests ends within this time.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A dispatcher on its own port.
pub(crate) struct Dispatcher {
    pub(crate) url: String,
    pub(crate) queue: Queue,
    pub(crate) client: reqwest::Client,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Dispatcher {
    pub(crate) async fn start(redis_url: &str) -> Self {
        Self::start_with(redis_url, |_| {}).await
    }

    pub(crate) async fn start_with(redis_url: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let queue = open(&redis_url_for("dispatcher", redis_url)).await;
        let mut settings = settings();
        change(&mut settings);
        let stop = CancellationToken::new();
        let (told, listens) = tokio::sync::oneshot::channel::<SocketAddr>();
        let serving = serve(settings, queue.clone(), stop.clone(), move |address| {
            told.send(address).unwrap();
        });
        let task = tokio::spawn(async move { serving.await.unwrap() });
        let address = tokio::time::timeout(SOON, listens).await.expect("a dispatcher starts").unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: format!("http://{address}"), queue, client, stop, task }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, &mut self.task).await.expect("a dispatcher stops").unwrap();
    }

    /// Tells the dispatcher to stop, without waiting for it.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    pub(crate) fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(format!("{}{path}", self.url))
    }

    pub(crate) fn patch(&self, path: &str) -> RequestBuilder {
        self.client.patch(format!("{}{path}", self.url))
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("{}{path}", self.url))
    }

    /// Requests a build.
    pub(crate) async fn ask(&self, body: &Value) -> (StatusCode, BuildAnswer) {
        let response = send(self.post("/v1/builds").json(body)).await;
        (response.status(), response.json().await.unwrap())
    }

    /// Requests a build of the image `r/<name>:1`, in a lane of its own.
    pub(crate) async fn build(&self, name: &str) -> BuildId {
        let (status, answer) = self.ask(&request(name)).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        answer.id
    }

    /// Opens a stream of events.
    pub(crate) async fn follow(&self, id: BuildId, query: &str) -> Stream {
        let response = send(self.get(&format!("/v1/builds/{id}/events{query}"))).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream::new(response)
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        log_limits: fairlane_common::queue::LogLimits::default(),
        listen: "127.0.0.1:0".parse().unwrap(),
        base_path: None,
        tokens: Tokens::default(),
        archive: None,
        seal: None,
        allow_local_repos: false,
        allowed_args: AllowedArgs::default(),
        policy: None,
        host: "test".to_owned(),
        tls: None,
        connections: ConnectionLimits::default(),
        clients: ClientLimits::default(),
        bounds: Bounds::default(),
    }
}

pub(crate) async fn open(redis_url: &str) -> Queue {
    let url: RedisUrl = redis_url.parse().unwrap();
    Queue::open(&url, "fairlane").await.unwrap()
}

/// A request for the image `r/<name>:1` of the repository `owner/<name>`.
pub(crate) fn request(name: &str) -> Value {
    json!({ "repo": format!("https://github.com/owner/{name}"), "ref": "3f2a91c", "image": format!("r/{name}:1") })
}

/// Sends a request, within a time limit.
pub(crate) async fn send(request: RequestBuilder) -> Response {
    tokio::time::timeout(SOON, request.send()).await.expect("an answer in time").unwrap()
}

/// The status, kind and body of a problem response.
pub(crate) async fn problem(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status, "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
    let word = body["type"].as_str().unwrap().strip_prefix("urn:fairlane:error:").unwrap().to_owned();
    (status, word, body)
}

pub(crate) struct Stream {
    events: futures::stream::BoxStream<'static, Result<eventsource_stream::Event, String>>,
    /// The id of the last event.
    pub(crate) cursor: String,
    /// The lines so far.
    pub(crate) lines: Vec<String>,
    /// The notices so far, by kind.
    pub(crate) notices: Vec<String>,
    /// The name that the stream gave to its subscriber.
    pub(crate) subscriber: String,
}

/// What a stream sent.
#[derive(Debug)]
pub(crate) enum Said {
    State(Box<StateEvent>),
    Log,
    Notice,
    End(EndEvent),
    Moved,
    /// The stream has ended.
    Closed,
}

impl Stream {
    pub(crate) fn new(response: Response) -> Self {
        let events =
            response.bytes_stream().eventsource().map(|event| event.map_err(|e| e.to_string())).boxed();
        Self {
            events,
            cursor: String::new(),
            lines: Vec::new(),
            notices: Vec::new(),
            subscriber: String::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Said {
        let next = tokio::time::timeout(SOON, self.events.next()).await.expect("an event in time");
        let Some(Ok(event)) = next else { return Said::Closed };
        if !event.id.is_empty() {
            self.cursor.clone_from(&event.id);
        }
        match event.event.as_str() {
            "state" => {
                let state: StateEvent = serde_json::from_str(&event.data).unwrap();
                if let Some(name) = &state.subscriber {
                    self.subscriber.clone_from(name);
                }
                Said::State(Box::new(state))
            }
            "log" => {
                let log: LogEvent = serde_json::from_str(&event.data).unwrap();
                self.lines.extend(log.lines.iter().map(|line| line.text.clone()));
                Said::Log
            }
            "notice" => {
                let notice: Value = serde_json::from_str(&event.data).unwrap();
                self.notices.push(notice["kind"].as_str().unwrap().to_owned());
                Said::Notice
            }
            "end" => Said::End(serde_json::from_str(&event.data).unwrap()),
            "moved" => Said::Moved,
            // A `retry:` without data arrives as an event with the default name.
            _ => Box::pin(self.next()).await,
        }
    }

    /// Reads until there are `count` lines.
    pub(crate) async fn lines(&mut self, count: usize) {
        while self.lines.len() < count {
            let said = self.next().await;
            assert!(!matches!(said, Said::Closed | Said::End(_)), "{said:?} after {:?}", self.lines);
        }
    }

    /// Reads until a state that `fits` accepts.
    pub(crate) async fn state(&mut self, fits: impl Fn(&StateEvent) -> bool) -> StateEvent {
        loop {
            match self.next().await {
                Said::State(state) if fits(&state) => return *state,
                Said::Closed => panic!("the stream closed before that state"),
                _ => {}
            }
        }
    }

    /// Reads to the end, after which the stream must close.
    pub(crate) async fn end(&mut self) -> EndEvent {
        loop {
            match self.next().await {
                Said::End(end) => {
                    assert!(matches!(self.next().await, Said::Closed));
                    return end;
                }
                Said::Closed => panic!("the stream closed without an end; lines so far: {:?}", self.lines),
                _ => {}
            }
        }
    }
}

/// A worker that does what the test says.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    queue: Queue,
}

impl Worker {
    pub(crate) async fn start(queue: &Queue, slots: usize) -> Self {
        Self::start_on(queue, slots, 0).await
    }

    /// A worker whose cluster has this many nodes.
    pub(crate) async fn start_on(queue: &Queue, slots: usize, nodes: usize) -> Self {
        let worker = Self { id: WorkerId::new("fake"), queue: queue.clone() };
        queue.renew(&Beat { nodes, ..worker.beat(slots) }).await.unwrap();
        worker
    }

    fn beat(&self, slots: usize) -> Beat {
        Beat {
            worker: self.id.clone(),
            host: "fake".to_owned(),
            version: "0.1.0".to_owned(),
            place: self.place(),
            slots,
            draining: false,
            paused: None,
            nodes: 0,
            // Long leases, because tests send no heartbeats.
            lease: Duration::from_mins(10),
            held: Vec::new(),
        }
    }

    /// Pauses the worker.
    pub(crate) async fn pause(&self, why: &str) {
        let beat = Beat { paused: Some(why.to_owned()), ..self.beat(3) };
        self.queue.renew(&beat).await.unwrap();
    }

    fn place(&self) -> String {
        format!("process:{}", self.id)
    }

    /// Claims this build, which must be the next one.
    pub(crate) async fn claim_of(&self, id: BuildId) -> Run {
        let run = self.claim().await;
        assert_eq!(run.claimed.build.id, id);
        run
    }

    /// Claims one build, once there is one.
    pub(crate) async fn claim(&self) -> Run {
        let claimed = wait_for("a build to claim", SOON, async || {
            let claim = Claim {
                worker: self.id.clone(),
                place: self.place(),
                free: 1,
                lease: Duration::from_mins(10),
                request: uuid::Uuid::new_v4(),
            };
            self.queue.claim(&claim).await.unwrap().builds.pop()
        })
        .await;
        let log = LogWriter::new(
            self.queue.clone(),
            claimed.token.clone(),
            claimed.build.attempt,
            "0-0".to_owned(),
        );
        self.queue.report(&claimed.token, true, None).await.unwrap();
        Run { queue: self.queue.clone(), claimed, log, written: 0 }
    }
}

pub(crate) struct Run {
    queue: Queue,
    pub(crate) claimed: Claimed,
    log: LogWriter,
    written: usize,
}

impl Run {
    /// Writes the next `count` numbered lines.
    pub(crate) async fn write(&mut self, count: usize) {
        self.write_long(count, 0).await;
    }

    /// Writes `count` lines of at least `bytes`.
    pub(crate) async fn write_long(&mut self, count: usize, bytes: usize) {
        let lines: Vec<LogLine> = (self.written..self.written + count)
            .map(|n| LogLine { t: moment(n), text: format!("line {n}{}", "x".repeat(bytes)) })
            .collect();
        self.written += count;
        self.log.append(&lines).await.unwrap();
    }

    pub(crate) async fn write_lines(&mut self, texts: &[String]) {
        let lines: Vec<LogLine> =
            texts.iter().map(|text| LogLine { t: moment(self.written), text: text.clone() }).collect();
        self.log.append(&lines).await.unwrap();
    }

    /// Fails the run for a reason that is certainly the node's.
    pub(crate) async fn fail_on(self, node: &str) {
        let reason = "no space left on device".to_owned();
        let outcome = Outcome::Failed {
            class: FailureClass::Infrastructure,
            cause: FailureCause::OTHER,
            reason,
            blame: Blame::Certain,
        };
        let finish = Finish { node: Some(node.parse().unwrap()), ..Finish::of(outcome) };
        self.queue.finish(&self.claimed.token, &finish).await.unwrap();
    }

    /// Registers the run with a Redis that was emptied.
    pub(crate) async fn register(&mut self) {
        let build = &self.claimed.build;
        let registration = Registration {
            token: self.claimed.token.clone(),
            worker: self.claimed.token.worker.clone(),
            place: build.place.clone().unwrap(),
            lease: Duration::from_mins(10),
            spec: build.spec.clone(),
            attempt: build.attempt,
            asked: build.asked,
            claimed: build.claimed.unwrap(),
            started: build.claimed,
            node: None,
        };
        let Registered::Leased(held) = self.queue.register(&registration).await.unwrap() else {
            panic!("the run was not taken")
        };
        self.claimed = *held;
        // The log is written from its beginning, as a worker can read it again from a pod.
        self.written = 0;
        self.log = LogWriter::new(self.queue.clone(), self.claimed.token.clone(), 1, "0-0".to_owned());
    }

    pub(crate) async fn finish(self, outcome: Outcome) -> Finished {
        let build = &self.claimed.build;
        let finish = Finish {
            outcome,
            node: None,
            log_bytes: self.queue.log_bytes(build.id, build.attempt).await.ok(),
            log_missing: 0,
            log_tail: Some("the tail".to_owned()),
            log_end: Some(self.log.last().to_owned()),
        };
        self.queue.finish(&self.claimed.token, &finish).await.unwrap()
    }
}

/// The time of a run's line of that number.
fn moment(line: usize) -> String {
    jiff::Timestamp::from_second(1_553_414_040 + i64::try_from(line).unwrap()).unwrap().to_string()
}

/// The lines that a run writes with `write(count)`.
pub(crate) fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("line {n}")).collect()
}

/// A failure that is no node's fault.
pub(crate) fn failed(class: FailureClass, cause: FailureCause, reason: &str) -> Outcome {
    Outcome::Failed { class, cause, reason: reason.to_owned(), blame: Blame::Nobody }
}
