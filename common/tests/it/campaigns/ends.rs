//! How items, and campaigns, end.

use fairlane_common::queue::campaigns::{CampaignState, ItemState, Pacing};
use fairlane_common::queue::{Outcome, Submitted};
use fairlane_common::{BuildState, FailureClass};

use super::{item, items, name, new};
use crate::scene::{Scene, ask, failed};

#[tokio::test]
async fn its_sums_add_up() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let mut all = items(4);
    for (item, launches) in all.iter_mut().zip([10.5, 4.0, 3.0, 2.0]) {
        (item.launches, item.expected_seconds) = (launches, Some(60));
    }
    let mut plan = new("spring", Pacing::default());
    (plan.launches, plan.launches_present) = (Some(40.0), 10.0);
    scene.queue.new_campaign(&plan, "test").await.unwrap();
    scene.queue.add_items(&name("spring"), 0, &all).await.unwrap();
    scene.set_campaign("spring", true).await;
    scene.feed().await;
    let held = scene.claim("w", 8).await;
    let view = scene.view("spring").await;
    assert_eq!((view.left_ms, view.coverage()), (240_000, 0.25));
    assert_eq!(view.time_left_ms(8, 6), Some(60_000), "all run at once");
    scene.clock.advance_ms(5000);
    scene.finish(&held[0].token, Outcome::Succeeded).await;
    scene.finish(&held[1].token, Outcome::AlreadyThere).await;
    scene.finish(&held[2].token, failed(FailureClass::Repository)).await;
    let view = scene.view("spring").await;
    assert_eq!((view.built, view.present, view.failed, view.left_ms), (1, 1, 1, 60_000));
    assert_eq!((view.covered.to_string().as_str(), view.slot_ms), ("24.5", 15_000));
    scene.queue.cancel(held[3].build.id, "olga", "not this one").await.unwrap();
    scene.finish(&held[3].token, Outcome::Cancelled).await;
    let view = scene.view("spring").await;
    assert_eq!((view.state, view.cancelled, view.done()), (CampaignState::Ended, 1, 4));
    let bad = scene.items_of("spring", Some(ItemState::Failed)).await.remove(0);
    let why = bad.done.unwrap();
    assert_eq!((bad.number, bad.build, why.reason.as_deref()), (2, Some(held[2].build.id), Some("it broke")));
    let cancelled = scene.items_of("spring", Some(ItemState::Cancelled)).await.remove(0);
    assert_eq!(cancelled.done.unwrap().reason.as_deref(), Some("not this one"));
    // It is shown for 30 days.
    let key = scene.queue.keys().campaign("spring");
    let left: u64 = scene.redis(&["TTL", &key]).await;
    assert_eq!(left, 30 * 86_400);
    scene.check().await;
}

#[tokio::test]
async fn a_failure_outside_the_repository_is_tried_again_before_it_counts() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    scene.campaign("spring", &items(1), Pacing::default()).await;
    scene.feed().await;
    for attempt in 1..=3 {
        let claimed = scene.claim("w", 1).await.remove(0);
        scene.finish(&claimed.token, failed(FailureClass::Infrastructure)).await;
        assert_eq!(scene.view("spring").await.failed, u64::from(attempt == 3));
        scene.pass(60_000).await;
        scene.beat("w", 1, &[]).await;
        assert_eq!(scene.feed().await, 0);
    }
    assert_eq!(scene.view("spring").await.state, CampaignState::Ended);
    scene.check().await;
}

#[tokio::test]
async fn a_failure_that_people_met_is_the_items_only_if_the_repository_is_to_blame() {
    let scene = Scene::new().await;
    scene.beat("w", 2, &[]).await;
    scene.submit(&ask("o/n0", 1)).await;
    scene.submit(&ask("o/n1", 1)).await;
    let held = scene.claim("w", 2).await;
    scene.campaign("spring", &items(2), Pacing::default()).await;
    scene.queue.cancel(held[1].build.id, "olga", "not now").await.unwrap();
    scene.finish(&held[1].token, Outcome::Cancelled).await;
    // A slot is free: the item whose build somebody cancelled is built, and the other one waits for its build.
    assert_eq!(scene.feed().await, 1);
    let view = scene.view("spring").await;
    assert_eq!((view.joined, view.building), (1, 1));
    scene.finish(&held[0].token, failed(FailureClass::Repository)).await;
    let view = scene.view("spring").await;
    assert_eq!((view.failed, view.slot_ms), (1, 0));
    scene.check().await;
}

