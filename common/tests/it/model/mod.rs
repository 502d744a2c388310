//! Random histories of several workers, dispatchers and operators, with crashes, freezes, lost answers and
//! jumps of time, on a real Redis. After every step, everything is read back and checked by brute force
//! against the rules (see `invariants` and `books`).
//!
//! `FAIRLANE_MODEL_CASES` sets how many histories are tried (24 by default). In addition, half as many are
//! tried in which this release and the former one take turns.

mod books;
mod counts;
mod invariants;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::scene::Scene;
use world::World;

/// One step of a history. A number picks one of what there is, modulo its count.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A request for a build; `again` repeats the call, as after a lost answer.
    Submit { repo: u8, commit: u8, background: bool, force: bool, dispatcher: u8, again: bool },
    /// A dispatcher reports its count of watchers.
    Watch { dispatcher: u8, build: u8, count: u8 },
    /// A dispatcher's heartbeat without counts.
    BeatDispatcher { dispatcher: u8 },
    /// A worker's heartbeat. A frozen worker is one that sends none for a while.
    Beat { worker: u8 },
    /// A claim; `again` repeats the call, as after a lost answer.
    Claim { worker: u8, free: u8, again: bool },
    /// A worker reports that a run is alive, or what it waits for.
    Report { token: u8, kind: u8 },
    /// A run ends; `again` repeats the call.
    Finish { token: u8, outcome: u8, again: bool },
    /// A worker gives a build back; `again` repeats the call.
    Release { token: u8, handover: bool, again: bool },
    /// A former holder uses its old token.
    Ghost { token: u8, act: u8 },
    /// A worker dies and loses what it knows; another one starts in its place.
    Crash { worker: u8 },
    /// Somebody cancels a build.
    Cancel { build: u8 },
    /// An operator makes a background build interactive.
    Promote { build: u8 },
    /// An operator sets a rule.
    Rule { pattern: u8, kind: u8 },
    /// An operator removes a rule.
    Unrule { pattern: u8 },
    /// An operator drains a worker, or undoes it.
    Drain { worker: u8, on: bool },
    /// A worker pauses, or accepts builds again.
    Pause { worker: u8, on: bool },
    /// Redis is emptied. Workers register their runs with their next heartbeat; if `late`, only after builds
    /// may start again.
    Flush { late: bool },
    /// A worker registers runs whose holder has died.
    Sweep { worker: u8 },
    /// Somebody deletes a build's record by hand.
    Delete { build: u8 },
    /// A worker claims while a waiting build contains a word of a newer release.
    BadWord { build: u8, worker: u8 },
    /// A newer release sets a timer of an unknown kind.
    ForeignTimer,
    /// An operator begins a campaign, pauses, resumes or cancels it.
    Campaign { number: u8, kind: u8 },
    /// A dispatcher feeds the campaigns.
    Feed,
    /// Time passes, and processes reap.
    Pass { ms: u16 },
    /// Time jumps without a reap: Redis was away.
    Jump { s: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{
        BadWord, Beat, BeatDispatcher, Campaign, Cancel, Claim, Crash, Delete, Drain, Feed, Finish, Flush,
        ForeignTimer, Ghost, Jump, Pass, Pause, Promote, Release, Report, Rule, Submit, Sweep, Unrule, Watch,
    };
    let n = any::<u8>;
    let b = any::<bool>;
    let rare = || prop::bool::weighted(0.2);
    prop_oneof![
        8 => (n(), n(), rare(), rare(), n(), rare()).prop_map(|(repo, commit, background, force, dispatcher, again)| Submit {
            repo, commit, background, force, dispatcher, again }),
        3 => (n(), n(), n()).prop_map(|(dispatcher, build, count)| Watch { dispatcher, build, count }),
        2 => n().prop_map(|dispatcher| BeatDispatcher { dispatcher }),
        6 => n().prop_map(|worker| Beat { worker }),
        8 => (n(), n(), rare()).prop_map(|(worker, free, again)| Claim { worker, free, again }),
        4 => (n(), n()).prop_map(|(token, kind)| Report { token, kind }),
        9 => (n(), n(), rare()).prop_map(|(token, outcome, again)| Finish { token, outcome, again }),
        2 => (n(), b(), rare()).prop_map(|(token, handover, again)| Release { token, handover, again }),
        3 => (n(), n()).prop_map(|(token, act)| Ghost { token, act }),
        1 => n().prop_map(|worker| Crash { worker }),
        2 => n().prop_map(|build| Cancel { build }),
        2 => n().prop_map(|build| Promote { build }),
        2 => (n(), n()).prop_map(|(pattern, kind)| Rule { pattern, kind }),
        1 => n().prop_map(|pattern| Unrule { pattern }),
        1 => (n(), b()).prop_map(|(worker, on)| Drain { worker, on }),
        2 => (n(), b()).prop_map(|(worker, on)| Pause { worker, on }),
        1 => b().prop_map(|late| Flush { late }),
        1 => n().prop_map(|build| Delete { build }),
        1 => (n(), n()).prop_map(|(build, worker)| BadWord { build, worker }),
        1 => Just(ForeignTimer),
        2 => n().prop_map(|worker| Sweep { worker }),
        3 => (n(), n()).prop_map(|(number, kind)| Campaign { number, kind }),
        6 => Just(Feed),
        5 => (1..8000_u16).prop_map(|ms| Pass { ms }),
        1 => (4..200_u8).prop_map(|s| Jump { s }),
    ]
}

