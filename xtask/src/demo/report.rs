//! The demo's output while it runs, and the table at the end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::fairlane::Fairlane;
use super::repositories::{Kind, Repository};
use super::watch::{Audience, Watchers};

/// How often the builds are polled.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a summary line is printed.
const SUM_UP_EVERY: Duration = Duration::from_secs(10);
/// Time limit of the demo.
const DEMO_LIMIT: Duration = Duration::from_secs(230);

/// Log lines shown at each poll, and columns of them.
const LOG_LINES_MAX: usize = 4;
const LOG_COLUMNS_MAX: usize = 100;

/// A requested build, and what is known about it.
pub(crate) struct Demanded {
    name: &'static str,
    kind: Kind,
    number: usize,
    /// Its id.
    pub(crate) id: String,
    state: String,
    why: String,
    /// The build as the dispatcher last showed it.
    shown: Value,
    /// The largest number of people counted for it.
    people_most: u64,
}

impl Demanded {
    /// A newly requested build, of the repository's commit with this number.
    pub(crate) fn new(repository: &Repository, number: usize, id: String) -> Self {
        Self {
            name: repository.name,
            kind: repository.kind,
            number,
            id,
            state: "queued".to_owned(),
            why: String::new(),
            shown: Value::Null,
            people_most: 0,
        }
    }

    /// Its name for people.
    pub(crate) fn title(&self) -> String {
        if self.kind == Kind::Slow {
            format!("{} (commit {})", self.name, self.number)
        } else {
            self.name.to_owned()
        }
    }

    /// Time from the request to the start of its run, by the queue's clock.
    fn waited(&self) -> Option<Duration> {
        self.between("asked_ms", "claimed_ms")
    }

    /// How long its run took, by the queue's clock.
    fn took(&self) -> Option<Duration> {
        self.between("claimed_ms", "ended_ms")
    }

    fn between(&self, from: &str, to: &str) -> Option<Duration> {
        let millis = |name: &str| self.shown[name].as_u64();
        Some(Duration::from_millis(millis(to)?.saturating_sub(millis(from)?)))
    }

    fn is_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }

    /// Takes what the dispatcher shows, and returns a line to print if something has changed.
    fn update(&mut self, shown: Value) -> Option<String> {
        let state = shown["state"].as_str().unwrap_or("unknown").to_owned();
        let why = shown["why"].as_str().unwrap_or_default().to_owned();
        self.shown = shown;
        self.people_most = self.people_most.max(self.shown["people"].as_u64().unwrap_or(0));
        if state == self.state {
            let is_new =
                self.kind == Kind::Slow && state == "queued" && !why.is_empty() && !alike(&why, &self.why);
            self.why = why;
            return is_new.then(|| format!("{:<10} {}: {}", "waits", self.title(), self.why));
        }
        self.state.clone_from(&state);
        let reason = self.shown["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(format!("{state:<10} {}{reason}", self.title()))
    }
}

/// Shows what happens until all builds have ended.
pub(crate) fn follow(
    fairlane: &Fairlane,
    watchers: &Watchers,
    builds: &mut [Demanded],
    start: Instant,
) -> Result<()> {
    let mut summed_up = Instant::now();
    while !builds.iter().all(Demanded::is_ended) {
        if start.elapsed() > DEMO_LIMIT {
            bail!(
                "not all builds have ended after {DEMO_LIMIT:?}; the log is in {}",
                fairlane.log().display()
            );
        }
        for build in builds.iter_mut().filter(|build| !build.is_ended()) {
            let shown = fairlane.build(&build.id)?;
            if let Some(line) = build.update(shown) {
                println!("{:>6.1} s  {line}", start.elapsed().as_secs_f64());
            }
        }
        show_log(&watchers.fresh(), start);
        if summed_up.elapsed() > SUM_UP_EVERY {
            summed_up = Instant::now();
            println!("{:>6.1} s  {}", start.elapsed().as_secs_f64(), sum_up(builds));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Shows a part of what the first watcher sees: repo2docker's plan of an image alone has 120 lines.
fn show_log(lines: &[String], start: Instant) {
    let mut told = lines.iter().filter(|line| !line.trim().is_empty());
    for line in told.by_ref().take(LOG_LINES_MAX) {
        let line: String = line.chars().take(LOG_COLUMNS_MAX).collect();
        println!("{:>6.1} s  {:<10} {line}", start.elapsed().as_secs_f64(), "log");
    }
    match told.count() {
        0 => {}
        more => println!("{:>10}{:<10} … and {more} more lines", "", "log"),
    }
}

fn sum_up(builds: &[Demanded]) -> String {
    let count =
        |states: &[&str]| builds.iter().filter(|build| states.contains(&build.state.as_str())).count();
    let (waiting, running) = (count(&["queued"]), count(&["starting", "running", "orphaned"]));
    let slow = &builds[0];
    let people = slow.shown["people"].as_u64().filter(|_| !slow.is_ended());
    let people = people.map(|people| format!("; {people} people wait for {} on one slot", slow.title()));
    let done = builds.len() - waiting - running;
    format!("---------- {waiting} waiting, {running} running, {done} done{}", people.unwrap_or_default())
}

/// Prints each build with its wait and its outcome.
pub(crate) fn table(builds: &[Demanded]) {
    println!("\n{:<26} {:>8} {:>10} {:>10}  outcome", "build", "people", "waited", "took");
    for build in builds {
        let seconds = |time: Option<Duration>| {
            time.map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
        };
        let people = build.people_most;
        let class = build.shown["class"].as_str().map(|class| format!(" ({class})")).unwrap_or_default();
        let (title, state) = (build.title(), &build.state);
        println!(
            "{title:<26} {people:>8} {:>10} {:>10}  {state}{class}",
            seconds(build.waited()),
            seconds(build.took())
        );
    }
    println!();
}

/// What did not go as expected.
pub(crate) fn judge(builds: &[Demanded], audience: &Audience) -> Vec<String> {
    let mut complaints = Vec::new();
    for build in builds {
        let expected = if build.kind == Kind::Broken { "failed" } else { "succeeded" };
        if build.state != expected {
            complaints.push(format!("{} {} instead of {expected}", build.title(), build.state));
        }
    }
    let ends = |is_slow: bool| {
        let builds = builds.iter().filter(move |build| (build.kind == Kind::Slow) == is_slow);
        builds.filter_map(|build| build.shown["ended_ms"].as_u64())
    };
    if ends(false).max() >= ends(true).min() {
        complaints.push("a small build waited for the slow one".to_owned());
    }
    let watchers = audience.lines.len();
    let people = builds[0].people_most;
    if people < watchers as u64 {
        complaints.push(format!("the queue counted at most {people} people, but {watchers} were watching"));
    }
    if audience.told != watchers {
        complaints.push(format!("{} of {watchers} watchers received the end event", audience.told));
    }
    let (least, most) = (audience.lines.iter().min(), audience.lines.iter().max());
    if least != most || most == Some(&0) {
        complaints.push(format!("watchers of one log got between {least:?} and {most:?} lines"));
    }
    complaints
}

/// Whether two sentences differ only in numbers.
fn alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    words(one) == words(other)
}