#[tokio::test]
async fn two_campaigns_may_want_one_image() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    for campaign in ["first", "second"] {
        scene.campaign(campaign, &[item("o/n", 1)], Pacing::default()).await;
    }
    assert_eq!(scene.feed().await, 1);
    let token = scene.claim("w", 4).await.remove(0).token;
    assert_eq!(scene.feed().await, 0);
    assert_eq!(scene.view("second").await.joined, 1);
    scene.finish(&token, Outcome::Succeeded).await;
    let (first, second) = (scene.view("first").await, scene.view("second").await);
    assert_eq!((first.built, second.built_by_people), (1, 1));
    assert_eq!((first.state, second.state), (CampaignState::Ended, CampaignState::Ended));
    scene.check().await;
}

#[tokio::test]
async fn an_end_that_an_older_release_reported_is_noticed() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.campaign("spring", &items(3), Pacing::default()).await;
    scene.feed().await;
    let held = scene.claim("w", 4).await;
    // As the older release ends builds: without a word to the campaign.
    let images = scene.queue.keys().campaign_images();
    let saved: Vec<String> = scene.redis(&["HGETALL", &images]).await;
    scene.redis::<()>(&["DEL", &images]).await;
    scene.finish(&held[0].token, Outcome::Succeeded).await;
    scene.finish(&held[1].token, failed(FailureClass::Repository)).await;
    let words: Vec<&str> = ["HSET", &images].into_iter().chain(saved.iter().map(String::as_str)).collect();
    scene.redis::<()>(&words).await;
    assert_eq!(scene.view("spring").await.building, 3);
    scene.feed().await;
    let view = scene.view("spring").await;
    assert_eq!((view.built, view.failed, view.building), (1, 1, 1));
    // And a record that somebody has deleted is asked for again.
    scene.redis::<()>(&["DEL", &scene.queue.keys().build(held[2].build.id)]).await;
    scene.pass(20_000).await;
    scene.beat("w", 4, &[]).await;
    assert_eq!(scene.feed().await, 1);
    assert_ne!(scene.claim("w", 4).await[0].build.id, held[2].build.id);
    scene.check().await;
}

#[tokio::test]
async fn a_spoilt_campaign_costs_no_build() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("good", &items(4), Pacing::default()).await;
    for (campaign, part) in [("a", "todo"), ("b", "open"), ("c", "done"), ("d", "starts")] {
        let pacing = Pacing { per_hour: Some(5), ..Pacing::default() };
        scene.campaign(campaign, &[item(&format!("bad/{campaign}"), 1)], pacing).await;
        let key = scene.queue.keys().campaign_part(campaign, part);
        scene.redis::<()>(&["SET", &key, "spoilt"]).await;
    }
    scene.campaign("e", &[item("bad/e", 1)], Pacing::default()).await;
    scene.redis::<()>(&["HSET", &scene.queue.keys().campaign_part("e", "items"), "0", "{"]).await;
    // People's builds go on, and so does the good campaign.
    let mut built = 0;
    for _ in 0..6 {
        scene.submit(&ask("p/p", built)).await;
        for claimed in scene.claim("w", 8).await {
            scene.finish(&claimed.token, Outcome::Succeeded).await;
            built += 1;
        }
        scene.feed().await;
        scene.reap().await;
    }
    assert!(built >= 10, "{built}");
    assert_eq!(scene.view("good").await.state, CampaignState::Ended);
    let unreadable = scene.items_of("e", None).await;
    assert!(unreadable.is_empty() && scene.view("e").await.failed == 1);
    let aside = scene.queue.aside().await.unwrap();
    let named = |what: &str| aside.iter().any(|one| one.what == what && one.why.contains("WRONGTYPE"));
    assert!(["campaign:a", "campaign:b", "campaign:d"].iter().all(|what| named(what)), "{aside:?}");
    let images = scene.queue.keys().campaign_images();
    scene.redis::<()>(&["DEL", &images]).await;
    scene.redis::<()>(&["SET", &images, "spoilt"]).await;
    let Submitted::New(person) = scene.queue.submit(&ask("p/q", 1)).await.unwrap() else { panic!() };
    let held = scene.claim("w", 8).await;
    for claimed in &held {
        scene.finish(&claimed.token, Outcome::Succeeded).await;
    }
    assert_eq!(scene.state(person.id).await, BuildState::Succeeded);
}

#[tokio::test]
async fn an_emptied_redis_has_no_campaigns() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("spring", &items(3), Pacing::default()).await;
    scene.begin_anew().await;
    scene.beat("w", 8, &[]).await;
    assert_eq!(scene.queue.feed(&[]).await.unwrap().open, 0);
    assert!(scene.queue.campaign(&name("spring")).await.unwrap().is_none());
    scene.check().await;
}
