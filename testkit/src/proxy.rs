//! A proxy that breaks connections in the ways networks do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Bytes taken from one side before they are given to the other: also the bound of what a stall holds back, beside
/// the sockets' own buffers.
const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// How often a slowed-down direction gives bytes.
const CHUNKS_PER_SECOND: u64 = 20;

/// The server behind a [`FaultProxy`].
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// What is wrong with the network just now.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    /// Connections made at an earlier count are cut.
    cuts: u64,
    refuses: bool,
    stalled: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    closed: bool,
}

impl Weather {
    /// How long a chunk of so many bytes is on its way.
    fn lateness(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros = self.bytes_per_second.map_or(0, |rate| bytes.saturating_mul(1_000_000) / rate);
        self.delay + Duration::from_micros(micros)
    }
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    weather: watch::Sender<Weather>,
    /// The reply to the next request that holds these bytes is lost.
    lose_reply_to: Mutex<Option<Vec<u8>>>,
    replies_lost: AtomicUsize,
    connections: AtomicUsize,
}

/// A proxy on a loopback port before any server, TCP or unix socket.
///
/// Every fault is in force when its method returns, and for existing connections too; dropping the proxy cuts them.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port of the loopback interface, and passes connections on to `upstream`.
    ///
    /// # Panics
    /// Where no port can be had.
    pub async fn start(upstream: Upstream) -> Self {
        let listener = match TcpListener::bind("127.0.0.1:0").await {
            Ok(listener) => listener,
            Err(error) => panic!("the fault proxy cannot listen: {error}"),
        };
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("the fault proxy has no address: {error}"),
        };
        let shared = Arc::new(Shared {
            upstream,
            weather: watch::Sender::new(Weather::default()),
            lose_reply_to: Mutex::new(None),
            replies_lost: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, address, acceptor }
    }

    /// The proxy's own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy's address as a Redis URL.
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many connections are open through the proxy.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts all connections there are; new ones are welcome.
    pub fn cut(&self) {
        self.shared.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Cuts each new connection as soon as it is made; existing ones go on.
    pub fn refuse(&self) {
        self.shared.weather.send_modify(|weather| weather.refuses = true);
    }

    /// Holds all bytes back, in both directions, until [`FaultProxy::resume`]; connections stay open.
    pub fn stall(&self) {
        self.shared.weather.send_modify(|weather| weather.stalled = true);
    }

    /// Gives every chunk of bytes, in both directions, this much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Lets through no more than this many bytes per second, in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.weather.send_modify(|weather| weather.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Ends refusal, stall, delay and throttle, and forgets a reply to be lost.
    pub fn resume(&self) {
        *self.lose_reply_to() = None;
        self.shared.weather.send_modify(|weather| {
            *weather = Weather { cuts: weather.cuts, ..Weather::default() };
        });
    }

    /// Loses the next reply: the next request reaches the server and is carried out, then its connection is cut
    /// before anything comes back.
    pub fn drop_next_reply(&self) {
        self.drop_reply_to("");
    }

    /// As [`FaultProxy::drop_next_reply`], for the next request with `needle` in it, such as the name of a key.
    pub fn drop_reply_to(&self, needle: &str) {
        *self.lose_reply_to() = Some(needle.as_bytes().to_vec());
    }

    /// How many replies were lost so far: wait for it, to know that the server has carried the request out.
    pub fn replies_lost(&self) -> usize {
        self.shared.replies_lost.load(Ordering::SeqCst)
    }

    fn lose_reply_to(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.shared.lose_reply_to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.shared.weather.send_modify(|weather| weather.closed = true);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let weather = shared.weather.subscribe();
        if weather.borrow().refuses {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            connect(client, &shared, weather).await;
            shared.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn connect(client: TcpStream, shared: &Shared, weather: watch::Receiver<Weather>) {
    // Without this, Nagle's algorithm would add up to 40 ms to every request through the proxy.
    let _ = client.set_nodelay(true);
    match &shared.upstream {
        Upstream::Tcp(address) => {
            if let Ok(server) = TcpStream::connect(address).await {
                let _ = server.set_nodelay(true);
                serve(client.into_split(), server.into_split(), shared, weather).await;
            }
        }
        Upstream::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                serve(client.into_split(), server.into_split(), shared, weather).await;
            }
        }
    }
}

async fn serve<CR, CW, SR, SW>(
    (mut client_reader, mut client_writer): (CR, CW),
    (mut server_reader, mut server_writer): (SR, SW),
    shared: &Shared,
    mut weather: watch::Receiver<Weather>,
) where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    let end = {
        let requests =
            pump(&mut client_reader, &mut server_writer, weather.clone(), |bytes| shared.is_to_lose(bytes));
        let replies = pump(&mut server_reader, &mut client_writer, weather.clone(), |_| false);
        let cuts = weather.borrow_and_update().cuts;
        let cut = async {
            // An error says that the proxy is gone, which is a cut too.
            let _ = weather.wait_for(|now| now.cuts != cuts || now.closed).await;
        };
        tokio::pin!(cut, replies);
        tokio::select! {
            () = &mut cut => End::Closed,
            _ = &mut replies => End::Closed,
            end = requests => {
                if end == End::Closed {
                    // A client that only closes its sending half still gets what the server has to say.
                    tokio::select! {
                        () = cut => {}
                        _ = replies => {}
                    }
                }
                end
            }
        }
    };
    if end == End::ReplyLost {
        drop((client_reader, client_writer));
        // The server's half is closed in order: a reset could make it throw the request away unread.
        let _ = server_writer.shutdown().await;
        let mut rest = vec![0; CHUNK_BYTES_MAX];
        while server_reader.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
        shared.replies_lost.fetch_add(1, Ordering::SeqCst);
    }
}

/// Why a direction carries no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    ReplyLost,
}

impl Shared {
    fn is_to_lose(&self, request: &[u8]) -> bool {
        let mut wanted = self.lose_reply_to.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = wanted.as_ref().is_some_and(|needle| {
            needle.is_empty() || request.windows(needle.len()).any(|window| window == needle.as_slice())
        });
        if is_it {
            *wanted = None;
        }
        is_it
    }
}

/// Carries bytes in one direction; ends right after a chunk for which `is_last` is true.
///
/// There is no await between that chunk's last byte and the end, so that nothing can come back in between.
async fn pump(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut weather: watch::Receiver<Weather>,
    is_last: impl Fn(&[u8]) -> bool,
) -> End {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        let share = weather.borrow().bytes_per_second.map_or(CHUNK_BYTES_MAX, bytes_per_chunk);
        let bytes = match reader.read(&mut chunk[..share]).await {
            Ok(bytes) if bytes > 0 => &chunk[..bytes],
            _ => {
                let _ = writer.shutdown().await;
                return End::Closed;
            }
        };
        let late = weather.borrow().lateness(bytes.len());
        if !late.is_zero() {
            sleep(late).await;
        }
        if weather.wait_for(|now| !now.stalled).await.is_err() {
            return End::Closed;
        }
        let is_last = is_last(bytes);
        if writer.write_all(bytes).await.is_err() {
            return End::Closed;
        }
        if is_last {
            return End::ReplyLost;
        }
    }
}

fn bytes_per_chunk(rate: u64) -> usize {
    usize::try_from(rate / CHUNKS_PER_SECOND).map_or(CHUNK_BYTES_MAX, |bytes| bytes.clamp(1, CHUNK_BYTES_MAX))
}
