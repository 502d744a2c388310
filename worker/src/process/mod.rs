//! Runs as processes of this host.

pub(crate) mod executor;
mod host;
pub(crate) mod supervisor;
