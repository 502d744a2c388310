//! The dispatcher as its clients see it, over a real Redis.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test has nothing better to do with an error")]

mod access;
mod activity;
mod answers;
mod archive;
mod bad_clients;
mod browser;
mod builds;
mod campaigns;
mod crowd;
mod current_problems;
mod document;
mod faults;
mod history;
mod memory;
mod metrics;
mod operate;
mod page;
mod people;
mod policy;
mod problems;
mod protocols;
mod rates;
mod reasons;
mod secrets;
mod stream;
mod support;
