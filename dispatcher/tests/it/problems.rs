//! The responses to bad input: a status, a kind, the field, and never anybody else's build.

use fairlane_common::rule::{Rule, Stop};
use fairlane_testkit::RedisServer;
use serde_json::{Value, json};

use crate::support::{Dispatcher, problem, request, send};

fn with(field: &str, value: Value) -> Value {
    let mut body = request("one");
    body[field] = value;
    body
}

fn without(field: &str) -> Value {
    let mut body = request("one");
    body.as_object_mut().unwrap().remove(field);
    body
}

/// Bodies with an invalid field, the kind of error, and the field.
fn bad_fields() -> Vec<(Value, &'static str, &'static str)> {
    let long = "x".repeat(3000);
    let field = "invalid-field";
    vec![
        (without("repo"), field, "repo"),
        (without("ref"), field, "ref"),
        (without("image"), field, "image"),
        (with("repo", json!(7)), field, "repo"),
        (with("repo", json!("owner/name")), field, "repo"),
        (with("repo", json!("https://user:secret@github.com/o/n")), field, "repo"),
        (with("repo", json!("file:///etc/passwd")), field, "repo"),
        (with("repo", json!(format!("https://github.com/o/{long}"))), field, "repo"),
        (with("ref", json!("--upload-pack=x")), field, "ref"),
        (with("ref", json!("a\u{0}b")), field, "ref"),
        (with("ref", json!(long)), field, "ref"),
        (with("image", json!("-x")), field, "image"),
        (with("image", json!("a\nb")), field, "image"),
        (with("image", json!("user:secret@r.example.org/n")), field, "image"),
        (with("image", json!(long)), field, "image"),
        (with("name", json!("a\u{1b}b")), field, "name"),
        (with("priority", json!("urgent")), field, "priority"),
        (with("push", json!("yes")), field, "push"),
        (with("force", json!(1)), field, "force"),
        (with("labels", json!(["a"])), field, "labels"),
        (with("labels", json!({ "a": 1 })), field, "labels"),
        (with("labels", json!({ "": "a" })), field, "labels"),
        (with("repo", json!("file:///etc")), field, "repo"),
        (with("repo2docker_args", json!("--subdir=x")), field, "repo2docker_args"),
        (with("repo2docker_args", json!(vec!["--subdir=x"; 99])), field, "repo2docker_args"),
        (with("repo2docker_args", json!(["--ref=x"])), "argument-not-allowed", "repo2docker_args"),
        (
            with("repo2docker_args", json!(["--config=/etc/passwd"])),
            "argument-not-allowed",
            "repo2docker_args",
        ),
        (with("repo2docker_args", json!(["https://elsewhere"])), "argument-not-allowed", "repo2docker_args"),
        (with("nonsense", json!(1)), field, "nonsense"),
        (with("secrets", json!("text")), field, "secrets"),
        (with("secrets", json!({ "other": "x" })), field, "secrets"),
        (with("secrets", json!({ "git_credentials": 7 })), field, "secrets.git_credentials"),
        (with("secrets", json!({ "git_credentials": "x" })), "no-seal-key", "secrets"),
    ]
}

