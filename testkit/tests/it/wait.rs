use std::time::Duration;

use fairlane_testkit::{wait_for, wait_for_eq};

#[tokio::test]
async fn a_wait_returns_the_value_as_soon_as_there_is_one() {
    let mut looks = 0;
    let seen = wait_for("the third look", Duration::from_millis(50), async || {
        looks += 1;
        (looks == 3).then_some(looks)
    })
    .await;
    assert_eq!(seen, 3);
}

#[tokio::test]
#[should_panic(expected = "waited 50ms for the moon to be 2; last seen: 1")]
async fn a_wait_that_times_out_says_what_for_and_what_it_saw() {
    wait_for_eq("the moon", Duration::from_millis(50), 2, async || 1).await;
}

#[tokio::test]
#[should_panic(expected = "the first look did not return")]
async fn a_look_that_hangs_is_cut_off() {
    wait_for("nothing", Duration::from_millis(50), async || std::future::pending::<bool>().await).await;
}
