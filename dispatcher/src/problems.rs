//! What is wrong with the queue now: the sentences that the page, `fairlane top` and `fairlane queue` show.
//!
//! The thresholds are those of the alerts, where there is an alert; `docs/page.md` lists both.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::Queue;
use fairlane_common::id::HOSTS;
use fairlane_common::limits::{MEMORY_FULL_PERCENT, MEMORY_PAUSE_PERCENT, MEMORY_PRUNE_PERCENT};
use fairlane_common::queue::inspect::{NodeView, Snapshot, WorkerView};
use fairlane_common::queue::memory::Memory;
use fairlane_common::queue::{
    Act, ActFilter, ArchiveState, Aside, Durability, Pressure, Sample, Since, many, span,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::{CurrentProblem, ProblemKind, Severity};
use crate::archive;
use crate::history::HistoryCache;
use crate::outlook::OutlookCache;

/// How long the problems are reused.
const HOLDS: Duration = Duration::from_secs(1);
/// With fewer people than this, no lane is said to have most of them.
const CROWD: u64 = 20;
/// More than this share of all people is most of them.
const MOST_PEOPLE: f64 = 0.5;
/// More than this share of all slots is most of them.
const MOST_SLOTS: f64 = 0.6;
/// How long people must increase, and running builds not, to be the incident's signature.
const GROWS_MS: u64 = 2 * 60_000;
/// A build that waits longer than this for nothing but a slot waits long.
const LONG_WAIT_MS: u64 = 15 * 60_000;
/// How long a lost worker is mentioned.
const LOST_MS: u64 = 10 * 60_000;
/// Most problems of one kind that are said one by one.
const OF_A_KIND: usize = 5;

/// The problems of a moment ago.
#[derive(Debug, Default)]
pub(crate) struct ProblemsCache(Mutex<Option<(Instant, Arc<Vec<CurrentProblem>>)>>);

impl ProblemsCache {
    /// The current problems, the worst first. Callers at the same time share one answer.
    pub(crate) async fn problems(
        &self,
        queue: &Queue,
        outlook: &OutlookCache,
        history: &HistoryCache,
    ) -> fairlane_common::Result<Arc<Vec<CurrentProblem>>> {
        let mut latest = self.0.lock().await;
        if let Some((at, problems)) = &*latest
            && at.elapsed() < HOLDS
        {
            return Ok(Arc::clone(problems));
        }
        let lost = ActFilter {
            since: Some(Since::Ago(Duration::from_millis(LOST_MS))),
            act: Some("worker lost".to_owned()),
            ..ActFilter::default()
        };
        let (outlook, (_, samples), workers, nodes, aside, lost, durability, memory, archive) = tokio::try_join!(
            outlook.outlook(),
            history.samples(),
            queue.workers(),
            queue.nodes(),
            queue.aside(),
            queue.acts(&lost),
            queue.durability(),
            async { Ok(queue.memory().await) },
            queue.archive_state(),
        )?;
        let facts = Facts {
            snapshot: outlook.snapshot(),
            pressure: &outlook.pressure(),
            samples: &samples,
            workers: &workers,
            nodes: &nodes,
            aside: &aside,
            lost: &lost.items,
            durability,
            memory,
            archive: &archive,
        };
        let problems = Arc::new(facts.problems());
        *latest = Some((Instant::now(), Arc::clone(&problems)));
        Ok(problems)
    }
}

/// What the sentences are about.
struct Facts<'a> {
    snapshot: &'a Snapshot,
    pressure: &'a Pressure,
    /// Oldest first.
    samples: &'a [Sample],
    workers: &'a [WorkerView],
    nodes: &'a [NodeView],
    aside: &'a [Aside],
    /// Workers that were lost lately.
    lost: &'a [Act],
    durability: Option<Durability>,
    memory: Option<Memory>,
    archive: &'a ArchiveState,
}

fn problem(kind: ProblemKind, severity: Severity, sentence: String) -> CurrentProblem {
    CurrentProblem { kind, severity, sentence, link: None, command: None }
}

impl CurrentProblem {
    fn link(mut self, view: impl Display) -> Self {
        self.link = Some(format!("#/{view}"));
        self
    }

