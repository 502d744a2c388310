//! Fairlane's users in Redis have the rights that they need, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use fairlane_common::keys::Keys;
use fairlane_common::log::{LogLine, LogWriter};
use fairlane_common::queue::{Finish, Outcome, Submitted};
use fairlane_common::{BuildState, Link, Queue, acl};
use fairlane_testkit::{RedisServer, redis_url_for};
use redis::aio::MultiplexedConnection;

use crate::scene::{K8S, ask, beat_of, claim_of};

async fn queue_of(server: &RedisServer, role: &str) -> Queue {
    Queue::open(&redis_url_for(role, &server.url()).parse().unwrap(), "fairlane").await.unwrap()
}

async fn connection_of(server: &RedisServer, role: &str) -> MultiplexedConnection {
    let client = redis::Client::open(redis_url_for(role, &server.url())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn a_dispatcher_a_worker_and_a_reader_need_no_other_right() {
    let server = RedisServer::start_default().await;
    let dispatchers = queue_of(&server, "dispatcher").await;
    let workers = queue_of(&server, "worker").await;
    workers.renew(&beat_of("w", K8S, 2, &[])).await.unwrap();
    let Submitted::New(asked) = dispatchers.submit(&ask("o/one", 1)).await.unwrap() else {
        panic!("not new")
    };
    let claimed = workers.claim(&claim_of("w", K8S, 1)).await.unwrap().builds.remove(0);
    let mut log = LogWriter::new(workers.clone(), claimed.token.clone(), 1, "0-0".to_owned());
    log.append(&[LogLine { t: String::new(), text: "hello".to_owned() }]).await.unwrap();
    workers.identify("a1").await.unwrap();
    workers.finish(&claimed.token, &Finish::of(Outcome::Succeeded)).await.unwrap();
    for queue in [&dispatchers, &workers] {
        queue.reap().await.unwrap();
    }
    dispatchers.remove_unused_libraries().await.unwrap();
    let readers = queue_of(&server, "reader").await;
    assert!(readers.check(100).await.unwrap().problems.is_empty());
    assert_eq!(readers.snapshot().await.unwrap().slots, 2);
    assert_eq!(readers.workers().await.unwrap().len(), 1);
    assert_eq!(readers.build(asked.id).await.unwrap().unwrap().state, BuildState::Succeeded);
    assert_eq!(readers.read_log(asked.id, 1, "0", 10).await.unwrap().entries[0].text, "hello");
    assert_eq!(server.denied().await, Vec::<String>::new());
}

#[tokio::test]
async fn each_user_is_kept_to_its_rights() {
    let server = RedisServer::start_default().await;
    let both = [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG SET appendonly no",
        "CONFIG REWRITE",
        "KEYS *",
        "GET other",
        "SET other x",
        "HGETALL {other}:rules",
        "PUBLISH other x",
        "SCRIPT FLUSH",
        "FUNCTION FLUSH",
        "ACL LIST",
        "CLIENT KILL TYPE normal",
        "REPLICAOF NO ONE",
        "SHUTDOWN NOSAVE",
        "MONITOR",
        "EVAL return(redis.call('SET','other','x')) 0",
    ];
    let reader = [
        "SET {fairlane}:schema 9.0",
        "DEL {fairlane}:schema",
        "EVAL return(redis.call('DEL',KEYS[1])) 1 {fairlane}:schema",
        "FUNCTION LOAD x",
        "PUBLISH {fairlane}:orphans x",
        "BLPOP {fairlane}:wake 1",
    ];
    let keys = Keys::new("fairlane").unwrap();
    for user in acl::ALL.iter() {
        // The server's own users may have any prefix.
        let (role, name, rights) = (user.role(), user.name(), user.rights(&keys, true));
        let words = ["ACL", "SETUSER", &name, "reset", "on", "nopass"];
        let words: Vec<&str> = words.into_iter().chain(rights.iter().map(String::as_str)).collect();
        server.command(&words).await;
        let own: &[&str] = match role {
            "reader" => &reader,
            "worker" => &["FUNCTION DELETE x", "FUNCTION LIST"],
            _ => &["BLPOP {fairlane}:wake 1"],
        };
        let mut connection = connection_of(&server, role).await;
        for line in both.iter().chain(own) {
            let mut words = line.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
            let error = command.query_async::<redis::Value>(&mut connection).await.unwrap_err();
            let text = error.to_string();
            let by_script = ["ACL failure", "user executing the script"];
            let refused =
                error.code() == Some("NOPERM") || by_script.iter().any(|words| text.contains(words));
            assert!(refused, "{role}: {line}: {text}");
        }
    }
    assert!(server.runs());
}

#[tokio::test]
async fn a_right_that_a_user_lacks_is_named() {
    let server = RedisServer::start_default().await;
    let keys = Keys::new("fairlane").unwrap();
    for user in acl::ALL.iter() {
        let link = Link::open(&redis_url_for(user.role(), &server.url()).parse().unwrap()).await.unwrap();
        assert_eq!(link.missing_rights(user, &keys).await.unwrap(), Some(vec![]), "{}", user.role());
    }
    let worker = &acl::ALL[1];
    let link = Link::open(&redis_url_for("worker", &server.url()).parse().unwrap()).await.unwrap();
    let reader = Link::open(&redis_url_for("reader", &server.url()).parse().unwrap()).await.unwrap();
    assert!(reader.missing_rights(worker, &keys).await.unwrap().unwrap().contains(&"+hset".to_owned()));
    for (without, missing) in [
        ("-hset", vec!["+hset"]),
        ("-function|load", vec!["+function|load"]),
        ("-config|get", vec!["+config|get"]),
        ("-blpop", vec!["+blpop"]),
    ] {
        server.command(&["ACL", "SETUSER", "fairlane-worker", without]).await;
        assert_eq!(link.missing_rights(worker, &keys).await.unwrap().unwrap(), missing);
        server.command(&["ACL", "SETUSER", "fairlane-worker", &without.replacen('-', "+", 1)]).await;
    }
    for change in [["resetkeys", "~{fairlane}:*"], ["resetchannels", "&{fairlane}:*"]] {
        server.command(&["ACL", "SETUSER", "fairlane-worker", change[0], change[1]]).await;
    }
    let missing = link.missing_rights(worker, &keys).await.unwrap().unwrap();
    assert_eq!(missing, ["~fairlane:log:*", "&fairlane:log:*"]);
}

/// The words in quotes of all files of a folder that are names of commands.
fn commands_in(folder: &Path, quote: char, known: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(commands_in(&path, quote, known));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("--") && !line.contains("///"));
        let words = code.flat_map(|line| line.split(quote).skip(1).step_by(2));
        found.extend(words.filter(|word| word.len() > 1).map(str::to_lowercase).filter(|word| {
            known.contains(word) && text.contains(&format!("{quote}{}{quote}", word.to_uppercase()))
        }));
    }
    found
}

