//! How long people are told that they will wait.

use fairlane_common::build::BuildState;
use fairlane_common::limits::FORESEEN;
use fairlane_common::queue::{Outcome, Why};
use fairlane_common::rule::Stop;
use fairlane_common::{BuildId, Rule, Token};

use crate::scene::{Scene, ask, background};

const MINUTE: u64 = 60_000;

async fn why(scene: &Scene, id: BuildId) -> Why {
    scene.queue.why(&scene.build(id).await).await.unwrap()
}

/// Seconds until the build's image is expected to be ready.
async fn eta(scene: &Scene, id: BuildId) -> Option<u64> {
    why(scene, id).await.eta_ms.map(|ms| ms / 1000)
}

/// Lets the queue learn how long a build of `repo` takes, on a worker only for this.
async fn learn(scene: &Scene, repo: &str, seconds: u64) {
    scene.beat("teacher", 1, &[]).await;
    scene.submit(&ask(repo, 999)).await;
    let token = scene.claim("teacher", 1).await.remove(0).token;
    run_for(scene, &token, seconds).await;
    scene.finish(&token, Outcome::Succeeded).await;
}

/// Lets time pass while a worker runs a build, with heartbeats and reaps.
async fn run_for(scene: &Scene, token: &Token, seconds: u64) {
    for _ in 0..seconds.div_ceil(5) {
        scene.clock.advance_ms(5000.min(seconds * 1000));
        scene.beat(token.worker.as_str(), 1, std::slice::from_ref(token)).await;
        scene.reap().await;
    }
}

async fn only_worker(scene: &Scene, name: &str, slots: usize) {
    scene.pass(30_000).await;
    scene.beat(name, slots, &[]).await;
}

#[track_caller]
fn expect(told: Option<u64>, range: std::ops::RangeInclusive<u64>) {
    assert!(told.is_some_and(|told| range.contains(&told)), "{told:?} is not in {range:?}");
}

// With 100 slots, the last of 21 builds was told "ready in about 21 s" and then waited two minutes for its
// lane.
#[tokio::test]
async fn a_build_behind_its_lanes_permits_is_told_how_long_they_are_taken() {
    let scene = Scene::new().await;
    learn(&scene, "o/n", 20).await;
    only_worker(&scene, "w", 100).await;
    scene.rule("github.com/o/n", &Rule { limit: Some(3), ..Rule::default() }).await;
    let mut ids = Vec::new();
    for commit in 0..21 {
        ids.push(scene.submit(&ask("o/n", commit)).await);
        scene.clock.advance_ms(1);
    }
    assert_eq!(scene.claim("w", 100).await.len(), 3);
    let last = why(&scene, ids[20]).await;
    // 18 builds with three permits, a bit more than 20 s each, then the build's own 20 s.
    expect(last.eta_ms.map(|ms| ms / 1000), 130..=170);
    assert_eq!(
        last.visitor.text,
        "3 other versions of this repository are being built. Yours comes after 17 more, in about 2 minutes."
    );
    let next = why(&scene, ids[3]).await;
    expect(next.eta_ms.map(|ms| ms / 1000), 35..=50);
    assert!(next.visitor.text.ends_with("Yours is next, in about 20 seconds."), "{}", next.visitor.text);
    // A build of another lane does not wait for them.
    let other = scene.submit(&ask("o/other", 1)).await;
    assert_eq!(why(&scene, other).await.visitor.text, "18 builds are ahead of yours.");
    expect(eta(&scene, other).await, 10..=30);
}

#[tokio::test]
async fn lanes_that_share_a_limit_wait_for_each_other() {
    let scene = Scene::new().await;
    learn(&scene, "o/a", 100).await;
    learn(&scene, "o/b", 100).await;
    only_worker(&scene, "w", 8).await;
    scene.rule("github.com/o/*", &Rule { limit: Some(1), together: true, ..Rule::default() }).await;
    scene.reap().await;
    let first = scene.submit(&ask("o/a", 1)).await;
    scene.clock.advance_ms(1);
    let second = scene.submit(&ask("o/b", 1)).await;
    expect(eta(&scene, first).await, 95..=105);
    assert_eq!(scene.claim_ids("w", 8).await, [first]);
    let told = why(&scene, second).await;
    expect(told.eta_ms.map(|ms| ms / 1000), 200..=230);
    assert!(told.visitor.text.ends_with("when one of them ends, in about 2 minutes."), "{told:?}");
}

#[tokio::test]
async fn what_runs_counts_by_its_age_and_is_never_said_to_be_over() {
    let scene = Scene::new().await;
    learn(&scene, "o/n", 600).await;
    only_worker(&scene, "w", 1).await;
    let running = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let waiting = scene.submit(&ask("o/other", 1)).await;
    expect(eta(&scene, running).await, 590..=610);
    run_for(&scene, &token, 480).await;
    let (left, wait) = (eta(&scene, running).await, eta(&scene, waiting).await);
    expect(left, 150..=300);
    assert!(wait > left, "{wait:?} {left:?}");
    // The build has taken twice as long as expected, and still needs a while.
    run_for(&scene, &token, 720).await;
    scene.queue.report(&token, true, None).await.unwrap();
    let late = why(&scene, running).await;
    expect(late.eta_ms.map(|ms| ms / 1000), 60..=900);
    assert!(
        late.visitor
            .text
            .starts_with("Your build is taking longer than expected and should be ready in about "),
        "{late:?}"
    );
    assert_eq!(scene.state(running).await, BuildState::Running);
}

