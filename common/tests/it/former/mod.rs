//! The release before this one, on the same Redis: a proxy that translates each call of an operation into a
//! call of the former release's library. Queues that go through it write and read what the former release
//! writes and reads.
//!
//! `library.txt` is the former library as Redis gets it. For a new release, run the test
//! `the_former_library_is_another_one` with `UPDATE_FORMER=1`, which replaces it with today's library. Then
//! remove from [`CALLS`] and [`named_reply`] whatever is the same in both.

mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;

use fairlane_testkit::RedisServer;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use self::wire::{read_command, write_reply};

const LIBRARY: &str = include_str!("library.txt");

/// The arguments of the former release's calls, in its order: those of the call, and those of each item of
/// its list.
const CALLS: &[(&str, &[&str], &[&str])] = &[
    ("open", &["schema", "life", "simulated", "known", "refill"], &[]),
    (
        "submit",
        &["dispatcher"],
        &[
            "id", "image", "repo", "ref", "lane", "name", "priority", "args", "push", "labels", "secrets",
            "force", "override",
        ],
    ),
    ("claim", &["worker", "place", "free", "lease", "request"], &[]),
    (
        "renew",
        &["worker", "host", "version", "place", "slots", "running", "ending", "lease", "paused", "nodes"],
        &["id", "epoch"],
    ),
    ("report", &["id", "epoch", "worker", "running", "note"], &[]),
    (
        "finish",
        &[
            "id",
            "epoch",
            "worker",
            "outcome",
            "class",
            "reason",
            "node",
            "log_tail",
            "log_end",
            "random",
            "blame",
            "alike",
            "log_bytes",
            "log_missing",
        ],
        &[],
    ),
    ("release", &["id", "epoch", "worker", "mode", "reason"], &[]),
    ("set_aside", &["id", "epoch", "worker", "adopted", "why"], &[]),
    (
        "register",
        &[
            "id", "epoch", "holder", "worker", "place", "lease", "attempt", "asked", "claimed", "started",
            "node", "image", "repo", "ref", "lane", "name", "priority", "args", "push", "labels",
        ],
        &[],
    ),
    ("cancel", &["id", "by", "reason"], &[]),
    ("people", &["dispatcher", "ttl"], &["id", "count"]),
    ("reap", &["lease"], &[]),
    ("set_rule", &["pattern", "rule", "by"], &[]),
    ("drain", &["worker", "drain", "by"], &[]),
    ("leave", &["kind", "id"], &[]),
];

/// Operations whose calls have a list today; the former release makes one call for each item.
const SINGLE: [&str; 2] = ["report", "finish"];

/// A Redis address at which every operation is the former release's.
pub(crate) struct FormerRelease {
    address: SocketAddr,
    acceptor: JoinHandle<()>,
}

impl FormerRelease {
    pub(crate) async fn beside(server: &RedisServer) -> Self {
        let mut redis = server.connect().await;
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
        let _: String = load.query_async(&mut redis).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, redis.clone()));
            }
        });
        Self { address, acceptor }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for FormerRelease {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What the names of the former release's functions end in.
fn suffix() -> &'static str {
    LIBRARY.lines().next().and_then(|line| line.rsplit('_').next()).unwrap()
}

async fn serve(mut client: TcpStream, mut redis: MultiplexedConnection) {
    while let Some(words) = read_command(&mut client).await {
        let answer = answer(&mut redis, &words).await;
        if write_reply(&mut client, answer).await.is_err() {
            return;
        }
    }
}

async fn answer(redis: &mut MultiplexedConnection, words: &[Vec<u8>]) -> redis::RedisResult<Value> {
    let Some(calls) = Call::all_of(words) else {
        return redis.send_packed_command(redis::Cmd::new().arg(words)).await;
    };
    let mut replies = vec![];
    for call in &calls {
        let reply = redis.send_packed_command(redis::Cmd::new().arg(&call.words)).await?;
        replies.push(named_reply(call, reply));
    }
    if SINGLE.contains(&calls[0].operation.as_str()) {
        return Ok(Value::Array(vec![value("each"), value("answers"), Value::Array(replies)]));
    }
    Ok(replies.remove(0))
}

