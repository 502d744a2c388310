//! The API server's port: it can refuse connections, and cut those that are open.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Opens and shuts the port from outside.
#[derive(Debug)]
pub(super) struct Gate {
    address: SocketAddr,
    away: watch::Sender<bool>,
    open_connections: Arc<Mutex<CancellationToken>>,
    /// Bound, never listening: keeps the port ours while nobody listens, so that connections are refused.
    _reserved: TcpSocket,
}

impl Gate {
    /// A port of its own on the loopback interface, and who accepts its connections.
    pub(super) fn open() -> io::Result<(Self, Door)> {
        let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let listener = socket(address)?.listen(BACKLOG)?;
        let away = watch::Sender::new(false);
        let open_connections = Arc::new(Mutex::new(CancellationToken::new()));
        let door = Door {
            address,
            away: away.subscribe(),
            listener: Some(listener),
            open_connections: Arc::clone(&open_connections),
        };
        Ok((Self { address, away, open_connections, _reserved: reserved }, door))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections from now on; those that are open stay.
    pub(super) fn shut(&self) {
        self.away.send_replace(true);
    }

    /// Accepts connections again.
    pub(super) fn reopen(&self) {
        self.away.send_replace(false);
    }

    /// Cuts every open connection.
    pub(super) fn cut_all(&self) {
        let mut token = self.open_connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *token).cancel();
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts connections while the gate is open.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    away: watch::Receiver<bool>,
    listener: Option<TcpListener>,
    open_connections: Arc<Mutex<CancellationToken>>,
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            if *self.away.borrow_and_update() {
                self.listener = None;
                if self.away.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if self.listener.is_none() {
                self.listener = socket(self.address).and_then(|socket| socket.listen(BACKLOG)).ok();
            }
            let Some(listener) = &self.listener else {
                tokio::task::yield_now().await;
                continue;
            };
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, peer)) = accepted {
                        // Small chunks of a log must not wait for each other.
                        let _ = stream.set_nodelay(true);
                        let token = self.open_connections.lock().unwrap_or_else(PoisonError::into_inner).child_token();
                        return (Line::new(stream, token), peer);
                    }
                }
                _ = self.away.changed() => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that can be cut from outside.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    token: CancellationToken,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn new(stream: TcpStream, token: CancellationToken) -> Self {
        let cut = Box::pin(token.clone().cancelled_owned());
        Self { stream, token, cut }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Cuts the connection of the request at hand.
#[derive(Debug, Clone)]
pub(super) struct Connection(CancellationToken);

impl Connection {
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, Door>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(stream.io().token.clone())
    }
}
