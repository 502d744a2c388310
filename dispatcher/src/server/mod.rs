//! Connections: taken within limits, over TLS or not, HTTP/1.1 or HTTP/2, told to go when the
//! dispatcher stops.
//!
//! Its own loop, because limits and time-outs belong to connections: a client that sends nothing, or
//! half a request, or too many of them, must cost the others nothing.

mod activity;
mod addresses;
mod connection;
mod refusals;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::access::address::Peer;
use crate::settings::{Bounds, ConnectionLimits};
use activity::{Activity, ServedBody};
use addresses::{Addresses, Place};
use connection::{Connection, Version, Wire};
use refusals::Excess;
pub(crate) use tls::Tls;
pub use tls::{TlsError, TlsFiles};

/// Longest head of a request, in bytes. Proxies take 8 to 32 KiB; ours need one.
const HEAD_BYTES_MAX: u32 = 32 * 1024;
/// What is read ahead of one connection, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Streams of one connection with HTTP/2: a replica of a hub follows its builds over one.
const HTTP2_STREAMS_MAX: u32 = 256;
/// Most bytes kept for one stream of HTTP/2 that its client does not take.
const HTTP2_SEND_BYTES: usize = 64 * 1024;
/// How often a client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Refused clients that are told why at once; more are only closed. Under TLS each costs a handshake,
/// a millisecond or so, and nobody is told more of them than this in a second or two.
const TURNED_AWAY_MAX: usize = 64;
/// Idle connections go when they have been idle for so long and connections are short.
const PRESSED_IDLE: Duration = Duration::from_secs(1);
/// How often connections are told that they are short: telling wakes all of them.
const PRESS_GAP: Duration = Duration::from_secs(1);
/// Open files beside connections: Redis, logs, and what the runtime needs.
const OTHER_FILES: u64 = 100;
/// Pause after a connection could not be accepted for want of files or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What all connections are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Go on.
    Open,
    /// Connections are short: who has nothing to say, leave.
    Pressed,
    /// The dispatcher stops.
    Stopping,
}

/// Accepts connections and serves them.
pub(crate) struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    limits: ConnectionLimits,
    addresses: Addresses,
    tracker: TaskTracker,
    turned_away: Arc<Semaphore>,
}

struct Shared {
    router: axum::Router,
    tls: Option<TlsAcceptor>,
    /// For connections that are turned away.
    tls_refusing: Option<TlsAcceptor>,
    bounds: Bounds,
    phase: watch::Sender<Phase>,
    one: http1::Builder,
    two: http2::Builder<TokioExecutor>,
}

impl Server {
    /// Listens on `address`. What the kernel holds for one connection on its way out is at most about
    /// `bounds.send_buffer` bytes.
    pub(crate) fn bind(
        address: SocketAddr,
        router: axum::Router,
        tls: Option<&Tls>,
        bounds: &Bounds,
        limits: &ConnectionLimits,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it.
        socket.set_send_buffer_size(bounds.send_buffer)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let mut limits = limits.clone();
        limits.total = limits.total.min(files_allow());
        let mut one = http1::Builder::new();
        one.header_read_timeout(None).max_header_size(HEAD_BYTES_MAX as usize).max_buf_size(READ_BYTES_MAX);
        let mut two = http2::Builder::new(TokioExecutor::new());
        two.timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_send_buf_size(HTTP2_SEND_BYTES)
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING);
        let shared = Arc::new(Shared {
            router,
            tls: tls.map(|tls| tls.acceptor.clone()),
            tls_refusing: tls.map(|tls| tls.refusing.clone()),
            bounds: bounds.clone(),
            phase: watch::Sender::new(Phase::Open),
            one,
            two,
        });
        let (addresses, tracker) = (Addresses::default(), TaskTracker::new());
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
        Ok(Self { listener, shared, limits, addresses, tracker, turned_away })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then until the last request has been answered.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut pressed = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer.ip().to_canonical(), &mut pressed),
                Err(error) if is_of_one(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted at the moment");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        let Self { listener, shared, tracker, .. } = self;
        drop(listener);
        shared.phase.send_replace(Phase::Stopping);
        tracker.close();
        tracker.wait().await;
    }

    fn take(&self, stream: TcpStream, peer: IpAddr, pressed: &mut Option<Instant>) {
        let open = self.tracker.len();
        // Before it is too late: a tenth of them is left for whoever comes meanwhile.
        if open >= self.limits.total / 10 * 9 && pressed.is_none_or(|told| told.elapsed() >= PRESS_GAP) {
            *pressed = Some(Instant::now());
            self.shared.phase.send_replace(Phase::Pressed);
        }
        if open >= self.limits.total {
            return self.turn_away(stream, Excess::All);
        }
        let place = match self.limits.per_address {
            Some(most) if !self.limits.is_proxy(peer) => match self.addresses.enter(peer, most) {
                None => return self.turn_away(stream, Excess::Address),
                place => place,
            },
            _ => None,
        };
        // Lines are small and wanted at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        self.tracker.spawn(converse(stream, peer, Arc::clone(&self.shared), place));
    }

    fn turn_away(&self, stream: TcpStream, excess: Excess) {
        tracing::debug!(?excess, "a connection is turned away");
        if let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() {
            let tls = self.shared.tls_refusing.clone();
            tokio::spawn(async move {
                refusals::turn_away(stream, tls, excess).await;
                drop(permit);
            });
        }
    }
}

