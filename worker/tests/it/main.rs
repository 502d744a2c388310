//! The worker's tests: real workers and processes, against a real redis-server each.

mod building;
mod draining;
mod faults;
mod killing;
mod scene;
