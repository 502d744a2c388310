//! What a dispatcher does in the background.
//!
//! - **Counting people** (`people`). Streams and requests change counts in memory. At most four times a
//!   second, the changed ones are written as absolute numbers, so writing them twice does no harm. The same
//!   call is the dispatcher's heartbeat: after 10 s without one, any reaper subtracts its people. If the
//!   queue reports that it had forgotten this dispatcher, all counts are written again.
//! - **Reaping** (`reaper`). Handles expired leases, due timers, and dead processes. Any dispatcher or worker
//!   may reap at any moment, and doing it twice changes nothing. So no leader is needed: what one reaper
//!   leaves undone, the next one does a second later.
//! - **Feeding campaigns** (`feeder`). While there are campaigns, their next builds are put into line about once
//!   a second, and whenever a build has ended. Any dispatcher may do this, too.
//! - **Archiving logs** (`archiver`), if an archive is set. After the ends of builds, their logs are copied there.
//!   The queue says which are due, and gives each to one dispatcher for a while.
//!
//! All keep running while Redis is away, and log the beginning and the end of the outage once each
//! (`outage`).

pub(crate) mod archiver;
pub(crate) mod feeder;
pub(crate) mod outage;
pub(crate) mod people;
pub(crate) mod reaper;
