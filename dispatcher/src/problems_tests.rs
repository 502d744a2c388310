use fairlane_common::queue::{Crowd, Drained, Overdue, Waiting};

use super::*;

/// What the tests change of a queue without problems.
#[derive(Default)]
struct Scene {
    snapshot: Snapshot,
    pressure: Pressure,
    samples: Vec<Sample>,
    workers: Vec<WorkerView>,
    nodes: Vec<NodeView>,
    aside: Vec<Aside>,
    lost: Vec<Act>,
    durability: Option<Durability>,
    memory: Option<Memory>,
    archive: ArchiveState,
}

const NOW: u64 = 100 * 60_000;

impl Scene {
    fn new() -> Self {
        let snapshot = Snapshot { now: NOW, workers: 2, taking: 2, slots: 10, ..Snapshot::default() };
        Self { snapshot, ..Self::default() }
    }

    fn problems(&self) -> Vec<CurrentProblem> {
        Facts {
            snapshot: &self.snapshot,
            pressure: &self.pressure,
            samples: &self.samples,
            workers: &self.workers,
            nodes: &self.nodes,
            aside: &self.aside,
            lost: &self.lost,
            durability: self.durability,
            memory: self.memory,
            archive: &self.archive,
        }
        .problems()
    }

    /// The kinds of the problems.
    fn kinds(&self) -> Vec<ProblemKind> {
        self.problems().iter().map(|problem| problem.kind).collect()
    }

    /// The sentence of the only problem.
    fn only(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].sentence.clone()
    }
}

fn lane() -> fairlane_common::Lane {
    "github.com/o/popular".parse().unwrap()
}

fn worker(id: &str) -> WorkerView {
    WorkerView {
        id: id.parse().unwrap(),
        host: "h".to_owned(),
        version: "1".to_owned(),
        place: "process:h".to_owned(),
        slots: 2,
        running: 0,
        draining: false,
        drained: None,
        paused: None,
        avoided: None,
        nodes: 1,
        seen: NOW,
    }
}

fn lost(id: &str, minutes: u64) -> Act {
    let text = str::to_owned;
    let (by, act) = (text("fairlane"), text("worker lost"));
    Act { at: NOW - minutes * 60_000, by, act, what: text(id), detail: String::new(), reason: String::new() }
}

/// Samples of people and of running builds, one a minute, the last one at `NOW`.
fn minutes(samples: &[(f64, f64)]) -> Vec<Sample> {
    let waiting = Waiting { slot: 3.0, ..Waiting::default() };
    let at = |place: usize| NOW - 60_000 * (samples.len() - 1 - place) as u64;
    let sample = |(place, (people, running)): (usize, &(f64, f64))| Sample {
        at: at(place),
        people: *people,
        running: *running,
        waiting,
        ..Sample::default()
    };
    samples.iter().enumerate().map(sample).collect()
}

#[test]
fn a_queue_without_problems_has_none() {
    assert_eq!(Scene::new().problems(), []);
}

#[test]
fn the_incidents_signature_takes_two_minutes_and_a_cause() {
    let mut scene = Scene::new();
    scene.samples = minutes(&[(12.0, 10.0), (80.0, 10.0), (140.0, 10.0)]);
    scene.pressure.startable = 3;
    scene.snapshot.leased = 10;
    assert_eq!(scene.kinds(), [], "many lanes share all slots");

    scene.pressure.busiest = Some((lane(), 6));
    assert_eq!(scene.kinds(), [], "the lane has 60 % of the slots, not more");
    scene.pressure.busiest = Some((lane(), 7));
    let said = "People waiting grew from 12 to 140 in 2 min, and no more builds run: github.com/o/popular has 7 of 10 slots.";
    assert_eq!(scene.only(), said);
    assert_eq!(scene.problems()[0].command.as_deref(), Some("fairlane rule limit github.com/o/popular 1"));

    (scene.pressure.busiest, scene.snapshot.leased) = (None, 9);
    assert!(scene.only().ends_with("and no more builds run, although 1 slot is free."), "{}", scene.only());

    let signature = scene;
    let but = |change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene {
            samples: signature.samples.clone(),
            pressure: signature.pressure.clone(),
            ..Scene::new()
        };
        scene.snapshot.leased = 9;
        assert_eq!(scene.kinds(), [ProblemKind::Incident]);
        change(&mut scene);
        scene.kinds()
    };
    assert_eq!(but(&|scene| scene.pressure.startable = 0), [], "nothing could start");
    assert_eq!(but(&|scene| scene.samples[0].at += 1), [], "only a minute");
    assert_eq!(but(&|scene| scene.samples[2].running = 11.0), [], "more builds run");
    assert_eq!(but(&|scene| scene.samples[2].people = 12.0), [], "no more people");
    assert_eq!(but(&|scene| scene.samples[1].waiting.slot = 0.0), [], "nothing could start a minute ago");
    assert_eq!(but(&|scene| scene.samples[0].at -= 5 * 60_000), [], "a gap");
}

