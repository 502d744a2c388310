//! Records of ended builds: what is known after a build's hash has expired.

use fairlane_common::queue::inspect::Filter;
use fairlane_common::queue::{Finish, Finished, Outcome, Since};
use fairlane_common::{Build, BuildId, BuildState, DispatcherId, FailureCause, FailureClass};

use crate::scene::{START_MS, Scene, ask, failed, failed_for};

const HOUR: u64 = 3_600_000;

/// Removes a build's hash, as Redis does a day after the build's end.
async fn expire(scene: &Scene, id: BuildId) {
    scene.redis::<()>(&["DEL", &scene.queue.keys().build(id)]).await;
}

async fn record(scene: &Scene, id: BuildId) -> Option<Build> {
    scene.queue.build_or_record(id).await.unwrap()
}

/// A build of `repo` that ends with this outcome after a second.
async fn ended(scene: &Scene, repo: &str, commit: u32, outcome: Outcome) -> BuildId {
    let id = scene.submit(&ask(repo, commit)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.clock.advance_ms(1000);
    assert!(matches!(scene.finish(&token, outcome).await, Finished::Ended(_)));
    id
}

fn failure(cause: &str) -> Outcome {
    failed_for(FailureClass::Repository, FailureCause::of(cause))
}

#[tokio::test]
async fn a_record_has_what_people_ask_for_after_a_day() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let dispatcher: DispatcherId = "d".parse().unwrap();
    let mut request = ask("o/n", 1);
    request.dispatcher = Some(dispatcher.clone());
    let id = scene.submit(&request).await;
    for count in [7, 3] {
        let counts = vec![(id, count)];
        let beat = fairlane_common::queue::DispatcherBeat { dispatcher: dispatcher.clone(), counts };
        scene.queue.beat_dispatcher(&beat).await.unwrap();
    }
    // Two runs hold a permit, for 4 s and 6 s. The time between them does not count.
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.clock.advance_ms(4000);
    let finish =
        Finish { node: Some("n1".parse().unwrap()), ..Finish::of(failed(FailureClass::Infrastructure)) };
    assert!(matches!(scene.queue.finish(&token, &finish).await.unwrap(), Finished::Retried { .. }));
    scene.pass(6000).await;
    scene.beat("w", 4, &[]).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.queue.report(&token, true, None).await.unwrap();
    scene.clock.advance_ms(6000);
    let finish = Finish { node: Some("n2".parse().unwrap()), ..Finish::of(failure("package")) };
    scene.queue.finish(&token, &finish).await.unwrap();
    let whole = scene.build(id).await;
    expire(&scene, id).await;
    let kept = record(&scene, id).await.unwrap();
    for (what, build) in [("hash", &whole), ("record", &kept)] {
        assert_eq!((build.slot_ms, build.peak, build.node.as_deref()), (10_000, 7, Some("n2")), "{what}");
        assert_eq!((build.state, build.attempts()), (BuildState::Failed, 2), "{what}");
        assert_eq!(
            (build.class, build.cause.as_deref()),
            (Some(FailureClass::Repository), Some("package")),
            "{what}"
        );
        assert_eq!((build.asked, build.reason.as_deref()), (START_MS, Some("it broke")), "{what}");
        assert_eq!((build.started, build.ended), (whole.started, whole.ended), "{what}");
        assert_eq!(
            (&build.spec.image, &build.spec.reference),
            (&request.spec.image, &request.spec.reference)
        );
        assert_eq!((&build.spec.repo, &build.lane), (&request.spec.repo, &whole.lane), "{what}");
    }
    assert!(kept.recorded && !whole.recorded);
    scene.check().await;
}

