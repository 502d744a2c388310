//! Compares what was seen with what is promised.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fairlane_common::{BuildId, BuildState, Queue};
use fairlane_testkit::wait_for;

use super::crowd::{Crowd, Ended, Ledger};
use super::gauges::Gauges;
use super::report::{Promise, Report};
use super::site::Noticed;
use super::stage::{DOWN_AFTER, Stage};
use super::wish::{How, read};
use super::{Diary, Plan};

/// How long people, permits and pods may take to be given back after the last build: dispatchers count people every few
/// seconds, and pods are kept for a moment.
const SETTLED: Duration = Duration::from_mins(1);
/// A failover may lose what was written in the last second before the master was gone; [`DOWN_AFTER`] later Sentinel
/// looks for another one, which takes up to two seconds.
const LOST_BEFORE: Duration = Duration::from_secs(3);
/// If the former master lives on, each process leaves it within a second. Sentinel is asked once a second.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// Memory of Redis that a build may take: what is known of it, its log, its record.
const REDIS_KB_PER_BUILD: u64 = 24;
/// What Redis may take on top: buffers of clients and of the replica.
const REDIS_KB: u64 = 64 * 1024;
/// Entries of a set that the consistency check reads.
const ENTRIES: usize = 10_000;

/// The report, and the promises that were broken.
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) broken: Vec<&'static str>,
}

pub(super) async fn of(
    plan: &Plan,
    stage: &Stage,
    crowd: &Crowd,
    gauges: &Gauges,
    diary: &Diary,
    took: Duration,
) -> Verdict {
    let settled = settled(stage).await;
    let ledger = std::mem::take(&mut *crowd.ledger.lock().unwrap());
    let (noticed, uses) = (stage.site.noticed(), gauges.uses());
    let stored = Stored::read(&stage.queue, &ledger.ends).await;
    let counts = stage.queue.counts().await.unwrap();
    let panics = stage.keep_logs();
    let mut once = ledger.faults.clone();
    once.extend(crowd.waits_for().iter().map(|tag| format!("{tag} has not ended")));
    once.extend(stored.faults);
    if ledger.lost.is_empty() && counts.ended() != ledger.ends.len() as u64 {
        once.push(format!("the queue counted {} ends of {} builds", counts.ended(), ledger.ends.len()));
    }
    let mut lines = ledger.line_faults.clone();
    lines.extend(stored.line_faults);
    let failovers = stage.failovers.lock().unwrap().1.clone();
    let mut processes = panics;
    processes.extend(diary.ended.lock().unwrap().iter().map(|name| format!("{name} ended by itself")));
    let promises = vec![
        Promise::new(
            "Every build that was accepted ended once, as it had to, and everybody was told the same.",
            once,
        ),
        Promise::new("Nothing was lost but what was asked for around a failover.", lost(&ledger, &failovers)),
        Promise::new("No log line was lost or doubled, unless the log says so.", lines),
        Promise::new(
            "No two commands for one image were alive at once, unless a failover lost the first build.",
            overlaps(&noticed, &ledger),
        ),
        Promise::new("No lane had more live commands than its limit.", noticed.crowded.clone()),
        Promise::new(
            "In the end nobody was counted as waiting, no permit was held, no pod was left.",
            settled,
        ),
        Promise::new("In the end nothing in Redis contradicted anything else.", stored.problems),
        Promise::new("No process ended by itself or panicked.", processes),
        Promise::new("No process grew.", grown(&uses, ledger.ends.len() as u64)),
    ];
    let report = Report {
        plan,
        took,
        mishaps: diary.happened.lock().unwrap().clone(),
        left_out: left_out(stage),
        ledger: &ledger,
        noticed: &noticed,
        uses: &uses,
        counts: vec![
            ("log lines that Redis has in the end", stored.lines),
            ("images that had two live commands for a moment", noticed.overlaps.len() as u64),
            (
                "starts of a process that found no Redis and was started again",
                diary.failed_starts.load(Ordering::Relaxed),
            ),
            ("leases that ran out", counts.leases_lost),
            ("runs that another worker took over", counts.adopted),
            ("failed attempts that were followed by another one", counts.retried.values().sum()),
        ],
        promises,
    };
    Verdict { text: report.text(), broken: report.broken() }
}

fn left_out(stage: &Stage) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    left_out.push(
        "the clock of Redis: libfaketime, which sets clocks here, does not work with its memory allocator.",
    );
    if stage.clock.is_none() {
        left_out.push("clocks of hosts; they need libfaketime (`apt-get install libfaketime`).");
    }
    if stage.disks.is_none() {
        left_out.push(
            "full disks of Redis and of a worker; only root may mount small ones, and only in a long run.",
        );
    }
    left_out
}

