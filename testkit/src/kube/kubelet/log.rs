//! The log of one container, as the kubelet keeps it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

/// The container runtime splits longer lines into parts of this size.
pub(in crate::kube) const LINE_PART_BYTES: usize = 16 * 1024;
/// A log file of this size is rotated (`containerLogMaxSize`), and the previous one is deleted.
const LOG_FILE_BYTES_MAX: usize = 10 * 1024 * 1024;

/// One line, or a part of a long one.
#[derive(Debug, Clone)]
pub(in crate::kube) struct Piece {
    pub(in crate::kube) at: Timestamp,
    pub(in crate::kube) bytes: Vec<u8>,
    /// Whether it starts a line: only then is a timestamp shown.
    pub(in crate::kube) starts: bool,
    /// Whether it ended with a newline.
    pub(in crate::kube) ends: bool,
}

/// The log of one container, written once and read by any number of followers.
#[derive(Debug)]
pub(in crate::kube) struct ContainerLog {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    pieces: VecDeque<Piece>,
    /// The number of the first piece that still exists.
    first: usize,
    /// Where the newer of the two files starts, and its size.
    newer_file: usize,
    newer_bytes: usize,
    closed: bool,
}

impl ContainerLog {
    pub(in crate::kube) fn new() -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(0) }
    }

    pub(in crate::kube) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Appends, and rotates if the file is full.
    pub(in crate::kube) fn append(&self, piece: Piece) {
        let mut inner = self.lock();
        inner.newer_bytes += piece.bytes.len();
        inner.pieces.push_back(piece);
        if inner.newer_bytes > LOG_FILE_BYTES_MAX {
            inner.rotate();
        }
        drop(inner);
        self.tell();
    }

    /// The container is gone: followers end.
    pub(in crate::kube) fn close(&self) {
        self.lock().closed = true;
        self.tell();
    }

    /// The pieces from number `from` on, the number after them, and whether nothing more will come.
    pub(in crate::kube) fn read(&self, from: usize) -> (Vec<Piece>, usize, bool) {
        let inner = self.lock();
        let skip = from.saturating_sub(inner.first);
        let pieces = inner.pieces.iter().skip(skip).cloned().collect();
        (pieces, inner.first + inner.pieces.len(), inner.closed)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn rotate(&mut self) {
        let forgotten = self.newer_file.saturating_sub(self.first);
        self.pieces.drain(..forgotten);
        self.first = self.newer_file;
        self.newer_file = self.first + self.pieces.len();
        self.newer_bytes = 0;
    }
}