/// Names and values, also for the items of a list whose names are said once. (An empty value is like an absent one.)
fn in_pairs(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let Some(at) = (0..words.len()).step_by(2).find(|at| words[*at] == b"items") else {
        return words.to_vec();
    };
    let names: Vec<&[u8]> = words[at + 1].split(|byte| *byte == b' ').collect();
    let rows = words[at + 2..].chunks_exact(names.len());
    let pairs = rows.flat_map(|row| names.iter().zip(row).filter(|(_, value)| !value.is_empty()));
    let pairs = pairs.flat_map(|(name, value)| [name.to_vec(), value.clone()]);
    words[..at].iter().cloned().chain(pairs).collect()
}

/// A call of an operation, in the form of the former release.
struct Call {
    operation: String,
    /// The number of items in its list.
    items: usize,
    words: Vec<Vec<u8>>,
}

impl Call {
    /// The calls that a command becomes; `None` for a command that calls no operation.
    fn all_of(words: &[Vec<u8>]) -> Option<Vec<Self>> {
        let name = std::str::from_utf8(words.get(1)?).ok()?;
        let operation = name.strip_prefix("fairlane_")?.rsplit_once('_')?.0;
        let operation = if operation == "give_back" { "release" } else { operation };
        if words[0] != b"FCALL" {
            return None;
        }
        let (head, pairs) = (&words[..5.min(words.len())], &in_pairs(words.get(5..)?));
        if !SINGLE.contains(&operation) {
            return Some(vec![Self::of(operation, head, pairs)]);
        }
        // What comes before the first item is the same for all.
        let starts: Vec<usize> = (0..pairs.len()).step_by(2).filter(|at| pairs[*at] == b"id").collect();
        let ends = starts.iter().skip(1).copied().chain([pairs.len()]);
        let items =
            starts.iter().zip(ends).map(|(from, to)| [&pairs[..starts[0]], &pairs[*from..to]].concat());
        Some(items.map(|pairs| Self::of(operation, head, &pairs)).collect())
    }

    /// One call; `pairs` are names and values.
    fn of(operation: &str, head: &[Vec<u8>], pairs: &[Vec<u8>]) -> Self {
        let (_, once, each) = CALLS
            .iter()
            .find(|(known, ..)| *known == operation)
            .unwrap_or_else(|| panic!("no test calls {operation} of the former release: add it to CALLS"));
        let mut items: Vec<Vec<(&[u8], &[u8])>> = vec![vec![]];
        for pair in pairs.chunks_exact(2) {
            if each.first().is_some_and(|first| first.as_bytes() == pair[0]) {
                items.push(vec![]);
            }
            items.last_mut().unwrap().push((&pair[0], &pair[1]));
        }
        let mut said = vec![b"FCALL".to_vec(), format!("fairlane_{operation}_{}", suffix()).into_bytes()];
        said.extend_from_slice(&head[2..]);
        for (number, item) in items.iter().enumerate() {
            for name in if number == 0 { *once } else { *each } {
                let found = item.iter().find(|(known, _)| *known == name.as_bytes());
                said.push(found.map_or_else(|| lacking(name), |(_, value)| value.to_vec()));
            }
        }
        Self { operation: operation.to_owned(), items: items.len() - 1, words: said }
    }
}

/// The former release's value for an argument that today's call leaves out.
fn lacking(name: &str) -> Vec<u8> {
    match name {
        "push" | "force" | "log_missing" => b"0".to_vec(),
        "labels" => b"{}".to_vec(),
        "args" => b"[]".to_vec(),
        _ => vec![],
    }
}

