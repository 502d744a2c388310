//! People: counted by each dispatcher, reported to the queue, and forgotten with their dispatcher.

use std::time::Duration;

use fairlane_common::id::BuildId;
use fairlane_testkit::{FaultProxy, RedisServer, Upstream, wait_for, wait_for_eq};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Dispatcher, SOON, open, problem, request, send};

#[tokio::test]
async fn streams_say_how_many_stand_behind_them() {
    let redis = RedisServer::start_default().await;
    let (one, two) = (Dispatcher::start(&redis.url()).await, Dispatcher::start(&redis.url()).await);
    let id = one.build("one").await;
    let people = async || one.queue.build(id).await.unwrap().unwrap().people;
    let mut stream = one.follow(id, "?watchers=5").await;
    stream.state(|_| true).await;
    let mut other = two.follow(id, "").await;
    other.state(|_| true).await;
    wait_for_eq("the people", SOON, 6, people).await;

    let path = format!("/v1/builds/{id}/watchers");
    let body = json!({ "subscriber": stream.subscriber, "count": 9 });
    let set = send(one.put(&path).json(&body)).await;
    assert_eq!(set.json::<serde_json::Value>().await.unwrap()["people"], 9);
    wait_for_eq("the people", SOON, 10, people).await;
    // Everybody who watches gets the new count.
    other.state(|state| state.build.people == 10).await;

    assert_eq!(problem(send(two.put(&path).json(&body)).await).await.1, "other-dispatcher");
    let gone = format!("{}9", stream.subscriber);
    let gone = send(one.put(&path).json(&json!({ "subscriber": gone, "count": 1 }))).await;
    assert_eq!(problem(gone).await.1, "unknown-subscriber");

    drop(stream);
    wait_for_eq("the people", SOON, 1, people).await;
    two.stop().await;
    wait_for_eq("the people", SOON, 0, people).await;
}

#[tokio::test]
async fn counts_come_back_after_the_queue_forgot_them() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "?watchers=7").await;
    stream.state(|state| state.build.people == 7).await;
    // The queue loses the dispatcher's counts, as in a failover. The next heartbeat notices that.
    dispatcher.queue.leave_dispatcher(&dispatcher_id(&stream.subscriber)).await.unwrap();
    wait_for_eq("the people", SOON, 7, async || dispatcher.queue.build(id).await.unwrap().unwrap().people)
        .await;
}

fn dispatcher_id(subscriber: &str) -> fairlane_common::id::DispatcherId {
    subscriber.rsplit_once('.').unwrap().0.parse().unwrap()
}

/// A dispatcher that counts requests for a moment only, so that a test can wait until they no longer count.
async fn forgetful(redis_url: &str, redis_wait: Duration) -> Dispatcher {
    Dispatcher::start_with(redis_url, |settings| {
        settings.bounds.redis_wait = redis_wait;
        settings.bounds.post_counts = Duration::from_millis(500);
    })
    .await
}

async fn build_of(dispatcher: &Dispatcher, name: &str) -> Option<BuildId> {
    dispatcher.queue.build_of_image(&format!("r/{name}:1").parse().unwrap()).await.unwrap()
}

/// Waits until the queue counts nobody, neither for this build nor for any other.
async fn nobody_waits(dispatcher: &Dispatcher, id: BuildId) {
    let people = async || {
        let build = dispatcher.queue.build(id).await.unwrap().unwrap();
        (build.people, dispatcher.queue.snapshot().await.unwrap().people)
    };
    wait_for_eq("the people", SOON, (0, 0), people).await;
}

#[tokio::test]
async fn a_request_that_took_too_long_stops_counting() {
    let redis = RedisServer::start_default().await;
    let dispatcher = forgetful(&redis.url(), Duration::from_millis(300)).await;
    // Redis executes the request only after its client was told to retry.
    redis.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    let late = send(dispatcher.post("/v1/builds").json(&request("one"))).await;
    assert_eq!(problem(late).await.1, "redis-away");
    redis.command(&["CLIENT", "UNPAUSE"]).await;
    let id = wait_for("the build", SOON, async || build_of(&dispatcher, "one").await).await;
    nobody_waits(&dispatcher, id).await;
}

