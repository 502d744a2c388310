//! Counts the requests to the API.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Requests by `verb resource`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: Mutex<BTreeMap<String, usize>>,
}

impl Counters {
    pub(super) fn count(&self, what: &str) {
        *self.lock().entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn of(&self, what: &str) -> usize {
        self.lock().get(what).copied().unwrap_or_default()
    }

    pub(super) fn all(&self) -> BTreeMap<String, usize> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
