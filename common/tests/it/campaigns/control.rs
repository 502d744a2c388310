//! What operators do to campaigns.

use fairlane_common::queue::campaigns::{
    Added, CampaignCancelled, CampaignState, Changed, ItemState, Made, NewCampaign, Pacing, PacingChange,
};
use fairlane_common::queue::{ActFilter, By, Outcome};
use fairlane_common::{BuildState, Priority};

use super::{item, items, name, new};
use crate::scene::{Scene, ask};

#[tokio::test]
async fn a_repeated_call_adds_nothing_and_another_campaign_gets_another_name() {
    let scene = Scene::new().await;
    let (queue, spring) = (&scene.queue, name("spring"));
    let first = new("spring", Pacing::default());
    for _ in 0..2 {
        assert_eq!(queue.new_campaign(&first, "test").await.unwrap(), Made::Made);
    }
    let mut other = first.clone();
    other.request = "another one".to_owned();
    assert_eq!(queue.new_campaign(&other, "test").await.unwrap(), Made::Exists(CampaignState::Loading));
    assert_eq!(queue.add_items(&name("autumn"), 0, &items(1)).await.unwrap(), Added::Unknown);
    let all = items(5);
    for _ in 0..2 {
        assert_eq!(queue.add_items(&spring, 0, &all[..3]).await.unwrap(), Added::Added(3));
    }
    assert_eq!(queue.add_items(&spring, 4, &all[3..]).await.unwrap(), Added::Misfit(3));
    let again = [item("o/n9", 1), item("o/n1", 1)];
    assert_eq!(queue.add_items(&spring, 3, &again).await.unwrap(), Added::Duplicate(1, 1));
    assert_eq!(queue.add_items(&spring, 3, &all[3..]).await.unwrap(), Added::Added(5));
    assert_eq!(scene.items_of("spring", None).await.len(), 5);
    // It makes no build before it is started.
    scene.beat("w", 4, &[]).await;
    assert_eq!(scene.feed().await, 0);
    assert_eq!(scene.set_campaign("spring", true).await, 0);
    assert_eq!(scene.feed().await, 3);
    scene.check().await;
}

#[tokio::test]
async fn a_paused_campaign_starts_nothing_at_all() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.campaign("spring", &items(9), Pacing { per_hour: Some(4), ..Pacing::default() }).await;
    assert_eq!(scene.feed().await, 3);
    let running = scene.claim("w", 1).await.remove(0);
    // Two stand in line; somebody waits for one of them.
    scene.submit(&ask("o/n1", 1)).await;
    assert_eq!(scene.set_campaign("spring", false).await, 1, "the one that nobody waits for");
    let claimed = scene.claim("w", 4).await;
    assert_eq!(claimed.len(), 1, "the other one is a person's now");
    assert_eq!(claimed[0].build.lane.as_str(), "github.com/o/n1");
    assert_eq!(scene.feed().await, 0);
    scene.pass(3000).await;
    assert!(
        scene.waits("spring").await.starts_with("paused by test 3 s ago"),
        "{}",
        scene.waits("spring").await
    );
    let view = scene.view("spring").await;
    assert_eq!((view.waiting, view.building), (7, 2));
    scene.finish(&running.token, Outcome::Succeeded).await;
    // What was taken back has not started, so it does not count for the hour.
    scene.set_campaign("spring", true).await;
    assert_eq!(scene.feed().await, 2);
    assert_eq!(scene.items_of("spring", Some(ItemState::Building)).await.len(), 3);
    scene.check().await;
}

#[tokio::test]
async fn a_build_that_its_worker_lost_does_not_start_again_while_its_campaign_is_paused() {
    let scene = Scene::new().await;
    scene.beat_at("w", "process:w", 4, &[]).await;
    scene.campaign("spring", &items(2), Pacing::default()).await;
    scene.feed().await;
    let lost = scene.claim_at("w", "process:w", 1).await.remove(0);
    scene.set_campaign("spring", false).await;
    scene.pass(11_000).await;
    assert_eq!(scene.state(lost.build.id).await, BuildState::Queued);
    scene.feed().await;
    assert_eq!(scene.state(lost.build.id).await, BuildState::Cancelled);
    assert_eq!(scene.view("spring").await.waiting, 2);
    scene.check().await;
}

