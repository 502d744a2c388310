//! The server on bare sockets: costly connections are closed, and a shutdown waits only for requests that were
//! sent.

#![expect(clippy::unwrap_used, reason = "a test has nothing better to do with an error")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use fairlane_http::{Excess, Limits, Probe, Server, Tls, TlsFiles};
use fairlane_testkit::{TempDir, wait_for_eq};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_millis(300);
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

fn limits() -> Limits {
    Limits {
        total: 100,
        per_address: None,
        exempt: Vec::new(),
        first_request: Duration::from_mins(1),
        idle: Duration::from_mins(1),
        stall: Duration::from_mins(1),
        send_buffer: 16 * 1024,
    }
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

fn start(limits: Limits, tls: Option<Tls>, router: Router) -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, limits).unwrap();
    let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
    let refuse = |_: Excess| StatusCode::SERVICE_UNAVAILABLE.into_response();
    let ended = tokio::spawn(server.run(router, refuse, stop.clone()));
    Running { address, stop, ended }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// A route with an endless body. Each body that is being sent holds a reference to `counter`.
fn endless(counter: &Arc<()>) -> Router {
    let counter = Arc::clone(counter);
    let body = move || {
        let mine = Arc::clone(&counter);
        let chunks = futures::stream::repeat_with(move || {
            let _ = &mine;
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096]))
        });
        std::future::ready(Body::from_stream(chunks))
    };
    Router::new().route("/", get(body))
}

/// Creates a certificate for this machine.
fn certificate(folder: &TempDir) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

async fn connect_tls(address: SocketAddr, trusted: &CertificateDer<'static>) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    soon("the end of a connection", stream.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut() {
    let folder = TempDir::new();
    let (files, trusted) = certificate(&folder);
    for tls in [None, Some(Tls::load(&files).unwrap())] {
        let over_tls = tls.is_some();
        let counter = Arc::new(());
        let router = endless(&counter);
        let unused = Arc::strong_count(&counter);
        let server = start(Limits { stall: BRIEF, ..limits() }, tls, router);
        let mut stream: Box<dyn ReadWrite> = if over_tls {
            Box::new(connect_tls(server.address, &trusted).await)
        } else {
            Box::new(TcpStream::connect(server.address).await.unwrap())
        };
        stream.write_all(ASK).await.unwrap();
        // A slow client is not a stalled one, so its connection stays open for several times as long.
        let mut bytes = vec![0; 256 * 1024];
        let began = Instant::now();
        while began.elapsed() < BRIEF * 4 {
            soon("a byte", stream.read(&mut bytes)).await.unwrap();
            assert!(Arc::strong_count(&counter) > unused);
        }
        wait_for_eq("the body to be dropped", SOON, unused, async || Arc::strong_count(&counter)).await;
    }
}

#[tokio::test]
async fn connections_that_ask_for_nothing_are_closed() {
    let folder = TempDir::new();
    let (files, trusted) = certificate(&folder);
    let router = || Router::new().route("/", get(async || "hello"));
    // Without a TLS handshake, and after one.
    let server =
        start(Limits { first_request: BRIEF, ..limits() }, Some(Tls::load(&files).unwrap()), router());
    rest(TcpStream::connect(server.address).await.unwrap()).await;
    let mut silent = connect_tls(server.address, &trusted).await;
    let _ = soon("the end of a connection", silent.read_to_end(&mut Vec::new())).await;
    // Between two requests.
    let server = start(Limits { idle: BRIEF, ..limits() }, None, router());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    assert!(rest(stream).await.ends_with("hello"));
}

#[tokio::test]
async fn a_shutdown_owes_answers_and_nothing_else() {
    let began = Arc::new(Notify::new());
    let go_on = Arc::new(Notify::new());
    let slow = {
        let (began, go_on) = (Arc::clone(&began), Arc::clone(&go_on));
        async move || {
            began.notify_one();
            go_on.notified().await;
            "done"
        }
    };
    let server = start(limits(), None, Router::new().route("/", get(slow)));
    let mut asked = TcpStream::connect(server.address).await.unwrap();
    asked.write_all(ASK).await.unwrap();
    soon("the request", began.notified()).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: local").await.unwrap();
    let silent = TcpStream::connect(server.address).await.unwrap();
    server.stop.cancel();
    let _ = soon("the end of half a request", half.read_to_end(&mut Vec::new())).await;
    let _ = rest(silent).await;
    assert!(!server.ended.is_finished(), "an answer is owed");
    go_on.notify_one();
    let answer = rest(asked).await;
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    soon("the end of the server", server.ended).await.unwrap();
}

struct Engine {
    ready: AtomicBool,
}

impl Probe for Engine {
    fn name(&self) -> String {
        "engine-1".to_owned()
    }

    fn ready(&self) -> Result<String, String> {
        if self.ready.load(Ordering::Relaxed) { Ok("warm".to_owned()) } else { Err("cold".to_owned()) }
    }

    fn metrics(&self) -> Registry {
        let mut registry = Registry::with_prefix("engine");
        let heat = Gauge::<i64>::default();
        heat.set(90);
        registry.register("heat", "How hot it is", heat);
        registry
    }
}

#[tokio::test]
async fn a_process_can_be_asked_how_it_is() {
    let engine = Arc::new(Engine { ready: AtomicBool::new(false) });
    let server = Server::bind_probe("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(server.run_probe(Arc::clone(&engine), stop.clone()));
    let get = async |path: &str| {
        let response = soon("an answer", reqwest::get(format!("http://{address}{path}"))).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, text) = get("/healthz").await;
    assert!(status == 200 && text.contains("\"name\":\"engine-1\""), "{status} {text}");
    let (status, text) = get("/readyz").await;
    assert!(status == 503 && text.contains("\"status\":\"cold\""), "{status} {text}");
    engine.ready.store(true, Ordering::Relaxed);
    let (status, text) = get("/readyz").await;
    assert!(status == 200 && text.contains("\"status\":\"warm\""), "{status} {text}");
    let (status, text) = get("/metrics").await;
    assert!(status == 200 && text.contains("engine_heat 90\n") && !text.contains("# EOF"), "{status} {text}");
    assert_eq!(get("/anything").await.0, 404);
    stop.cancel();
    soon("the end of the server", serving).await.unwrap();
}