#[test]
fn one_lane_has_most_people_from_twenty_people_on() {
    let mut scene = Scene::new();
    scene.snapshot.people = 20;
    scene.pressure.crowded = Some(Crowd { lane: lane(), people: 11, runs: 2, since: Some(NOW - 300_000) });
    let said = "11 of 20 people wait for github.com/o/popular, which has had 2 of 10 slots for up to 5 min.";
    assert_eq!(scene.only(), said);
    scene.pressure.crowded = Some(Crowd { lane: lane(), people: 10, runs: 0, since: None });
    assert_eq!(scene.kinds(), [], "half is not most");
    scene.snapshot.people = 19;
    scene.pressure.crowded = Some(Crowd { lane: lane(), people: 19, runs: 0, since: None });
    assert_eq!(scene.kinds(), [], "no crowd");
}

#[test]
fn a_lost_worker_is_mentioned_once_until_it_is_back() {
    let mut scene = Scene::new();
    scene.lost = vec![lost("b-1", 3), lost("b-1", 7)];
    assert_eq!(
        scene.only(),
        "Worker b-1 stopped answering 3 min ago. Its builds are taken over, or start again."
    );
    scene.workers = vec![worker("b-1")];
    assert_eq!(scene.kinds(), []);
    scene.lost = (0..9).map(|number| lost(&format!("c-{number}"), 1)).collect();
    let problems = scene.problems();
    assert_eq!((problems.len(), problems[4].sentence.as_str()), (5, "There are 5 more problems like these."));
    assert_eq!((&problems[4].link, &problems[4].command), (&None, &None), "they are of several workers");
    scene.lost.truncate(5);
    assert_eq!(
        scene.problems()[4].sentence,
        "Worker c-4 stopped answering 60 s ago. Its builds are taken over, or start again."
    );
}

#[test]
fn workers_and_nodes_say_why_they_get_no_builds() {
    let mut scene = Scene::new();
    scene.workers = vec![WorkerView { paused: Some("the cluster is full.".to_owned()), ..worker("a-1") }];
    assert_eq!(scene.only(), "Worker a-1 has paused: the cluster is full.");
    // Its host is mentioned instead.
    scene.workers[0].avoided = Some((NOW, "no engine".to_owned()));
    let node = NodeView {
        name: "a".parse().unwrap(),
        until: NOW + 28 * 60_000,
        since: NOW,
        cluster: HOSTS.to_owned(),
        reason: "no engine.".to_owned(),
        lanes: 3,
        probed: None,
    };
    scene.nodes = vec![node];
    let said =
        "Host a gets no builds for another 28 min, because builds of 3 repositories failed there: no engine.";
    assert_eq!(scene.only(), said);
    assert_eq!(scene.problems()[0].command.as_deref(), Some("fairlane nodes clear a"));

    (scene.snapshot.taking, scene.snapshot.paused_why) = (0, Some("the cluster is full".to_owned()));
    let worst = &scene.problems()[0];
    assert_eq!((worst.kind, worst.severity), (ProblemKind::NobodyTakes, Severity::Bad));
    assert_eq!(worst.sentence, "No worker accepts builds: the cluster is full.");
    scene.snapshot.workers = 0;
    assert_eq!(scene.kinds()[0], ProblemKind::NoWorker);
}