fn cases() -> u32 {
    std::env::var("FAIRLANE_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

#[test]
fn random_histories_break_no_promise() {
    play_random_histories(cases(), Scene::new());
}

#[test]
fn random_histories_of_two_releases_break_no_promise() {
    play_random_histories(cases().div_ceil(2), Scene::of_two_releases());
}

fn play_random_histories(cases: u32, scene: impl Future<Output = Scene>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scene = runtime.block_on(scene);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let histories = prop::collection::vec(step(), 1..150);
    let result = runner
        .run(&histories, |history| runtime.block_on(play(&scene, &history)).map_err(TestCaseError::fail));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Plays a history from an empty queue to its end.
async fn play(scene: &Scene, history: &[Step]) -> Result<(), String> {
    let mut world = World::new(scene).await;
    for (at, step) in history.iter().enumerate() {
        world.take(step).await.map_err(|broken| format!("step {at}, {step:?}: {broken}"))?;
    }
    world.settle().await.map_err(|broken| format!("at the end: {broken}"))
}

fn submit(repo: u8, commit: u8, background: bool) -> Step {
    Step::Submit { repo, commit, background, force: false, dispatcher: 0, again: false }
}

fn claim(worker: u8, free: u8) -> Step {
    Step::Claim { worker, free, again: false }
}

fn finish(token: u8, outcome: u8) -> Step {
    Step::Finish { token, outcome, again: false }
}

/// Histories that random tests once found.
#[tokio::test]
async fn histories_that_broke_a_promise_once() {
    let scene = Scene::new().await;
    let late_recount = [
        submit(0, 14, false),
        submit(6, 0, false),
        claim(12, 10),
        finish(0, 24),
        Step::Pass { ms: 6000 },
        Step::Pass { ms: 4000 },
        Step::Watch { dispatcher: 0, build: 0, count: 0 },
        submit(12, 0, true),
        claim(126, 133),
        Step::Delete { build: 152 },
        Step::Delete { build: 0 },
    ];
    let left_permit = [
        submit(86, 0, true),
        submit(42, 1, false),
        submit(0, 0, false),
        claim(3, 90),
        finish(0, 126),
        claim(0, 5),
        Step::Delete { build: 2 },
        finish(215, 184),
        Step::Release { token: 0, handover: false, again: false },
        Step::Watch { dispatcher: 0, build: 0, count: 0 },
        submit(26, 0, false),
        Step::Watch { dispatcher: 0, build: 0, count: 0 },
        claim(33, 1),
    ];
    let repair_of_nothing = [
        Step::Flush { late: false },
        Step::Jump { s: 15 },
        Step::Pass { ms: 7000 },
        Step::Pass { ms: 3000 },
        submit(211, 16, false),
        claim(12, 17),
        Step::Beat { worker: 9 },
        Step::Pass { ms: 4000 },
        submit(226, 170, false),
        Step::Pass { ms: 6000 },
    ];
    let far_back_in_its_lane = [
        submit(0, 0, false),
        Step::Cancel { build: 0 },
        submit(0, 0, false),
        submit(0, 1, false),
        Step::Delete { build: 0 },
        submit(2, 0, false),
        submit(25, 52, false),
        submit(0, 0, false),
        Step::Rule { pattern: 15, kind: 152 },
        submit(30, 0, false),
        Step::Pass { ms: 3000 },
        submit(1, 33, false),
        submit(0, 8, false),
        submit(0, 9, false),
        submit(0, 10, false),
        submit(0, 11, false),
        Step::Delete { build: 9 },
        Step::Delete { build: 8 },
        Step::Delete { build: 7 },
    ];
    for history in [&late_recount[..], &left_permit, &repair_of_nothing, &far_back_in_its_lane] {
        if let Err(broken) = play(&scene, history).await {
            panic!("{broken}");
        }
    }
}

#[tokio::test]
async fn a_campaign_may_use_a_permit_that_its_first_build_frees() {
    let scene = Scene::new().await;
    let history = [
        submit(0, 63, false),
        submit(19, 0, false),
        claim(199, 86),
        Step::Campaign { number: 12, kind: 0 },
        Step::Delete { build: 0 },
    ];
    if let Err(broken) = play(&scene, &history).await {
        panic!("{broken}");
    }
}