    fn command(mut self, command: impl Display) -> Self {
        self.command = Some(format!("fairlane {command}"));
        self
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of people and slots are small")]
fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

impl Facts<'_> {
    fn problems(&self) -> Vec<CurrentProblem> {
        let mut all = Vec::new();
        all.extend(self.workers_in_general());
        all.extend(self.incident());
        all.extend(self.redis());
        all.extend(self.people());
        all.extend(few(self.lost_workers()));
        all.extend(few(self.drained_workers()));
        all.extend(few(self.paused_workers()));
        all.extend(few(self.avoided()));
        all.extend(self.builds());
        all.extend(few(self.set_aside()));
        let archive = archive::problems(self.archive, self.snapshot.now).into_iter();
        all.extend(archive.map(|said| problem(ProblemKind::LogArchive, Severity::Warning, said)));
        // Stable: within a severity, the order above stays.
        all.sort_by_key(|problem| problem.severity);
        all
    }

    fn workers_in_general(&self) -> Option<CurrentProblem> {
        let say = |kind, sentence| problem(kind, Severity::Bad, sentence).link("workers");
        if self.snapshot.workers == 0 {
            let sentence = "No worker is running, so nothing is built.".to_owned();
            return Some(say(ProblemKind::NoWorker, sentence).command("workers"));
        }
        let why = self.snapshot.nobody_takes()?;
        let sentence = format!("No worker accepts builds: {}.", why.trim_end_matches('.'));
        Some(say(ProblemKind::NobodyTakes, sentence).command("workers"))
    }

    fn idle(&self) -> u64 {
        let busy = self.snapshot.leased + self.snapshot.orphaned;
        self.snapshot.slots.saturating_sub(busy)
    }

    /// The incident's signature: more and more people wait, no more builds run, and builds could start; either slots are
    /// free, or one lane has most of them.
    fn incident(&self) -> Option<CurrentProblem> {
        let last = self.samples.last()?;
        let before = |sample: &&Sample| sample.at + GROWS_MS <= last.at;
        let first = self.samples.iter().rev().find(before).filter(|first| {
            // A gap says nothing about the time in it.
            first.at + 2 * GROWS_MS > last.at
        })?;
        let since = self.samples.iter().filter(|sample| sample.at > first.at);
        let grows = last.people > first.people && last.running <= first.running;
        if !grows || self.pressure.startable == 0 || !since.clone().all(|sample| sample.waiting.slot > 0.0) {
            return None;
        }
        let slots = self.snapshot.slots;
        let busiest = self.pressure.busiest.as_ref();
        let busiest = busiest.filter(|(_, runs)| *runs > 1 && share(*runs, slots) > MOST_SLOTS);
        let growth = format!(
            "People waiting grew from {:.0} to {:.0} in {}, and no more builds run",
            first.people,
            last.people,
            span(last.at - first.at)
        );
        let say = |sentence| problem(ProblemKind::Incident, Severity::Bad, sentence);
        match (busiest, self.idle()) {
            (Some((lane, runs)), _) => Some(
                say(format!("{growth}: {lane} has {runs} of {}.", many(slots, "slot")))
                    .link(format_args!("lane/{lane}"))
                    .command(format_args!("rule limit {lane} 1")),
            ),
            (None, 0) => None,
            (None, idle) => {
                let are = if idle == 1 { "is" } else { "are" };
                let sentence = format!("{growth}, although {} {are} free.", many(idle, "slot"));
                Some(say(sentence).link("workers").command("workers"))
            }
        }
    }

    fn redis(&self) -> Vec<CurrentProblem> {
        let mut said = Vec::new();
        let percent = self.memory.map_or(0, Memory::percent);
        let (severity, effect) = match percent {
            MEMORY_PAUSE_PERCENT.. => (Severity::Bad, "no build starts"),
            MEMORY_FULL_PERCENT.. => (Severity::Bad, "new builds are refused"),
            _ => (Severity::Warning, "logs of ended builds are shortened"),
        };
        if percent >= MEMORY_PRUNE_PERCENT {
            let sentence = format!("Redis uses {percent} % of its memory: {effect}. Raise maxmemory.");
            said.push(problem(ProblemKind::RedisMemory, severity, sentence).command("logs prune"));
        }
        let why = self.durability.and_then(|durability| match durability {
            Durability { append_only: false, .. } => Some("it has no append-only file"),
            Durability { writes: false, .. } => Some("it could not write its append-only file"),
            Durability { .. } => None,
        });
        if let Some(why) = why {
            let sentence = format!("A restart of Redis would lose builds: {why}.");
            let found = problem(ProblemKind::RedisAppendOnly, Severity::Warning, sentence);
            said.push(found.command("doctor"));
        }
        said
    }

    fn people(&self) -> Vec<CurrentProblem> {
        let mut said = Vec::new();
        let waited = self.pressure.oldest_startable.map(|asked| self.snapshot.now.saturating_sub(asked));
        if let Some(waited) = waited.filter(|waited| *waited > LONG_WAIT_MS) {
            let sentence = format!(
                "A build has waited for a slot for {}, and nothing else holds it back.",
                span(waited)
            );
            let found = problem(ProblemKind::LongWait, Severity::Warning, sentence);
            said.push(found.link("builds?state=queued").command("queue"));
        }
        let people = self.snapshot.people;
        if let Some(lane) = &self.pressure.crowded
            && people >= CROWD
            && share(lane.people, people) > MOST_PEOPLE
        {
            let runs = match lane.since {
                Some(since) => format!(
                    "which has had {} of {} for up to {}",
                    lane.runs,
                    many(self.snapshot.slots, "slot"),
                    span(self.snapshot.now.saturating_sub(since))
                ),
                None => "of which nothing runs".to_owned(),
            };
            let sentence = format!("{} of {people} people wait for {}, {runs}.", lane.people, lane.lane);
            let found = problem(ProblemKind::OneLaneHasMostPeople, Severity::Warning, sentence);
            said.push(
                found.link(format_args!("lane/{}", lane.lane)).command(format_args!("lanes {}", lane.lane)),
            );
        }
        said
    }

    fn lost_workers(&self) -> Vec<CurrentProblem> {
        let mut ids: Vec<&str> = self.workers.iter().map(|worker| worker.id.as_str()).collect();
        let mut said = Vec::new();
        for act in self.lost {
            // Back, or lost before.
            if ids.contains(&act.what.as_str()) {
                continue;
            }
            ids.push(&act.what);
            let sentence = format!(
                "Worker {} stopped answering {} ago. Its builds are taken over, or start again.",
                act.what,
                span(self.snapshot.now.saturating_sub(act.at))
            );
            let found = problem(ProblemKind::WorkerLost, Severity::Warning, sentence);
            said.push(found.link("workers").command("workers"));
        }
        said
    }

    fn drained_workers(&self) -> Vec<CurrentProblem> {
        let say = |worker: &WorkerView| {
            let drained = worker.drained.as_ref()?;
            let ago = span(self.snapshot.now.saturating_sub(drained.at));
            let sentence = format!("Worker {} was drained by {} {ago} ago.", worker.id, drained.by);
            let found = problem(ProblemKind::WorkerDrained, Severity::Note, sentence);
            Some(found.link("workers").command(format_args!("drain {} --undo", worker.id)))
        };
        self.workers.iter().filter_map(say).collect()
    }

    fn paused_workers(&self) -> Vec<CurrentProblem> {
        let say = |worker: &WorkerView| {
            // An avoided host is mentioned for itself, and one pause of all of them once.
            let is_alone = worker.avoided.is_none() && self.snapshot.taking > 0;
            let why = worker.paused.as_ref().filter(|_| is_alone)?;
            let sentence = format!("Worker {} has paused: {}.", worker.id, why.trim_end_matches('.'));
            let found = problem(ProblemKind::WorkerPaused, Severity::Warning, sentence);
            Some(found.link("workers").command("workers"))
        };
        self.workers.iter().filter_map(say).collect()
    }

    fn avoided(&self) -> Vec<CurrentProblem> {
        let say = |node: &NodeView| {
            let what = if node.cluster == HOSTS { "Host" } else { "Node" };
            let lanes = if node.lanes == 1 {
                "a repository".to_owned()
            } else {
                format!("{} repositories", node.lanes)
            };
            let sentence = format!(
                "{what} {} gets no builds for another {}, because builds of {lanes} failed there: {}.",
                node.name,
                span(node.until.saturating_sub(self.snapshot.now)),
                node.reason.trim_end_matches('.')
            );
            let found = problem(ProblemKind::NodeAvoided, Severity::Warning, sentence);
            found.link("workers").command(format_args!("nodes clear {}", node.name))
        };
        self.nodes.iter().map(say).collect()
    }

    fn builds(&self) -> Vec<CurrentProblem> {
        let mut said = Vec::new();
        let orphans = self.snapshot.orphaned;
        if orphans > 0 {
            let wait = if orphans == 1 {
                "has lost its worker and waits"
            } else {
                "have lost their workers and wait"
            };
            let sentence = format!("{} {wait} for another one.", many(orphans, "build"));
            let found = problem(ProblemKind::Orphans, Severity::Warning, sentence);
            said.push(found.link("builds?state=orphaned").command("queue --builds --state orphaned"));
        }
        let overdue = self.pressure.overdue.iter().map(|run| {
            let [ran, expected] = [run.ran_ms, run.expected_ms].map(span);
            let sentence = format!("A build of {} has run for {ran}; {expected} was expected.", run.lane);
            let found = problem(ProblemKind::Overdue, Severity::Warning, sentence);
            found.link(format_args!("build/{}", run.id)).command(format_args!("why {}", run.id))
        });
        said.extend(few(overdue.collect()));
        let held = self.snapshot.lanes_held;
        if held > 0 {
            let are = if held == 1 { "is" } else { "are" };
            let sentence = format!("{} with waiting builds {are} held by rules.", many(held, "lane"));
            said.push(
                problem(ProblemKind::LanesHeld, Severity::Note, sentence).link("rules").command("rule list"),
            );
        }
        said
    }

    fn set_aside(&self) -> Vec<CurrentProblem> {
        let say = |aside: &Aside| {
            let sentence = format!(
                "{} was set aside, because it cannot be processed: {}.",
                aside.what,
                aside.why.trim_end_matches('.')
            );
            problem(ProblemKind::SetAside, Severity::Warning, sentence).command("doctor")
        };
        self.aside.iter().map(say).collect()
    }
}

/// The first of many, and how many more there are.
fn few(mut all: Vec<CurrentProblem>) -> Vec<CurrentProblem> {
    if all.len() > OF_A_KIND {
        let more = all.split_off(OF_A_KIND - 1);
        let mut last = more[0].clone();
        last.sentence = format!("There are {} more problems like these.", more.len());
        // These are of one of them.
        (last.link, last.command) = (None, None);
        all.push(last);
    }
    all
}

#[cfg(test)]
#[path = "problems_tests.rs"]
mod tests;