#[tokio::test]
async fn a_cancelled_campaign_takes_back_what_has_not_started() {
    let scene = Scene::new().await;
    let (queue, spring) = (&scene.queue, name("spring"));
    scene.beat("w", 4, &[]).await;
    scene.campaign("spring", &items(2500), Pacing::default()).await;
    scene.feed().await;
    let running = scene.claim("w", 2).await;
    let by = By { name: "olga", reason: "the wrong plan" };
    let done = queue.cancel_campaign(&spring, false, by).await.unwrap();
    assert_eq!(done, CampaignCancelled::Cancelled { dropped: 2498, stopping: 0, left: 2 });
    assert!(scene.claim("w", 4).await.is_empty());
    // The rest is dropped in pieces.
    scene.feed().await;
    scene.feed().await;
    assert_eq!(scene.view("spring").await.waiting, 0);
    let done = queue.cancel_campaign(&spring, true, by).await.unwrap();
    assert_eq!(done, CampaignCancelled::Cancelled { dropped: 0, stopping: 2, left: 0 });
    scene.finish(&running[0].token, Outcome::Cancelled).await;
    // It was done before the worker heard of it.
    scene.finish(&running[1].token, Outcome::Succeeded).await;
    let view = scene.view("spring").await;
    assert_eq!((view.state, view.cancelled + view.built), (CampaignState::Cancelled, 2));
    assert!(view.ended.is_some());
    let ended = CampaignCancelled::Ended(CampaignState::Cancelled);
    assert_eq!(queue.cancel_campaign(&spring, true, by).await.unwrap(), ended);
    let none = PacingChange::default();
    let changed = queue.change_campaign(&spring, Some(true), &none, by).await.unwrap();
    assert_eq!(changed, Changed::Ended(CampaignState::Cancelled));
    let left: u64 = scene.redis(&["EXISTS", &queue.keys().campaign_images()]).await;
    assert_eq!(left, 0, "no image is wanted any more");
    let acts = queue.acts(&ActFilter { limit: 50, ..ActFilter::default() }).await.unwrap().items;
    let of = |act: &str| acts.iter().filter(|one| one.act == act).count();
    assert_eq!((of("campaign cancelled"), of("campaign ended")), (1, 1));
    scene.check().await;
}

#[tokio::test]
async fn a_campaign_that_is_cancelled_before_its_start_leaves_nothing() {
    let scene = Scene::new().await;
    let (queue, spring) = (&scene.queue, name("spring"));
    for request in ["first", "second"] {
        let campaign = NewCampaign { request: request.to_owned(), ..new("spring", Pacing::default()) };
        assert_eq!(queue.new_campaign(&campaign, "test").await.unwrap(), Made::Made, "the name is free");
        queue.add_items(&spring, 0, &items(3)).await.unwrap();
        let done = queue.cancel_campaign(&spring, false, "test").await.unwrap();
        assert_eq!(done, CampaignCancelled::Cancelled { dropped: 3, stopping: 0, left: 0 });
        assert!(queue.campaign(&spring).await.unwrap().is_none());
        assert!(queue.campaigns().await.unwrap().campaigns.is_empty());
        let left: Vec<String> = scene.redis(&["KEYS", "*campaign*"]).await;
        assert!(left.is_empty(), "{left:?}");
        scene.check().await;
    }
}

#[tokio::test]
async fn a_standing_campaign_goes_on_until_it_is_cancelled() {
    let scene = Scene::new().await;
    let (queue, fresh) = (&scene.queue, name("fresh"));
    scene.beat("w", 4, &[]).await;
    let campaign = NewCampaign { standing: true, ..new("fresh", Pacing::default()) };
    assert_eq!(queue.new_campaign(&campaign, "test").await.unwrap(), Made::Made);
    scene.set_campaign("fresh", true).await;
    let all = items(2);
    for (first, item) in (0..).zip(&all) {
        assert_eq!(scene.feed().await, 0);
        assert_eq!(scene.waits("fresh").await, "it waits for new items");
        queue.add_items(&fresh, first, std::slice::from_ref(item)).await.unwrap();
        assert_eq!(scene.feed().await, 1);
        let token = scene.claim("w", 1).await.remove(0).token;
        assert_eq!(scene.feed().await, 0);
        assert_eq!(scene.waits("fresh").await, "its last builds are running");
        scene.finish(&token, Outcome::Succeeded).await;
    }
    let view = scene.view("fresh").await;
    assert_eq!((view.state, view.built, view.standing), (CampaignState::Running, 2, true));
    queue.cancel_campaign(&fresh, false, "test").await.unwrap();
    let view = scene.view("fresh").await;
    assert!(view.state == CampaignState::Cancelled && view.ended.is_some(), "{view:?}");
    scene.check().await;
}

#[tokio::test]
async fn a_cancelled_campaigns_build_goes_on_for_who_waits_for_it() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    scene.campaign("spring", &items(1), Pacing::default()).await;
    let build = scene.fed().await.remove(0).id;
    scene.submit(&ask("o/n0", 1)).await;
    scene.queue.cancel_campaign(&name("spring"), true, "test").await.unwrap();
    let build = scene.build(build).await;
    assert_eq!((build.state, build.spec.priority), (BuildState::Queued, Priority::Interactive));
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    assert!(scene.view("spring").await.ended.is_some());
    scene.check().await;
}
