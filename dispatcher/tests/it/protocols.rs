//! HTTP/1.1 and HTTP/2, with and without TLS, and how streams end when a dispatcher stops.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use fairlane_dispatcher::TlsFiles;
use fairlane_testkit::{RedisServer, TempDir, wait_for};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Dispatcher, SOON};

/// Makes a certificate for this machine and writes it to `files`.
fn make_certificate(files: &TlsFiles) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn files_in(folder: &Path) -> TlsFiles {
    TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
}

async fn connect(
    dispatcher: &Dispatcher,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(dispatcher.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The statuses of several concurrent requests over one HTTP/2 connection.
async fn ask_with_two(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, paths: &[&str]) -> Vec<u16> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let driving = tokio::spawn(connection);
    let asked = paths.iter().map(|path| {
        let mut sender = sender.clone();
        let request = hyper::Request::get(format!("http://localhost{path}")).body(Body::empty()).unwrap();
        async move { sender.send_request(request).await.unwrap().status().as_u16() }
    });
    let statuses =
        tokio::time::timeout(SOON, futures::future::join_all(asked)).await.expect("answers in time");
    driving.abort();
    statuses
}

#[tokio::test]
async fn http2_is_spoken_to_who_begins_with_it() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let stream = TcpStream::connect(dispatcher.address()).await.unwrap();
    let events = format!("/v1/builds/{id}/events");
    let paths = ["/healthz", &events, "/v1/queue", "/v1/nothing", &events];
    assert_eq!(ask_with_two(stream, &paths).await, [200, 200, 200, 404, 200]);
}

#[tokio::test]
async fn tls_serves_both_versions_and_a_new_certificate_without_a_restart() {
    let redis = RedisServer::start_default().await;
    let folder = TempDir::new();
    let files = files_in(folder.path());
    let first = make_certificate(&files);
    let dispatcher =
        Dispatcher::start_with(&redis.url(), |settings| settings.tls = Some(files.clone())).await;

    let two = connect(&dispatcher, &first, "h2").await.unwrap();
    assert_eq!(ask_with_two(two, &["/healthz", "/readyz"]).await, [200, 200]);
    let mut one = connect(&dispatcher, &first, "http/1.1").await.unwrap();
    one.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut said = String::new();
    let _ = one.read_to_string(&mut said).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");

    // Half of a change is not a valid certificate, so the old one stays in use.
    std::fs::write(&files.key, "nonsense").unwrap();
    hang_up();
    connect(&dispatcher, &first, "h2").await.unwrap();
    let second = make_certificate(&files);
    hang_up();
    wait_for("the new certificate", SOON, async || connect(&dispatcher, &second, "h2").await.map(drop)).await;
    assert!(connect(&dispatcher, &first, "h2").await.is_err(), "the old one is not served any more");
}

/// Sends SIGHUP to this process, which makes it reread its files.
fn hang_up() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
}

#[test]
fn files_that_make_no_certificate_are_named() {
    use fairlane_dispatcher::ServeArgs;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }
    let folder = TempDir::new();
    let files = files_in(folder.path());
    let settings = || {
        let (certificate, key) = (files.certificate.to_str().unwrap(), files.key.to_str().unwrap());
        let line = <Line as clap::Parser>::try_parse_from(["x", "--tls-cert", certificate, "--tls-key", key]);
        line.unwrap().serve.settings().map(drop).map_err(|error| error.to_string())
    };
    assert!(settings().unwrap_err().contains("tls.crt cannot be read"));
    make_certificate(&files);
    settings().unwrap();
    let other = TempDir::new();
    make_certificate(&files_in(other.path()));
    std::fs::copy(other.join("tls.key"), &files.key).unwrap();
    assert!(settings().unwrap_err().contains("cannot be used"), "the key is another's");
    std::fs::write(&files.key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n").unwrap();
    let said = settings().unwrap_err();
    assert!(said.contains("tls") && !said.contains("c2VjcmV0"), "{said}");
    std::fs::write(&files.certificate, "").unwrap();
    assert!(settings().unwrap_err().contains("no certificate"));
}

#[tokio::test]
async fn streams_are_told_when_to_come_back_and_end_cleanly() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut stream = TcpStream::connect(dispatcher.address()).await.unwrap();
    let request = format!(
        "GET /v1/builds/{id}/events HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip, br\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("event: state") {
        let read = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    for header in ["x-accel-buffering: no", "cache-control: no-cache", "content-type: text/event-stream"] {
        assert!(text.contains(header), "no {header} in {text}");
    }
    assert!(!text.contains("content-encoding"), "{text}");
    // Idle connections are closed without a response.
    let mut idle = TcpStream::connect(dispatcher.address()).await.unwrap();
    dispatcher.cancel();
    let mut last = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut last)).await.expect("it ends in time").unwrap();
    let retry: u64 = last
        .lines()
        .find_map(|line| line.strip_prefix("retry: "))
        .unwrap_or_else(|| panic!("no retry in {last:?}"))
        .parse()
        .unwrap();
    assert!((100..2000).contains(&retry), "{retry}");
    assert!(last.ends_with("\r\n0\r\n\r\n"), "the answer is whole: {last:?}");
    assert_eq!(tokio::time::timeout(SOON, idle.read(&mut bytes)).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn connections_beyond_a_limit_hear_why_over_tls_too() {
    let redis = RedisServer::start_default().await;
    let folder = TempDir::new();
    let files = files_in(folder.path());
    let trusted = make_certificate(&files);
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.tls = Some(files.clone());
        settings.connections.per_address = Some(1);
    })
    .await;
    let first = connect(&dispatcher, &trusted, "h2").await.unwrap();
    let mut second = connect(&dispatcher, &trusted, "http/1.1").await.unwrap();
    second.write_all(b"GET /v1/queue HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(SOON, second.read_to_string(&mut said)).await.expect("in time").unwrap();
    assert!(said.starts_with("HTTP/1.1 429 ") && said.contains("address-connections"), "{said}");
    assert!(said.contains("retry-after: "), "{said}");
    // The first connection is still served.
    assert_eq!(ask_with_two(first, &["/healthz"]).await, [200]);
}

#[tokio::test]
async fn tokens_are_read_again_without_a_restart() {
    let redis = RedisServer::start_default().await;
    let folder = TempDir::new();
    let path = folder.join("tokens");
    std::fs::write(&path, "ops read,operate 0123456789abcdef\n").unwrap();
    let dispatcher =
        Dispatcher::start_with(&redis.url(), |settings| settings.tokens.add_file(&path).unwrap()).await;
    let status = async |token: &str| {
        crate::support::send(dispatcher.get("/v1/queue").bearer_auth(token)).await.status().as_u16()
    };
    assert_eq!(status("0123456789abcdef").await, 200);
    std::fs::write(&path, "ops read,operate fedcba9876543210\n").unwrap();
    hang_up();
    wait_for("the new token", SOON, async || match status("fedcba9876543210").await {
        200 => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(status("0123456789abcdef").await, 401);
}
