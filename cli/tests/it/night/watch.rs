//! What is noticed during the night: which alerts fire and when, and what they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::stage::{POPULAR, Stage};

/// Between two looks at the alerts.
const LOOK: Duration = Duration::from_secs(1);

/// What an alert is about; each of these happens once a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The popular lane has all slots while others could start.
    AllSlotsTaken,
    /// Most people wait for the popular lane, and there are twenty of them.
    Crowd,
    HostAvoided,
    WorkerFrozen,
}

#[derive(Debug, Default)]
struct Noticed {
    firing: BTreeMap<String, Duration>,
    /// When the queue itself first said that this is the incident.
    said: Option<Duration>,
    causes: BTreeMap<Cause, Duration>,
}

impl Noticed {
    fn look(&mut self, at: Duration, alerts: &Value, queue: Option<&Value>) {
        for alert in alerts["alerts"].as_array().unwrap() {
            let name = alert["labels"]["alertname"].as_str().unwrap();
            if alert["state"] == "firing" && !self.firing.contains_key(name) {
                self.firing.insert(name.to_owned(), at);
                println!("{}  {name}: {}", clock(at), alert["annotations"]["summary"].as_str().unwrap());
            }
        }
        if let Some(sentence) = queue.and_then(incident)
            && self.said.is_none()
        {
            self.said = Some(at);
            println!("{}  the page: {sentence}", clock(at));
        }
        if queue.is_some_and(all_slots_taken) && !self.causes.contains_key(&Cause::AllSlotsTaken) {
            self.causes.insert(Cause::AllSlotsTaken, at);
            println!("{}  {POPULAR} has all slots, and others wait", clock(at));
        }
    }
}

pub(super) struct Watch {
    began: Instant,
    noticed: Arc<Mutex<Noticed>>,
    stage: Arc<Stage>,
    _looking: AbortOnDropHandle<()>,
}

impl Watch {
    pub(super) fn start(stage: &Arc<Stage>) -> Self {
        let (began, noticed) = (Instant::now(), Arc::<Mutex<Noticed>>::default());
        let looking = tokio::spawn(look_on(Arc::clone(stage), began, Arc::clone(&noticed)));
        let stage = Arc::clone(stage);
        Self { began, noticed, stage, _looking: AbortOnDropHandle::new(looking) }
    }

    /// Says what happens now.
    pub(super) fn say(&self, what: &str) {
        println!("{}  {what}", clock(self.began.elapsed()));
    }

    /// Notes that it has happened.
    pub(super) fn happened(&self, cause: Cause) {
        let at = self.began.elapsed();
        self.noticed.lock().unwrap().causes.entry(cause).or_insert(at);
    }

    pub(super) fn at(&self, cause: Cause) -> Option<Duration> {
        self.noticed.lock().unwrap().causes.get(&cause).copied()
    }

    /// When the queue itself first said that this is the incident.
    pub(super) fn said(&self) -> Option<Duration> {
        self.noticed.lock().unwrap().said
    }

    /// Alerts that have fired so far, each with when.
    pub(super) fn fired(&self) -> BTreeMap<String, Duration> {
        self.noticed.lock().unwrap().firing.clone()
    }

    /// All alerts that Prometheus remembers as firing, whether they were seen or not.
    pub(super) async fn remembered(&self) -> BTreeSet<String> {
        let now = self.stage.prometheus.ask("/api/v1/query", &[("query", "time()")]).await;
        let now: f64 = now["result"][1].as_str().unwrap().parse().unwrap();
        let (start, end) = (now - self.began.elapsed().as_secs_f64(), now);
        let query = [
            ("query", r#"ALERTS{alertstate="firing"}"#),
            ("start", &start.to_string()),
            ("end", &end.to_string()),
            ("step", "5"),
        ];
        let data = self.stage.prometheus.ask("/api/v1/query_range", &query).await;
        let series = data["result"].as_array().unwrap().iter();
        series.map(|series| series["metric"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

async fn look_on(stage: Arc<Stage>, began: Instant, noticed: Arc<Mutex<Noticed>>) {
    loop {
        let alerts = stage.prometheus.ask("/api/v1/alerts", &[]).await;
        let queue = stage.get("/v1/queue").await;
        noticed.lock().unwrap().look(began.elapsed(), &alerts, queue.as_ref());
        tokio::time::sleep(LOOK).await;
    }
}

/// The incident's signature, as the story makes it: others wait, and the popular lane runs whatever runs.
fn all_slots_taken(queue: &Value) -> bool {
    let lanes = queue["lanes"].as_array().unwrap();
    let popular = lanes.iter().find(|lane| lane["lane"] == POPULAR);
    let others = lanes.iter().any(|lane| lane["lane"] != POPULAR && lane["waits_for"] == "ready");
    let permits = popular.map_or(0, |lane| lane["permits"].as_u64().unwrap());
    others && permits >= queue["totals"]["slots"].as_u64().unwrap().max(1)
}

/// What the queue says about the incident's signature.
fn incident(queue: &Value) -> Option<&str> {
    let mut problems = queue["problems"].as_array().unwrap().iter();
    problems.find(|problem| problem["kind"] == "incident")?["sentence"].as_str()
}

/// Minutes and seconds since the night began.
pub(super) fn clock(at: Duration) -> String {
    format!("{:02}:{:02}", at.as_secs() / 60, at.as_secs() % 60)
}
