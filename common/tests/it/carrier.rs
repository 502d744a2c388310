//! A Redis that does not accept function libraries runs the same operations as scripts.

use fairlane_common::log::{Appended, LogLine, LogWriter};
use fairlane_common::queue::{Finish, Finished, Outcome, Submitted};
use fairlane_common::{BuildState, Error, Queue};
use fairlane_testkit::RedisServer;

use crate::scene::{K8S, ask, beat_of, worker};

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
    let claim = fairlane_common::queue::Claim {
        worker: worker("w"),
        place: K8S.to_owned(),
        free: 1,
        lease: std::time::Duration::from_secs(10),
        request: uuid::Uuid::new_v4(),
    };
    let claimed = queue.claim(&claim).await.unwrap().builds.remove(0);
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

#[tokio::test]
async fn a_redis_without_functions_runs_the_same_text_as_scripts() {
    let server = RedisServer::start_default().await;
    server.command(&["ACL", "SETUSER", "default", "-function", "-fcall", "-fcall_ro"]).await;
    build(&open(&server).await, "o/one").await;
}
