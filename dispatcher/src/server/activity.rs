//! What a connection is doing: how many requests are being served, and since when none is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::task::AtomicWaker;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

/// Shared by the two ends of a connection: the bytes below, the requests above.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    serving: AtomicU32,
    begun: AtomicU32,
    // Milliseconds after `opened`.
    idle_from: AtomicU64,
    // Whoever reads the connection: it begins to wait for the next request when the last one ends.
    reader: AtomicWaker,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let (serving, begun, idle_from) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
        let reader = AtomicWaker::new();
        Arc::new(Self { opened: Instant::now(), serving, begun, idle_from, reader })
    }

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Serving {
        self.serving.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Serving(Arc::clone(self))
    }

    /// Whether a request is being served.
    pub(super) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed) > 0
    }

    /// Whether a request is being served; the task of `cx` is woken when none is any more.
    pub(super) fn poll_serving(&self, cx: &Context<'_>) -> bool {
        self.reader.register(cx.waker());
        self.is_serving()
    }

    /// How many requests have begun.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// For how long nothing has been served; zero while something is.
    pub(super) fn idle_for(&self) -> Duration {
        if self.is_serving() {
            return Duration::ZERO;
        }
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.idle_from.load(Ordering::Relaxed)))
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct Serving(Arc<Activity>);

impl Drop for Serving {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.idle_from.store(since, Ordering::Relaxed);
        if self.0.serving.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.reader.wake();
        }
    }
}

/// An answer's body; its request is being served until it is dropped.
pub(super) struct ServedBody {
    body: Body,
    _serving: Serving,
}

impl ServedBody {
    pub(super) fn new(body: Body, serving: Serving) -> Self {
        Self { body, _serving: serving }
    }
}

impl HttpBody for ServedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
