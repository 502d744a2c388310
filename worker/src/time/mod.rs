//! The clocks and pauses of a worker.
//!
//! Redis's clock decides about leases. What is here can only make a worker stop sooner: a lease is counted by the time
//! since boot, which goes on while the host sleeps. Limits of builds are counted by the monotonic clock, less the
//! time in which this process was suspended, because it heard nothing of its runs then.
//!
//! Every pause between two tries grows up to a bound and is jittered, so that workers do not come back
//! all at once.

pub(crate) mod backoff;
pub(crate) mod boot_time;
pub(crate) mod stall;
