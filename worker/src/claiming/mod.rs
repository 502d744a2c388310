//! Claiming builds, and keeping the leases on them.

pub(crate) mod blind;
pub(crate) mod heartbeat;
pub(crate) mod hint;
pub(crate) mod leases;
pub(crate) mod memory;
pub(crate) mod refill;
pub(crate) mod runner;
pub(crate) mod shutdown;
