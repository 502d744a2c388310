//! Event streams: no line is lost or repeated, whichever dispatcher sends them.

use std::time::Duration;

use fairlane_common::FailureCause;
use fairlane_common::build::{BuildState, FailureClass};
use fairlane_common::queue::{GiveBack, Outcome};
use fairlane_dispatcher::api::BuildView;
use fairlane_testkit::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Dispatcher, SOON, Said, Stream, Worker, failed, numbered, request, send};

#[tokio::test]
async fn a_stream_resumes_on_another_dispatcher_after_the_same_line() {
    let redis = RedisServer::start_default().await;
    let (one, two) = (Dispatcher::start(&redis.url()).await, Dispatcher::start(&redis.url()).await);
    let id = one.build("one").await;
    let mut run = Worker::start(&one.queue, 1).await.claim().await;
    let mut lines = Vec::new();
    let mut cursor = String::new();
    // Other streams keep a ring at each dispatcher, so that the two batch the lines differently.
    let _others = (one.follow(id, "").await, two.follow(id, "").await);
    for round in 0..12 {
        run.write(17).await;
        let dispatcher = if round % 2 == 0 { &one } else { &two };
        let mut stream = if cursor.is_empty() {
            dispatcher.follow(id, "").await
        } else {
            let request = dispatcher.get(&format!("/v1/builds/{id}/events")).header("last-event-id", &cursor);
            Stream::new(send(request).await)
        };
        run.write(3).await;
        // The stream is dropped in the middle of the log.
        stream.lines(7).await;
        lines.append(&mut stream.lines);
        cursor.clone_from(&stream.cursor);
    }
    run.finish(Outcome::Succeeded).await;
    let mut last = two.follow(id, &format!("?last_event_id={cursor}")).await;
    last.end().await;
    lines.append(&mut last.lines);
    assert_eq!(lines, numbered(240));
}

#[tokio::test]
async fn who_comes_late_gets_a_long_log_from_its_beginning() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| settings.bounds.ring_bytes = 2000).await;
    let id = dispatcher.build("one").await;
    let mut run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    run.write(1500).await;
    let mut early = dispatcher.follow(id, "").await;
    early.lines(1).await;
    let mut late = dispatcher.follow(id, "").await;
    run.write(700).await;
    run.finish(Outcome::Succeeded).await;
    for stream in [&mut early, &mut late] {
        stream.end().await;
        assert_eq!(stream.lines, numbered(2200));
    }
}

#[tokio::test]
async fn another_attempt_begins_after_the_last_line_of_the_one_before() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let mut stream = dispatcher.follow(id, "").await;
    let mut run = worker.claim().await;
    run.write(5).await;
    run.finish(failed(FailureClass::Infrastructure, FailureCause::OTHER, "the node was lost")).await;
    let state = stream.state(|state| state.build.attempt == 2).await;
    assert_eq!(
        (state.build.state, state.build.reason.as_deref()),
        (BuildState::Queued, Some("the node was lost"))
    );
    // The backoff ends after a few seconds, when the dispatcher reaps.
    let mut run = worker.claim().await;
    run.write(2).await;
    run.finish(Outcome::Succeeded).await;
    stream.end().await;
    let mut expected = numbered(5);
    expected.extend(numbered(2));
    assert_eq!(stream.lines, expected);
    assert_eq!(stream.notices, ["attempt"]);
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_let_go_and_can_come_back() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.bounds.ring_bytes = 128 * 1024;
        settings.bounds.slow_after = Duration::from_secs(1);
        settings.bounds.stall = Duration::from_mins(1);
    })
    .await;
    let id = dispatcher.build("one").await;
    let mut run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    let address = dispatcher.url.strip_prefix("http://").unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut socket = socket.connect(address.parse().unwrap()).await.unwrap();
    let request =
        format!("GET /v1/builds/{id}/events HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = read_until(&mut socket, "event: state").await;
    // Another stream reads everything, so it has also been sent to the stalled one. The log is short enough
    // to be kept whole.
    let mut reader = dispatcher.follow(id, "").await;
    for round in 1..=24 {
        run.write_long(5, 15_000).await;
        reader.lines(round * 5).await;
    }
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, socket.read_to_end(&mut rest)).await.expect("the slow stream ends").unwrap();
    text.push_str(&String::from_utf8_lossy(&rest));
    assert!(text.contains("client reads too slowly"), "it ended otherwise: {}", &text[text.len() - 200..]);
    let seen = text.matches("\"text\":\"line ").count();
    assert!(seen < 120, "it saw everything");

    let cursor = text.rsplit("\nid: ").next().unwrap().split('\n').next().unwrap().to_owned();
    run.finish(Outcome::Succeeded).await;
    let mut again = dispatcher.follow(id, &format!("?last_event_id={cursor}")).await;
    again.end().await;
    assert_eq!((seen + again.lines.len(), again.notices.len()), (120, 0));
    let first = again.lines[0].trim_end_matches('x');
    assert_eq!(first, format!("line {seen}"));
}

