//! The clocks and pauses of a worker.
//!
//! Redis's clock decides about leases. These clocks can only make a worker stop sooner: a lease is measured by the
//! time since boot, which goes on while the host is suspended. Time limits of builds are measured by the monotonic
//! clock, minus the time in which this process was suspended, because it saw nothing of its runs then.
//!
//! Every pause between two attempts grows up to a limit and has jitter, so that workers do not all come back at
//! once.

pub(crate) mod backoff;
pub(crate) mod boot_time;
pub(crate) mod stall;