/// How many connections this process may have files for. Its limit is raised as far as it may be.
fn files_allow() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let files = current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    usize::try_from(files).unwrap_or(usize::MAX).max(1)
}

/// Whether an error of accepting is that of the one connection, and not of this process.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>, place: Option<Place>) {
    let activity = Activity::new();
    let mut phase = shared.phase.subscribe();
    // Boxed: what opening needs is large, and is not needed any more.
    let opening = Box::pin(open(stream, Arc::clone(&activity), &shared));
    let opened = tokio::select! {
        opened = tokio::time::timeout(shared.bounds.head_wait, opening) => opened,
        () = must_leave(&mut phase, &activity) => return,
    };
    let Ok(Ok((connection, version))) = opened else {
        tracing::debug!("a connection ended before its first request");
        return;
    };
    let (router, io) = (shared.router.clone(), TokioIo::new(connection));
    let service = Service { router, peer, activity: Arc::clone(&activity) };
    match version {
        Version::One => drive(pin!(shared.one.serve_connection(io, service)), &mut phase, &activity).await,
        Version::Two => {
            let connection = Box::pin(shared.two.serve_connection(io, service));
            Box::pin(drive_boxed(connection, &mut phase, &activity)).await;
        }
    }
    drop(place);
}

async fn open(
    stream: TcpStream,
    activity: Arc<Activity>,
    shared: &Shared,
) -> io::Result<(Connection, Version)> {
    let wire = match &shared.tls {
        None => Wire::Plain(stream),
        Some(acceptor) => Wire::Tls(Box::new(acceptor.accept(stream).await?)),
    };
    let mut connection = Connection::new(wire, activity, &shared.bounds);
    let version = connection.tell_version().await?;
    Ok((connection, version))
}

/// Waits until a connection that serves nothing is to go.
async fn must_leave(phase: &mut watch::Receiver<Phase>, activity: &Activity) {
    loop {
        if phase.changed().await.is_err() {
            return;
        }
        match *phase.borrow_and_update() {
            Phase::Stopping => return,
            Phase::Pressed if activity.idle_for() > PRESSED_IDLE => return,
            Phase::Pressed | Phase::Open => {}
        }
    }
}

/// A connection that can be told to end after what it serves.
trait Conversation: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl Conversation for http1::Connection<TokioIo<Connection>, Service> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Conversation for http2::Connection<TokioIo<Connection>, Service, TokioExecutor> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive_boxed(
    mut connection: Pin<Box<impl Conversation>>,
    phase: &mut watch::Receiver<Phase>,
    activity: &Activity,
) {
    drive(connection.as_mut(), phase, activity).await;
}

async fn drive(
    mut connection: Pin<&mut impl Conversation>,
    phase: &mut watch::Receiver<Phase>,
    activity: &Activity,
) {
    let mut told = *phase.borrow_and_update() == Phase::Stopping;
    if told {
        connection.as_mut().end();
    }
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            changed = phase.changed(), if !told => {
                let phase = changed.map_or(Phase::Stopping, |()| *phase.borrow_and_update());
                match phase {
                    // Nothing was asked yet, or not all of it: nothing is owed.
                    Phase::Stopping if activity.begun() == 0 => return,
                    Phase::Stopping => {
                        told = true;
                        connection.as_mut().end();
                    }
                    Phase::Pressed if activity.idle_for() > PRESSED_IDLE => return,
                    Phase::Pressed | Phase::Open => {}
                }
            }
        }
    }
}

/// The routes, for one connection.
struct Service {
    router: axum::Router,
    peer: IpAddr,
    activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<ServedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ServedBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let serving = self.activity.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(self.peer));
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move { Ok(answer.await?.map(|body| ServedBody::new(body, serving))) })
    }
}
