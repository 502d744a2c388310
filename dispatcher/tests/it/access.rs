//! Who may do what.

use fairlane_dispatcher::{ServeError, serve};
use fairlane_testkit::RedisServer;
use reqwest::Method;
use tokio_util::sync::CancellationToken;

use crate::support::{Dispatcher, open, problem, request, send, settings};

const SUBMIT: &str = "submit-0123456789";
const READ: &str = "read-0123456789";
const OPERATE: &str = "operate-0123456789";

async fn guarded(redis: &RedisServer) -> Dispatcher {
    Dispatcher::start_with(&redis.url(), |settings| {
        let lines = format!("hub submit {SUBMIT}\npage read {READ}\nops operate {OPERATE}\n");
        settings.tokens.add_lines(&lines.into()).unwrap();
    })
    .await
}

#[tokio::test]
async fn each_call_needs_its_scope() {
    let redis = RedisServer::start_default().await;
    let dispatcher = guarded(&redis).await;
    let id = send(dispatcher.post("/v1/builds").bearer_auth(SUBMIT).json(&request("one"))).await;
    assert_eq!(id.status().as_u16(), 202);
    let id = id.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    // Each route with the tokens that it refuses. Without a token, every request is refused.
    for (method, path, refused) in [
        (Method::POST, "/v1/builds".to_owned(), &[READ, OPERATE][..]),
        (Method::GET, "/v1/builds".to_owned(), &[SUBMIT, OPERATE]),
        (Method::GET, format!("/v1/builds/{id}"), &[OPERATE]),
        (Method::DELETE, format!("/v1/builds/{id}"), &[SUBMIT, READ]),
        (Method::GET, format!("/v1/builds/{id}/events"), &[SUBMIT, OPERATE]),
        (Method::GET, format!("/v1/builds/{id}/log"), &[SUBMIT, OPERATE]),
        (Method::PUT, format!("/v1/builds/{id}/watchers"), &[OPERATE]),
        (Method::GET, "/v1/queue".to_owned(), &[SUBMIT, OPERATE]),
        (Method::GET, "/v1/lanes".to_owned(), &[SUBMIT]),
        (Method::GET, "/v1/lanes/github.com/owner/one".to_owned(), &[SUBMIT]),
        (Method::GET, "/v1/rules".to_owned(), &[SUBMIT]),
        (Method::PUT, "/v1/rules?pattern=*".to_owned(), &[SUBMIT, READ]),
        (Method::DELETE, "/v1/rules?pattern=*".to_owned(), &[SUBMIT, READ]),
        (Method::GET, "/v1/workers".to_owned(), &[SUBMIT]),
        (Method::POST, "/v1/workers/w/drain".to_owned(), &[SUBMIT, READ]),
        (Method::GET, "/v1/campaigns".to_owned(), &[SUBMIT, OPERATE]),
        (Method::POST, "/v1/campaigns".to_owned(), &[SUBMIT, READ]),
        (Method::GET, "/v1/campaigns/c".to_owned(), &[SUBMIT, OPERATE]),
        (Method::PATCH, "/v1/campaigns/c".to_owned(), &[SUBMIT, READ]),
        (Method::DELETE, "/v1/campaigns/c".to_owned(), &[SUBMIT, READ]),
        (Method::GET, "/v1/campaigns/c/items".to_owned(), &[SUBMIT, OPERATE]),
        (Method::POST, "/v1/campaigns/c/items".to_owned(), &[SUBMIT, READ]),
    ] {
        let call = || dispatcher.client.request(method.clone(), format!("{}{path}", dispatcher.url));
        let bare = send(call()).await;
        assert_eq!(bare.headers()["www-authenticate"], "Bearer realm=\"fairlane\"");
        assert_eq!(problem(bare).await.1, "not-signed-in", "{method} {path}");
        let unknown = send(call().bearer_auth("nobody-0123456789")).await;
        assert_eq!(problem(unknown).await.1, "not-signed-in");
        for token in refused {
            let (status, word, _) = problem(send(call().bearer_auth(token)).await).await;
            assert_eq!((status, word.as_str()), (403, "forbidden"), "{method} {path} with {token}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(send(dispatcher.get(path)).await.status().as_u16(), 200, "{path}");
    }
}

#[tokio::test]
async fn who_joins_a_build_learns_nothing_private_of_it() {
    let redis = RedisServer::start_default().await;
    let dispatcher = guarded(&redis).await;
    let mut body = request("one");
    body["labels"] = serde_json::json!({ "course": "hidden-label" });
    body["name"] = "hidden-name".into();
    let answer = send(dispatcher.post("/v1/builds").bearer_auth(SUBMIT).json(&body)).await;
    let id = answer.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let joined =
        send(dispatcher.post("/v1/builds").bearer_auth(SUBMIT).json(&body)).await.text().await.unwrap();
    assert!(!joined.contains("hidden"), "{joined}");
    let view = |token| send(dispatcher.get(&format!("/v1/builds/{id}")).bearer_auth(token));
    assert!(!view(SUBMIT).await.text().await.unwrap().contains("hidden"));
    assert!(view(READ).await.text().await.unwrap().contains("hidden-label"));
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served() {
    let redis = RedisServer::start_default().await;
    let mut open_to_all = settings();
    open_to_all.listen = "0.0.0.0:0".parse().unwrap();
    let queue = open(&redis.url()).await;
    let refused = serve(open_to_all, queue, CancellationToken::new(), |_| panic!("it must not listen")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ServeError::Open(_)));
    assert!(refused.to_string().contains("FAIRLANE_TOKEN"), "{refused}");

    let dispatcher = Dispatcher::start(&redis.url()).await;
    for (name, value) in [("origin", "https://evil.example.org"), ("host", "evil.example.org")] {
        let (status, word, _) = problem(send(dispatcher.get("/v1/queue").header(name, value)).await).await;
        assert_eq!((status, word.as_str()), (403, "forbidden"), "{name}");
    }
}

#[tokio::test]
async fn a_ban_holds_for_operators_too_until_they_override_it_and_that_is_noted() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        let lines = format!("ada submit,read,operate {OPERATE}\n");
        settings.tokens.add_lines(&lines.into()).unwrap();
    })
    .await;
    let ban = serde_json::json!({ "ban": { "message": "being repaired" } });
    let rule = dispatcher.put("/v1/rules?pattern=github.com/owner/*").bearer_auth(OPERATE).json(&ban);
    assert!(send(rule).await.status().is_success());
    let ask = |body: serde_json::Value| send(dispatcher.post("/v1/builds").bearer_auth(OPERATE).json(&body));
    let (status, word, _) = problem(ask(request("one")).await).await;
    assert_eq!((status, word.as_str()), (403, "banned"));

    let mut over = request("one");
    over["override_ban"] = true.into();
    let built = ask(over.clone()).await;
    assert_eq!(built.status().as_u16(), 202);
    let id = built.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(problem(ask(request("one")).await).await.1, "banned", "joining it is a request like others");
    assert_eq!(ask(over).await.status().as_u16(), 200);

    let audit = send(dispatcher.get("/v1/audit?act=ban%20overridden").bearer_auth(OPERATE)).await;
    let acts = audit.json::<fairlane_dispatcher::api::ActPage>().await.unwrap().acts;
    assert_eq!(acts.len(), 2, "{acts:?}");
    for act in acts {
        assert_eq!((act.by.as_str(), act.what.as_str()), ("ada", "github.com/owner/one"));
        assert_eq!(act.detail, format!("rule github.com/owner/*, build {id}"));
    }
}
