//! The policy: shown, set, checked, audited, and restored after Redis was emptied.

use fairlane_common::queue::{Order, Policy};
use fairlane_dispatcher::api::{ActPage, PolicyView};
use fairlane_testkit::{RedisServer, wait_for_eq};
use serde_json::{Value, json};

use crate::support::{Dispatcher, SOON, Worker, problem, send};

async fn policy(dispatcher: &Dispatcher) -> PolicyView {
    send(dispatcher.get("/v1/policy")).await.json().await.unwrap()
}

async fn set(dispatcher: &Dispatcher, body: &Value) -> PolicyView {
    let answer = send(dispatcher.put("/v1/policy").json(body)).await;
    assert_eq!(answer.status().as_u16(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_policy_is_set_shown_and_audited_and_holds() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let _worker = Worker::start(&dispatcher.queue, 8).await;
    let before = policy(&dispatcher).await;
    assert_eq!((before.set, before.by, before.in_force.limit), (Policy::default(), None, Some(2)));
    assert_eq!(before.in_force.background_share, Some(0.75));
    assert_eq!(before.in_force.order, Some(Order::Fair));

    let now = set(&dispatcher, &json!({ "limit": 4, "background_share": 0.25, "order": "first-come" })).await;
    assert_eq!(
        (now.in_force.limit, now.in_force.burst, now.by.as_deref()),
        (Some(4), Some(4), Some("local"))
    );
    assert_eq!(now.set.background_share, Some(0.25));
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().background_max, 2);
    let lane = dispatcher.queue.lane(&"github.com/owner/one".parse().unwrap()).await.unwrap();
    assert_eq!((lane.limit, lane.burst), (4, 4));

    // A field that is left out gets its default again.
    let now = set(&dispatcher, &json!({ "background_share": 0 })).await;
    assert_eq!((now.in_force.limit, now.in_force.order), (Some(2), Some(Order::Fair)));
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().background_max, 0);
    let audit: ActPage = send(dispatcher.get("/v1/audit?act=policy%20set")).await.json().await.unwrap();
    let details: Vec<&str> = audit.acts.iter().map(|act| act.detail.as_str()).collect();
    assert_eq!(details[0], r#"{"background_share":0.0}"#);
    assert_eq!(details.len(), 2);
}

#[tokio::test]
async fn a_policy_that_cannot_be_is_refused_by_field_and_range() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    for (body, field, why) in [
        (json!({ "limit": 0 }), "limit", "from 1 to 10000"),
        (json!({ "limit": 3, "burst": 2 }), "burst", "at least the limit"),
        (json!({ "background_share": 1.5 }), "background_share", "from 0 to 1"),
        (json!({ "overtake_max_ms": 604_800_001 }), "overtake_max_ms", "from 0 to 604800000 ms (7 days)"),
        (json!({ "limits": 3 }), "limits", "unknown field"),
    ] {
        let answer = send(dispatcher.put("/v1/policy").json(&body)).await;
        let (status, word, whole) = problem(answer).await;
        assert_eq!(
            (status, word.as_str(), whole["field"].as_str()),
            (422, "invalid-field", Some(field)),
            "{whole}"
        );
        assert!(whole["detail"].as_str().unwrap().contains(why), "{whole}");
    }
    for body in [json!({ "order": "random" }), json!({ "limit": "three" })] {
        assert_eq!(problem(send(dispatcher.put("/v1/policy").json(&body)).await).await.0, 422);
    }
    assert_eq!(policy(&dispatcher).await.set, Policy::default());
}

#[tokio::test]
async fn the_settings_policy_yields_to_operators_and_is_put_back_after_redis_was_emptied() {
    let redis = RedisServer::start_default().await;
    let start = |limit| {
        let url = redis.url();
        async move {
            Dispatcher::start_with(&url, |settings| {
                settings.policy = Some(Policy { limit: Some(limit), ..Policy::default() });
            })
            .await
        }
    };
    let dispatcher = start(5).await;
    let seen = async |dispatcher: &Dispatcher| {
        let view = policy(dispatcher).await;
        (view.set.limit, view.by.unwrap_or_default())
    };
    let settings = || "settings".to_owned();
    wait_for_eq("the policy", SOON, (Some(5), settings()), async || seen(&dispatcher).await).await;
    set(&dispatcher, &json!({ "limit": 7 })).await;
    let other = start(6).await;
    other.build("one").await;
    other.stop().await;
    assert_eq!(seen(&dispatcher).await, (Some(7), "local".to_owned()), "an operator's word stays");
    redis.command(&["FLUSHALL"]).await;
    wait_for_eq("the policy", SOON, (Some(5), settings()), async || seen(&dispatcher).await).await;
}
