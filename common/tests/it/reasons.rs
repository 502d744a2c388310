//! `why` names what holds a build back.

use fairlane_common::queue::Outcome;
use fairlane_common::rule::Stop;
use fairlane_common::{BuildId, FailureClass, Rule};

use crate::scene::{Scene, ask, background, failed};

async fn why(scene: &Scene, id: BuildId) -> String {
    scene.queue.why(&scene.build(id).await).await.unwrap().text
}

#[tokio::test]
async fn why_names_what_holds_a_build() {
    let scene = Scene::new().await;
    let first = scene.submit(&ask("o/n", 1)).await;
    assert_eq!(why(&scene, first).await, "no live worker");
    scene.beat("w", 4, &[]).await;
    assert_eq!(why(&scene, first).await, "1st in line, starting at once");
    scene.rule("github.com/o/n", &Rule { limit: Some(1), ..Rule::default() }).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    assert_eq!(why(&scene, first).await, "starting on w for 1 s");
    scene.queue.report(&token, true, Some("pulling the builder")).await.unwrap();
    assert_eq!(why(&scene, first).await, "running on w for 1 s; expected to take 3 min: pulling the builder");
    // A note disappears when it no longer applies, and a new one is shown.
    for (note, said) in
        [(None, ""), (Some("its node does not answer"), ": its node does not answer"), (None, "")]
    {
        scene.queue.report(&token, true, note).await.unwrap();
        assert_eq!(why(&scene, first).await, format!("running on w for 1 s; expected to take 3 min{said}"));
    }
    let second = scene.submit(&ask("o/n", 2)).await;
    scene.pass(5000).await;
    assert_eq!(
        why(&scene, second).await,
        format!("waiting for a permit of github.com/o/n: 1 of 1 in use; build {first} has had one for 5 s")
    );
    let stop = Stop {
        message: Some("moving house".to_owned()),
        until: Some(scene.clock.now_ms() + 600_000),
        ..Stop::default()
    };
    scene.rule("github.com/h/*", &Rule { hold: Some(stop), ..Rule::default() }).await;
    let held = scene.submit(&ask("h/n", 1)).await;
    assert_eq!(
        why(&scene, held).await,
        "held by the rule for github.com/h/* for another 10 min: moving house"
    );
    scene.finish(&token, failed(FailureClass::Infrastructure)).await;
    let backing_off = why(&scene, first).await;
    assert!(
        backing_off.starts_with("attempt 2 starts in ")
            && backing_off.ends_with("the last one failed: it broke"),
        "{backing_off}"
    );
}

#[tokio::test]
async fn why_tells_the_place_in_line_and_the_shares() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    for n in 0..4 {
        scene.submit(&background(ask(&format!("o/bg{n}"), 1))).await;
    }
    let running = scene.claim("w", 4).await;
    assert_eq!(running.len(), 3);
    let waiting = scene.claim_ids("w", 1).await;
    assert!(waiting.is_empty());
    let left = scene.redis::<Vec<String>>(&["ZRANGE", "{fairlane}:queued", "0", "0"]).await;
    assert_eq!(
        why(&scene, left[0].parse().unwrap()).await,
        "waiting for a slot of the background share: 3 of 3 in use"
    );
    for n in 0..3 {
        scene.submit(&ask(&format!("o/n{n}"), 1)).await;
        scene.clock.advance_ms(1);
    }
    assert_eq!(scene.claim("w", 1).await.len(), 1);
    scene.beat("v", 4, &[]).await;
    scene.claim("v", 1).await;
    let next =
        scene.redis::<Vec<String>>(&["ZRANGE", "{fairlane}:queued", "0", "0"]).await[0].parse().unwrap();
    assert_eq!(why(&scene, next).await, "1st in line, starting at once");
    for one in running {
        scene.finish(&one.token, Outcome::Succeeded).await;
    }
}
