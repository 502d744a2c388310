//! Where a share is no whole number, and the last moment at which something still holds.

use std::time::Duration;

use fairlane_common::queue::campaigns::Pacing;
use fairlane_common::queue::{DispatcherBeat, GiveBack, Order, OrphanNews, Outcome, Policy, Submitted};
use fairlane_common::rule::Stop;
use fairlane_common::{BuildState, FailureClass, Rule};
use futures::StreamExt;

use crate::campaigns::{items, name};
use crate::scene::{K8S, Scene, ask, background, failed, worker};

async fn slow_limit(scene: &Scene) -> Option<u64> {
    let view = scene.queue.lane(&"github.com/o/slow".parse().unwrap()).await.unwrap();
    view.shared.map(|(_, limit, _)| limit)
}

#[tokio::test]
async fn shares_of_slots_are_whole_numbers_and_at_least_one() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    scene.submit(&ask("o/slow", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.clock.advance_ms(3_600_000);
    scene.finish(&token, Outcome::Succeeded).await;
    scene.submit(&ask("o/slow", 2)).await;
    for (slots, share, most, slow) in [
        (1, 0.75, 1, 1),
        (2, 0.75, 1, 1),
        (3, 0.75, 2, 1),
        (5, 0.75, 3, 2),
        (7, 0.5, 3, 2),
        (7, 0.0, 0, 2),
        (8, 1.0, 8, 2),
        (13, 0.75, 9, 4),
    ] {
        scene.beat("w", slots, &[]).await;
        let policy = Policy::of_words(&[format!("background_share={share}")]).unwrap();
        scene.queue.set_policy(&policy, "test").await.unwrap();
        scene.reap().await;
        let found = scene.queue.snapshot().await.unwrap().background_max;
        assert_eq!((found, slow_limit(&scene).await), (most, Some(slow)), "{share} of {slots} slots");
    }
}

#[tokio::test]
async fn orphans_are_shared_out_so_that_none_is_left() {
    let scene = Scene::new().await;
    scene.beat("old", 5, &[]).await;
    for number in 0..5 {
        scene.submit(&ask(&format!("o/n{number}"), 1)).await;
    }
    let held = scene.claim("old", 5).await;
    assert_eq!(held.len(), 5);
    for one in &held {
        scene.queue.give_back(&one.token, &GiveBack::Handover).await.unwrap();
    }
    scene.queue.leave(&worker("old")).await.unwrap();
    for name in ["v", "w"] {
        scene.beat(name, 1, &[]).await;
    }
    // Both are full. Half of five is three, then half of two is one, and the rest is one.
    let (first, second) = (scene.claim("v", 0).await.len(), scene.claim("w", 0).await.len());
    assert_eq!(
        (first, second, scene.claim("v", 0).await.len(), scene.claim("w", 0).await.len()),
        (3, 1, 1, 0)
    );
    scene.check().await;
}

#[tokio::test]
async fn an_orphan_is_given_up_after_ten_minutes_and_not_before() {
    let scene = Scene::new().await;
    scene.beat_at("old", "k8s:dead/builds", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    let token = scene.claim_at("old", "k8s:dead/builds", 1).await.remove(0).token;
    scene.queue.give_back(&token, &GiveBack::Handover).await.unwrap();
    scene.queue.leave(&worker("old")).await.unwrap();
    let mut passed = 0;
    while passed < 595_000 {
        scene.beat("w", 1, &[]).await;
        scene.pass(5000).await;
        passed += 5000;
    }
    scene.beat("w", 1, &[]).await;
    scene.pass(4999).await;
    assert_eq!(scene.state(id).await, BuildState::Orphaned);
    scene.pass(1).await;
    let build = scene.build(id).await;
    assert_eq!((build.state, build.worker, build.attempt), (BuildState::Queued, None, 2));
    scene.check().await;
}

#[tokio::test]
async fn workers_hear_of_orphans_and_of_builds_that_they_must_stop() {
    let scene = Scene::new().await;
    scene.beat("w", 3, &[]).await;
    let ids = [
        scene.submit(&ask("o/a", 1)).await,
        scene.submit(&ask("o/b", 1)).await,
        scene.submit(&ask("o/c", 1)).await,
    ];
    let held = scene.claim("w", 3).await;
    let mut news = std::pin::pin!(scene.queue.orphan_news().await.unwrap());
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(20), news.next()).await.unwrap().unwrap();
    scene.queue.cancel(ids[0], "test", "enough").await.unwrap();
    assert_eq!(next().await, OrphanNews::Cancel(worker("w"), ids[0]));
    let given = held.iter().find(|one| one.build.id == ids[1]).unwrap();
    scene.queue.give_back(&given.token, &GiveBack::Handover).await.unwrap();
    assert_eq!(next().await, OrphanNews::Orphans(Some(K8S.to_owned())));
    scene.pass(11_000).await;
    assert_eq!(next().await, OrphanNews::Orphans(Some(K8S.to_owned())));
}

#[tokio::test]
async fn more_people_than_the_policy_counts_move_no_build_further() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.queue.set_policy(&Policy { people_max: Some(5), ..Policy::default() }, "test").await.unwrap();
    let mut dues = vec![];
    for (number, people) in [(1, 4), (2, 5), (3, 6), (4, 60)] {
        let id = scene.submit(&ask(&format!("o/n{number}"), 1)).await;
        let beat = DispatcherBeat { dispatcher: "d".parse().unwrap(), counts: vec![(id, people)] };
        scene.queue.beat_dispatcher(&beat).await.unwrap();
        dues.push(scene.build(id).await.due);
    }
    assert!(dues[0] > dues[1] && dues[1] == dues[2] && dues[2] == dues[3], "{dues:?}");
}

