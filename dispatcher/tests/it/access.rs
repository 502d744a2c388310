//! Who may do what.

use fairlane_dispatcher::{ServeError, openapi, serve};
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

/// The tokens that each operation accepts. Whoever adds one has to say here whom it is for.
const ACCEPTED: &[(&[&str], &[&str])] = &[
    (&["ask_for_build"], &[SUBMIT]),
    (&["show_build", "set_watchers"], &[SUBMIT, READ]),
    (&["list_builds", "follow_build", "read_log", "show_queue", "show_scale", "show_history"], &[READ]),
    (&["list_lanes", "show_lane", "list_rules", "show_policy", "list_workers", "list_nodes"], &[READ]),
    (&["list_acts", "list_changes", "list_campaigns", "show_campaign", "list_campaign_items"], &[READ]),
    (&["cancel_build", "promote_build", "prune_logs", "set_rule", "delete_rule", "set_policy"], &[OPERATE]),
    (&["drain_worker", "clear_node", "create_campaign", "change_campaign"], &[OPERATE]),
    (&["cancel_campaign", "add_campaign_items"], &[OPERATE]),
    (&["who_am_i"], &[SUBMIT, READ, OPERATE]),
];

#[tokio::test]
async fn each_call_needs_its_scope() {
    let redis = RedisServer::start_default().await;
    let dispatcher = guarded(&redis).await;
    let id = send(dispatcher.post("/v1/builds").bearer_auth(SUBMIT).json(&request("one"))).await;
    assert_eq!(id.status().as_u16(), 202);
    let id = id.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path =
            path.replace("{id}", &id).replace("{*lane}", "github.com/owner/one").replace("{name}", "c");
        for (method, operation) in operations.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            let url = format!("{}{}", dispatcher.url, path.replace("{node}", "n"));
            let method: Method = method.to_uppercase().parse().unwrap();
            let call = || dispatcher.client.request(method.clone(), &url);
            let bare = send(call()).await;
            if !path.starts_with("/v1/") {
                assert_eq!(bare.status().as_u16(), 200, "{path} is for everybody");
                continue;
            }
            assert_eq!(bare.headers()["www-authenticate"], "Bearer realm=\"fairlane\"", "{method} {path}");
            assert_eq!(problem(bare).await.1, "not-signed-in", "{method} {path}");
            let unknown = send(call().bearer_auth("nobody-0123456789")).await;
            assert_eq!(problem(unknown).await.1, "not-signed-in", "{method} {path}");
            let accepted = ACCEPTED.iter().find(|(names, _)| names.contains(&name));
            let (_, accepted) = accepted.unwrap_or_else(|| panic!("whom is {name} for?"));
            // READ first: where answers are shared, the others must not get the one that it got.
            for (token, shared) in
                [READ, SUBMIT, OPERATE].into_iter().flat_map(|one| [(one, false), (one, true)])
            {
                if shared && method != Method::GET {
                    continue;
                }
                let age = if shared { "max-age=2" } else { "no-cache" };
                let answer = send(call().bearer_auth(token).header("cache-control", age)).await;
                if accepted.contains(&token) {
                    assert!(![401, 403].contains(&answer.status().as_u16()), "{name} with {token}");
                } else {
                    let (status, word, _) = problem(answer).await;
                    assert_eq!((status, word.as_str()), (403, "forbidden"), "{name} with {token}");
                }
            }
        }
    }
    assert_eq!(send(dispatcher.get("/openapi.json")).await.status().as_u16(), 200);
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
    for age in ["no-cache", "max-age=2"] {
        let path = format!("/v1/builds/{id}");
        let view = |token| send(dispatcher.get(&path).bearer_auth(token).header("cache-control", age));
        assert!(view(READ).await.text().await.unwrap().contains("hidden-label"));
        assert!(!view(SUBMIT).await.text().await.unwrap().contains("hidden"));
    }
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
