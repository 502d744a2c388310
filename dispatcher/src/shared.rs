//! Responses that are kept for a moment, for callers that accept one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// Maximum age of a kept response, whatever a caller would accept.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(10);
/// Most responses that are kept at a time.
const KEPT_MAX: usize = 500;

pub(crate) struct Kept {
    /// When it was requested, which is before it was read from Redis.
    pub(crate) at: Instant,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) plain: Bytes,
    pub(crate) gzip: Option<Bytes>,
}

/// The latest response, locked while a newer one is read.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Arc<Kept>>>>;

/// The latest responses, by path and query. If one is just being read, further callers wait for it.
#[derive(Default)]
pub(crate) struct Shared(Mutex<HashMap<String, (Instant, Slot)>>);

impl Shared {
    /// The slot for `key`; `None` if there are too many.
    pub(crate) fn slot(&self, key: &str) -> Option<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT_MAX {
            slots.retain(|_, (used, _)| used.elapsed() < AGE_MAX);
        }
        if let Some((used, slot)) = slots.get_mut(key) {
            *used = Instant::now();
            return Some(Arc::clone(slot));
        }
        if slots.len() >= KEPT_MAX {
            return None;
        }
        let slot = Slot::default();
        slots.insert(key.to_owned(), (Instant::now(), Arc::clone(&slot)));
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_answers_are_kept() {
        let shared = Shared::default();
        for number in 0..KEPT_MAX {
            assert!(shared.slot(&format!("/v1/builds?cursor={number}")).is_some());
        }
        assert!(shared.slot("/v1/queue").is_none() && shared.slot("/v1/builds?cursor=0").is_some());
    }
}