#[tokio::test]
async fn an_image_of_other_arguments_is_a_conflict() {
    let scene = Scene::new().await;
    scene.submit(&ask("o/n", 1)).await;
    let mut other = ask("o/n", 1);
    other.spec.args = vec!["--debug".to_owned()];
    assert!(matches!(scene.queue.submit(&other).await.unwrap(), Submitted::Conflict { .. }));
}

/// Once a build is being cancelled, its image belongs to the next build, however the first one ends.
#[tokio::test]
async fn the_end_of_a_build_leaves_another_ones_image_alone() {
    for outcome in [Outcome::Succeeded, Outcome::Cancelled, failed(FailureClass::Repository)] {
        let scene = Scene::new().await;
        scene.beat("w", 2, &[]).await;
        let id = scene.submit(&ask("o/n", 1)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.queue.cancel(id, "test", "enough").await.unwrap();
        let next = scene.submit(&ask("o/n", 1)).await;
        assert_ne!(next, id);
        scene.finish(&token, outcome).await;
        assert!(scene.state(id).await.is_ended());
        let key = scene.queue.keys().image(&ask("o/n", 1).spec.image);
        let (image, ttl): (Option<String>, i64) =
            (scene.redis(&["GET", &key]).await, scene.redis(&["TTL", &key]).await);
        assert_eq!((image, ttl), (Some(next.to_string()), -1));
    }
}

/// More lanes than one reap moves, in every set.
#[tokio::test]
async fn a_rule_reaches_all_lanes_of_its_pattern_however_many_they_are() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    for number in 0..400 {
        scene.submit(&ask(&format!("o/n{number}"), 1)).await;
    }
    let snapshot = async || scene.queue.snapshot().await.unwrap();
    for _ in 0..2 {
        scene.rule("github.com/o/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
        let first = scene.queue.reap().await.unwrap();
        assert!(first.timers == 1 && snapshot().await.lanes_held < 400, "one batch a reap");
        scene.reap().await;
        assert_eq!((snapshot().await.lanes_ready, snapshot().await.lanes_held), (0, 400));
        scene.queue.delete_rule(&"github.com/o/*".parse().unwrap(), "test").await.unwrap();
        scene.reap().await;
        assert_eq!((snapshot().await.lanes_ready, snapshot().await.lanes_held), (400, 0));
    }
    assert_eq!(snapshot().await.repairs, 0);
    scene.submit(&background(ask("o/n0", 2))).await;
    scene.check().await;
}

#[tokio::test]
async fn only_builds_of_people_make_the_line_longer() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let put_off = async |repo: &str| {
        let build = scene.build(scene.submit(&ask(repo, 1)).await).await;
        build.due - build.asked
    };
    // A fifth of the four hours, in a short line.
    assert_eq!(put_off("o/first").await, 2_880_000);
    for number in 0..30 {
        scene.submit(&background(ask(&format!("b/n{number}"), 1))).await;
    }
    assert_eq!(put_off("o/second").await, 2_880_000);
    for number in 0..10 {
        scene.submit(&ask(&format!("p/n{number}"), 1)).await;
    }
    // Twelve builds wait, and twenty for a slot would put it off by all of it.
    assert_eq!(put_off("o/third").await, 14_400_000 * 12 / 20);
}