/// What is still held a minute after the last build.
async fn settled(stage: &Stage) -> Vec<String> {
    let began = Instant::now();
    loop {
        let held = held(stage).await;
        if held.is_empty() || began.elapsed() > SETTLED {
            return held;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn held(stage: &Stage) -> Vec<String> {
    let Ok(seen) = stage.queue.snapshot().await else { return vec!["Redis does not answer".to_owned()] };
    let numbers = [
        ("builds in line", seen.queued),
        ("leases", seen.leased),
        ("orphans", seen.orphaned),
        ("people", seen.people),
        ("background builds", seen.background),
        ("builds set aside", seen.aside),
        ("pods", stage.cluster.pods().len() as u64),
    ];
    let mut held: Vec<String> = numbers
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    let (master, _) = stage.redis.master_and_replica().await;
    let permits: redis::RedisResult<Vec<String>> =
        redis::cmd("KEYS").arg("{fairlane}:permits:*").query_async(&mut master.connect().await).await;
    held.extend(permits.unwrap().into_iter().map(|key| format!("a permit in {key}")));
    held
}

/// Builds that were lost, although no failover explains it.
fn lost(ledger: &Ledger, failovers: &[Instant]) -> Vec<String> {
    let explained = |asked: Instant| {
        failovers.iter().any(|seen| asked + DOWN_AFTER + LOST_BEFORE > *seen && asked < *seen + LOST_AFTER)
    };
    let lost = ledger.lost.iter().filter(|lost| !explained(lost.asked));
    lost.map(|lost| format!("{} ({}) is unknown", lost.id, lost.tag)).collect()
}

/// Images with two live commands, apart from those whose first build a failover has lost: its worker learns a moment
/// later that there is another one.
fn overlaps(noticed: &Noticed, ledger: &Ledger) -> Vec<String> {
    let is_lost =
        |overlap: &&String| ledger.lost.iter().any(|lost| overlap.contains(&format!(" {} ", lost.tag)));
    noticed.overlaps.iter().filter(|overlap| !is_lost(overlap)).cloned().collect()
}

fn grown(uses: &[super::gauges::Use], builds: u64) -> Vec<String> {
    let mut grown = Vec::new();
    for used in uses.iter().filter(|used| used.is_judged()) {
        if !used.name.starts_with("redis") {
            grown.extend(used.fault());
        } else if used.late.memory_kb > used.early.memory_kb + REDIS_KB + REDIS_KB_PER_BUILD * builds {
            grown
                .push(format!("{}: {} KB, then {} KB", used.name, used.early.memory_kb, used.late.memory_kb));
        }
    }
    grown
}

/// What Redis says about all builds in the end.
#[derive(Default)]
struct Stored {
    lines: u64,
    faults: Vec<String>,
    line_faults: Vec<String>,
    problems: Vec<String>,
}

impl Stored {
    async fn read(queue: &Queue, ends: &BTreeMap<BuildId, Ended>) -> Self {
        let mut stored = Self::default();
        for (id, ended) in ends {
            let build = wait_for("Redis to answer", SETTLED, async || queue.build(*id).await.ok()).await;
            let Some(build) = build else {
                stored.faults.push(format!("{id} ({}) is unknown in the end", ended.wish.tag()));
                continue;
            };
            if build.state != ended.state {
                let (was, is) = (ended.state, build.state);
                stored.faults.push(format!("{id} ({}) ended as {was}, and is {is}", ended.wish.tag()));
            }
            if ended.wish.how == How::IsCancelled || build.state == BuildState::Cancelled {
                continue;
            }
            let run = build.log_run.unwrap_or(build.attempt);
            let reading = read(&log(queue, *id, run).await, ended.wish.whole());
            stored.lines += reading.lines as u64;
            for fault in reading.faults {
                stored
                    .line_faults
                    .push(format!("stored log of {id} ({}), run {run}: {fault}", ended.wish.tag()));
            }
        }
        stored.problems = queue.check(ENTRIES).await.unwrap().problems;
        stored
    }
}

async fn log(queue: &Queue, id: BuildId, run: u32) -> Vec<String> {
    let (mut after, mut lines) = ("0".to_owned(), Vec::new());
    loop {
        let page = wait_for("a log", SETTLED, async || queue.read_log(id, run, &after, 500).await.ok()).await;
        let Some(last) = page.entries.last() else { return lines };
        after.clone_from(&last.id);
        lines.extend(page.entries.into_iter().map(|entry| entry.text));
    }
}
