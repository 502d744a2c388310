//! Waiting for a condition instead of sleeping and hoping.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Small compared with every deadline in the tests, large compared with the cost of a query to a local Redis.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The result of a check: the value waited for, or what was seen instead.
pub trait Observation {
    /// What the wait returns.
    type Value;

    /// The value, or a description of what was seen instead.
    fn settle(self) -> Result<Self::Value, String>;
}

impl Observation for bool {
    type Value = ();

    fn settle(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Observation for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "None".to_owned())
    }
}

impl<T, E: Debug> Observation for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Calls `look` again and again until it returns `true`, `Some` or `Ok`, and returns the value in it.
///
/// Return `Err(what is there)` to have it shown in the message. A call that itself hangs is cut off by the
/// deadline.
///
/// # Panics
/// When `deadline` has passed; the message contains `what` and what was seen last.
pub async fn wait_for<F, O>(what: &str, deadline: Duration, mut look: F) -> O::Value
where
    F: AsyncFnMut() -> O,
    O: Observation,
{
    let end = Instant::now() + deadline;
    let mut last_seen = "nothing: the first look did not return".to_owned();
    loop {
        match timeout_at(end, look()).await.map(Observation::settle) {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last_seen = seen,
            Err(_) => {}
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}; last seen: {last_seen}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Calls `look` again and again until it returns `expected`.
///
/// # Panics
/// When `deadline` has passed; the message contains `what`, `expected` and what was seen last.
pub async fn wait_for_eq<F, T>(what: &str, deadline: Duration, expected: T, mut look: F)
where
    F: AsyncFnMut() -> T,
    T: PartialEq + Debug,
{
    let what = format!("{what} to be {expected:?}");
    wait_for(&what, deadline, async || {
        let seen = look().await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}