#[tokio::test]
async fn a_lane_under_a_shared_limit_does_not_borrow() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let view = async || scene.queue.lane(&"github.com/o/n".parse().unwrap()).await.unwrap();
    assert_eq!((view().await.limit, view().await.burst), (2, 3));
    scene.rule("github.com/o/*", &Rule { limit: Some(5), together: true, ..Rule::default() }).await;
    assert_eq!((view().await.limit, view().await.burst), (2, 2));
    for commit in 1..=4 {
        scene.submit(&ask("o/n", commit)).await;
    }
    assert_eq!(scene.claim("w", 8).await.len(), 2);
    let held = view().await;
    assert_eq!((held.at.as_deref(), held.permits, held.queued), (Some("lanes:full"), 2, 2));
    scene.check().await;
}

#[tokio::test]
async fn a_lane_borrows_while_more_than_half_of_the_slots_are_free_and_not_at_half() {
    let scene = Scene::new().await;
    for (slots, got) in [(4, 2), (5, 3)] {
        scene.begin_anew().await;
        scene.beat("w", slots, &[]).await;
        for commit in 1..=4 {
            scene.submit(&ask("o/n", commit)).await;
        }
        assert_eq!(scene.claim("w", slots).await.len(), got, "of {slots} slots");
    }
}

#[tokio::test]
async fn a_silence_of_more_than_three_seconds_gives_workers_one_lease_and_a_shorter_one_nothing() {
    for (silence, spared) in [(3000, false), (3001, true)] {
        let scene = Scene::new().await;
        scene.beat("w", 1, &[]).await;
        let id = scene.submit(&ask("o/n", 1)).await;
        scene.claim("w", 1).await;
        scene.pass(8000).await;
        scene.clock.advance_ms(silence);
        scene.reap().await;
        assert_eq!(scene.state(id).await == BuildState::Starting, spared, "after {silence} ms");
        if spared {
            scene.pass(9999).await;
            assert_eq!(scene.state(id).await, BuildState::Starting);
            assert_eq!(scene.queue.snapshot().await.unwrap().workers, 1);
            scene.pass(1).await;
            assert_eq!(scene.state(id).await, BuildState::Orphaned);
            assert_eq!(scene.queue.snapshot().await.unwrap().workers, 0);
        }
        scene.check().await;
    }
}

#[tokio::test]
async fn a_cancelled_campaign_of_many_items_is_cleared_batch_by_batch() {
    let scene = Scene::new().await;
    scene.campaign("spring", &items(2500), Pacing::default()).await;
    scene.queue.cancel_campaign(&name("spring"), false, "test").await.unwrap();
    let wanted = async || scene.redis::<u64>(&["HLEN", &scene.queue.keys().campaign_images()]).await;
    for left in [1500, 500] {
        assert_eq!((wanted().await, scene.view("spring").await.ended), (left, None));
        scene.feed().await;
    }
    assert_eq!(wanted().await, 0);
    assert!(scene.view("spring").await.ended.is_some());
    scene.check().await;
}

#[tokio::test]
async fn a_lane_whose_builds_are_long_on_average_is_slow_though_its_latest_were_quick() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let policy = Policy { slow_after_ms: Some(60_000), ..Policy::default() };
    scene.queue.set_policy(&policy, "test").await.unwrap();
    let mut commit = 0;
    let mut build = async |ms| {
        commit += 1;
        scene.submit(&ask("o/n", commit)).await;
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.clock.advance_ms(ms);
        scene.finish(&token, Outcome::Succeeded).await;
        let view = scene.queue.lane(&"github.com/o/n".parse().unwrap()).await.unwrap();
        (view.shared.is_some(), view.mean_ms.unwrap() >= 60_000)
    };
    assert_eq!(build(7_200_000).await, (true, true));
    // It takes four quick builds in a row, and then as many as its mean needs.
    for quick in 1..=4 {
        assert_eq!(build(30_000).await, (true, true), "after {quick} quick builds");
    }
    let mut more = 0;
    loop {
        let (is_slow, is_long_on_average) = build(30_000).await;
        assert_eq!(is_slow, is_long_on_average);
        if !is_slow {
            break;
        }
        more += 1;
    }
    assert!(more > 1, "{more}");
}