#[tokio::test]
async fn other_ends_have_records_too() {
    let scene = Scene::new().await;
    let never_ran = scene.submit(&ask("o/queued", 1)).await;
    scene.queue.cancel(never_ran, "test", "because").await.unwrap();
    scene.beat("w", 1, &[]).await;
    let good = ended(&scene, "o/good", 1, Outcome::Succeeded).await;
    let mut doi = ask("o/doi", 1);
    doi.spec.repo = "https://example.org/some/where.git".parse().unwrap();
    let elsewhere = scene.submit(&doi).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    for id in [never_ran, good, elsewhere] {
        expire(&scene, id).await;
    }
    let cancelled = record(&scene, never_ran).await.unwrap();
    assert_eq!((cancelled.state, cancelled.attempts(), cancelled.slot_ms), (BuildState::Cancelled, 0, 0));
    assert_eq!(cancelled.reason.as_deref(), Some("because"));
    let succeeded = record(&scene, good).await.unwrap();
    assert_eq!((succeeded.state, succeeded.reason, succeeded.slot_ms), (BuildState::Succeeded, None, 1000));
    assert_eq!(record(&scene, elsewhere).await.unwrap().spec.repo, doi.spec.repo);
    assert!(record(&scene, BuildId::new()).await.is_none());
}

#[tokio::test]
async fn a_build_is_found_by_its_id_for_seven_days() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let id = ended(&scene, "o/n", 1, Outcome::Succeeded).await;
    expire(&scene, id).await;
    scene.clock.advance_ms(167 * HOUR);
    scene.reap().await;
    assert!(record(&scene, id).await.is_some());
    // An earlier release's reaper removes this entry after a day. The record can no longer be found by id,
    // but is still listed.
    scene.redis::<()>(&["ZREM", &scene.queue.keys().ended(), &id.to_string()]).await;
    assert!(record(&scene, id).await.is_none());
    let ended = Filter { ended: true, ..Filter::default() };
    assert_eq!(scene.queue.builds(&ended).await.unwrap().items.len(), 1);
    scene.clock.advance_ms(2 * HOUR);
    scene.reap().await;
    assert_eq!(scene.redis::<u64>(&["ZCARD", &scene.queue.keys().ended()]).await, 0);
}

/// An earlier release keeps no records, so its builds are forgotten with their hashes.
#[tokio::test]
async fn builds_without_a_record_are_listed_and_forgotten_after_a_day() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let before = ended(&scene, "o/before", 1, failure("package")).await;
    scene.redis::<()>(&["DEL", &scene.queue.keys().past()]).await;
    scene.clock.advance_ms(1000);
    scene.beat("w", 1, &[]).await;
    let after = ended(&scene, "o/after", 1, failure("package")).await;
    let failed = Filter { state: Some(BuildState::Failed), ..Filter::default() };
    for filter in [Filter::default(), failed] {
        let page = scene.queue.builds(&filter).await.unwrap();
        assert_eq!(page.items.iter().map(|build| build.id).collect::<Vec<_>>(), [after, before]);
        assert_eq!(page.cursor, None);
    }
    scene.clock.advance_ms(25 * HOUR);
    scene.reap().await;
    let ids: Vec<String> = scene.redis(&["ZRANGE", &scene.queue.keys().ended(), "0", "-1"]).await;
    assert_eq!(ids, [after.to_string()]);
}

