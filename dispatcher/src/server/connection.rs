//! One connection's bytes: its peer must keep taking what it asked for, and must not keep a request
//! waiting for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::refusals;
use crate::settings::Bounds;

/// What every connection with HTTP/2 begins with; no request of HTTP/1 does.
const HTTP2_START: &[u8; START_BYTES] = b"PRI ";
const START_BYTES: usize = 4;

/// The bytes below HTTP.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// One connection. It is closed when its peer takes no byte for too long, when a request's head does
/// not come in time, and when it was idle for too long.
pub(super) struct Connection {
    wire: Wire,
    activity: Arc<Activity>,
    // Bytes that were read to tell the version, to be read again.
    start: [u8; START_BYTES],
    start_at: usize,
    start_end: usize,
    version: Version,
    stall: Duration,
    head_wait: Duration,
    idle_wait: Duration,
    // Made only when a write does not go through: most connections never need a timer.
    stalled: Option<Pin<Box<Sleep>>>,
    // Runs while no request is being served.
    waiting: Option<Pin<Box<Sleep>>>,
    head_began: bool,
    // Requests that had begun when the timer was last looked at.
    begun: u32,
    refused: bool,
}

impl Connection {
    pub(super) fn new(wire: Wire, activity: Arc<Activity>, bounds: &Bounds) -> Self {
        Self {
            wire,
            activity,
            start: [0; START_BYTES],
            start_at: 0,
            start_end: 0,
            version: Version::One,
            stall: bounds.stall,
            head_wait: bounds.head_wait,
            idle_wait: bounds.idle_wait,
            stalled: None,
            waiting: None,
            head_began: false,
            begun: 0,
            refused: false,
        }
    }

    /// Reads as much as it takes to tell which HTTP the peer speaks.
    pub(super) async fn tell_version(&mut self) -> io::Result<Version> {
        let negotiated = match &self.wire {
            Wire::Plain(_) => None,
            Wire::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(b"h2")),
        };
        let is_two = match negotiated {
            Some(is_two) => is_two,
            None => self.starts_with_two().await?,
        };
        self.version = if is_two { Version::Two } else { Version::One };
        Ok(self.version)
    }

    async fn starts_with_two(&mut self) -> io::Result<bool> {
        while self.start_end < START_BYTES && self.start[..self.start_end] == HTTP2_START[..self.start_end] {
            let rest = &mut self.start[self.start_end..];
            let read = match &mut self.wire {
                Wire::Plain(stream) => stream.read(rest).await?,
                Wire::Tls(stream) => stream.read(rest).await?,
            };
            if read == 0 {
                break;
            }
            self.start_end += read;
        }
        Ok(self.start == *HTTP2_START)
    }

    /// A peer that takes nothing ends its connection.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing any more")))
    }

    /// A peer that sends nothing while no request of it is served ends its connection.
    fn wait(&mut self, cx: &mut Context<'_>, read: usize) -> Poll<io::Result<()>> {
        let (begun, serving) = (self.activity.begun(), self.activity.poll_serving(cx));
        if begun != self.begun || serving {
            (self.waiting, self.head_began, self.begun) = (None, false, begun);
        }
        if serving {
            return Poll::Pending;
        }
        // Frames of HTTP/2 that are no request, such as pings, say nothing of a head to come.
        if read > 0 && !self.head_began && self.version == Version::One {
            (self.waiting, self.head_began) = (None, true);
        }
        let limit = if self.head_began || begun == 0 { self.head_wait } else { self.idle_wait };
        let timer = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        if self.head_began {
            self.say(cx, refusals::head_too_slow());
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer sends nothing any more")))
    }

    /// A last word to a peer of HTTP/1, as far as the socket takes it at once.
    fn say(&mut self, cx: &mut Context<'_>, answer: &[u8]) {
        let _ = self.poll_wire_write(cx, answer);
        if let Wire::Tls(stream) = &mut self.wire {
            let _ = Pin::new(stream).poll_flush(cx);
        }
    }

    fn poll_wire_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// What to say instead of an empty refusal that HTTP's own layer writes: our problems say what
    /// to do.
    fn fuller(&mut self, bytes: &[u8]) -> Option<&'static [u8]> {
        if self.version == Version::Two || self.refused || self.activity.is_serving() {
            return None;
        }
        let fuller = refusals::instead_of(bytes)?;
        self.refused = true;
        Some(fuller)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.start_at < this.start_end {
            let again = &this.start[this.start_at..this.start_end];
            let count = again.len().min(buf.remaining());
            buf.put_slice(&again[..count]);
            this.start_at += count;
            this.head_began = this.version == Version::One;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let count = buf.filled().len() - before;
        match (read, this.wait(cx, count)) {
            (Poll::Ready(Ok(())), Poll::Ready(Err(late))) if count > 0 => Poll::Ready(Err(late)),
            (Poll::Ready(read), _) => Poll::Ready(read),
            (Poll::Pending, late) => late,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(fuller) = self.fuller(buf) {
            self.say(cx, fuller);
            return Poll::Ready(Ok(buf.len()));
        }
        let written = self.poll_wire_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if let Some(fuller) = bufs.first().and_then(|buf| self.fuller(buf)) {
            self.say(cx, fuller);
            return Poll::Ready(Ok(all));
        }
        let written = match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            // It takes writes into a buffer, so only a flush tells whether the peer takes them.
            Wire::Tls(stream) => {
                let flushed = Pin::new(stream).poll_flush(cx);
                self.watch(cx, flushed)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