#[test]
fn redis_is_short_of_memory_in_three_steps_or_keeps_nothing() {
    let mut scene = Scene::new();
    let at = |used| Some(Memory { used, max: 100, ..Memory::default() });
    for (used, severity, effect) in [
        (79, None, ""),
        (80, Some(Severity::Warning), "logs of ended builds are shortened"),
        (85, Some(Severity::Bad), "new builds are refused"),
        (95, Some(Severity::Bad), "no build starts"),
    ] {
        scene.memory = at(used);
        let found = scene.problems();
        assert_eq!(found.first().map(|problem| problem.severity), severity);
        assert!(found.iter().all(|problem| problem.sentence.contains(effect)), "{found:?}");
    }
    scene.memory = None;
    scene.durability = Some(Durability { append_only: true, writes: true });
    assert_eq!(scene.kinds(), []);
    scene.durability = Some(Durability { append_only: true, writes: false });
    assert_eq!(
        scene.only(),
        "A restart of Redis would lose builds: it could not write its append-only file."
    );
}

#[test]
fn builds_that_wait_or_run_too_long_are_mentioned() {
    let mut scene = Scene::new();
    scene.pressure.oldest_startable = Some(NOW - 900_000);
    assert_eq!(scene.kinds(), []);
    scene.pressure.oldest_startable = Some(NOW - 901_000);
    assert_eq!(scene.only(), "A build has waited for a slot for 15 min, and nothing else holds it back.");
    scene.pressure.oldest_startable = None;
    let id = fairlane_common::BuildId::new();
    scene.pressure.overdue = vec![Overdue { id, lane: lane(), ran_ms: 31 * 60_000, expected_ms: 8 * 60_000 }];
    assert_eq!(scene.only(), "A build of github.com/o/popular has run for 31 min; 8 min was expected.");
    (scene.snapshot.orphaned, scene.snapshot.lanes_held) = (1, 2);
    scene.aside = vec![Aside { what: "build:x".to_owned(), at: None, why: "no lane".to_owned() }];
    let said: Vec<String> = scene.problems().into_iter().map(|problem| problem.sentence).collect();
    assert_eq!(said[0], "1 build has lost its worker and waits for another one.");
    assert_eq!(said[2], "build:x was set aside, because it cannot be processed: no lane.");
    assert_eq!(said[3], "2 lanes with waiting builds are held by rules.");
}

/// A queue with each problem, but those of no worker that accepts builds.
fn troubled() -> Scene {
    let mut scene = Scene::new();
    scene.samples = minutes(&[(12.0, 9.0), (80.0, 9.0), (140.0, 9.0)]);
    (scene.pressure.startable, scene.pressure.oldest_startable) = (3, Some(NOW - 3_600_000));
    scene.pressure.crowded = Some(Crowd { lane: lane(), people: 30, runs: 0, since: None });
    let id = "0190f7a0-0000-7000-8000-000000000001".parse().unwrap();
    scene.pressure.overdue = vec![Overdue { id, lane: lane(), ran_ms: 3_600_000, expected_ms: 60_000 }];
    (scene.snapshot.people, scene.snapshot.leased) = (40, 8);
    (scene.snapshot.orphaned, scene.snapshot.lanes_held) = (1, 1);
    scene.memory = Some(Memory { used: 80, max: 100, ..Memory::default() });
    scene.durability = Some(Durability { append_only: false, writes: true });
    scene.lost = vec![lost("gone-1", 3)];
    let drained = Some(Drained { at: NOW - 120_000, by: "ann".to_owned() });
    let paused = Some("the cluster is full".to_owned());
    scene.workers = vec![WorkerView { drained, ..worker("d-1") }, WorkerView { paused, ..worker("p-1") }];
    scene.nodes = vec![NodeView {
        name: "n-1".parse().unwrap(),
        until: NOW + 60_000,
        since: NOW,
        cluster: "main".to_owned(),
        reason: "disk full".to_owned(),
        lanes: 1,
        probed: None,
    }];
    scene.aside = vec![Aside { what: "rule:x".to_owned(), at: None, why: "no JSON".to_owned() }];
    scene
}