#[tokio::test]
async fn ended_builds_are_filtered_and_paged_newest_first() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let mut ids = vec![];
    for number in 0..12 {
        let (repo, outcome) = match number % 3 {
            0 => ("o/a", failure("package")),
            1 => ("o/b", failure("no-ref")),
            _ => ("o/c", Outcome::Succeeded),
        };
        let id = ended(&scene, repo, number, outcome).await;
        scene.beat("w", 1, &[]).await;
        // Half of them have only their record left.
        if number % 2 == 0 {
            expire(&scene, id).await;
        }
        ids.insert(0, id);
    }
    let waiting = scene.submit(&ask("o/a", 99)).await;
    let list = async |filter: Filter| {
        let (mut all, mut cursor) = (vec![], None);
        loop {
            let page = scene.queue.builds(&Filter { limit: 2, cursor, ..filter.clone() }).await.unwrap();
            assert!(page.items.len() <= 2 && page.unreadable.is_empty());
            all.extend(page.items.iter().map(|build| build.id));
            cursor = page.cursor;
            if cursor.is_none() {
                return all;
            }
        }
    };
    let every = |of: &[usize]| {
        ids.iter()
            .enumerate()
            .filter(|(at, _)| of.contains(&((11 - at) % 3)))
            .map(|(_, id)| *id)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(Filter { ended: true, ..Filter::default() }).await, ids);
    assert_eq!(list(Filter::default()).await, [&[waiting], &ids[..]].concat());
    let state = Some(BuildState::Failed);
    assert_eq!(list(Filter { state, ..Filter::default() }).await, every(&[0, 1]));
    let cause = Some(FailureCause::of("no-ref"));
    assert_eq!(list(Filter { cause, ..Filter::default() }).await, every(&[1]));
    let class = Some(FailureClass::Stuck);
    assert!(list(Filter { class, ..Filter::default() }).await.is_empty());
    let lane = Some("github.com/o/c".parse().unwrap());
    assert_eq!(list(Filter { lane, ended: true, ..Filter::default() }).await, every(&[2]));
    let since = Some(Since::At(scene.clock.now_ms() - 3500));
    assert_eq!(list(Filter { since, ..Filter::default() }).await, ids[..4]);
}

#[tokio::test]
async fn builds_that_end_while_the_clock_is_set_back_are_found_all_the_same() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    let first = ended(&scene, "o/n", 1, Outcome::Succeeded).await;
    scene.clock.set_ms(START_MS - HOUR);
    scene.beat("w", 1, &[]).await;
    let second = ended(&scene, "o/n", 2, Outcome::Succeeded).await;
    for id in [first, second] {
        expire(&scene, id).await;
        assert_eq!(record(&scene, id).await.unwrap().id, id);
    }
}

#[tokio::test]
async fn the_number_of_records_is_bounded() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    ended(&scene, "o/n", 1, Outcome::Succeeded).await;
    let key = scene.queue.keys().past();
    let mut connection = scene.server.connect().await;
    let first: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg(&key).arg("-").arg("+").query_async(&mut connection).await.unwrap();
    let fields: Vec<(String, String)> = first.ids[0]
        .map
        .iter()
        .map(|(name, value)| (name.clone(), redis::from_redis_value_ref(value).unwrap()))
        .collect();
    for _ in 0..71 {
        let mut pipe = redis::pipe();
        for _ in 0..1000 {
            pipe.xadd(&key, format!("{}-*", scene.clock.now_ms()), &fields).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }
    scene.beat("w", 1, &[]).await;
    ended(&scene, "o/n", 2, Outcome::Succeeded).await;
    let count: u64 = scene.redis(&["XLEN", &key]).await;
    assert!((70_000..70_200).contains(&count), "{count}");
}

#[tokio::test]
async fn lanes_are_ordered_by_the_time_that_they_held_slots() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    ended(&scene, "o/old", 1, Outcome::Succeeded).await;
    scene.clock.advance_ms(2 * HOUR);
    let since = scene.clock.now_ms();
    for (repo, commit, outcome) in
        [("o/a", 1, Outcome::Succeeded), ("o/b", 1, failure("package")), ("o/b", 2, Outcome::Cancelled)]
    {
        scene.beat("w", 1, &[]).await;
        ended(&scene, repo, commit, outcome).await;
    }
    let usage = scene.queue.usage(Since::At(since)).await.unwrap();
    let seen: Vec<_> = usage
        .lanes
        .iter()
        .map(|(lane, of)| (lane.as_str(), of.slot_ms, of.succeeded, of.failed, of.cancelled))
        .collect();
    assert_eq!(seen, [("github.com/o/b", 2000, 0, 1, 1), ("github.com/o/a", 1000, 1, 0, 0)]);
}
