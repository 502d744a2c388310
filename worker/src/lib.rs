//! Fairlane's worker: claims builds, runs them, and tells the queue how they ended.
//!
//! - [`run`]: a worker, from its first heartbeat to its goodbye. [`Args`] and [`Settings`] say how.
//! - [`executor`]: where runs live. [`supervise_main`] is the small process over each local run.
//! - [`command`], [`lines`], [`judge`]: what is run, what it says, how it ended.
//! - [`kube_client`]: the way to a Kubernetes cluster. [`pod`]: a build as a pod of a Kubernetes cluster, and what a pod's status means.
//!
//! A build goes through three values, each moved into the next: claimed, running, ended. Its lease
//! is renewed by one heartbeat for all builds, and is given up 1 s before it ends unless a renewal
//! was acknowledged; the supervisor kills the run then, even if the worker is frozen. Whoever finds
//! its lease to be another's kills its run and touches nothing else.

// The futures of a call to Redis are nested deeper than the compiler's usual limit.
#![recursion_limit = "256"]

mod args;
mod backoff;
mod blind;
mod boot_time;
mod build_end;
mod build_start;
mod build_task;
pub mod command;
mod deadlines;
#[cfg(test)]
mod docs_tests;
mod drain;
pub mod executor;
#[cfg(test)]
mod fixtures;
mod heartbeat;
mod hint;
pub mod judge;
pub mod kube_client;
pub mod lines;
mod log_cause;
mod log_pump;
mod log_rules;
mod memory;
pub mod pod;
mod refill;
mod registry;
mod registry_check;
mod reporter;
mod runner;
mod settings;
mod standstill;
mod supervisor;

pub use args::Args;
pub use boot_time::BootTime;
pub use drain::shutdown_on_signals;
pub use executor::{ExecutorKind, SupervisorCommand};
pub use log_cause::LogCause;
pub use registry_check::{RegistryCheck, RegistryCheckArgs};
pub use runner::run;
pub use settings::Settings;
pub use supervisor::{supervise, supervise_main};
