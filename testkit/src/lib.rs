//! What Fairlane's tests stand on: real servers, real faults, and waiting without sleeping.
//!
//! - [`RedisServer`]: a redis-server of its own for each test; [`RedisCluster`] and [`SentinelSet`] beside it.
//! - [`FaultProxy`]: stands before any server and stalls, or loses a reply.
//! - [`wait_for`] and [`wait_for_eq`]: wait until something holds; a time-out names what was waited for.
//! - [`run_within`]: a command that is run to its end, in a folder of its own, and what it [`Said`].
//! - [`Process`]: a program of ours with its output in a file, to be signalled and killed.
//! - [`FakeRegistry`]: a registry of images that can be asked whether one is there.
//! - [`kube`]: a Kubernetes cluster with its API, in the test's own process.
//!
//! These helpers panic with a plain sentence where a test cannot go on: a test has nothing better to do with an error.
//! Everything that is started here is killed by its own process id when it is dropped.

pub mod kube;
mod process;
mod proxy;
mod redis_builder;
mod redis_group;
mod redis_server;
mod registry;
mod said;
mod temp_dir;
mod wait;

pub use process::{Process, free_port};
pub use proxy::{FaultProxy, Upstream};
pub use redis_builder::{AppendOnly, RedisServerBuilder};
pub use redis_group::{RedisCluster, SentinelSet};
pub use redis_server::RedisServer;
pub use registry::{Access, Asked, FakeRegistry};
pub use said::{Said, command_in, run_within};
pub use temp_dir::TempDir;
pub use wait::{Observation, wait_for, wait_for_eq};