#[tokio::test]
async fn a_run_that_is_lost_for_the_sixth_time_within_an_hour_is_stuck_and_later_it_is_not() {
    for (late, state) in [(0, BuildState::Failed), (1, BuildState::Queued)] {
        let scene = Scene::new().await;
        let id = scene.submit(&ask("o/n", 1)).await;
        let lose = async || {
            scene.beat_at("w", "process:w", 1, &[]).await;
            assert_eq!(scene.claim_at("w", "process:w", 1).await.len(), 1);
            scene.pass(10_000).await;
            scene.clock.now_ms()
        };
        let sixth = lose().await + 3_600_000 + late;
        let reason = scene.build(id).await.reason;
        assert_eq!(reason.as_deref(), Some("its worker w was lost, and its run with it"));
        for _ in 0..4 {
            lose().await;
        }
        let left = sixth - scene.clock.now_ms() - 10_000;
        scene.clock.advance_ms(left - 11_000);
        scene.pass(11_000).await;
        assert_eq!(scene.state(id).await, BuildState::Queued);
        assert_eq!((lose().await, scene.state(id).await), (sixth, state));
    }
}

#[tokio::test]
async fn a_lane_takes_ten_thousand_builds_and_no_more() {
    let scene = Scene::new().await;
    scene.submit(&ask("o/n", 1)).await;
    let key = scene.queue.keys().lane(&"github.com/o/n".parse().unwrap());
    // A build in a lane is in line, too.
    let fill =
        "for n = 1, 9998 do for i = 1, 2 do redis.call('ZADD', KEYS[i], 9e12, 'no build ' .. n) end end";
    scene.redis::<()>(&["EVAL", fill, "2", &key, &scene.queue.keys().queued()]).await;
    scene.submit(&ask("o/n", 2)).await;
    let refused = scene.queue.submit(&ask("o/n", 3)).await.unwrap();
    assert_eq!(refused, Submitted::Full { what: "lane".to_owned(), max: 10_000 });
}

#[tokio::test]
async fn of_several_rules_the_most_specific_one_sets_each_number() {
    let scene = Scene::new().await;
    let of = |limit, burst| Rule { limit, burst, ..Rule::default() };
    scene.rule("github.com/o/n", &of(None, Some(6))).await;
    scene.rule("github.com/o/*", &of(Some(3), Some(4))).await;
    scene.rule("github.com/p/n", &of(Some(5), None)).await;
    scene.rule("*", &of(Some(1), Some(9))).await;
    for (name, expected) in [("o/n", (3, 6)), ("o/m", (3, 4)), ("p/n", (5, 5)), ("q/n", (1, 9))] {
        let view = scene.queue.lane(&format!("github.com/{name}").parse().unwrap()).await.unwrap();
        assert_eq!((view.limit, view.burst), expected, "{name}");
    }
}

/// The shared limit is as early in line as the first lane that may use it.
#[tokio::test]
async fn a_lane_that_is_full_takes_its_shared_limit_no_place_in_line() {
    let scene = Scene::new().await;
    scene.beat("w", 3, &[]).await;
    let first_come = Policy { order: Some(Order::FirstCome), ..Policy::default() };
    scene.queue.set_policy(&first_come, "test").await.unwrap();
    scene.rule("github.com/o/*", &Rule { limit: Some(2), together: true, ..Rule::default() }).await;
    scene.reap().await;
    let mut ids = vec![];
    for (name, commit) in [("o/a", 1), ("o/a", 2), ("p/n", 1), ("o/b", 1)] {
        scene.clock.advance_ms(10);
        ids.push(scene.submit(&ask(name, commit)).await);
    }
    // The second build of o/a waits for the first.
    for next in [ids[0], ids[2], ids[3]] {
        assert_eq!(scene.claim_ids("w", 1).await, [next]);
    }
    scene.check().await;
}

#[tokio::test]
async fn a_reap_moves_one_batch_of_lanes_whatever_else_is_due() {
    let scene = Scene::new().await;
    let key = scene.queue.keys().timers();
    let timers = ["place:0:lanes github.com/a/*", "refill:now", "place:0:lanes github.com/b/*"];
    for (at, timer) in timers.iter().enumerate() {
        scene.redis::<()>(&["ZADD", &key, &(at + 1).to_string(), timer]).await;
    }
    scene.queue.reap().await.unwrap();
    let left: Vec<String> = scene.redis(&["ZRANGE", &key, "0", "-1"]).await;
    let is_left = |timer: &str| left.iter().any(|other| other == timer);
    assert_eq!(timers.map(is_left), [false, false, true], "{left:?}");
}
