//! The web page: its files and headers, base paths, and answers that open pages share.

use std::collections::BTreeSet;

use fairlane_dispatcher::Tokens;
use fairlane_testkit::RedisServer;
use reqwest::{Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::{Dispatcher, problem, request, send};

/// Maximum size of the page, compressed, in bytes.
const PAGE_BYTES_MAX: usize = 250_000;

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The URLs in the `src` and `href` attributes of a page.
fn addresses(html: &str) -> Vec<String> {
    let parts = html.split(['"', '\'']).collect::<Vec<_>>();
    let named = parts.windows(2).filter(|pair| pair[0].ends_with("src=") || pair[0].ends_with("href="));
    named.map(|pair| pair[1].to_owned()).collect()
}

fn plain_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .gzip(false)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_page_is_small_and_loads_nothing_from_elsewhere() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let client = plain_client();
    let index = send(client.get(format!("{}/", dispatcher.url))).await;
    let html = index.text().await.unwrap();
    let files: BTreeSet<_> = addresses(&html).into_iter().collect();
    assert!(files.len() > 10, "{files:?}");
    let mut bytes = html.len();
    for file in &files {
        assert!(file.starts_with("page/"), "{file} is relative, and one of ours");
        let get = client.get(format!("{}/{file}", dispatcher.url)).header("accept-encoding", "gzip");
        let response = send(get).await;
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        assert_eq!(header(&response, "cache-control"), "public, max-age=31536000, immutable", "{file}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{file}");
        bytes += response.bytes().await.unwrap().len();
    }
    assert!(bytes < PAGE_BYTES_MAX, "{bytes} bytes");
    let licenses = html.split("page/").nth(1).unwrap().split('/').next().unwrap();
    let text = send(client.get(format!("{}/page/{licenses}/vendor/LICENSES.txt", dispatcher.url))).await;
    assert!(text.text().await.unwrap().contains("Permission is hereby granted"));
    dispatcher.stop().await;
}

#[tokio::test]
async fn the_page_is_locked_down_and_needs_no_token() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings
            .tokens
            .add_lines(&SecretString::from("ops operate,read 0123456789abcdef\nwatch read fedcba9876543210"))
            .unwrap();
    })
    .await;
    let index = send(dispatcher.get("/")).await;
    assert_eq!(
        (index.status(), header(&index, "content-type")),
        (StatusCode::OK, "text/html; charset=utf-8")
    );
    let policy = header(&index, "content-security-policy").to_owned();
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(header(&index, "referrer-policy"), "no-referrer");
    assert_eq!(header(&index, "x-content-type-options"), "nosniff");
    assert_eq!(header(&index, "cache-control"), "no-cache");
    let tag = header(&index, "etag").to_owned();
    let again = send(dispatcher.get("/").header("if-none-match", tag)).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(!header(&again, "content-security-policy").is_empty());

    // Data needs a token at any path, and an unknown path still gets a problem response.
    let (status, word, _) =
        problem(send(dispatcher.get("/v1/queue").header("cache-control", "max-age=2")).await).await;
    assert_eq!((status, word.as_str()), (401, "not-signed-in"));
    for path in ["/nothing", "/builds", "/page/0/nothing.js", "/page/"] {
        let (status, word, _) = problem(send(dispatcher.get(path)).await).await;
        assert_eq!((status, word.as_str()), (404, "unknown-path"), "{path}");
    }
    dispatcher.stop().await;
}

#[tokio::test]
async fn callers_learn_what_their_token_allows() {
    let redis = RedisServer::start_default().await;
    let open = Dispatcher::start(&redis.url()).await;
    let body: Value = send(open.get("/v1/whoami")).await.json().await.unwrap();
    assert_eq!(body, json!({ "name": "local", "scopes": ["submit", "read", "operate"], "signed_in": false }));
    let mut tokens = Tokens::default();
    tokens.add_lines(&SecretString::from("watch read fedcba9876543210")).unwrap();
    let guarded = Dispatcher::start_with(&redis.url(), |settings| settings.tokens = tokens).await;
    let body: Value =
        send(guarded.get("/v1/whoami").bearer_auth("fedcba9876543210")).await.json().await.unwrap();
    assert_eq!(body, json!({ "name": "watch", "scopes": ["read"], "signed_in": true }));
    let (status, word, _) =
        problem(send(guarded.get("/v1/whoami").bearer_auth("fedcba987654321")).await).await;
    assert_eq!((status, word.as_str()), (401, "not-signed-in"));
    open.stop().await;
    guarded.stop().await;
}

