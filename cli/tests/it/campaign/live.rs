//! A campaign on real processes, through everything that happens on a bad day: people come all the time, a worker and
//! a dispatcher are killed, Redis restarts. `cargo xtask campaign` makes it longer.

#![expect(clippy::print_stdout, reason = "the figures of a run by hand")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fairlane_common::queue::campaigns::{Campaign, ItemState, ItemView};
use fairlane_common::{Build, BuildId, BuildState, Queue};
use fairlane_testkit::{Said, wait_for};
use serde_json::Value;

use super::{header, item};
use crate::setup::{COMMIT, LIMIT, fairlane, run};
use crate::system::{System, recorded};

/// Images, unless `FAIRLANE_CAMPAIGN_BUILDS` says another number.
const BUILDS: usize = 30;
const WORKERS: usize = 2;
const SLOTS: usize = 4;
/// The campaign's share of the 8 slots: 4 builds at once.
const SHARE: &str = "0.5";
const AT_ONCE: usize = 4;
/// Between two people.
const EVERY: Duration = Duration::from_millis(500);
/// As long as the slots of a dead worker may be counted among the free ones.
const UNREST_MS: u64 = 8000;
/// In quiet times slots are free, so that a person only waits for a claim, here on a busy machine.
const WAIT_MAX_MS: u64 = 1000;

/// What a run does: it records when it begins and ends.
const WORK: &str = r#"echo "$2" >> "$RUNS/begun"; sleep 1; echo "$2" >> "$RUNS/finished""#;

fn name(number: usize) -> String {
    format!("n{number:03}")
}

/// What happened to the system, and when by Redis's clock.
#[derive(Default)]
struct Troubles {
    /// Images of builds that the killed worker had.
    lost: HashSet<String>,
    at: Vec<u64>,
}

struct Live {
    system: System,
    queue: Queue,
    count: usize,
}

impl Live {
    async fn start() -> Self {
        let count = std::env::var("FAIRLANE_CAMPAIGN_BUILDS").ok();
        let count =
            count.map_or(BUILDS, |count| count.parse().expect("FAIRLANE_CAMPAIGN_BUILDS is a number"));
        let system = System::start(&recorded(WORK), 2, WORKERS, SLOTS).await;
        let launches = u32::try_from(count).unwrap();
        let mut lines = vec![header(launches, 0).to_string()];
        lines.extend((0..count).map(|number| item(&name(number), 1).to_string()));
        std::fs::write(system.home.join("plan.jsonl"), lines.join("\n")).unwrap();
        Self { queue: system.queue().await, system, count }
    }

    async fn campaign(&self, words: &str) -> Said {
        let mut command = fairlane(&self.system.home, ["campaign"].into_iter().chain(words.split(' ')));
        command.env("FAIRLANE_DISPATCHER_URL", self.system.urls().join(","));
        run(command).await
    }

    async fn view(&self) -> Option<Campaign> {
        // Redis may be restarting.
        let found = self.queue.campaign(&"spring".parse().unwrap()).await.ok()?;
        Some(found?.campaigns.remove(0))
    }

    /// Waits until this part of the images is done.
    async fn done(&self, part: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few")]
        let wanted = (part * f64::from(u32::try_from(self.count).unwrap())) as u64;
        let limit = LIMIT + Duration::from_secs(self.count as u64);
        wait_for(&format!("{wanted} images"), limit, async || {
            self.view().await.is_some_and(|view| view.done() >= wanted)
        })
        .await;
    }

    async fn items(&self) -> Vec<ItemView> {
        let (mut all, mut next) = (Vec::new(), Some(0));
        while let Some(cursor) = next {
            let (items, after) =
                self.queue.campaign_items(&"spring".parse().unwrap(), None, cursor, 200).await.unwrap();
            all.extend(items);
            next = after;
        }
        all
    }

    async fn build(&self, id: BuildId) -> Build {
        self.queue.build(id).await.unwrap().unwrap()
    }

    async fn now(&self) -> u64 {
        wait_for("Redis", LIMIT, async || self.queue.campaigns().await.ok()).await.now
    }

    /// Images that the first worker builds.
    async fn of_first_worker(&self) -> HashSet<String> {
        let mut images = HashSet::new();
        for item in self.items().await.into_iter().filter(|item| item.state == ItemState::Building) {
            let build = self.build(item.build.unwrap()).await;
            let is_its = build.worker.as_ref().is_some_and(|worker| worker.as_str().starts_with("host0-"));
            if is_its && !build.state.is_ended() {
                images.insert(item.image);
            }
        }
        images
    }

    /// Kills a worker and a dispatcher, and restarts Redis.
    async fn trouble(&self) -> Troubles {
        let mut troubles = Troubles::default();
        self.done(0.25).await;
        wait_for("the first worker to run builds", LIMIT, async || !self.of_first_worker().await.is_empty())
            .await;
        self.system.workers[0].kill();
        troubles.at.push(self.now().await);
        // Its leases have not expired yet.
        troubles.lost = self.of_first_worker().await;
        self.system.dispatchers[0].kill();
        self.done(0.6).await;
        self.system.redis.restart().await;
        troubles.at.push(self.now().await);
        self.done(1.0).await;
        troubles
    }
}

