//! What a dispatcher does all the time, whoever asks.
//!
//! - **Counting people** (`people`). Streams and requests change counts in memory; at most four times a second
//!   those that changed are written, as absolute numbers, so that writing twice does no harm. The same call
//!   is the dispatcher's heartbeat: 10 s without one and any reaper takes its people away. Whenever the
//!   queue says that it had forgotten this dispatcher, everything is written again.
//! - **Reaping** (`reaper`). Leases that ran out, timers that are due, processes that are gone: any dispatcher
//!   or worker may do it, at any moment, and doing it twice changes nothing. So nobody has to be elected,
//!   and what one reaper leaves undone the next one does a second later.
//!
//! Both go on while Redis is away and say so once, when it begins and when it is over (`outage`).

pub(crate) mod outage;
pub(crate) mod people;
pub(crate) mod reaper;
