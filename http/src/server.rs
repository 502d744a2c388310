//! The listener, and the life of each connection.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header;
use axum::response::Response;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admission::{Admission, Excess};
use crate::tls::Tls;

/// Longest head of a request, in bytes. Proxies accept 8 to 32 KiB; our clients need 1 KiB.
const HEAD_BYTES_MAX: u32 = 32 * 1024;
/// Most bytes read ahead from one HTTP/1 connection.
const READ_BYTES_MAX: usize = 64 * 1024;
/// The first bytes of an HTTP/2 connection. No HTTP/1 method that is served here starts with them.
const HTTP2_START: &[u8; 2] = b"PR";
/// Streams of one HTTP/2 connection: a hub replica could follow all its builds over one.
const HTTP2_STREAMS_MAX: u32 = 256;
/// Most bytes buffered for one HTTP/2 stream whose client does not read.
const HTTP2_SEND_BYTES: usize = 64 * 1024;
/// How often an HTTP/2 client is pinged, and how long it may take to answer.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a refused connection may take to send a request and to read the reason.
const REFUSAL: Duration = Duration::from_secs(2);

/// Limits on connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most open connections; the limit on open files restricts them, too.
    pub total: usize,
    /// Most open connections from one IPv4 address or one IPv6 /64 network.
    pub per_address: Option<usize>,
    /// Networks that are exempt from `per_address`, such as proxies.
    pub exempt: Vec<IpNet>,
    /// How long a TLS handshake may take, and then the head of a connection's first request.
    pub first_request: Duration,
    /// How long an HTTP/1 connection may take until the head of its next request is complete.
    pub idle: Duration,
    /// How long a client may leave data unread.
    pub stall: Duration,
    /// The kernel's send buffer for one connection, in bytes. By default, it can grow to 4 MB for each client
    /// that stops reading.
    pub send_buffer: u32,
}

/// A listener, and the limits within which it serves connections.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    admission: Admission,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// Cannot listen on the address.
    pub fn bind(address: SocketAddr, tls: Option<Tls>, limits: Limits) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit this setting.
        socket.set_send_buffer_size(limits.send_buffer)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let admission = Admission::new(limits.total, limits.per_address, limits.exempt.clone());
        Ok(Self { listener, tls, limits, admission })
    }

    /// The address that the server listens on.
    ///
    /// # Errors
    /// The system does not know the address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `router` until `shutdown`, then until the last request has been answered. Requests carry the
    /// peer's address as [`ConnectInfo<SocketAddr>`]. Connections beyond a limit get the response of
    /// `refuse`.
    pub async fn run(self, router: Router, refuse: fn(Excess) -> Response, shutdown: CancellationToken) {
        let Self { mut listener, tls, limits, admission } = self;
        let (http1, http2) = protocols(limits.idle);
        let shared = Arc::new(Shared { http1, http2, tls, limits, shutdown: shutdown.clone() });
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = Listener::accept(&mut listener) => accepted,
                () = shutdown.cancelled() => break,
            };
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let (shared, watcher) = (Arc::clone(&shared), graceful.watcher());
            match admission.admit(peer.ip()) {
                Ok(permit) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        converse(stream, peer, router, &shared, watcher).await;
                        drop(permit);
                    });
                }
                Err(excess) => {
                    tracing::debug!(?excess, %peer, "connection refused");
                    let Some(permit) = admission.refuse() else { continue };
                    let router = Router::new()
                        .fallback(async move || ([(header::CONNECTION, "close")], refuse(excess)));
                    tokio::spawn(async move {
                        let _ = timeout(REFUSAL, converse(stream, peer, router, &shared, watcher)).await;
                        drop(permit);
                    });
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }
}

/// The settings of HTTP/1 and HTTP/2. hyper-util could detect the version, but without a time limit. Its
/// read-ahead also costs 9 KB per connection, because hyper's read buffer doubles.
fn protocols(idle: Duration) -> (http1::Builder, http2::Builder<TokioExecutor>) {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // This time counts from the end of the last response.
        .header_read_timeout(idle)
        .max_header_size(HEAD_BYTES_MAX as usize)
        .max_buf_size(READ_BYTES_MAX);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING);
    (http1, http2)
}

struct Shared {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<Tls>,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Shared {
    /// Runs a step that precedes the first request; `None` if it fails or takes too long.
    async fn prepare<T>(&self, step: impl Future<Output = io::Result<T>>) -> Option<T> {
        let done = tokio::select! {
            done = timeout(self.limits.first_request, step) => done,
            () = self.shutdown.cancelled() => return None,
        };
        match done {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => tracing::debug!(%error, "a connection ended before its first request"),
            Err(_) => tracing::debug!("a connection took too long before its first request"),
        }
        None
    }
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, shared: &Shared, watcher: Watcher) {
    // Log lines are small and must be sent at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    let mut start = [0; HTTP2_START.len()];
    if shared.tls.is_none() && shared.prepare(stream.peek(&mut start)).await.is_none() {
        return;
    }
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(shared.limits.stall));
    let stream = Box::pin(stream);
    let Some(tls) = &shared.tls else {
        return exchange(stream, start == *HTTP2_START, peer, router, shared, watcher).await;
    };
    // Boxed: the handshake's state is large, and is freed afterwards.
    if let Some(stream) = shared.prepare(Box::pin(tls.acceptor().accept(stream))).await {
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Box::pin(exchange(Box::new(stream), is_http2, peer, router, shared, watcher)).await;
    }
}

/// Answers the requests of one connection.
async fn exchange<I>(
    io: I,
    is_http2: bool,
    peer: SocketAddr,
    router: Router,
    shared: &Shared,
    watcher: Watcher,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asked = Arc::new(Notify::new());
    let service = hyper::service::service_fn({
        let asked = Arc::clone(&asked);
        move |mut request: Request<Incoming>| {
            asked.notify_one();
            request.extensions_mut().insert(ConnectInfo(peer));
            // Boxed: hyper reserves space for this future as long as the connection lives.
            Box::pin(router.clone().oneshot(request.map(Body::new)))
        }
    });
    let io = TokioIo::new(io);
    if is_http2 {
        // Boxed: it is large.
        Box::pin(drive(shared.http2.serve_connection(io, service), &asked, shared, watcher)).await;
    } else {
        drive(shared.http1.serve_connection(io, service), &asked, shared, watcher).await;
    }
}

/// Drives a connection to its end. Limits the time until the first request, because hyper does not do so for
/// HTTP/2.
async fn drive<C>(connection: C, asked: &Notify, shared: &Shared, watcher: Watcher)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut serving = pin!(watcher.watch(connection));
    let first = Box::pin(timeout(shared.limits.first_request, asked.notified()));
    let early = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        asked = first => match asked {
            Ok(()) => None,
            Err(_) => return,
        },
        // No response is needed if the client has not sent a request.
        () = shared.shutdown.cancelled() => return,
    };
    let ended = match early {
        Some(ended) => ended,
        None => serving.await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}
