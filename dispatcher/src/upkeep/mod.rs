//! What a dispatcher does in the background.
//!
//! - **Counting people** (`people`). Streams and requests change counts in memory; at most four times a second,
//!   the changed ones are written as absolute numbers, so that writing twice does no harm. The same call is
//!   the dispatcher's heartbeat: after 10 s without one, any reaper subtracts its people. If the queue
//!   reports that it had forgotten this dispatcher, all counts are written again.
//! - **Reaping** (`reaper`). Handles expired leases, timers that are due, processes that are gone. Any dispatcher or
//!   worker may reap at any moment, and doing it twice changes nothing. So no leader is needed, and the next
//!   reaper does a second later what one leaves undone.
//!
//! Both keep running while Redis is away, and log its start and its end once each (`outage`).

pub(crate) mod outage;
pub(crate) mod people;
pub(crate) mod reaper;