#[tokio::test]
async fn everything_is_below_the_base_path_too() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.base_path = Some("/services/fairlane/".parse().unwrap());
    })
    .await;
    let client = plain_client();
    let at = |path: &str| client.get(format!("{}{path}", dispatcher.url));
    let bare = send(at("/services/fairlane")).await;
    assert_eq!(
        (bare.status(), header(&bare, "location")),
        (StatusCode::TEMPORARY_REDIRECT, "/services/fairlane/")
    );
    let html = send(at("/services/fairlane/")).await.text().await.unwrap();
    for file in addresses(&html) {
        assert_eq!(send(at(&format!("/services/fairlane/{file}"))).await.status(), StatusCode::OK, "{file}");
    }
    let (status, answer) = dispatcher.ask(&request("one")).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    for path in ["/v1/builds?limit=5", "/v1/lanes/github.com/owner/one", "/healthz", "/openapi.json"] {
        assert_eq!(send(at(path)).await.status(), StatusCode::OK, "{path}");
        assert_eq!(send(at(&format!("/services/fairlane{path}"))).await.status(), StatusCode::OK, "{path}");
    }
    let deleted = client.delete(format!("{}/services/fairlane/v1/builds/{}", dispatcher.url, answer.id));
    assert_eq!(send(deleted).await.status(), StatusCode::OK);
    for path in ["/services/fairlane/nothing", "/services/fairlanes/v1/queue"] {
        let (status, word, _) = problem(send(at(path)).await).await;
        assert_eq!((status, word.as_str()), (404, "unknown-path"), "{path}");
    }
    dispatcher.stop().await;
}

/// How many function calls Redis has run.
async fn snapshots(redis: &RedisServer) -> u64 {
    let mut connection = redis.connect().await;
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let line = info.lines().filter(|line| line.starts_with("cmdstat_fcall"));
    let calls = line.filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
    calls.sum()
}

#[tokio::test]
async fn fifty_pages_cost_redis_no_more_than_one() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    dispatcher.build("one").await;
    let look = || dispatcher.get("/v1/queue").header("cache-control", "max-age=10");
    let first: Value = send(look()).await.json().await.unwrap();
    assert_eq!(first["totals"]["queued"], 1);
    dispatcher.build("two").await;
    let looks = futures::future::join_all((0..50).map(|_| async { send(look()).await })).await;
    let mut tag = String::new();
    for response in looks {
        assert_eq!(header(&response, "cache-control"), "private, no-cache");
        header(&response, "etag").clone_into(&mut tag);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body, first, "it is the answer that the first page got");
    }
    assert_eq!(send(look().header("if-none-match", tag)).await.status(), StatusCode::NOT_MODIFIED);

    // All other requests get current data, as the page does after an act.
    let fresh: Value = send(dispatcher.get("/v1/queue")).await.json().await.unwrap();
    assert_eq!(fresh["totals"]["queued"], 2);
    let before = snapshots(&redis).await;
    futures::future::join_all((0..50).map(|_| async { send(look()).await })).await;
    let cost = snapshots(&redis).await - before;
    assert!(cost < 50, "{cost} calls for 50 shared answers");
    dispatcher.stop().await;
}

#[tokio::test]
async fn who_comes_while_an_answer_is_read_waits_for_it() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let created = dispatcher.post("/v1/campaigns").json(&json!({ "name": "spring" }));
    assert_eq!(send(created).await.status(), StatusCode::CREATED);
    let build = format!("/v1/builds/{id}");
    let campaign = "/v1/campaigns/spring";
    for path in [
        build.as_str(),
        "/v1/builds?limit=5",
        "/v1/audit",
        "/v1/campaigns",
        campaign,
        &format!("{campaign}/items"),
    ] {
        let looks = (0..20).map(|_| async {
            let response = send(dispatcher.get(path).header("cache-control", "max-age=10")).await;
            assert_ne!(header(&response, "age"), "", "{path} is shared");
            assert_eq!((response.status(), header(&response, "cache-control")), (StatusCode::OK, "no-store"));
            response.text().await.unwrap()
        });
        let bodies: BTreeSet<_> = futures::future::join_all(looks).await.into_iter().collect();
        assert_eq!(bodies.len(), 1, "{path}: {bodies:?}");
    }
    // Errors go through the same path, and keep their status.
    let missing = dispatcher.get("/v1/lanes/github.com/owner/nothing").header("cache-control", "max-age=10");
    assert_eq!(problem(send(missing).await).await.0, 404);
    let wrong = dispatcher.get("/v1/builds?state=nothing").header("cache-control", "max-age=10");
    assert_eq!(problem(send(wrong).await).await.0, 400);
    dispatcher.stop().await;
}

#[tokio::test]
async fn builds_are_found_by_a_part_of_a_name() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let (alpha, beta) =
        (dispatcher.build("alpha").await.to_string(), dispatcher.build("beta").await.to_string());
    let both = vec![alpha.clone(), beta.clone()];
    for (text, ids) in [
        ("ALPH", vec![alpha.clone()]),
        ("r/beta", vec![beta.clone()]),
        ("owner/", both.clone()),
        ("3f2a91c", both),
        (&beta[28..], vec![beta.clone()]),
        ("gamma", Vec::new()),
    ] {
        let page: Value =
            send(dispatcher.get("/v1/builds").query(&[("q", text)])).await.json().await.unwrap();
        let found: Vec<_> =
            page["builds"].as_array().unwrap().iter().map(|build| build["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{text}");
    }
    dispatcher.stop().await;
}