#[tokio::test]
async fn fields_that_cannot_be_taken_are_named() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    for (body, word, field) in bad_fields() {
        let response = send(dispatcher.post("/v1/builds").json(&body)).await;
        let (status, said, whole) = problem(response).await;
        assert_eq!(
            (status, said.as_str(), whole["field"].as_str()),
            (422, word, Some(field)),
            "{body}: {whole}"
        );
        assert!(!whole.to_string().contains("secret@"), "{whole}");
    }
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().queued, 0);
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let json_type = Some("application/json");
    for (body, content_type, status, word) in [
        ("{".to_owned(), json_type, 400, "malformed-json"),
        ("[]".to_owned(), json_type, 400, "malformed-json"),
        (String::new(), json_type, 400, "malformed-json"),
        (
            r#"{"repo":"https://github.com/o/n","repo":"https://github.com/o/m"}"#.to_owned(),
            json_type,
            400,
            "malformed-json",
        ),
        (r#"{"labels":{"a":"1","a":"2"}}"#.to_owned(), json_type, 400, "malformed-json"),
        ("{}".to_owned(), Some("text/plain"), 415, "wrong-content-type"),
        ("{}".to_owned(), None, 415, "wrong-content-type"),
        (format!("{{\"repo\":\"{}\"}}", "x".repeat(600_000)), json_type, 413, "too-large"),
    ] {
        let mut request = dispatcher.post("/v1/builds").body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let (seen, said, whole) = problem(send(request).await).await;
        assert_eq!((seen, said.as_str()), (status, word), "{whole}");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_read_is_said() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let nobody = "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d";
    for (path, status, word) in [
        (format!("/v1/builds/{nobody}"), 404, "unknown-build"),
        (format!("/v1/builds/{nobody}/events"), 404, "unknown-build"),
        (format!("/v1/builds/{nobody}/log"), 404, "unknown-build"),
        ("/v1/builds/nonsense".to_owned(), 404, "unknown-build"),
        (format!("/v1/builds/{id}/events?last_event_id=zzz"), 400, "bad-cursor"),
        (format!("/v1/builds/{id}/events?watchers=many"), 400, "bad-parameter"),
        (format!("/v1/builds/{id}/log?follow=perhaps"), 400, "bad-parameter"),
        ("/v1/builds?cursor=zzz".to_owned(), 400, "bad-cursor"),
        ("/v1/builds?state=lost".to_owned(), 400, "bad-parameter"),
        ("/v1/builds?limit=-1".to_owned(), 400, "bad-parameter"),
        ("/v1/builds?colour=red".to_owned(), 400, "bad-parameter"),
        ("/v1/builds?state=queued&state=failed".to_owned(), 400, "bad-parameter"),
        ("/v1/lanes?cursor=9:9:9".to_owned(), 400, "bad-cursor"),
        ("/v1/lanes/github.com/owner/nobody".to_owned(), 404, "unknown-lane"),
        ("/v1/lanes/nonsense".to_owned(), 404, "unknown-lane"),
        ("/v1/nothing".to_owned(), 404, "unknown-path"),
    ] {
        let (seen, said, whole) = problem(send(dispatcher.get(&path)).await).await;
        assert_eq!((seen, said.as_str()), (status, word), "{path}: {whole}");
    }
    let patch = dispatcher.patch("/v1/builds");
    assert_eq!(problem(send(patch).await).await.1, "wrong-method");
    let header = dispatcher.get(&format!("/v1/builds/{id}/events")).header("last-event-id", "1:2");
    assert_eq!(problem(send(header).await).await.1, "bad-cursor");
}

#[tokio::test]
async fn conflicts_and_bans_say_what_stands_in_the_way() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let other = with("ref", json!("another"));
    let (status, word, whole) = problem(send(dispatcher.post("/v1/builds").json(&other)).await).await;
    assert_eq!((status, word.as_str()), (409, "conflict"));
    assert_eq!(whole["build"], id.to_string());
    assert!(
        !whole.to_string().contains("3f2a91c"),
        "the other request is not this caller's to know: {whole}"
    );

    let ban = Stop { message: Some("too slow, see issue 7".to_owned()), ..Stop::default() };
    let rule = Rule { ban: Some(ban), ..Rule::default() };
    dispatcher.queue.set_rule(&"github.com/evil/*".parse().unwrap(), &rule, "test").await.unwrap();
    let scoped = Dispatcher::start_with(&redis.url(), |settings| {
        settings.tokens.add_lines(&"hub submit 0123456789abcdef".into()).unwrap();
    })
    .await;
    let banned = json!({ "repo": "https://github.com/evil/x", "ref": "1", "image": "r/evil:1" });
    let refused = scoped.post("/v1/builds").bearer_auth("0123456789abcdef").json(&banned);
    let (status, word, whole) = problem(send(refused).await).await;
    assert_eq!((status, word.as_str()), (403, "banned"));
    assert!(whole["detail"].as_str().unwrap().contains("too slow, see issue 7"), "{whole}");
    let mut over = banned.clone();
    over["override_ban"] = json!(true);
    let refused = scoped.post("/v1/builds").bearer_auth("0123456789abcdef").json(&over);
    assert_eq!(problem(send(refused).await).await.1, "forbidden", "only scope `operate` passes bans");
    // Without tokens, everybody is an operator, and can override a ban explicitly.
    assert_eq!(problem(send(dispatcher.post("/v1/builds").json(&banned)).await).await.1, "banned");
    assert_eq!(dispatcher.ask(&over).await.0.as_u16(), 202);
}
