//! What a rolling upgrade cost, for anybody to read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use fairlane_common::queue::ChangeFilter;
use fairlane_common::{BuildId, BuildState, Lane};
use fairlane_testkit::redis_url_for;

use super::fleet::{Fleet, Kind, Replaced};
use super::visitor::Visit;
use crate::numbered::{Numbered, stored_log};
use crate::setup::{fairlane, is_pod, run};

#[derive(Default)]
pub(super) struct Report {
    pub(super) replaced: Vec<Replaced>,
    pub(super) took: Duration,
    builds: usize,
    succeeded: usize,
    pods: usize,
    handed_over: usize,
    logs: Numbered,
    streams: usize,
    streamed: Numbered,
    breaks: usize,
    longest_away: Duration,
    /// What should not have happened, one sentence each.
    pub(super) problems: Vec<String>,
}

impl Report {
    /// Adds a problem unless both numbers are the same.
    fn expect(&mut self, what: &str, found: usize, expected: usize) {
        if found != expected {
            self.problems.push(format!("{what}: {found} instead of {expected}"));
        }
    }

    /// Looks at every build, at its runs and at its log.
    pub(super) async fn builds(&mut self, fleet: &Fleet, ids: &[BuildId]) {
        let builds = fleet.queue.load(ids).await.unwrap().builds;
        self.builds = ids.len();
        self.succeeded = builds.iter().filter(|build| build.state == BuildState::Succeeded).count();
        self.expect("builds that succeeded", self.succeeded, ids.len());
        let more = builds.iter().filter(|build| build.attempt != 1).count();
        self.expect("builds with more than one attempt", more, 0);

        let runs = std::fs::read_to_string(fleet.home.join("runs")).unwrap();
        let mut per_build: BTreeMap<&str, usize> = BTreeMap::new();
        for reference in runs.lines() {
            *per_build.entry(reference).or_default() += 1;
        }
        self.expect("builds that ran", per_build.len(), ids.len());
        let again = per_build.values().filter(|count| **count > 1).count();
        self.expect("builds that ran more than once", again, 0);
        self.pods = fleet.cluster.pods_created().len();
        self.expect("pods created", self.pods, builds.iter().filter(|build| is_pod(build)).count());
        for build in &builds {
            self.logs.add(&stored_log(&fleet.queue, build.id, build.attempt).await);
        }
        let lanes: BTreeSet<&Lane> = builds.iter().map(|build| &build.lane).collect();
        let mut permits = 0;
        for lane in lanes {
            permits += fleet.queue.lane(lane).await.unwrap().permits;
        }
        self.expect("permits in use", usize::try_from(permits).unwrap(), 0);
        self.numbered("logs");
    }

    /// Counts the changes of state: each build ends once.
    pub(super) async fn changes(&mut self, fleet: &Fleet, ids: &[BuildId]) {
        let mut ends: BTreeMap<BuildId, usize> = ids.iter().map(|id| (*id, 0)).collect();
        let mut filter = ChangeFilter::default();
        loop {
            let page = fleet.queue.changes(&filter).await.unwrap();
            for change in page.items {
                self.handed_over += usize::from(change.state == BuildState::Orphaned);
                *ends.entry(change.build).or_default() += usize::from(change.state.is_ended());
            }
            filter.cursor = page.cursor;
            if filter.cursor.is_none() {
                break;
            }
        }
        let wrong = ends.values().filter(|count| **count != 1).count();
        self.expect("builds that did not end exactly once", wrong, 0);
    }

    /// Looks at what the streams delivered.
    pub(super) fn visits(&mut self, visits: &[Visit]) {
        self.streams = visits.len();
        let good = |visit: &&Visit| visit.ends == [Some(BuildState::Succeeded)];
        self.expect("streams that ended with their build", visits.iter().filter(good).count(), visits.len());
        for visit in visits {
            self.streamed.add(&visit.lines);
            self.breaks += visit.breaks;
            self.longest_away = self.longest_away.max(visit.longest_away);
            self.problems.extend(visit.unexpected.iter().map(|what| format!("a stream got {what}")));
        }
        self.numbered("streams");
    }

    fn numbered(&mut self, which: &str) {
        let of = if which == "logs" { &self.logs } else { &self.streamed };
        let (lost, doubled, disordered, notes) = (of.lost, of.doubled, of.disordered, of.notes.clone());
        self.expect(&format!("lines lost in {which}"), lost, 0);
        self.expect(&format!("lines repeated in {which}"), doubled, 0);
        self.expect(&format!("lines out of order in {which}"), disordered, 0);
        self.problems.extend(notes.iter().map(|note| format!("unexpected line in {which}: {note}")));
    }

    /// Looks for anything left over, and asks the doctor.
    pub(super) async fn afterwards(&mut self, fleet: &Fleet) {
        self.problems.extend(fleet.queue.check(10_000).await.unwrap().problems);
        self.problems
            .extend(fleet.redis.denied().await.into_iter().map(|what| format!("no right to {what}")));
        let url = redis_url_for("reader", &fleet.redis.url());
        let doctor = run(fairlane(&fleet.home, ["doctor", "--redis-url", &url])).await;
        let errors = doctor.data.lines().filter(|line| line.starts_with("error"));
        self.problems.extend(errors.map(|line| format!("the doctor: {line}")));
        self.expect("exit code of the doctor", usize::try_from(doctor.code).unwrap(), 0);
    }

    fn of_kind(&self, kind: Kind) -> (usize, Duration, usize, usize) {
        let of = || self.replaced.iter().filter(move |replaced| replaced.kind == kind);
        let loads = || of().map(|replaced| replaced.load);
        let longest = of().map(|replaced| replaced.took).max().unwrap_or_default();
        (of().count(), longest, loads().min().unwrap_or_default(), loads().max().unwrap_or_default())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, said: String| writeln!(f, "  {what:<28}{said}");
        row("took", format!("{:.0} s", self.took.as_secs_f64()))?;
        for (kind, what, had) in [
            (Kind::Dispatcher, "dispatchers replaced", "open streams"),
            (Kind::ProcessWorker, "process workers replaced", "running builds"),
            (Kind::KubernetesWorker, "Kubernetes workers replaced", "running builds"),
        ] {
            let (count, longest, least, most) = self.of_kind(kind);
            let longest = longest.as_secs_f64();
            row(what, format!("{count}, each with {least} to {most} {had}; ended within {longest:.2} s"))?;
        }
        row("builds", format!("{}, of which {} succeeded", self.builds, self.succeeded))?;
        row(
            "pods",
            format!("{} created, {} times handed over to another worker", self.pods, self.handed_over),
        )?;
        for (what, of) in [("lines of logs", &self.logs), ("lines in streams", &self.streamed)] {
            let Numbered { lines, lost, doubled, disordered, .. } = of;
            row(what, format!("{lines}; {lost} lost, {doubled} repeated, {disordered} out of order"))?;
        }
        let away = self.longest_away.as_secs_f64();
        row("streams", format!("{}, resumed {} times, within {away:.1} s", self.streams, self.breaks))?;
        row("problems", self.problems.len().to_string())?;
        self.problems.iter().take(20).try_for_each(|problem| writeln!(f, "    {problem}"))
    }
}
