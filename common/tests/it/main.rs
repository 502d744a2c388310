//! The queue's tests, against a real redis-server each.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

mod connections;
mod cookbook;
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
