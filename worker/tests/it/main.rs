//! The worker's tests: real workers and processes, each test with a real redis-server.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test has nothing better to do with an error")]

mod building;
mod draining;
mod faults;
mod full_redis;
mod hosts;
mod killing;
mod kube;
mod pods;
mod probe;
mod pushing;
mod registry;
mod scene;