#[tokio::test]
async fn the_users_have_the_commands_of_the_sources_and_no_others() {
    let server = RedisServer::start_default().await;
    let mut connection = server.connect().await;
    let all: Vec<Vec<redis::Value>> = redis::cmd("COMMAND").query_async(&mut connection).await.unwrap();
    let text = |value: &redis::Value| redis::from_redis_value_ref::<String>(value).unwrap();
    let known: BTreeSet<String> = all.iter().map(|command| text(&command[0])).collect();
    let of_flag = |flag: &str| -> BTreeSet<String> {
        let flags = |value: &redis::Value| redis::from_redis_value_ref::<Vec<String>>(value).unwrap();
        all.iter().filter(|c| flags(&c[2]).iter().any(|f| f == flag)).map(|c| text(&c[0])).collect()
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut called = commands_in(&root.join("lua"), '\'', &known);
    called.extend(commands_in(&root.join("src"), '"', &known));
    // Subscriptions are a type of the client; PING is a right of every connection; READONLY is an error code.
    called.extend(["subscribe", "unsubscribe"].map(str::to_owned));
    called.retain(|name| name != "ping" && name != "readonly");
    let listed = |role: &str| -> BTreeSet<String> {
        let users = include_str!("../../src/redis.acl");
        let line = users.lines().find(|line| line.starts_with(&format!("{role} "))).unwrap();
        let rights = line.split(' ').filter_map(|word| word.strip_prefix('+'));
        let commands = rights.filter(|word| !word.starts_with('@'));
        commands.map(|word| word.split('|').next().unwrap().to_owned()).collect()
    };
    let writers: BTreeSet<String> = listed("dispatcher").union(&listed("worker")).cloned().collect();
    assert_eq!(called, writers);
    let writes = of_flag("write");
    assert_eq!(listed("reader").intersection(&writes).collect::<Vec<_>>(), Vec::<&String>::new());
    let reads: Vec<String> = listed("dispatcher")
        .difference(&writes)
        .filter(|name| !listed("reader").contains(*name))
        .cloned()
        .collect();
    assert_eq!(reads, ["function", "publish", "subscribe", "unsubscribe"], "readers need none of these");
}
