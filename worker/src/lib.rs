//! Fairlane's worker: claims builds, runs them, and tells the queue how they ended.
//!
//! - [`run`]: a worker, from its first heartbeat to its goodbye. [`Args`] and [`Settings`] say how, [`command`] what
//!   is run. [`supervise_main`] is the small process over each local run.
//! - [`kubernetes::client`]: the way to a Kubernetes cluster. [`pod`]: a build as a pod, and what a pod's status means.
//!
//! A build goes through three values, each moved into the next: claimed, running, ended. Its lease
//! is renewed by one heartbeat for all builds, and is given up 1 s before it ends unless a renewal
//! was acknowledged; the supervisor kills the run then, even if the worker is frozen. Whoever finds
//! its lease to be another's kills its run and touches nothing else.

// The futures of a call to Redis are nested deeper than the compiler's usual limit.
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
