//! Clients that send too much, too little, too slowly or too often are told why they are refused, and do not
//! affect others.

use std::net::SocketAddr;
use std::time::Duration;

use fairlane_dispatcher::Settings;
use fairlane_testkit::{RedisServer, wait_for};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Dispatcher, SOON, problem, request, send};

/// A dispatcher with short time limits.
async fn impatient(redis: &RedisServer, change: impl FnOnce(&mut Settings)) -> Dispatcher {
    Dispatcher::start_with(&redis.url(), |settings| {
        settings.bounds.head_wait = Duration::from_millis(300);
        change(settings);
    })
    .await
}

async fn connect(dispatcher: &Dispatcher) -> TcpStream {
    TcpStream::connect(dispatcher.address()).await.unwrap()
}

/// Connects from another address of this machine.
async fn connect_from(dispatcher: &Dispatcher, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(dispatcher.address()).await.unwrap()
}

/// Everything that arrives until the dispatcher closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    read.expect("the connection is closed in time").expect("it is closed in order");
    String::from_utf8(bytes).unwrap()
}

/// The answer to one request on a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.expect("an answer in time").unwrap();
    String::from_utf8(bytes[..read].to_vec()).unwrap()
}

/// The response on a connection beyond a limit.
async fn refused(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /v1/queue HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    rest(stream).await
}

/// The status, kind and body of a problem response that was read from a socket.
fn refusal(text: &str) -> (u16, String, Value) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    assert!(head.contains("content-type: application/problem+json"), "{text}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{body}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(body["status"], status, "{text}");
    let word = body["type"].as_str().unwrap().strip_prefix("urn:fairlane:error:").unwrap().to_owned();
    (status, word, body)
}

