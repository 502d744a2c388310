//! Rate limits: how many requests a client may make over all dispatchers, and when it may make the next.

use std::time::Duration;

use fairlane_dispatcher::Settings;
use fairlane_testkit::RedisServer;
use tokio::time::Instant;

use crate::support::{Dispatcher, problem, send};

async fn limited(redis: &RedisServer, change: impl Fn(&mut Settings)) -> Dispatcher {
    Dispatcher::start_with(&redis.url(), |settings| {
        let tokens = "hub read,submit 0123456789abcdef\nops read fedcba9876543210".to_owned();
        settings.tokens.add_lines(&tokens.into()).unwrap();
        change(settings);
    })
    .await
}

#[tokio::test]
async fn a_token_has_its_requests_at_all_dispatchers_together() {
    let redis = RedisServer::start_default().await;
    let limit = |settings: &mut Settings| settings.clients.per_token = Some("6/12s".parse().unwrap());
    let (one, two) = (limited(&redis, limit).await, limited(&redis, limit).await);
    let ask = |at: &Dispatcher, token: &'static str| send(at.get("/v1/queue").bearer_auth(token));
    let began = Instant::now();
    let mut refused = None;
    // While the first requests are made, some of the limit becomes available again.
    for n in 0..60 {
        let response = ask(if n % 2 == 0 { &one } else { &two }, "0123456789abcdef").await;
        if response.status().as_u16() == 429 {
            assert!(n >= 6, "only {n} passed");
            refused = Some(response);
            break;
        }
        assert!(n <= 6 + began.elapsed().as_secs() / 2 + 1, "{n} passed");
    }
    let refused = refused.expect("the limit is kept");
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "one comes back every 2 s: {seconds}");
    let (_, word, whole) = problem(refused).await;
    assert_eq!((word.as_str(), whole["retry_after"].as_u64()), ("token-limit", Some(seconds)));
    let detail = whole["detail"].as_str().unwrap();
    assert!(detail.contains("'hub'") && detail.contains("6 requests in 12s"), "{detail}");
    // Other clients are not affected, and requests that cost Redis nothing are not limited.
    assert_eq!(ask(&one, "fedcba9876543210").await.status().as_u16(), 200);
    assert_eq!(send(one.get("/healthz")).await.status().as_u16(), 200);
    // After the time that the response named, the next request passes, at either dispatcher.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(ask(&two, "0123456789abcdef").await.status().as_u16(), 200);
}

#[tokio::test]
async fn an_address_has_its_requests_also_behind_proxies_and_without_a_token() {
    let redis = RedisServer::start_default().await;
    let dispatcher = limited(&redis, |settings| {
        settings.clients.per_address = Some("3/1h".parse().unwrap());
        settings.connections.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let from = |client: &str| send(dispatcher.get("/v1/queue").header("x-forwarded-for", client));
    for _ in 0..3 {
        assert_eq!(problem(from("203.0.113.9").await).await.1, "not-signed-in");
    }
    let (status, word, whole) = problem(from("1.1.1.1, 203.0.113.9").await).await;
    assert_eq!((status, word.as_str()), (429, "address-limit"), "a made-up first entry changes nothing");
    assert!((1190..=1200).contains(&whole["retry_after"].as_u64().unwrap()), "{whole}");
    assert_eq!(problem(from("203.0.113.10").await).await.0, 401, "another client has its own");
}

#[tokio::test]
async fn without_a_limit_nothing_is_asked_of_redis_for_it() {
    let redis = RedisServer::start_default().await;
    let dispatcher = limited(&redis, |_| {}).await;
    send(dispatcher.get("/v1/queue").bearer_auth("0123456789abcdef")).await;
    let mut connection = redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:spent:*").query_async(&mut connection).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn the_limit_of_tokens_is_not_for_those_who_need_none() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.clients.per_token = Some("1/1h".parse().unwrap());
    })
    .await;
    for _ in 0..3 {
        assert_eq!(send(dispatcher.get("/v1/queue")).await.status().as_u16(), 200);
    }
}

#[tokio::test]
async fn a_network_counts_as_one_client_and_one_that_was_refused_costs_redis_nothing() {
    let redis = RedisServer::start_default().await;
    let dispatcher = limited(&redis, |settings| {
        settings.clients.per_address = Some("1/1h".parse().unwrap());
        settings.connections.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let from = async |client: &str| {
        send(dispatcher.get("/v1/queue").header("x-forwarded-for", client)).await.status().as_u16()
    };
    assert_eq!(from("2001:db8::1").await, 401);
    assert_eq!(from("2001:db8::2").await, 429, "of the same network");
    assert_eq!(from("2001:db8:0:1::1").await, 401);
    // If Redis were asked again, it would know of no request.
    redis.command(&["FLUSHALL"]).await;
    assert_eq!(from("2001:db8::1").await, 429);
}
