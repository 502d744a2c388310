//! A proxy that breaks connections as networks do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::redis_users::USER_AT_HOST;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes read from one side before they are written to the other. This also limits what a stall holds back, in
/// addition to the sockets' own buffers.
const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// The server behind a [`FaultProxy`].
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// The current faults of the network.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    stalled: bool,
    closed: bool,
    /// Each chunk is passed on this much later.
    delay: Duration,
    /// How often all connections were cut.
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    weather: watch::Sender<Weather>,
    /// What is replaced in replies, by something of the same length.
    renamed: Vec<(Vec<u8>, Vec<u8>)>,
    /// The reply to the next request that contains these bytes is lost.
    lose_reply_to: Mutex<Option<Vec<u8>>>,
    replies_lost: AtomicUsize,
}

/// A proxy on a loopback port in front of any server, on TCP or a unix socket.
///
/// Every fault is in effect when its method returns, also for existing connections; dropping the proxy cuts them.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free loopback port, and forwards connections to `upstream`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(upstream: Upstream) -> Self {
        Self::renaming(upstream, &[]).await
    }

    /// The same; where a reply in Redis's protocol names one of these ports, the client reads the other port. So a
    /// Sentinel behind it sends its client to other proxies.
    ///
    /// # Panics
    /// If there is no free port, or if two ports have different numbers of digits.
    pub async fn renaming(upstream: Upstream, ports: &[(u16, u16)]) -> Self {
        let word = |port: u16| format!("\r\n{port}\r\n").into_bytes();
        let renamed: Vec<_> = ports.iter().map(|(from, to)| (word(*from), word(*to))).collect();
        assert!(
            renamed.iter().all(|(from, to)| from.len() == to.len()),
            "the ports {ports:?} differ in length"
        );
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
            renamed,
            lose_reply_to: Mutex::new(None),
            replies_lost: AtomicUsize::new(0),
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
        format!("redis://{USER_AT_HOST}@{}", self.address)
    }

    /// Holds all bytes back, in both directions, until [`FaultProxy::resume`]; connections stay open.
    pub fn stall(&self) {
        self.shared.weather.send_modify(|weather| weather.stalled = true);
    }

    /// Ends a stall, and cancels a pending loss of a reply.
    pub fn resume(&self) {
        *self.lose_reply_to() = None;
        self.shared.weather.send_modify(|weather| weather.stalled = false);
    }

    /// Cuts all open connections; new ones are accepted.
    pub fn cut(&self) {
        self.shared.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// From now on, each chunk of bytes is passed on this much later.
    pub fn delay(&self, by: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = by);
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

    /// How many replies were lost so far. Wait for it to know that the server has carried out the request.
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
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { connect(client, &shared, shared.weather.subscribe()).await });
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
        let replies = pump(&mut server_reader, &mut client_writer, weather.clone(), |bytes| {
            shared.rename(bytes);
            false
        });
        let cuts = weather.borrow().cuts;
        let cut = async {
            // An error also means that the proxy is gone.
            let _ = weather.wait_for(|now| now.closed || now.cuts != cuts).await;
        };
        tokio::pin!(cut, replies);
        tokio::select! {
            () = &mut cut => End::Closed,
            _ = &mut replies => End::Closed,
            end = requests => {
                if end == End::Closed {
                    // A client that only closes its sending half still gets the server's response.
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
        // The server's half is closed normally: a reset could make it discard the request unread.
        let _ = server_writer.shutdown().await;
        let mut rest = vec![0; CHUNK_BYTES_MAX];
        while server_reader.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
        shared.replies_lost.fetch_add(1, Ordering::SeqCst);
    }
}

/// Why a direction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    ReplyLost,
}

impl Shared {
    /// Replies that name ports are short and come in one piece.
    fn rename(&self, reply: &mut [u8]) {
        for (from, to) in &self.renamed {
            let places: Vec<usize> = (0..reply.len()).filter(|at| reply[*at..].starts_with(from)).collect();
            for at in places {
                reply[at..at + to.len()].copy_from_slice(to);
            }
        }
    }

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

/// Copies bytes in one direction; ends right after a chunk for which `is_last` is true. That may also change it.
///
/// There is no await between that chunk's last byte and the end, so that nothing can come back in between.
async fn pump(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut weather: watch::Receiver<Weather>,
    is_last: impl Fn(&mut [u8]) -> bool,
) -> End {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        let bytes = match reader.read(&mut chunk).await {
            Ok(bytes) if bytes > 0 => &mut chunk[..bytes],
            _ => {
                let _ = writer.shutdown().await;
                return End::Closed;
            }
        };
        let delay = match weather.wait_for(|now| !now.stalled).await {
            Ok(now) => now.delay,
            Err(_) => return End::Closed,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
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