async fn read_until(socket: &mut tokio::net::TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let read = tokio::time::timeout(SOON, socket.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    seen
}

#[tokio::test]
async fn lines_never_break_the_framing() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    let odd = "\u{1b}[31mred\u{1b}[0m \r 50%\nid: 9:9-9:9\n\nevent: end\ndata: {}\n\n<b> \u{2028}";
    let lines =
        [fairlane_common::log::LogLine { t: "2019-03-24T07:54:00Z".to_owned(), text: odd.to_owned() }];
    let token = run.claimed.token.clone();
    let mut log = fairlane_common::log::LogWriter::new(dispatcher.queue.clone(), token, 1, "0-0".to_owned());
    log.append(&lines).await.unwrap();
    let mut stream = dispatcher.follow(id, "").await;
    stream.lines(1).await;
    assert_eq!(stream.lines, [odd]);
}

#[tokio::test]
async fn a_stopping_dispatcher_lets_its_streams_go_with_a_cursor() {
    let redis = RedisServer::start_default().await;
    let (one, two) = (Dispatcher::start(&redis.url()).await, Dispatcher::start(&redis.url()).await);
    let id = one.build("one").await;
    let mut run = Worker::start(&two.queue, 1).await.claim().await;
    let mut stream = one.follow(id, "").await;
    run.write(4).await;
    stream.lines(4).await;
    one.cancel();
    while !matches!(stream.next().await, Said::Closed) {}
    one.stop().await;
    run.write(4).await;
    let mut again = two.follow(id, &format!("?last_event_id={}", stream.cursor)).await;
    again.lines(4).await;
    assert_eq!([stream.lines, again.lines].concat(), numbered(8));
}

#[tokio::test]
async fn a_quiet_stream_gets_comments() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.bounds.keepalive = Duration::from_millis(50);
    })
    .await;
    let id = dispatcher.build("one").await;
    let response = send(dispatcher.get(&format!("/v1/builds/{id}/events"))).await;
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
    {
        assert_eq!(response.headers()[name], value);
    }
    let mut chunks = response;
    let mut text = String::new();
    while !text.contains(": still here\n\n") {
        let chunk = tokio::time::timeout(SOON, chunks.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
}

/// A build that again and again finds the cluster full or loses its worker: none of its attempts counts as
/// failed, and a new run is not announced if the previous one left no log.
#[tokio::test]
async fn runs_that_nothing_came_of_are_no_attempts_and_no_news() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let mut stream = dispatcher.follow(id, "").await;
    stream.state(|_| true).await;
    let cursor = stream.cursor.clone();
    let full = || GiveBack::Lost { reason: "the cluster is full: exceeded quota: builds".to_owned() };
    for _ in 0..4 {
        let run = worker.claim().await;
        dispatcher.queue.give_back(&run.claimed.token, &full()).await.unwrap();
    }
    let view: BuildView = send(dispatcher.get(&format!("/v1/builds/{id}"))).await.json().await.unwrap();
    assert_eq!((view.state, view.attempt, view.failed_attempts, view.run), (BuildState::Queued, 1, 0, 5));
    assert_eq!(dispatcher.ask(&request("one")).await.1.attempt, 1);
    let mut run = worker.claim().await;
    run.write(3).await;
    // If a run left a log, the next run is announced.
    dispatcher.queue.give_back(&run.claimed.token, &full()).await.unwrap();
    let mut run = worker.claim().await;
    run.write(2).await;
    run.finish(Outcome::Succeeded).await;
    let end = stream.end().await;
    assert_eq!((end.attempt, end.run), (1, 6));
    assert_eq!(stream.lines, [numbered(3), numbered(2)].concat());
    assert_eq!(stream.notices, ["attempt"]);
    // A stream that resumes late reads all of this from the log by itself.
    let mut late = dispatcher.follow(id, &format!("?last_event_id={cursor}")).await;
    late.end().await;
    assert_eq!((&late.lines, &late.notices), (&stream.lines, &stream.notices));
}

#[tokio::test]
async fn an_empty_last_event_id_is_none() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let call = dispatcher.get(&format!("/v1/builds/{id}/events")).header("last-event-id", "");
    assert_eq!(send(call).await.status().as_u16(), 200);
}
