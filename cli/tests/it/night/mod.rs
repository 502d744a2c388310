//! A night like that of the incident, in real time and with real processes. A Prometheus with the rules as they are
//! shipped must fire the expected alerts, and no other.

#![expect(clippy::print_stdout, reason = "the report of a night")]

mod crowd;
mod stage;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlane_testkit::{Browser, wait_for};
use tokio::time::{Instant, interval};

use crate::setup::LIMIT;
use crowd::Crowd;
use stage::{FROZEN, POPULAR, SICK, Stage};
use watch::{Cause, Watch, clock};

/// Longer than the longest `for` of an alert.
const QUIET_S: u64 = 330;
/// How long people come for the popular repository, one a second.
const ARRIVALS_S: u64 = 200;
/// How long the popular repository's builds take in all: long enough for every alert that could be about them.
const POPULAR_S: u64 = 400;
/// The incident's signature must have fired this long after its onset.
const SIGNATURE_MAX: Duration = Duration::from_mins(2);
/// The page must have said so after this long: its history has one sample a minute.
const SAID_MAX: Duration = Duration::from_mins(4);
const SIGNATURE: &str = "FairlanePeopleWaitBuildsDoNot";
/// While the popular repository is slow, this many people get another one, at least.
const SERVED_MIN: usize = 40;

/// The alerts that are expected as Fairlane is shipped, and what they are about. All others would be wrong:
///
/// - `FairlanePeopleWaitBuildsDoNot`: the popular lane holds two or three slots; others go on.
/// - `FairlaneFailures`: the sick host is avoided after three failures, which are few beside the builds that succeed.
/// - `FairlaneLongWait`, `FairlaneNothingStarts`: whatever could start does so within seconds.
/// - `FairlaneRedisAway`, `FairlaneRedisAppendOnly`: Redis is back after a second, with its data.
/// - `FairlaneNoWorker`, `FairlaneAllWorkersPaused`, `FairlaneNoDispatcher`: one healthy host is left, and both
///   dispatchers.
/// - `FairlaneBrokenInvariant`, `FairlaneRedisMemory`, `FairlanePodPending`: there is nothing of the kind.
const BELONG: [(&str, Cause); 3] = [
    // Two hundred people wait for one repository for longer than five minutes.
    ("FairlaneOneLaneHasMostPeople", Cause::Crowd),
    // Builds of three repositories fail on one host.
    ("FairlaneNodesAvoided", Cause::HostAvoided),
    // A worker that runs builds freezes.
    ("FairlaneLeasesLost", Cause::WorkerFrozen),
];

struct Night {
    stage: Arc<Stage>,
    crowd: Crowd,
    watch: Watch,
    /// The browser, and the folder for pictures of the page.
    camera: Option<(Browser, PathBuf)>,
}

impl Night {
    async fn start() -> Self {
        let camera = match std::env::var_os("FAIRLANE_NIGHT_SCREENSHOTS") {
            Some(folder) => Browser::start().await.map(|browser| (browser, PathBuf::from(folder))),
            None => None,
        };
        let stage = Arc::new(Stage::start().await);
        Self { crowd: Crowd::new(&stage.urls), watch: Watch::start(&stage), stage, camera }
    }

    /// For this many seconds, one person every `every` seconds wants another repository; if `popular`, one person a
    /// second also wants the popular one.
    async fn go_on(&mut self, seconds: u64, every: u64, popular: bool) {
        let mut ticks = interval(Duration::from_secs(1));
        for second in 0..seconds {
            ticks.tick().await;
            if second % every == 0 {
                self.crowd.wants_another();
            }
            if popular {
                self.crowd.wants_popular(usize::try_from(second).unwrap());
                if second >= 20 {
                    self.watch.happened(Cause::Crowd);
                }
            }
        }
    }

    async fn picture(&self, name: &str, sees: &[&str]) {
        let Some((browser, folder)) = &self.camera else { return };
        browser.size(1280, 1100).await;
        browser.open(&format!("{}/", self.stage.urls[1])).await;
        for text in sees {
            browser.sees(text).await;
        }
        wait_for("the line", LIMIT, async || {
            let loaded = "performance.getEntriesByType('resource').some((one) => one.name.endsWith('builds?limit=200'))";
            browser.value(loaded).await == true
        })
        .await;
        wait_for("the curves to be drawn", LIMIT, async || {
            browser.value("document.querySelector('canvas') !== null").await == true
        })
        .await;
        browser.screenshot(&folder.join(format!("{name}.png"))).await;
    }

    async fn quiet_hour(&mut self) {
        self.watch.say("quiet: somebody wants a build every 6 s");
        let seconds = std::env::var("FAIRLANE_NIGHT_QUIET_S").ok();
        if let Some(seconds) = &seconds {
            self.watch.say(&format!("the quiet time is shortened from {QUIET_S} to {seconds} s"));
        }
        self.go_on(seconds.map_or(QUIET_S, |seconds| seconds.parse().unwrap()), 6, false).await;
        self.picture("before", &["No problems."]).await;
        assert!(self.watch.fired().is_empty(), "alerts in a quiet hour: {:?}", self.watch.fired());
    }

    async fn host_falls_sick(&mut self) {
        for _ in 0..13 {
            self.crowd.wants_another();
        }
        wait_for("builds on the host", LIMIT, async || self.stage.running_on(SICK).await >= 3).await;
        self.stage.turn("sick");
        self.watch.say(&format!("{SICK} falls sick: every build fails there"));
        wait_for("the sick host to be avoided", LIMIT, async || {
            let nodes = self.stage.get("/v1/nodes").await;
            nodes
                .is_some_and(|list| list["nodes"].as_array().unwrap().iter().any(|node| node["node"] == SICK))
        })
        .await;
        self.watch.happened(Cause::HostAvoided);
        self.watch.say(&format!("{SICK} is avoided"));
        self.go_on(30, 3, false).await;
    }

