//! Fairlane's worker: claims builds, runs them, and reports to the queue how they ended.
//!
//! - [`run`]: a worker, from its first heartbeat until it deregisters. [`Args`] and [`Settings`] configure it;
//!   [`command`] is the build command. [`supervise_main`] is the small process that supervises each local run.
//! - [`kubernetes::client`]: the connection to a Kubernetes cluster. [`pod`]: a build as a pod, and what a pod's
//!   status means.
//!
//! A build goes through three values, each moved into the next: claimed, running, ended. One heartbeat renews the
//! leases of all builds. A lease that is not renewed is given up 1 s before it expires; the supervisor then kills
//! the run, even if the worker is frozen. A worker that finds that another one has the lease kills its own run and
//! touches nothing else.

// The futures of a call to Redis are nested more deeply than the compiler's default limit.
#![recursion_limit = "256"]

mod build;
mod claiming;
#[cfg(test)]
mod docs_tests;
mod executor;
#[cfg(test)]
mod fixtures;
pub mod kubernetes;
mod log;
mod process;
mod settings;
mod time;

pub use build::log_cause::LogCause;
pub use build::registry_check::{RegistryCheck, RegistryCheckArgs};
pub use claiming::runner::run;
pub use claiming::shutdown::shutdown_on_signals;
pub use kubernetes::pod;
pub use process::supervisor::supervise_main;
pub use settings::args::Args;
pub use settings::{ExecutorKind, Settings, SupervisorCommand, command};
