//! Rate limits: a burst, then one request at a time, shared by all dispatchers.

use std::time::Duration;

use fairlane_common::queue::{Spend, Spent};

use crate::scene::Scene;

fn limit(whose: &str, count: u32, seconds: u64) -> Spend {
    Spend { whose: whose.to_owned(), count, per: Duration::from_secs(seconds) }
}

#[tokio::test]
async fn requests_come_back_one_by_one_and_the_wait_that_is_told_is_exact() {
    let scene = Scene::new().await;
    let hub = [limit("token:hub", 3, 10)];
    for _ in 0..3 {
        assert_eq!(scene.queue.spend(&hub).await.unwrap(), Spent::Spent);
    }
    let Spent::Limited { whose, wait } = scene.queue.spend(&hub).await.unwrap() else { panic!("a fourth") };
    // Three requests in 10 s: a third of that, in whole milliseconds, rounded up.
    assert_eq!((whose.as_str(), wait.as_millis()), ("token:hub", 3334));
    scene.clock.advance_ms(3333);
    assert!(matches!(scene.queue.spend(&hub).await.unwrap(), Spent::Limited { .. }));
    scene.clock.advance_ms(1);
    assert_eq!(scene.queue.spend(&hub).await.unwrap(), Spent::Spent);
    scene.clock.advance_ms(10_000);
    for _ in 0..3 {
        assert_eq!(scene.queue.spend(&hub).await.unwrap(), Spent::Spent, "all have come back");
    }
    let kept: i64 = scene.redis(&["PTTL", &scene.queue.keys().spent("token:hub")]).await;
    assert!((1..=10_000).contains(&kept), "it goes by itself: {kept}");
}

#[tokio::test]
async fn a_request_counts_against_all_of_its_limits_or_against_none() {
    let scene = Scene::new().await;
    let both = [limit("token:hub", 100, 60), limit("address:192.0.2.1", 1, 60)];
    assert_eq!(scene.queue.spend(&both).await.unwrap(), Spent::Spent);
    let key = scene.queue.keys().spent("token:hub");
    let before: String = scene.redis(&["GET", &key]).await;
    let refused = scene.queue.spend(&both).await.unwrap();
    assert!(matches!(&refused, Spent::Limited { whose, .. } if whose == "address:192.0.2.1"), "{refused:?}");
    assert_eq!(scene.redis::<String>(&["GET", &key]).await, before);
    assert_eq!(scene.queue.spend(&both[..1]).await.unwrap(), Spent::Spent, "others of the token go on");
}
