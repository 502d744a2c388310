//! The clients: each asks for an image, or joins others who wait for theirs, and follows it to its end through whichever
//! dispatcher answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eventsource_stream::Eventsource;
use fairlane_common::{BuildId, BuildState};
use fastrand::Rng;
use futures::StreamExt as _;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Plan;
use super::wish::{How, Wish, read};

/// A stream says something every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two attempts, and between two looks whether there is something to do.
const AGAIN: Duration = Duration::from_millis(300);
/// How long a build that will be cancelled is watched before.
const CANCEL_AFTER_MS: std::ops::Range<u64> = 500..6000;
/// A cancellation is repeated: a failover may lose it.
const CANCEL_AGAIN: Duration = Duration::from_secs(5);
/// The mishaps go on for a while after the last request.
const REQUESTS_PART: f64 = 0.9;

/// How a build ended, as its clients were told.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) wish: Arc<Wish>,
    pub(super) state: BuildState,
}

/// A build that the queue did not know any more.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) id: BuildId,
    pub(super) tag: String,
    /// When the queue had taken the request.
    pub(super) asked: Instant,
}

/// What all clients have seen.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) requests: usize,
    pub(super) streams: usize,
    /// Streams that broke and were opened again.
    pub(super) reopened: usize,
    pub(super) ends: BTreeMap<BuildId, Ended>,
    /// How many of the clients were told so.
    pub(super) told: usize,
    pub(super) lost: Vec<Lost>,
    pub(super) lines: usize,
    pub(super) marked: u32,
    /// Broken promises.
    pub(super) faults: Vec<String>,
    /// Lines that were lost or doubled on the way to a client.
    pub(super) line_faults: Vec<String>,
}

pub(super) struct Crowd {
    http: Client,
    urls: Vec<String>,
    seed: u64,
    builds: usize,
    began: Instant,
    /// The time in which all builds are asked for.
    span: Duration,
    given_out: AtomicUsize,
    /// What somebody waits for, so that others can join.
    live: Mutex<Vec<Arc<Wish>>>,
    pub(super) ledger: Mutex<Ledger>,
}

/// What a client has seen of a build.
#[derive(Default)]
struct Seen {
    logs: BTreeMap<u64, Vec<String>>,
    /// The data of the event `end`.
    end: Option<Value>,
}

impl Crowd {
    pub(super) fn new(plan: &Plan, urls: Vec<String>) -> Arc<Self> {
        let builder =
            Client::builder().no_proxy().connect_timeout(Duration::from_secs(3)).read_timeout(SILENCE_MAX);
        Arc::new(Self {
            http: builder.build().unwrap(),
            urls,
            seed: plan.seed,
            builds: plan.builds,
            began: Instant::now(),
            span: plan.length.mul_f64(REQUESTS_PART),
            given_out: AtomicUsize::new(0),
            live: Mutex::default(),
            ledger: Mutex::default(),
        })
    }