#[tokio::test]
async fn a_head_that_cannot_be_read_costs_only_its_sender() {
    let redis = RedisServer::start_default().await;
    let dispatcher = impatient(&redis, |_| {}).await;
    let long = "x".repeat(40_000);
    let many = "x-many: 1\r\n".repeat(150);
    for (request, status) in [
        (format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"), 431),
        (format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), 431),
        ("how do you do\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
    ] {
        let mut stream = connect(&dispatcher).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let said = rest(&mut stream).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {said}");
    }
    // A client that sends nothing, or only part of a beginning, gets no response.
    for start in [
        "",
        "PR",
        "PRI * HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: local",
    ] {
        let mut stream = connect(&dispatcher).await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
        read.expect("the connection is closed in time").unwrap();
    }
    assert_eq!(send(dispatcher.get("/healthz")).await.status().as_u16(), 200);
    // All unknown methods share one time series.
    let mut stream = connect(&dispatcher).await;
    stream
        .write_all(b"BREW7 /v1/queue HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(refusal(&rest(&mut stream).await).1, "wrong-method");
    let metrics = send(dispatcher.get("/metrics")).await.text().await.unwrap();
    assert!(metrics.contains("method=\"other\"") && !metrics.contains("BREW7"), "{metrics}");
}

#[tokio::test]
async fn a_drop_now_and_then_does_not_keep_a_connection() {
    let redis = RedisServer::start_default().await;
    let dispatcher = impatient(&redis, |settings| {
        settings.bounds.idle_wait = Duration::from_millis(600);
    })
    .await;
    // A request head that arrives byte by byte gets no extra time.
    let mut stream = connect(&dispatcher).await;
    let drip = async {
        for byte in b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ".iter().chain(std::iter::repeat(&b'x'))
        {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, drip).await.expect("it is closed on the drip");
    // A connection can be reused until it has been idle for too long. Then it is closed without a response.
    let mut stream = connect(&dispatcher).await;
    for _ in 0..3 {
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_must_come_within_its_bounds_and_in_time() {
    let redis = RedisServer::start_default().await;
    let dispatcher = impatient(&redis, |_| {}).await;
    let head = "POST /v1/builds HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut slow = connect(&dispatcher).await;
    slow.write_all(format!("{head}content-length: 100\r\nconnection: close\r\n\r\n{{").as_bytes())
        .await
        .unwrap();
    let mut huge = connect(&dispatcher).await;
    huge.write_all(format!("{head}content-length: 99999999999\r\n\r\n{{").as_bytes()).await.unwrap();
    assert_eq!(refusal(&rest(&mut huge).await).1, "too-large");
    // Without a content length, the body is counted as it arrives.
    let mut endless = connect(&dispatcher).await;
    endless.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    while sent < 64 && endless.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "nobody stopped it");
    assert_eq!(refusal(&rest(&mut slow).await).1, "too-slow");
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().queued, 0);
}

#[tokio::test]
async fn connections_are_limited() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| settings.connections.total = 5).await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&dispatcher).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    let mut one_more = connect(&dispatcher).await;
    let text = refused(&mut one_more).await;
    assert!(text.contains("retry-after: 5\r\n"), "{text}");
    let said = refusal(&text);
    assert_eq!((said.0, said.1.as_str()), (503, "too-many-connections"));
    idle.pop();
    wait_for("room", SOON, async || {
        let mut stream = connect(&dispatcher).await;
        let text = answer(&mut stream).await;
        if text.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.connections.per_address = Some(2);
        settings.connections.trusted = vec!["127.0.0.3/32".parse().unwrap()];
    })
    .await;
    let mut open = Vec::new();
    for from in ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.3"] {
        let mut stream = connect_from(&dispatcher, from).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"), "{from}");
        open.push(stream);
    }
    let mut third = connect_from(&dispatcher, "127.0.0.1").await;
    let said = refusal(&refused(&mut third).await);
    assert_eq!((said.0, said.1.as_str()), (429, "address-connections"));
    open.remove(0);
    wait_for("the permit to be given back", SOON, async || {
        let mut stream = connect_from(&dispatcher, "127.0.0.1").await;
        answer(&mut stream).await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn streams_are_limited_and_followed_logs_are_streams() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| settings.bounds.streams_max = 2).await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "").await;
    stream.state(|_| true).await;
    let log = send(dispatcher.get(&format!("/v1/builds/{id}/log?follow=true"))).await;
    assert_eq!(log.status().as_u16(), 200);
    for path in [format!("/v1/builds/{id}/events"), format!("/v1/builds/{id}/log?follow=true")] {
        let refused = send(dispatcher.get(&path)).await;
        assert_eq!(refused.headers()["retry-after"], "5");
        assert_eq!(problem(refused).await.1, "too-many-streams");
    }
    drop(log);
    wait_for("room for a stream", SOON, async || {
        send(dispatcher.get(&format!("/v1/builds/{id}/events"))).await.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_client_costs_a_connection_to_redis() {
    let redis = RedisServer::start_default().await;
    let dispatcher = impatient(&redis, |settings| {
        settings.clients.per_address = Some("1000/1m".parse().unwrap());
    })
    .await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "").await;
    stream.state(|_| true).await;
    let connections = async || {
        let info = dispatcher.queue.link().run(redis::cmd("INFO").arg("clients")).await.unwrap();
        let info: String = redis::from_redis_value(info).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = connections().await;
    let mut open = Vec::new();
    for n in 0..150 {
        let mut stream = connect(&dispatcher).await;
        let request = match n % 4 {
            0 => format!("GET /v1/builds/{id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            1 => "GET /v1/queue HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            2 => "GET /v1/queue HT".to_owned(),
            _ => String::new(),
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        open.push(stream);
    }
    let many = futures::future::join_all(
        (0..50).map(|n| send(dispatcher.post("/v1/builds").json(&request(&format!("n{n}"))))),
    );
    assert!(many.await.iter().all(|response| response.status().is_success()));
    assert!(connections().await <= before + 3, "the pool for large reads has a few at most");
}
