//! The clocks and pauses of a worker.

pub(crate) mod backoff;
pub(crate) mod boot_time;
pub(crate) mod stall;