#[test]
fn each_problem_has_its_place_its_sentence_its_view_and_its_command() {
    let said: Vec<String> = troubled()
        .problems()
        .iter()
        .map(|one| {
            let [link, command] = [&one.link, &one.command].map(|text| text.as_deref().unwrap_or("-"));
            format!("{:?}: {} {link} {command}", one.severity, one.sentence)
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_queue_that_is_full_with_few_builds_is_no_incident() {
    let mut scene = Scene::new();
    scene.samples = minutes(&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]);
    (scene.pressure.startable, scene.pressure.busiest) = (3, Some((lane(), 1)));
    (scene.snapshot.slots, scene.snapshot.leased) = (1, 1);
    assert_eq!(scene.kinds(), [], "one build has the only slot");
    // A build that has lost its worker has its slot.
    (scene.snapshot.slots, scene.snapshot.orphaned, scene.pressure.busiest) = (2, 1, None);
    assert_eq!(scene.kinds(), [ProblemKind::Orphans]);
}

#[test]
fn while_all_workers_have_paused_it_is_said_once() {
    let mut scene = Scene::new();
    let paused = Some("the cluster is full".to_owned());
    scene.workers = vec![WorkerView { paused: paused.clone(), ..worker("a-1") }];
    (scene.snapshot.taking, scene.snapshot.paused_why) = (0, paused);
    assert_eq!(scene.kinds(), [ProblemKind::NobodyTakes]);
    let only = scene.problems().remove(0);
    assert_eq!(
        (only.link.as_deref(), only.command.as_deref()),
        (Some("#/workers"), Some("fairlane workers"))
    );
    scene.snapshot.workers = 0;
    let only = scene.problems().remove(0);
    assert_eq!(only.sentence, "No worker is running, so nothing is built.");
    assert_eq!(
        (only.link.as_deref(), only.command.as_deref()),
        (Some("#/workers"), Some("fairlane workers"))
    );
}

/// The thresholds are in `problems.rs`; alerts and docs repeat them.
#[test]
fn alerts_and_docs_have_the_same_thresholds() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let (alerts, docs) = (read("deploy/monitoring/alerts.yaml"), read("docs/page.md"));
    for expression in [
        format!("fairlane:crowded_lane:ratio > {MOST_PEOPLE} and fairlane:people:max >= {CROWD}"),
        format!("fairlane:busiest_lane:ratio[1m]) > {MOST_SLOTS})"),
        format!("max(fairlane_oldest_startable_wait_seconds) > {}", LONG_WAIT_MS / 1000),
        format!("fairlane:redis_memory:ratio > 0.{MEMORY_FULL_PERCENT}"),
        format!("increase(fairlane_leases_lost_total[{}m])", LOST_MS / 60_000),
    ] {
        assert!(alerts.contains(&expression), "no {expression} in alerts.yaml");
    }
    for words in [
        format!("at least {CROWD} people wait, more than half of them for one lane"),
        format!("more than {:.0} % of the slots", MOST_SLOTS * 100.0),
        format!("for {} min", GROWS_MS / 60_000),
        format!("longer than {} min", LONG_WAIT_MS / 60_000),
        format!("in the last {} min", LOST_MS / 60_000),
        format!("{MEMORY_PRUNE_PERCENT}, {MEMORY_FULL_PERCENT} or {MEMORY_PAUSE_PERCENT} %"),
    ] {
        assert!(docs.contains(&words), "no '{words}' in docs/page.md");
    }
    let document: serde_json::Value = serde_json::from_str(&crate::openapi()).unwrap();
    let words = document["components"]["schemas"]["ProblemKind"]["enum"].as_array().unwrap();
    assert!(words.len() >= 10, "{words:?}");
    for word in words {
        assert!(
            docs.contains(&format!("| `{}` |", word.as_str().unwrap())),
            "docs/page.md does not list {word}"
        );
    }
}
