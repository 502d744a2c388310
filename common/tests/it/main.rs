//! The queue's tests, against a real redis-server each.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

mod acl;
mod archive;
mod campaigns;
mod carrier;
mod connections;
mod cookbook;
mod counts;
mod drained;
mod drift;
mod former;
mod history;
mod hosts;
mod isolation;
mod keys;
mod leases;
mod libraries;
mod limits;
mod log_budget;
mod logs;
mod margins;
mod model;
mod nodes;
mod order;
mod outcomes;
mod past;
mod paused;
mod places;
mod pushes;
mod reasons;
mod refill;
mod registering;
mod scale;
mod scene;
mod spending;
mod strays;
mod submitting;
mod waiting;
