//! The queue's tests, against a real redis-server each.

mod connections;
mod keys;
mod leases;
mod limits;
mod logs;
mod model;
mod order;
mod outcomes;
mod reasons;
mod scene;
mod submitting;
