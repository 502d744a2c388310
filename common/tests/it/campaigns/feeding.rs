//! Which items are put into line, and when.

use fairlane_common::queue::campaigns::Pacing;
use fairlane_common::queue::{Outcome, Submitted};
use fairlane_common::rule::Stop;
use fairlane_common::{Priority, Rule};

use super::{item, items};
use crate::scene::{Scene, ask, background};

#[tokio::test]
async fn items_enter_the_line_only_when_they_could_start() {
    let scene = Scene::new().await;
    scene.campaign("spring", &items(10), Pacing::default()).await;
    assert_eq!(scene.feed().await, 0, "there is no slot");
    assert_eq!(scene.waits("spring").await, "no slot is free");
    scene.beat("w", 8, &[]).await;
    // The background share is three quarters of the slots.
    let fed = scene.fed().await;
    let lanes: Vec<&str> = fed.iter().map(|build| build.lane.as_str()).collect();
    assert_eq!(lanes, (0..6).map(|n| format!("github.com/o/n{n}")).collect::<Vec<_>>(), "the first ones");
    for build in &fed {
        assert_eq!((build.spec.priority, build.campaign.as_deref()), (Priority::Background, Some("spring")));
        assert_eq!(build.spec.args, Vec::<String>::new());
    }
    let why = scene.queue.why(&fed[0]).await.unwrap().text;
    assert!(why.ends_with("(campaign spring)"), "{why}");
    assert_eq!(scene.feed().await, 0, "nobody has claimed these");
    assert_eq!(scene.waits("spring").await, "builds in line are about to start");
    assert_eq!(scene.claim("w", 8).await.len(), 6);
    assert_eq!(scene.feed().await, 0);
    assert!(scene.waits("spring").await.starts_with("background builds running: 6"));
    scene.check().await;
}

#[tokio::test]
async fn nothing_is_fed_while_a_build_of_people_could_start() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("spring", &items(4), Pacing::default()).await;
    scene.submit(&ask("p/p", 1)).await;
    assert_eq!(scene.feed().await, 0);
    assert_eq!(scene.waits("spring").await, "builds in line are about to start");
    assert_eq!(scene.claim("w", 1).await.len(), 1);
    assert_eq!(scene.feed().await, 4);
    // Somebody comes before these are claimed, and is first.
    let person = scene.submit(&ask("p/q", 1)).await;
    assert_eq!(scene.claim_ids("w", 1).await, [person]);
    scene.check().await;
}

#[tokio::test]
async fn a_quarter_of_the_slots_stays_free_for_people() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    for n in 0..4 {
        scene.submit(&ask(&format!("p/p{n}"), 1)).await;
    }
    assert_eq!(scene.claim("w", 4).await.len(), 4);
    scene.campaign("spring", &items(10), Pacing::default()).await;
    assert_eq!(scene.feed().await, 2, "two of the four free slots");
    assert_eq!(scene.claim("w", 4).await.len(), 2);
    assert_eq!(scene.feed().await, 0);
    assert_eq!(scene.waits("spring").await, "the last 2 free slots are kept for people");
    for n in 4..6 {
        let person = scene.submit(&ask(&format!("p/p{n}"), 1)).await;
        assert_eq!(scene.claim_ids("w", 4).await, [person], "who comes starts at once");
    }
    assert_eq!(scene.feed().await, 0);
    assert_eq!(scene.waits("spring").await, "no slot is free");
    scene.check().await;
}

