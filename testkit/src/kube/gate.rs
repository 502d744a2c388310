//! The API server's port: it can refuse connections, and cut those that are open.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Another process may take a port between its choice and its use, now and then.
const PORT_TRIES: usize = 20;

/// Opens and closes the port from outside.
#[derive(Debug)]
pub(super) struct Gate {
    address: SocketAddr,
    listener: std::net::TcpListener,
    away: watch::Sender<bool>,
    open_connections: Arc<Mutex<CancellationToken>>,
}

impl Gate {
    /// Opens a new port on the loopback interface; returns the gate and the acceptor of its connections.
    pub(super) fn open() -> io::Result<(Self, Door)> {
        let listener = listen_on_a_port_that_stays()?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let address = listener.local_addr()?;
        let away = watch::Sender::new(false);
        let open_connections = Arc::new(Mutex::new(CancellationToken::new()));
        let door = Door {
            address,
            listener: listener.try_clone()?,
            accepts: None,
            away: away.subscribe(),
            open_connections: Arc::clone(&open_connections),
        };
        Ok((Self { address, listener, away, open_connections }, door))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections from now on; open ones stay. The port stays reserved.
    pub(super) fn shut(&self) -> io::Result<()> {
        self.away.send_replace(true);
        Ok(rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both)?)
    }

    /// Accepts connections again.
    pub(super) fn reopen(&self) -> io::Result<()> {
        rustix::net::listen(&self.listener, BACKLOG)?;
        self.away.send_replace(false);
        Ok(())
    }

    /// Cuts every open connection.
    pub(super) fn cut_all(&self) {
        let mut token = self.open_connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *token).cancel();
    }
}

/// When a socket is closed, the kernel takes back a port that it chose, but not one that was requested by number.
fn listen_on_a_port_that_stays() -> io::Result<std::net::TcpListener> {
    let mut last = None;
    for _ in 0..PORT_TRIES {
        let chosen = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        match std::net::TcpListener::bind(chosen) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse)))
}

/// Accepts connections while the gate is open.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    listener: std::net::TcpListener,
    /// The same socket, registered with the runtime; registered again each time the port reopens, because the
    /// runtime treats closing as final.
    accepts: Option<TcpListener>,
    away: watch::Receiver<bool>,
    open_connections: Arc<Mutex<CancellationToken>>,
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            if self.away.wait_for(|away| !away).await.is_err() {
                // The cluster is gone.
                std::future::pending::<()>().await;
            }
            if self.accepts.is_none() {
                self.accepts = self.listener.try_clone().and_then(TcpListener::from_std).ok();
            }
            let Some(listener) = &self.accepts else {
                tokio::task::yield_now().await;
                continue;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Small chunks of a log must not wait for each other.
                    let _ = stream.set_nodelay(true);
                    let token =
                        self.open_connections.lock().unwrap_or_else(PoisonError::into_inner).child_token();
                    return (Line::new(stream, token), peer);
                }
                // The port was closed in the meantime.
                Err(_) => self.accepts = None,
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
