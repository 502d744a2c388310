//! How fast a campaign goes.

use fairlane_common::queue::campaigns::{CampaignHours, Changed, Pacing, PacingChange, Window};
use fairlane_common::queue::{Outcome, Policy};

use super::{items, name};
use crate::scene::{Scene, ask};

#[tokio::test]
async fn its_share_bounds_how_many_run_at_once() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("spring", &items(9), Pacing { share: Some(0.25), ..Pacing::default() }).await;
    assert_eq!(scene.feed().await, 2);
    scene.claim("w", 8).await;
    assert_eq!(scene.feed().await, 0);
    assert!(scene.waits("spring").await.starts_with("2 of its builds run"));
    // It changes while the campaign runs, and the policy's share is the most.
    let to = Pacing { share: Some(1.0), ..Pacing::default() };
    let change = PacingChange { to, names: vec!["share"] };
    let changed = scene.queue.change_campaign(&name("spring"), None, &change, "test").await.unwrap();
    assert!(matches!(changed, Changed::Changed(_, 0)));
    assert_eq!(scene.feed().await, 4);
    scene.claim("w", 8).await;
    let policy = Policy { background_share: Some(0.0), ..Policy::default() };
    scene.queue.set_policy(&policy, "test").await.unwrap();
    assert_eq!(scene.feed().await, 0);
    scene.check().await;
}

#[tokio::test]
async fn no_more_start_within_an_hour_than_its_limit() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("spring", &items(9), Pacing { per_hour: Some(3), ..Pacing::default() }).await;
    let mut starts = vec![];
    for _ in 0..150 {
        scene.pass(60_000).await;
        scene.beat("w", 8, &[]).await;
        scene.feed().await;
        for claimed in scene.claim("w", 8).await {
            starts.push(scene.clock.now_ms());
            scene.finish(&claimed.token, Outcome::Succeeded).await;
        }
    }
    assert_eq!(starts.len(), 9, "all in time");
    for window in starts.windows(4) {
        assert!(window[3] - window[0] >= 3_600_000, "{starts:?}");
    }
}

#[tokio::test]
async fn what_needed_no_run_does_not_count_for_the_hour() {
    let scene = Scene::new().await;
    scene.beat("w", 8, &[]).await;
    scene.campaign("spring", &items(4), Pacing { per_hour: Some(1), ..Pacing::default() }).await;
    for _ in 0..3 {
        assert_eq!(scene.feed().await, 1);
        let token = scene.claim("w", 1).await.remove(0).token;
        scene.finish(&token, Outcome::AlreadyThere).await;
    }
    assert_eq!(scene.view("spring").await.present, 3);
    assert_eq!(scene.feed().await, 1);
    assert_eq!(scene.feed().await, 0);
}

#[tokio::test]
async fn it_pauses_while_people_wait_longer_than_its_limit() {
    let scene = Scene::new().await;
    scene.beat("w", 2, &[]).await;
    let pacing = Pacing { pause_when_waiting_ms: Some(10_000), ..Pacing::default() };
    scene.campaign("spring", &items(9), pacing).await;
    assert_eq!(scene.feed().await, 1);
    let held = scene.claim("w", 2).await;
    scene.submit(&ask("p/a", 1)).await;
    scene.submit(&ask("p/b", 1)).await;
    let people = scene.claim("w", 1).await;
    let tokens: Vec<_> = held.iter().chain(&people).map(|claimed| claimed.token.clone()).collect();
    for _ in 0..12 {
        scene.pass(1000).await;
        scene.beat("w", 2, &tokens).await;
        scene.feed().await;
    }
    assert!(
        scene.waits("spring").await.starts_with("people wait for a slot"),
        "{}",
        scene.waits("spring").await
    );
    scene.finish(&tokens[0], Outcome::Succeeded).await;
    scene.finish(&tokens[1], Outcome::Succeeded).await;
    let last = scene.claim("w", 1).await.remove(0).token;
    scene.finish(&last, Outcome::Succeeded).await;
    // For as long again, so that people who come now find both slots.
    assert_eq!(scene.feed().await, 0);
    scene.pass(9000).await;
    scene.beat("w", 2, &[]).await;
    assert_eq!(scene.feed().await, 0);
    scene.pass(1001).await;
    assert_eq!(scene.feed().await, 1);
}

#[tokio::test]
async fn hours_are_kept_by_what_the_caller_says_of_them() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let pacing = Pacing {
        hours: Some("22:00-06:00".parse().unwrap()),
        time_zone: Some("Europe/Berlin".to_owned()),
        ..Pacing::default()
    };
    scene.campaign("spring", &items(9), pacing).await;
    let fed = scene.queue.feed(&[]).await.unwrap();
    assert_eq!((fed.fed, fed.open), (0, 1), "nobody says that its hours have come");
    assert_eq!(scene.waits("spring").await, "outside its hours");
    let of = CampaignHours {
        name: "spring".to_owned(),
        hours: "22:00-06:00".to_owned(),
        zone: "Europe/Berlin".to_owned(),
    };
    assert_eq!(fed.hours, std::slice::from_ref(&of));
    let until = scene.clock.now_ms() + 5000;
    let feed = async |of: &CampaignHours, open| {
        let window = Window { of: of.clone(), open, until };
        scene.queue.feed(&[window]).await.unwrap().fed
    };
    assert_eq!(feed(&of, false).await, 0);
    // Of other hours, which somebody has changed since.
    assert_eq!(feed(&CampaignHours { hours: "21:00-06:00".to_owned(), ..of.clone() }, true).await, 0);
    assert_eq!(feed(&of, true).await, 3);
    scene.claim("w", 1).await;
    scene.pass(5000).await;
    assert_eq!(feed(&of, true).await, 0, "the answer is out of date");
}