#[tokio::test]
async fn a_request_whose_client_hangs_up_stops_counting() {
    let redis = RedisServer::start_default().await;
    let dispatcher = forgetful(&redis.url(), Duration::from_mins(1)).await;
    let mut patience = Duration::from_millis(100);
    // If the client hangs up before its request was read, there is no build. The next client waits longer.
    let id = wait_for("a request that outlives its client", SOON, async || {
        let name = format!("after-{}", patience.as_millis());
        redis.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
        let asked = dispatcher.post("/v1/builds").json(&request(&name)).timeout(patience).send().await;
        assert!(asked.is_err_and(|error| error.is_timeout()));
        patience *= 2;
        redis.command(&["CLIENT", "UNPAUSE"]).await;
        // This request reaches Redis after the first one.
        dispatcher.build(&format!("behind-{name}")).await;
        build_of(&dispatcher, &name).await
    })
    .await;
    nobody_waits(&dispatcher, id).await;
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_stops_counting() {
    let redis = RedisServer::builder().tcp().start().await;
    let proxy =
        FaultProxy::start(Upstream::Tcp(format!("127.0.0.1:{}", redis.port()).parse().unwrap())).await;
    let dispatcher = forgetful(&proxy.redis_url(), Duration::from_secs(10)).await;
    for name in ["new", "joined"] {
        if name == "joined" {
            // The build was first requested elsewhere, so it does not have the id of this request.
            let elsewhere = open(&redis.tcp_url()).await;
            let other = Dispatcher::start(&redis.tcp_url()).await;
            other.build(name).await;
            other.stop().await;
            let id =
                elsewhere.build_of_image(&format!("r/{name}:1").parse().unwrap()).await.unwrap().unwrap();
            nobody_waits(&dispatcher, id).await;
        }
        let lost = proxy.replies_lost();
        proxy.drop_reply_to("fairlane_submit");
        wait_for("a request whose answer is lost", SOON, async || {
            let status = send(dispatcher.post("/v1/builds").json(&request(name))).await.status();
            assert!(status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
            proxy.replies_lost() > lost
        })
        .await;
        let id = wait_for("the build", SOON, async || build_of(&dispatcher, name).await).await;
        nobody_waits(&dispatcher, id).await;
    }
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_has_no_people() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let repo = "https://github.com/owner/one".parse().unwrap();
    let spec = fairlane_common::BuildSpec::new(repo, "3f2a91c".parse().unwrap(), "r/one:1".parse().unwrap());
    // The requester is gone, and no dispatcher counts anybody.
    let submit = fairlane_common::queue::Submit {
        id: BuildId::new(),
        spec,
        force: false,
        override_ban: None,
        dispatcher: None,
    };
    dispatcher.queue.submit(&submit).await.unwrap();
    let view: serde_json::Value = send(dispatcher.get("/v1/builds")).await.json().await.unwrap();
    let queue: serde_json::Value = send(dispatcher.get("/v1/queue")).await.json().await.unwrap();
    assert_eq!((&view["builds"][0]["people"], &queue["totals"]["people"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn counts_that_redis_refused_are_written_once_it_takes_them() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "?watchers=2").await;
    stream.state(|state| state.build.people == 2).await;
    let mut connection = redis.connect().await;
    let schema: String =
        redis::cmd("GET").arg("{fairlane}:schema").query_async(&mut connection).await.unwrap();
    redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await;
    redis.command(&["SET", "{fairlane}:schema", "99.0"]).await;
    let path = format!("/v1/builds/{id}/watchers");
    let seven = json!({ "subscriber": stream.subscriber, "count": 7 });
    assert_eq!(send(dispatcher.put(&path).json(&seven)).await.status().as_u16(), 200);
    let sent = async || {
        let mut read = redis::cmd("SLOWLOG");
        read.arg("GET").arg(-1);
        let log: redis::Value = read.query_async(&mut connection.clone()).await.unwrap();
        let log = format!("{log:?}");
        log.contains("fairlane_people") && log.contains("('\"7\"')")
    };
    wait_for_eq("the refused count", SOON, true, sent).await;
    redis.command(&["SET", "{fairlane}:schema", &schema]).await;
    wait_for_eq("the people", SOON, 7, async || dispatcher.queue.build(id).await.unwrap().unwrap().people)
        .await;
}