    async fn popular_repository(&mut self) {
        self.watch.say(&format!("{ARRIVALS_S} people want {POPULAR}, whose builds take until the morning"));
        let began = Instant::now();
        self.go_on(ARRIVALS_S, 3, true).await;
        wait_for("builds on the host", LIMIT, async || self.stage.running_on(FROZEN).await > 0).await;
        self.stage.workers[FROZEN].freeze();
        self.watch.happened(Cause::WorkerFrozen);
        self.watch.say(&format!("the worker on {FROZEN} freezes"));
        self.go_on(30, 4, false).await;
        self.is_explained().await;
        self.picture("during", &[POPULAR, SICK, FROZEN]).await;
        self.go_on(30, 4, false).await;
        self.stage.workers[FROZEN].thaw();
        self.watch.say(&format!("the worker on {FROZEN} goes on"));
        self.go_on(20, 4, false).await;
        self.watch.say("Redis restarts");
        self.stage.redis.restart().await;
        let left = Duration::from_secs(POPULAR_S).saturating_sub(began.elapsed());
        self.go_on(left.as_secs(), 4, false).await;
    }

    /// The sentences about current problems name all three causes.
    async fn is_explained(&self) {
        for (kind, cause) in
            [("one-lane-has-most-people", POPULAR), ("node-avoided", SICK), ("worker-lost", FROZEN)]
        {
            let what = format!("a problem that names {cause}");
            let sentence = wait_for(&what, LIMIT, async || {
                let queue = self.stage.get("/v1/queue").await.ok_or_else(String::new)?;
                let problems = queue["problems"].as_array().unwrap();
                let found = problems
                    .iter()
                    .find(|problem| problem["kind"] == kind)
                    .ok_or_else(|| queue.to_string())?;
                let sentence = found["sentence"].as_str().unwrap().to_owned();
                if sentence.contains(cause) { Ok(sentence) } else { Err(sentence) }
            });
            self.watch.say(&format!("the page: {}", sentence.await));
        }
    }

    async fn morning(&mut self) {
        self.watch.say("morning: the popular repository's builds come to their end");
        self.stage.turn("morning");
        self.crowd.leave().await;
        self.watch.say("everybody has their image");
        self.go_on(90, 6, false).await;
        self.crowd.leave().await;
        self.picture("after", &[SICK]).await;
    }

    /// Compares the alerts that fired with those that belong.
    async fn verdict(&self, expected: &[(&str, Cause)]) -> Vec<String> {
        let fired = self.watch.fired();
        let mut wrong = Vec::new();
        println!("\n{:<32}{:>8}{:>10}  expected", "alert", "fired", "after");
        for (name, cause) in expected {
            let (at, since) = (fired.get(*name), self.watch.at(*cause));
            let after = at.zip(since).map(|(at, since)| at.saturating_sub(since));
            let words = |at: Option<Duration>| at.map_or("never".to_owned(), clock);
            println!("{name:<32}{:>8}{:>10}  yes, {cause:?}", words(at.copied()), words(after));
            if at.is_none() {
                wrong.push(format!("{name} has not fired"));
            }
            if *name == SIGNATURE && after.is_none_or(|after| after > SIGNATURE_MAX) {
                wrong.push(format!("{name} has not fired within {SIGNATURE_MAX:?}"));
            }
        }
        let names: BTreeSet<String> = expected.iter().map(|(name, _)| (*name).to_owned()).collect();
        let seen: BTreeSet<String> = fired.keys().cloned().collect();
        for name in seen.union(&self.watch.remembered().await).filter(|name| !names.contains(*name)) {
            println!(
                "{name:<32}{:>8}{:>10}  no",
                fired.get(name).map_or("?".to_owned(), |at| clock(*at)),
                ""
            );
            wrong.push(format!("{name} does not belong"));
        }
        wrong
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a quarter of an hour; `cargo xtask night` runs it"]
async fn the_alerts_of_a_night_are_those_that_belong() {
    let is_limited = std::env::var("FAIRLANE_NIGHT_VARIANT").as_deref() != Ok("no-limits");
    println!("Rules and intervals are as shipped. Times are minutes and seconds.\n");
    let mut night = Night::start().await;
    if !is_limited {
        night.watch.say("without limits: the popular lane may have all slots, and slow lanes share no limit");
        night.stage.operate(&["rule", "limit", POPULAR, "100"]).await;
        night.stage.operate(&["policy", "set", "slow_after=0"]).await;
    }
    night.quiet_hour().await;
    night.host_falls_sick().await;
    let before = night.crowd.served();
    night.popular_repository().await;
    let served = night.crowd.served() - before;
    night.watch.say(&format!("{served} people have got another repository since the popular one is slow"));
    night.morning().await;
    let mut expected = BELONG.to_vec();
    if !is_limited {
        expected.push((SIGNATURE, Cause::AllSlotsTaken));
    }
    let mut wrong = night.verdict(&expected).await;
    let said = night.watch.said();
    let late = night.watch.at(Cause::AllSlotsTaken).map(|onset| onset + SAID_MAX);
    if is_limited && said.is_some() || !is_limited && said.zip(late).is_none_or(|(said, late)| said > late) {
        wrong.push(format!("the queue calls it an incident: {}", said.map_or("never".to_owned(), clock)));
    }
    if is_limited && served < SERVED_MIN {
        wrong
            .push(format!("only {served} people have got another repository while the popular one was slow"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
    println!("\nExactly the expected alerts have fired.");
}
