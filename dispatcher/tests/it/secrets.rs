//! Secrets are sealed before they reach Redis, and are never shown.

use fairlane_common::seal::SealKeys;
use fairlane_testkit::{AppendOnly, RedisServer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::support::{Dispatcher, Worker, request, send};

fn seal_keys() -> SealKeys {
    SealKeys::parse(&SecretString::from(format!("a:{}", "5a".repeat(32)))).unwrap()
}

#[tokio::test]
async fn secrets_are_sealed_in_redis_and_never_shown() {
    let redis = RedisServer::builder().append_only(AppendOnly::Always).start().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| settings.seal = Some(seal_keys())).await;
    let mut body = request("one");
    body["secrets"] = json!({
        "git_credentials": "username=x\npassword=hunter2",
        "registry_credentials": { "auths": { "r.example.org": { "auth": "aHVudGVyMg==" } } },
    });
    let (_, answer) = dispatcher.ask(&body).await;
    let shown = [
        send(dispatcher.get(&format!("/v1/builds/{}", answer.id))).await.text().await.unwrap(),
        send(dispatcher.get("/v1/builds")).await.text().await.unwrap(),
        everything(&redis),
    ];
    for text in shown {
        for secret in ["hunter2", "aHVudGVyMg==", &hex("hunter2")] {
            assert!(!text.contains(secret), "{secret} is shown");
        }
    }
    let run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    let build = &run.claimed.build;
    let opened = seal_keys().open(build.spec.secrets.as_ref().unwrap(), build.id, &build.spec.image).unwrap();
    assert_eq!(opened["git_credentials"].expose_secret(), "username=x\npassword=hunter2");
    assert!(opened["registry_credentials"].expose_secret().contains("r.example.org"));
}

fn hex(text: &str) -> String {
    text.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).map(char::from).collect()
}

/// All writes that Redis received, as text, from its append-only files.
fn everything(redis: &RedisServer) -> String {
    let mut folders = vec![redis.dir().to_owned()];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    assert!(text.contains("https://github.com/owner/one"), "the build is kept");
    text
}
