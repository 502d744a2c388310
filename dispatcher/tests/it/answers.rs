//! Responses are compressed if the client accepts that and it is worth it, and not sent at all to clients
//! that have them.

use fairlane_testkit::RedisServer;
use reqwest::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, VARY};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::support::{Dispatcher, Worker, problem, send};

/// A dispatcher with a client that does not decompress responses.
async fn with_plain_client(redis: &RedisServer) -> Dispatcher {
    let mut dispatcher = Dispatcher::start(&redis.url()).await;
    dispatcher.client = Client::builder().no_proxy().no_gzip().build().unwrap();
    dispatcher
}

async fn asked_for_gzip(dispatcher: &Dispatcher, path: &str) -> Response {
    send(dispatcher.get(path).header(ACCEPT_ENCODING, "gzip")).await
}

fn is_compressed(answer: &Response) -> bool {
    answer.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip")
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_asks_and_streams_never() {
    let redis = RedisServer::start_default().await;
    let dispatcher = with_plain_client(&redis).await;
    for n in 0..20 {
        dispatcher.build(&format!("build-{n}")).await;
    }
    let list = asked_for_gzip(&dispatcher, "/v1/builds").await;
    assert!(is_compressed(&list));
    assert_eq!(list.headers()[VARY], "accept-encoding");
    let small = list.bytes().await.unwrap().len();
    let plain = send(dispatcher.get("/v1/builds")).await;
    assert!(!is_compressed(&plain), "nobody asked for it");
    let plain = plain.bytes().await.unwrap();
    assert!(small * 4 < plain.len(), "{small} of {}", plain.len());
    // A client that decompresses gets the same content.
    let unpacked = send(Client::new().get(format!("{}/v1/builds", dispatcher.url))).await;
    assert_eq!(unpacked.bytes().await.unwrap(), plain);
    assert!(!is_compressed(&asked_for_gzip(&dispatcher, "/healthz").await), "too short");

    let worker = Worker::start(&dispatcher.queue, 1).await;
    let mut run = worker.claim().await;
    run.write_long(20, 100).await;
    let id = run.claimed.build.id;
    assert!(is_compressed(&asked_for_gzip(&dispatcher, &format!("/v1/builds/{id}/log")).await));
    let whole = send(Client::new().get(format!("{}/v1/builds/{id}/log", dispatcher.url))).await;
    assert!(whole.text().await.unwrap().lines().last().unwrap().starts_with("line 19"), "to its end");
    for live in ["log?follow=true", "events"] {
        let mut answer = asked_for_gzip(&dispatcher, &format!("/v1/builds/{id}/{live}")).await;
        assert!(!is_compressed(&answer), "{live}");
        let first = answer.chunk().await.unwrap().unwrap();
        assert!(!first.is_empty(), "{live} comes while the build runs");
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let redis = RedisServer::start_default().await;
    let dispatcher = with_plain_client(&redis).await;
    dispatcher.build("one").await;
    for path in ["/v1/builds", "/v1/lanes", "/v1/rules", "/v1/policy", "/openapi.json"] {
        let first = send(dispatcher.get(path)).await;
        let tag = first.headers()[ETAG].clone();
        let again = send(dispatcher.get(path).header(IF_NONE_MATCH, &tag)).await;
        assert_eq!((again.status(), &again.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &tag), "{path}");
        assert_eq!(again.headers()[CACHE_CONTROL], first.headers()[CACHE_CONTROL]);
        assert!(again.bytes().await.unwrap().is_empty());
    }
    let tag = send(dispatcher.get("/v1/builds")).await.headers()[ETAG].clone();
    dispatcher.build("two").await;
    let changed = send(dispatcher.get("/v1/builds").header(IF_NONE_MATCH, tag)).await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.json::<Value>().await.unwrap()["builds"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_may_be_kept_is_said() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    for (path, keeping) in [
        ("/openapi.json".to_owned(), "public, max-age=300"),
        ("/v1/queue".to_owned(), "private, no-cache"),
        ("/v1/lanes/github.com/owner/one".to_owned(), "private, no-cache"),
        ("/v1/builds".to_owned(), "no-store"),
        (format!("/v1/builds/{id}"), "no-store"),
        (format!("/v1/builds/{id}/log"), "no-store"),
        (format!("/v1/builds/{id}/events"), "no-cache"),
        ("/v1/audit".to_owned(), "no-store"),
        ("/readyz".to_owned(), "no-store"),
    ] {
        let answer = send(dispatcher.get(&path)).await;
        assert_eq!(
            (answer.status(), &answer.headers()[CACHE_CONTROL]),
            (StatusCode::OK, &keeping.parse().unwrap()),
            "{path}"
        );
    }
    let refused = send(dispatcher.get("/v1/lanes/github.com/owner/nobody")).await;
    assert_eq!(refused.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(problem(refused).await.1, "unknown-lane");
}
