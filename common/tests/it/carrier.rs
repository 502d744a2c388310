//! A Redis that does not accept function libraries runs the same operations as scripts.

use fairlane_common::log::{Appended, LogLine, LogWriter};
use fairlane_common::queue::{Finish, Finished, Outcome, Submitted};
use fairlane_common::{BuildState, Error, Queue};
use fairlane_testkit::{AppendOnly, RedisServer, wait_for};

use crate::scene::{K8S, ask, beat_of, claim_of};

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

async fn open(server: &RedisServer) -> Queue {
    Queue::open(&server.url().parse().unwrap(), "fairlane").await.unwrap()
}

async fn libraries(server: &RedisServer) -> usize {
    let list: Vec<redis::Value> =
        redis::cmd("FUNCTION").arg("LIST").query_async(&mut server.connect().await).await.unwrap();
    list.len()
}

/// Takes a build from its request to its end.
async fn build(queue: &Queue, repo: &str) {
    queue.renew(&beat_of("w", K8S, 2, &[])).await.unwrap();
    let Submitted::New(asked) = queue.submit(&ask(repo, 1)).await.unwrap() else { panic!("not new") };
    let claimed = queue.claim(&claim_of("w", K8S, 1)).await.unwrap().builds.remove(0);
    let mut log = LogWriter::new(queue.clone(), claimed.token.clone(), 1, "0-0".to_owned());
    let line = LogLine { t: String::new(), text: "hello".to_owned() };
    assert!(matches!(log.append(&[line]).await.unwrap(), Appended::Done(_)));
    let finished = queue.finish(&claimed.token, &Finish::of(Outcome::Succeeded)).await.unwrap();
    assert_eq!(finished, Finished::Ended(BuildState::Succeeded));
    assert_eq!(queue.read_log(asked.id, 1, "0", 10).await.unwrap().entries[0].text, "hello");
    assert!(queue.check(100).await.unwrap().problems.is_empty());
    queue.reap().await.unwrap();
}

#[tokio::test]
async fn a_new_release_works_in_a_full_redis_and_loads_its_functions_when_it_can() {
    let server = RedisServer::start_default().await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let queue = open(&server).await;
    // Renewing, reaping and reading still work; adding a build is refused.
    queue.renew(&beat_of("w", K8S, 2, &[])).await.unwrap();
    queue.reap().await.unwrap();
    assert_eq!(queue.snapshot().await.unwrap().slots, 2);
    assert!(matches!(queue.submit(&ask("o/n", 1)).await.unwrap_err(), Error::OutOfMemory(_)));
    assert_eq!(libraries(&server).await, 0);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // The same queue loads the library within a while; a new process loads it at once.
    build(&queue, "o/one").await;
    build(&open(&server).await, "o/two").await;
    assert_eq!(libraries(&server).await, 1);
}

/// The server after `config` and `command` took its functions away.
async fn without_functions(config: &[&str], command: &[&str]) -> RedisServer {
    let builder = config.iter().fold(RedisServer::builder(), |builder, line| builder.config_line(line));
    let server = builder.append_only(AppendOnly::Always).start().await;
    if !command.is_empty() {
        server.command(command).await;
    }
    server
}

#[tokio::test]
async fn a_redis_without_functions_runs_the_same_text_as_a_script() {
    let forbidden = ["ACL", "SETUSER", "fairlane", "-function", "-fcall"];
    let unknown = [r#"rename-command FCALL """#, r#"rename-command FUNCTION """#];
    let load_forbidden = ["ACL", "SETUSER", "fairlane", "-function|load"];
    for (config, command, why) in [
        (&[][..], &forbidden[..], "no permissions"),
        (&[], &load_forbidden, "no permissions"),
        (&unknown, &[], "unknown command"),
    ] {
        let server = without_functions(config, command).await;
        let queue = open(&server).await;
        assert!(queue.rejects_functions().unwrap().contains(why), "{:?}", queue.rejects_functions());
        build(&queue, "o/one").await;
        assert!(queue.remove_unused_libraries().await.unwrap().is_empty());
        // A worker restores the queue's identity, which is a key here.
        assert_eq!(queue.identity().await.unwrap(), None);
        assert_eq!(queue.identify("a1").await.unwrap(), "a1");
        assert_eq!(open(&server).await.identify("b2").await.unwrap(), "a1", "the first one counts");
    }
    let queue = open(&RedisServer::start_default().await).await;
    assert_eq!(queue.rejects_functions(), None);
}

#[tokio::test]
async fn a_script_that_a_restart_lost_is_sent_again() {
    let server =
        without_functions(&[r#"rename-command FCALL """#, r#"rename-command FUNCTION """#], &[]).await;
    let queue = open(&server).await;
    build(&queue, "o/one").await;
    server.restart().await;
    wait_for("the queue to be read again", SOON, async || queue.snapshot().await).await;
    build(&queue, "o/two").await;
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let info: String = info.query_async(&mut server.connect().await).await.unwrap();
    assert!(info.contains("number_of_cached_scripts:1\r"), "one script for all operations: {info}");
}

#[tokio::test]
async fn scripts_end_builds_in_a_full_redis_and_add_none() {
    let server =
        without_functions(&[r#"rename-command FCALL """#, r#"rename-command FUNCTION """#], &[]).await;
    let queue = open(&server).await;
    queue.renew(&beat_of("w", K8S, 2, &[])).await.unwrap();
    queue.submit(&ask("o/one", 1)).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(matches!(queue.submit(&ask("o/two", 1)).await.unwrap_err(), Error::OutOfMemory(_)));
    queue.renew(&beat_of("w", K8S, 3, &[])).await.unwrap();
    queue.reap().await.unwrap();
    assert_eq!(queue.snapshot().await.unwrap().slots, 3);
    assert_eq!(queue.snapshot().await.unwrap().queued, 1);
}