/// People, one after the other, each with a repository of their own, until it is over.
async fn people(system: &System, over: &AtomicBool) -> Vec<BuildId> {
    let (mut ticks, mut ids) = (tokio::time::interval(EVERY), Vec::new());
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let number = ids.len();
        let repo = format!("https://git.example.org/o/person{number}");
        let image = format!("r/person{number}:1");
        let id = wait_for("a dispatcher to accept a build", LIMIT, async || {
            let words = ["submit", &repo, "--ref", COMMIT, "--image", &image];
            let mut command = fairlane(&system.home, words);
            command.env("FAIRLANE_DISPATCHER_URL", system.urls().join(","));
            let said = run(command).await;
            if said.code == 0 { Ok(said.data.trim().parse().unwrap()) } else { Err(said) }
        })
        .await;
        ids.push(id);
    }
    ids
}

/// How often each image stands in a file of the runs.
fn counts(system: &System, file: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for image in std::fs::read_to_string(system.runs(file)).unwrap().lines() {
        *counts.entry(image.to_owned()).or_default() += 1;
    }
    counts
}

/// Each image was built once: one build, one success, and one run. Only what the killed worker had may have run twice,
/// one run after the other.
fn built_once(live: &Live, items: &[ItemView], troubles: &Troubles) {
    let builds: BTreeSet<BuildId> = items.iter().filter_map(|item| item.build).collect();
    assert_eq!((items.len(), builds.len()), (live.count, live.count));
    let (begun, finished) = (counts(&live.system, "begun"), counts(&live.system, "finished"));
    for item in items {
        assert_eq!(item.state, ItemState::Built, "{item:?}");
        let most = if troubles.lost.contains(&item.image) { 2 } else { 1 };
        let (runs, ends) = (begun[&item.image], finished[&item.image]);
        assert!(runs <= most && (1..=runs).contains(&ends), "{runs} runs, {ends} ends of {}", item.image);
    }
    assert!(!live.system.runs("overlap").exists(), "two runs of one image were alive at once");
    let again = items.iter().filter(|item| begun[&item.image] > 1).count();
    println!("{} builds of the killed worker, {again} of them begun twice", troubles.lost.len());
}

/// No campaign's build was claimed while a person's build waited, and the campaign kept to its share.
async fn people_first(live: &Live, items: &[ItemView], people: &[Build], troubles: &Troubles) {
    let mut claims = Vec::new();
    for item in items {
        let build = live.build(item.build.unwrap()).await;
        claims.push((build.claimed.unwrap(), build.ended.unwrap()));
    }
    let mut quiet = Vec::new();
    for person in people {
        assert_eq!(person.state, BuildState::Succeeded, "{person:?}");
        if person.attempt > 1 {
            // It started at once, on the worker that was killed.
            continue;
        }
        let (asked, claimed) = (person.asked, person.claimed.unwrap());
        let overtaken = claims.iter().find(|(at, _)| asked < *at && *at < claimed);
        assert_eq!(
            overtaken, None,
            "it was claimed before a person's build, asked {asked}, claimed {claimed}"
        );
        if troubles.at.iter().all(|at| claimed < *at || asked > at + UNREST_MS) {
            quiet.push(claimed - asked);
        }
    }
    for (at, _) in &claims {
        let running = claims.iter().filter(|(from, to)| from <= at && at < to).count();
        assert!(running <= AT_ONCE, "{running} builds of the campaign at once");
    }
    quiet.sort_unstable();
    let at = |part: usize| quiet[(quiet.len() - 1) * part / 100];
    println!(
        "{} people, {} of them in quiet times: from asked to claimed p50 {} ms, p99 {} ms, max {} ms",
        people.len(),
        quiet.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(at(99) <= WAIT_MAX_MS, "people waited: {quiet:?}");
}

/// The report's sums are those of its items.
async fn adds_up(live: &Live, items: &[ItemView]) {
    let report: Value = live.campaign("report spring --json").await.expect(0, "").json().remove(0);
    let campaign = &report["campaign"];
    let count = live.count as u64;
    assert_eq!((&campaign["state"], &campaign["built"]), (&"ended".into(), &count.into()), "{report}");
    assert_eq!((&campaign["coverage"], &campaign["failed"]), (&1.0.into(), &0.into()), "{report}");
    let took: u64 = items.iter().map(|item| item.done.as_ref().unwrap().slot_ms).sum();
    let view = live.view().await.unwrap();
    assert_eq!((view.slot_ms, view.left_ms, view.done()), (took, 0, count));
    assert!(took > count * 1000, "each build took a second: {report}");
    assert_eq!(report["failures"].as_array().unwrap().len(), 0);
    let seconds = (campaign["ended_ms"].as_u64().unwrap() - campaign["started_ms"].as_u64().unwrap()) / 1000;
    println!("{count} images in {seconds} s, {} s of slots", took / 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_survives_a_bad_day_and_people_do_not_notice_it() {
    let live = Live::start().await;
    let start = live.campaign(&format!("start spring plan.jsonl --share {SHARE}")).await;
    start.expect(0, "spring is started");
    let over = AtomicBool::new(false);
    let trouble = async {
        let troubles = live.trouble().await;
        over.store(true, Ordering::Relaxed);
        troubles
    };
    let (people, troubles) = tokio::join!(people(&live.system, &over), trouble);
    let mut asked = Vec::new();
    for id in people {
        wait_for("a person's build to end", LIMIT, async || live.build(id).await.state.is_ended()).await;
        asked.push(live.build(id).await);
    }
    live.campaign("wait spring").await.expect(0, "100.0 %");
    let items = live.items().await;
    built_once(&live, &items, &troubles);
    people_first(&live, &items, &asked, &troubles).await;
    adds_up(&live, &items).await;
    let check = live.queue.check(10_000).await.unwrap();
    assert!(check.problems.is_empty(), "{:?}", check.problems);
}