    /// All clients; each leaves when everything was asked for and it has got its image.
    pub(super) fn come(self: &Arc<Self>, clients: usize) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for number in 0..clients {
            let (crowd, rng) = (Arc::clone(self), Rng::with_seed(self.seed ^ (number as u64)));
            all.spawn(async move { crowd.client(rng).await });
        }
        all
    }

    /// Images that somebody still waits for.
    pub(super) fn waits_for(&self) -> Vec<String> {
        self.live.lock().unwrap().iter().map(|wish| wish.tag()).collect()
    }

    async fn client(&self, mut rng: Rng) {
        while self.given_out.load(Ordering::SeqCst) < self.builds {
            if let Some(wish) = self.next_wish() {
                self.live.lock().unwrap().push(Arc::clone(&wish));
                self.get(&wish, true, &mut rng).await;
                self.live.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &wish));
                continue;
            }
            sleep(AGAIN.mul_f64(rng.f64() * 4.0)).await;
            // Nobody else joins what will be cancelled: who comes a moment later would begin it anew.
            let live = self.live.lock().unwrap().clone();
            let joined: Vec<_> = live.into_iter().filter(|wish| wish.how != How::IsCancelled).collect();
            let wish = rng.choice(joined);
            if let Some(wish) = wish {
                self.get(&wish, false, &mut rng).await;
            }
        }
    }

    /// The next image, if its time has come: they are spread evenly.
    fn next_wish(&self) -> Option<Arc<Wish>> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "few"
        )]
        let due = (self.builds as f64 * self.began.elapsed().div_duration_f64(self.span)) as usize + 1;
        let next = |given_out| (given_out < due.min(self.builds)).then_some(given_out + 1);
        let number = self.given_out.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok()?;
        Some(Arc::new(Wish::new(self.seed, number)))
    }

    /// Asks for an image until its build has ended, and writes down how.
    async fn get(&self, wish: &Arc<Wish>, cancels: bool, rng: &mut Rng) {
        loop {
            let Some(mut id) = self.ask(wish, rng).await else { return };
            let (asked, first, mut rng_of_cancel) = (Instant::now(), id, rng.fork());
            let cancelling = async {
                if cancels && wish.how == How::IsCancelled {
                    self.cancel_on(first, &mut rng_of_cancel).await;
                }
                std::future::pending::<()>().await;
            };
            let seen = tokio::select! {
                seen = self.follow(&mut id, rng.fork()) => seen,
                () = cancelling => unreachable!("it goes on until the build has ended"),
            };
            if self.write_down(wish, id, &seen) {
                return;
            }
            self.ledger.lock().unwrap().lost.push(Lost { id, tag: wish.tag(), asked });
        }
    }

    /// Sends a request until a dispatcher answers it.
    async fn insist(
        &self,
        rng: &mut Rng,
        request: impl Fn(&str) -> RequestBuilder,
        is_stream: bool,
    ) -> Response {
        let mut door = rng.usize(..self.urls.len());
        loop {
            let mut request = request(&self.urls[door]);
            if !is_stream {
                request = request.timeout(ANSWER_MAX);
            }
            if let Ok(answer) = request.send().await
                && !answer.status().is_server_error()
                && answer.status() != StatusCode::TOO_MANY_REQUESTS
            {
                return answer;
            }
            door = (door + 1) % self.urls.len();
            sleep(AGAIN.mul_f64(0.5 + rng.f64())).await;
        }
    }

    async fn ask(&self, wish: &Wish, rng: &mut Rng) -> Option<BuildId> {
        let body = wish.body();
        loop {
            let request = |url: &str| self.http.post(format!("{url}/v1/builds")).json(&body);
            let answer = self.insist(rng, request, false).await;
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            let read = serde_json::from_str::<Value>(&text).ok();
            let id = read.and_then(|answer| answer["id"].as_str()?.parse().ok());
            let mut ledger = self.ledger.lock().unwrap();
            ledger.requests += 1;
            if id.is_none() && status.is_client_error() {
                ledger
                    .faults
                    .push(format!("the request for {} was answered with {status}: {text}", wish.tag()));
                return None;
            }
            // Otherwise the answer was cut off.
            if id.is_some() {
                return id;
            }
        }
    }

    async fn cancel_on(&self, id: BuildId, rng: &mut Rng) {
        sleep(Duration::from_millis(rng.u64(CANCEL_AFTER_MS))).await;
        loop {
            self.insist(rng, |url| self.http.delete(format!("{url}/v1/builds/{id}")), false).await;
            sleep(CANCEL_AGAIN).await;
        }
    }

    /// Follows a build; a stream that breaks is opened again after the last event, at any dispatcher.
    async fn follow(&self, id: &mut BuildId, mut rng: Rng) -> Seen {
        let (mut seen, mut cursor) = (Seen::default(), None::<String>);
        for stream in 0.. {
            let open = |url: &str| {
                let request = self.http.get(format!("{url}/v1/builds/{id}/events"));
                match &cursor {
                    Some(cursor) => request.header("last-event-id", cursor),
                    None => request,
                }
            };
            let answer = self.insist(&mut rng, open, true).await;
            {
                let mut ledger = self.ledger.lock().unwrap();
                *(if stream == 0 { &mut ledger.streams } else { &mut ledger.reopened }) += 1;
            }
            if answer.status() == StatusCode::NOT_FOUND {
                return seen;
            }
            let mut events = std::pin::pin!(answer.bytes_stream().eventsource());
            while let Some(Ok(event)) = events.next().await {
                if !event.id.is_empty() {
                    cursor = Some(event.id.clone());
                }
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                match event.event.as_str() {
                    "log" => seen.log(&data),
                    "notice" => seen.notice(&data),
                    "moved" => {
                        (*id, cursor) = (data["to"].as_str().unwrap().parse().unwrap(), None);
                        seen = Seen::default();
                    }
                    "end" => {
                        seen.end = Some(data);
                        return seen;
                    }
                    _ => {}
                }
            }
            sleep(AGAIN.mul_f64(rng.f64())).await;
        }
        seen
    }

    /// Returns whether the build has ended; otherwise the queue has lost it.
    fn write_down(&self, wish: &Arc<Wish>, id: BuildId, seen: &Seen) -> bool {
        let state = |end: &Value| serde_json::from_value::<BuildState>(end["state"].clone()).ok();
        let mut ledger = self.ledger.lock().unwrap();
        let Some((end, state)) = seen.end.as_ref().and_then(|end| Some((end, state(end)?))) else {
            return false;
        };
        ledger.told += 1;
        if state != wish.how.state() {
            ledger.faults.push(format!("{} must end as {}: {end}", wish.tag(), wish.how.state()));
        }
        let known = ledger.ends.entry(id).or_insert_with(|| Ended { wish: Arc::clone(wish), state }).state;
        if known != state {
            ledger.faults.push(format!("{id} ({}) ended as {known} and as {state}", wish.tag()));
        }
        let last = end["run"].as_u64().unwrap_or_default();
        for (run, log) in &seen.logs {
            let reading = read(log, wish.whole().filter(|_| *run == last));
            ledger.lines += reading.lines;
            ledger.marked += reading.marked;
            for fault in reading.faults {
                ledger.line_faults.push(format!("a client of {id} ({}), run {run}: {fault}", wish.tag()));
            }
        }
        if wish.whole().is_some() && !seen.logs.contains_key(&last) {
            ledger.line_faults.push(format!("a client of {id} ({}) got no log of run {last}", wish.tag()));
        }
        true
    }
}

impl Seen {
    fn log(&mut self, data: &Value) {
        let log = self.logs.entry(data["run"].as_u64().unwrap_or_default()).or_default();
        for line in data["lines"].as_array().into_iter().flatten() {
            log.push(line["text"].as_str().unwrap_or_default().to_owned());
        }
    }

    /// Lines that are missing in the middle.
    fn notice(&mut self, data: &Value) {
        if let Some(dropped) = data["dropped"].as_u64() {
            let log = self.logs.entry(data["run"].as_u64().unwrap_or_default()).or_default();
            log.push(format!("[fairlane] {dropped} lines were left out here"));
        }
    }
}