/// The names of the values after a tag, in the former release's order. If the last name is in brackets, it
/// takes the remaining values as a list.
fn names(operation: &str, tag: &str) -> &'static [&'static str] {
    match (operation, tag) {
        ("open", "open") => &["born"],
        ("submit", "new" | "joined" | "ended") => {
            &["id", "state", "attempt", "people", "position", "expected"]
        }
        ("submit", "conflict") => &["id", "repo", "ref"],
        ("submit", "banned") => &["rule", "message", "until"],
        ("submit", "full") => &["what", "max"],
        ("submit", "broken") => &["error"],
        (_, "refilling" | "wait") => &["left"],
        ("report", "held") => &["cancelling"],
        ("register", "held") => &["id", "epoch", "fields"],
        ("register", "taken") => &["id"],
        ("finish" | "cancel" | "register", "ended") | ("release", "released") => &["state"],
        ("finish", "retried") => &["not_before", "attempt"],
        ("people", "counted") => &["forgotten", "born", "refilling"],
        ("reap", "reaped") => &["sleep", "orphaned", "lost", "timers"],
        ("set_rule", "changed") => &["existed", "live"],
        ("drain", "drain") => &["name", "[workers]"],
        _ => &[],
    }
}

/// The former release's reply in today's form: a tag, then names and values.
fn named_reply(call: &Call, reply: Value) -> Value {
    let Value::Array(values) = reply else { return reply };
    let tag = text(&values[0]);
    let mut rest = values.into_iter().skip(1);
    let mut named = vec![value(if tag == "released" { "given_back" } else { &tag })];
    let mut put = |name: &str, of: Value| named.extend([value(name), of]);
    match (call.operation.as_str(), tag.as_str()) {
        ("submit", "asked") => {
            let answers = rest.map(|answer| named_reply(call, answer)).collect();
            named[0] = value("each");
            named.extend([value("answers"), Value::Array(answers)]);
        }
        ("claim", "claimed") => {
            let count: usize = text(&rest.next().unwrap()).parse().unwrap();
            put("orphans", rest.next().unwrap());
            put("standing", rest.next().unwrap());
            let build = |rest: &mut dyn Iterator<Item = Value>| {
                let mut item = vec![];
                for name in ["id", "epoch", "adopted", "state", "seq", "claimed"] {
                    item.extend([value(name), rest.next().unwrap()]);
                }
                item.extend([value("fields"), handed(rest.next().unwrap())]);
                Value::Array(item)
            };
            let builds = (0..count).map(|_| build(&mut rest)).collect();
            put("builds", Value::Array(builds));
            put("avoid", Value::Array(rest.collect()));
        }
        ("renew", "renewed") => {
            for name in ["born", "standing", "startable", "orphans"] {
                put(name, rest.next().unwrap());
            }
            put("verdicts", Value::Array(rest.by_ref().take(call.items).collect()));
            put("avoid", Value::Array(rest.collect()));
        }
        (operation, tag) => {
            for name in names(operation, tag) {
                match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                    Some(list) => put(list, Value::Array(rest.by_ref().collect())),
                    None => put(name, rest.next().unwrap()),
                }
            }
        }
    }
    Value::Array(named)
}

/// The fields that the former release returns for a claimed build; the first line of its library lists their
/// names.
fn handed(values: Value) -> Value {
    let Value::Array(values) = values else { return values };
    let line = LIBRARY.lines().find(|line| line.starts_with("local HANDED = ")).unwrap();
    let names = line.split('\'').skip(1).step_by(2);
    let present = names.zip(values).filter(|(_, of)| *of != Value::Nil);
    Value::Array(present.flat_map(|(name, of)| [value(name), of]).collect())
}

fn value(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap()
}

#[tokio::test]
async fn the_former_library_is_another_one() {
    let server = RedisServer::start_default().await;
    let former = FormerRelease::beside(&server).await;
    let queue = fairlane_common::Queue::open(&server.url().parse().unwrap(), "fairlane").await.unwrap();
    queue.snapshot().await.unwrap();
    let mut list = redis::cmd("FUNCTION");
    list.arg("LIST").arg("LIBRARYNAME").arg("fairlane_*").arg("WITHCODE");
    let libraries: Vec<HashMap<String, Value>> = list.query_async(&mut server.connect().await).await.unwrap();
    let codes: Vec<String> = libraries.iter().map(|library| text(&library["library_code"])).collect();
    assert_eq!(codes.len(), 2, "the former release's and ours");
    let ours = codes.iter().find(|code| *code != LIBRARY).unwrap();
    if std::env::var_os("UPDATE_FORMER").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/former/library.txt"), ours).unwrap();
    }
    drop(former);
}
