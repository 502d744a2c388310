//! The base of Fairlane's tests: real servers, real faults, and waiting without fixed sleeps.
//!
//! - [`RedisServer`]: a separate redis-server for each test; also [`RedisCluster`] and [`SentinelSet`].
//! - [`FaultProxy`]: sits in front of any server and stalls, delays or cuts connections, or loses a reply.
//! - [`SteppedClock`], [`SmallDisk`]: a host's clock that is set forward and back, a disk that is full.
//! - [`wait_for`] and [`wait_for_eq`]: wait until a condition is true; a timeout names the condition.
//! - [`run_within`]: runs a command to its end, in a separate folder, and returns what it [`Said`].
//! - [`Process`]: one of our programs, with its output in a file; tests can signal and kill it.
//! - [`FakeRegistry`]: a container registry that says whether an image exists.
//! - [`check_metrics`], [`metric_table`]: metrics as Prometheus and the docs see them.
//! - [`keep_docs`], [`keep_file`]: files that are generated from the program.
//! - [`Browser`]: a headless Chromium, for the web page.
//! - [`TraceCollector`]: receives spans.
//! - [`kube`]: a Kubernetes cluster with its API, in the test's own process.
//!
//! These helpers panic with a plain sentence if a test cannot continue: a test can do nothing better with an
//! error. Every process that is started here is killed by its own process id when its handle is dropped.

mod browser;
mod collector;
mod docs;
pub mod kube;
mod metrics;
mod process;
mod proxy;
mod redis_builder;
mod redis_group;
mod redis_server;
mod redis_users;
mod registry;
mod said;
mod saved;
mod small_disk;
mod stepped_clock;
mod temp_dir;
mod wait;

pub use browser::{Browser, axe};
pub use collector::{ReceivedSpan, TraceCollector};
pub use docs::{keep_docs, keep_file};
pub use metrics::{check_metrics, is_installed, metric_table};
pub use process::{Process, free_port};
pub use proxy::{FaultProxy, Upstream};
pub use redis_builder::{AppendOnly, RedisServerBuilder};
pub use redis_group::{RedisCluster, SentinelSet};
pub use redis_server::RedisServer;
pub use redis_users::{redis_has_functions, redis_url_for};
pub use registry::{Access, Asked, FakeRegistry};
pub use said::{Said, command_in, run_within};
pub use saved::Saved;
pub use small_disk::SmallDisk;
pub use stepped_clock::SteppedClock;
pub use temp_dir::TempDir;
pub use wait::{Observation, wait_for, wait_for_eq};