#[tokio::test]
async fn what_was_learned_since_it_was_asked_for_counts() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let first = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let second = scene.submit(&ask("o/n", 2)).await;
    run_for(&scene, &token, 1200).await;
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(
        scene.build(second).await.expected,
        180_000,
        "the place in line was set by what was known then"
    );
    expect(eta(&scene, second).await, 1150..=1250);
    assert_eq!(why(&scene, second).await.expected_ms, 20 * MINUTE);
    assert_eq!(scene.state(first).await, BuildState::Succeeded);
}

#[tokio::test]
async fn holds_with_an_end_backoffs_and_the_background_have_a_figure_and_other_holds_none() {
    let scene = Scene::new().await;
    let until = Some(scene.clock.now_ms() + 30 * MINUTE);
    let hold = |until| Rule { hold: Some(Stop { until, ..Stop::default() }), ..Rule::default() };
    scene.rule("github.com/held/n", &hold(until)).await;
    scene.rule("github.com/stopped/n", &hold(None)).await;
    let held = scene.submit(&ask("held/n", 1)).await;
    let stopped = scene.submit(&ask("stopped/n", 1)).await;
    assert_eq!(eta(&scene, held).await, None, "nobody is there to build");
    scene.beat("w", 4, &[]).await;
    expect(eta(&scene, held).await, 1900..=2100);
    assert_eq!(eta(&scene, stopped).await, None);
    for n in 0..4 {
        scene.submit(&background(ask(&format!("bg/n{n}"), 1))).await;
    }
    assert_eq!(scene.claim("w", 4).await.len(), 3);
    let last = scene.redis::<Vec<String>>(&["ZRANGE", "{fairlane}:queued", "-1", "-1"]).await;
    expect(eta(&scene, last[0].parse().unwrap()).await, 350..=450);
}

#[tokio::test]
async fn one_look_at_the_queue_answers_for_all_who_wait() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let mut ids = Vec::new();
    for n in 0..64 {
        ids.push(scene.submit(&ask(&format!("o/n{}", n % 40), n)).await);
        scene.clock.advance_ms(1);
    }
    scene.claim("w", 4).await;
    let mut builds = Vec::new();
    for id in &ids {
        builds.push(scene.build(*id).await);
    }
    let outlook = scene.queue.outlook().await.unwrap();
    let commands = || async { scene.redis::<String>(&["INFO", "commandstats"]).await };
    let before = commands().await;
    let mut etas = Vec::new();
    for build in &builds {
        let why = scene.queue.why_with(build, &outlook).await.unwrap();
        let place = scene.queue.position(build.id).await.unwrap();
        assert_eq!(why.position, place);
        etas.push((build.state == BuildState::Queued).then_some((why.position, why.eta_ms.unwrap())));
    }
    let calls = |text: &str| text.lines().find(|line| line.starts_with("cmdstat_fcall:")).map(str::to_owned);
    assert_eq!(
        calls(&commands().await).unwrap().split(',').next(),
        calls(&before).unwrap().split(',').next()
    );
    let mut etas: Vec<_> = etas.into_iter().flatten().collect();
    assert_eq!(etas.len(), 60);
    etas.sort_unstable();
    assert!(etas.is_sorted_by_key(|(_, eta)| eta / MINUTE), "{etas:?}");
    // A build that was requested since then is placed among them.
    let late = scene.submit(&ask("o/late", 1)).await;
    let told = scene.queue.why_with(&scene.build(late).await, &outlook).await.unwrap();
    let (place, line) = told.position.unwrap();
    assert_eq!((told.position, line), (scene.queue.position(late).await.unwrap(), 61));
    let before = etas[usize::try_from(place).unwrap() - 2].1;
    assert!(told.eta_ms.is_some_and(|eta| eta >= before && eta <= before + 10 * MINUTE), "{told:?} {etas:?}");
}

#[tokio::test]
async fn behind_those_that_are_looked_at_the_line_goes_on_at_their_pace() {
    let scene = Scene::new().await;
    scene.beat("w", 10, &[]).await;
    let mut ids = Vec::new();
    for n in 0..FORESEEN + 100 {
        ids.push(scene.submit(&ask(&format!("o/n{n}"), 1)).await);
    }
    scene.clock.advance_ms(1000);
    let line: Vec<String> = scene.redis(&["ZRANGE", "{fairlane}:queued", "0", "-1"]).await;
    let at = |place: usize| line[place].parse::<BuildId>().unwrap();
    let (seen, behind) = (eta(&scene, at(FORESEEN - 1)).await, eta(&scene, at(FORESEEN + 99)).await);
    let (seen, behind) = (seen.unwrap(), behind.unwrap());
    assert!(behind > seen * 11 / 10 && behind < seen * 13 / 10, "{seen} {behind}");
}