#[tokio::test]
async fn lanes_that_are_held_or_full_hold_up_no_others() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.rule("github.com/held/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
    scene.rule("github.com/banned/*", &Rule { ban: Some(Stop::default()), ..Rule::default() }).await;
    scene.rule("github.com/both/*", &Rule { limit: Some(1), together: true, ..Rule::default() }).await;
    scene.reap().await;
    // More of them than one look finds.
    let mut all: Vec<_> = (0..60).map(|n| item(&format!("held/n{n}"), 1)).collect();
    all.extend((0..60).map(|n| item(&format!("banned/n{n}"), 1)));
    all.extend((0..4).map(|n| item("same/lane", n)));
    all.extend((0..4).map(|n| item(&format!("both/n{n}"), 1)));
    all.push(item("o/free", 1));
    scene.campaign("spring", &all, Pacing::default()).await;
    let mut lanes = vec![];
    for _ in 0..5 {
        lanes.extend(scene.fed().await.into_iter().map(|build| build.lane.to_string()));
        scene.claim("w", 8).await;
    }
    lanes.sort_unstable();
    // Of a lane as many as it may have without borrowing, of a shared limit as many as it is.
    let expected = ["both/n0", "o/free", "same/lane", "same/lane"];
    assert_eq!(lanes, expected.map(|lane| format!("github.com/{lane}")));
    assert_eq!(scene.waits("spring").await, "its next repositories are at their limits, held or banned");
    scene.check().await;
}

#[tokio::test]
async fn campaigns_share_the_slots() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    let other: Vec<_> = (0..10).map(|n| item(&format!("other/n{n}"), 1)).collect();
    scene.campaign("first", &items(10), Pacing::default()).await;
    scene.feed().await;
    let held = scene.claim("w", 8).await;
    assert_eq!(held.len(), 6);
    scene.campaign("second", &other, Pacing::default()).await;
    // The one with fewer builds is next, until both have as many.
    for claimed in &held[..4] {
        scene.finish(&claimed.token, Outcome::Succeeded).await;
        scene.feed().await;
        scene.claim("w", 1).await;
    }
    assert_eq!((scene.view("first").await.building, scene.view("second").await.building), (3, 3));
    scene.check().await;
}

#[tokio::test]
async fn who_asks_for_an_item_takes_it_over() {
    let scene = Scene::new().await;
    scene.beat("w", 2, &[]).await;
    scene.campaign("spring", &items(3), Pacing { share: Some(0.5), ..Pacing::default() }).await;
    let fed = scene.fed().await.remove(0);
    let Submitted::Joined(joined) = scene.queue.submit(&ask("o/n0", 1)).await.unwrap() else { panic!() };
    assert_eq!(joined.id, fed.id);
    assert_eq!(scene.build(fed.id).await.spec.priority, Priority::Interactive);
    let token = scene.claim("w", 1).await.remove(0).token;
    // An item of which somebody asks for the image first waits for that build.
    let theirs = scene.submit(&ask("o/n1", 1)).await;
    let other = scene.claim("w", 1).await.remove(0);
    assert_eq!(other.build.id, theirs);
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(scene.fed().await.remove(0).lane.as_str(), "github.com/o/n2");
    let view = scene.view("spring").await;
    assert_eq!((view.built, view.joined, view.building, view.waiting), (1, 1, 1, 0));
    scene.finish(&other.token, Outcome::Succeeded).await;
    let view = scene.view("spring").await;
    assert_eq!((view.built_by_people, view.joined), (1, 0));
    assert_eq!(view.covered.to_string(), "2");
    scene.check().await;
}

#[tokio::test]
async fn what_people_built_meanwhile_is_not_built_again() {
    let scene = Scene::new().await;
    scene.beat("w", 1, &[]).await;
    scene.campaign("spring", &items(2), Pacing::default()).await;
    // Its item has never been looked at.
    scene.submit(&ask("o/n1", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(scene.view("spring").await.built_by_people, 1);
    // An end that a process of an older release reports is found by the memory of the image.
    let keys = scene.queue.keys();
    scene.redis::<()>(&["DEL", &keys.campaign_images()]).await;
    scene.submit(&ask("o/n0", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(scene.feed().await, 0);
    let view = scene.view("spring").await;
    assert_eq!((view.built_by_people, view.state.word()), (2, "ended"));
    scene.check().await;
}

#[tokio::test]
async fn other_background_builds_go_first() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("spring", &items(2), Pacing::default()).await;
    let other = scene.submit(&background(ask("p/p", 1))).await;
    assert_eq!(scene.feed().await, 0);
    assert_eq!(scene.claim_ids("w", 1).await, [other]);
    assert_eq!(scene.feed().await, 2);
}
