//! Faults that tests cause.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is answered this much later.
    Delay(Duration),
    /// The connection is cut and nothing happens.
    Cut,
    /// It is carried out, and the connection is cut before the response.
    LosesAnswer,
    /// It is carried out this much later, whether or not anyone still waits for the response: a write that hangs
    /// behind a slow webhook or a slow etcd while its client dies.
    HeldBack(Duration),
    /// 429 in plain text with `Retry-After` in seconds, as from an overloaded API server.
    Throttled(u32),
    /// A Status with this code, such as 500 or 503, without a reason.
    Fails(u16),
    /// 403 as when a quota is used up.
    QuotaExceeded,
    /// 403 as when the right is missing.
    Forbidden,
    /// The stream (a watch, a followed log) is cut without its end after this many bytes.
    CutsStreamAfter(usize),
    /// The stream ends normally after this many bytes.
    EndsStreamAfter(usize),
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    ordered: Mutex<Vec<Ordered>>,
}

#[derive(Debug)]
struct Ordered {
    /// `verb resource`, either of them `*`.
    on: String,
    fault: Fault,
    /// How many more requests it affects; `None` for all.
    left: Option<usize>,
}

impl Faults {
    pub(super) fn order(&self, on: &str, fault: Fault, times: Option<usize>) {
        self.lock().push(Ordered { on: on.to_owned(), fault, left: times });
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// The fault for this request: the oldest that matches.
    pub(super) fn meet(&self, what: &str) -> Option<Fault> {
        let mut ordered = self.lock();
        let index = ordered.iter().position(|one| matches(&one.on, what))?;
        let one = &mut ordered[index];
        let fault = one.fault.clone();
        if let Some(left) = &mut one.left {
            *left -= 1;
            if *left == 0 {
                ordered.remove(index);
            }
        }
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ordered>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn matches(on: &str, what: &str) -> bool {
    let part = |pattern: &str, word: &str| pattern == "*" || pattern == word;
    match (on.split_once(' '), what.split_once(' ')) {
        (Some((verb, resource)), Some((asked, of))) => part(verb, asked) && part(resource, of),
        _ => false,
    }
}
