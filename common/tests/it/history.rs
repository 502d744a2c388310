//! One sample is taken each minute, however many processes reap, and kept for 7 days.

use std::time::Duration;

use fairlane_common::clock::Clock;
use fairlane_common::queue::{Outcome, Sample, Waiting, in_steps};
use fairlane_common::rule::Stop;
use fairlane_common::{FailureClass, Queue, Rule};

use crate::scene::{Scene, ask, failed};

const MINUTE: u64 = 60_000;
/// A time in Unix milliseconds at which a minute begins.
const START: u64 = 1_795_000_020_000;

/// An empty queue at the start of a minute, before any reap.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.clock.set_ms(START);
    scene
}

async fn samples(scene: &Scene) -> Vec<Sample> {
    scene.queue.samples(0).await.unwrap().samples
}

async fn minutes(scene: &Scene) -> Vec<u64> {
    samples(scene).await.iter().map(|sample| (sample.at - START) / MINUTE).collect()
}

#[tokio::test]
async fn two_processes_that_reap_for_three_minutes_write_three_samples() {
    let scene = scene().await;
    let clock = Clock::Simulated(scene.clock.clone());
    let other = Queue::open_simulated(&scene.server.url().parse().unwrap(), "fairlane", clock).await.unwrap();
    for _ in 0..180 {
        scene.queue.reap().await.unwrap();
        other.reap().await.unwrap();
        scene.clock.advance_ms(1000);
    }
    assert_eq!(minutes(&scene).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_gap_stays_a_gap_and_a_clock_that_was_set_back_starts_no_second_line() {
    let scene = scene().await;
    for _ in 0..2 {
        scene.reap().await;
        scene.clock.advance_ms(MINUTE);
    }
    // Redis was away for ten minutes.
    scene.clock.advance_ms(10 * MINUTE);
    scene.reap().await;
    assert_eq!(minutes(&scene).await, [0, 1, 12]);
    let steps = in_steps(&samples(&scene).await, Duration::from_mins(5));
    assert_eq!(steps.len(), 2, "nothing is made up for the time between");

    // The clock is set back a little: no sample is written until it has caught up.
    scene.clock.set_ms(START + 10 * MINUTE);
    scene.reap().await;
    assert_eq!(minutes(&scene).await, [0, 1, 12]);
    // The clock is set back a lot: samples from the future are removed, and new ones continue from there.
    scene.clock.set_ms(START + 3 * MINUTE);
    scene.reap().await;
    scene.clock.advance_ms(MINUTE);
    scene.reap().await;
    assert_eq!(minutes(&scene).await, [0, 1, 3, 4]);
    // The same if all samples are from the future.
    scene.clock.set_ms(START - 20 * MINUTE);
    scene.reap().await;
    let all = samples(&scene).await;
    assert_eq!(all.iter().map(|sample| sample.at).collect::<Vec<_>>(), [START - 20 * MINUTE]);
}

#[tokio::test]
async fn a_sample_counts_what_happened_since_the_one_before() {
    let scene = scene().await;
    scene.reap().await;
    for round in 1..=2 {
        scene.beat("w", 4, &[]).await;
        for commit in 0..4 {
            scene.submit(&ask(&format!("o/n{commit}"), round)).await;
        }
        let claimed = scene.claim("w", 4).await;
        let outcomes = [Outcome::Succeeded, Outcome::Cancelled, failed(FailureClass::Repository)];
        for (one, outcome) in claimed.iter().zip(outcomes) {
            scene.finish(&one.token, outcome).await;
        }
        scene.clock.advance_ms(MINUTE);
        scene.beat("w", 4, &[claimed[3].token.clone()]).await;
        scene.reap().await;
        let sample = *samples(&scene).await.last().unwrap();
        let counted = (sample.started, sample.succeeded, sample.cancelled, sample.failed.repository);
        assert_eq!(counted, (4, 1, 1, 1), "round {round}");
        scene.finish(&claimed[3].token, Outcome::Succeeded).await;
        // Ends this round's minute, so that its fourth build does not count in the next round.
        scene.clock.advance_ms(MINUTE);
        scene.reap().await;
        assert_eq!(samples(&scene).await.last().unwrap().succeeded, 1);
    }
}

#[tokio::test]
async fn builds_wait_for_what_the_next_of_their_lane_waits_for() {
    let scene = scene().await;
    scene.beat("w", 4, &[]).await;
    let limit = |limit| Rule { limit: Some(limit), ..Rule::default() };
    scene.rule("github.com/full/*", &limit(1)).await;
    scene.rule("github.com/held/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
    scene.rule("github.com/shared/*", &Rule { together: true, ..limit(1) }).await;
    // The next build of these lanes waits only for a slot, because their shared limit has permits left.
    scene.rule("github.com/loose/*", &Rule { together: true, ..limit(3) }).await;
    for (repo, commits) in [("full/a", 3), ("shared/a", 1), ("again/a", 1)] {
        for commit in 0..commits {
            scene.submit(&ask(repo, commit)).await;
        }
    }
    let claimed = scene.claim("w", 4).await;
    assert_eq!(claimed.len(), 3);
    let again = claimed.iter().find(|one| one.build.lane.as_str() == "github.com/again/a").unwrap();
    scene.finish(&again.token, failed(FailureClass::Infrastructure)).await;
    for (repo, commits) in [("held/a", 4), ("shared/b", 5), ("free/a", 1), ("loose/b", 2)] {
        for commit in 0..commits {
            scene.submit(&ask(repo, commit)).await;
        }
    }
    // This is shorter than any backoff.
    scene.clock.advance_ms(1000);
    scene.reap().await;
    let sample = samples(&scene).await[0];
    let waiting = sample.waiting;
    let expected = Waiting { slot: 3.0, permit: 2.0, shared: 5.0, held: 4.0, backoff: 1.0 };
    assert_eq!(waiting, expected);
    let measured = Sample {
        at: START,
        running: 2.0,
        slots: 4.0,
        oldest_wait_s: 1,
        started: 3,
        waiting,
        ..Sample::default()
    };
    assert_eq!(sample, measured);
}

/// If a set has many lanes, some of them are counted, and the total is extrapolated.
#[tokio::test]
async fn a_long_line_is_estimated_from_a_part_of_its_lanes() {
    let scene = scene().await;
    for lane in 0..900 {
        for commit in 0..2 {
            scene.submit(&ask(&format!("many/n{lane}"), commit)).await;
        }
    }
    scene.reap().await;
    let waiting = samples(&scene).await[0].waiting;
    assert_eq!(waiting, Waiting { slot: 1800.0, ..Waiting::default() });
}

#[tokio::test]
async fn samples_are_kept_for_seven_days_in_a_bounded_number_of_bytes() {
    let scene = scene().await;
    let key = scene.queue.keys().history();
    let mut pipe = redis::pipe();
    for minute in 0..12_000_u64 {
        let mut add = redis::cmd("XADD");
        add.arg(&key).arg(format!("{}-0", START - (12_000 - minute) * MINUTE));
        for (name, value) in [
            ("people", 213),
            ("running", 32),
            ("slots", 32),
            ("oldest_s", 5400),
            ("slot", 41),
            ("permit", 187),
            ("shared", 12),
            ("held", 9),
            ("backoff", 3),
            ("started", 11),
            ("succeeded", 9),
            ("cancelled", 0),
            ("repository", 2),
            ("infrastructure", 1),
            ("stuck", 0),
        ] {
            add.arg(name).arg(value + minute % 100);
        }
        pipe.add_command(add).ignore();
    }
    pipe.query_async::<()>(&mut scene.server.connect().await).await.unwrap();
    scene.reap().await;
    let count: u64 = scene.redis(&["XLEN", &key]).await;
    let bytes: u64 = scene.redis(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).await;
    println!("{count} samples take {bytes} bytes");
    // One sample a minute; trimming may leave the rest of the stream's oldest node.
    assert!((10_080..10_200).contains(&count), "{count}");
    assert!(bytes < 1_000_000, "{bytes}");
}

#[tokio::test]
async fn a_spoilt_or_full_redis_costs_samples_and_records_but_no_build() {
    let scene = scene().await;
    scene.beat("w", 4, &[]).await;
    let ids = [scene.submit(&ask("o/a", 1)).await, scene.submit(&ask("o/b", 1)).await];
    let claimed = scene.claim("w", 2).await;
    // Redis refuses whatever adds data, but builds still end and are recorded.
    scene.redis::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(scene.queue.submit(&ask("o/c", 1)).await.is_err());
    scene.finish(&claimed[0].token, Outcome::Succeeded).await;
    scene.reap().await;
    assert_eq!(samples(&scene).await.len(), 1);
    assert_eq!(scene.redis::<u64>(&["XLEN", &scene.queue.keys().past()]).await, 1);
    scene.redis::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;

    for key in [scene.queue.keys().history(), scene.queue.keys().past()] {
        scene.redis::<()>(&["SET", &key, "spoilt"]).await;
    }
    scene.finish(&claimed[1].token, Outcome::Succeeded).await;
    scene.pass(2 * MINUTE).await;
    for id in ids {
        assert!(scene.state(id).await.is_ended());
    }
    scene.check().await;
    let aside = scene.queue.aside().await.unwrap();
    assert!(aside.iter().any(|one| one.what == "history"), "operators can see it: {aside:?}");
}
