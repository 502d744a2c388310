//! The program as its users run it: as a process, with a redis-server of its own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test has nothing better to do with an error")]

mod campaign;
mod help;
mod measure;
mod replay;
mod setup;
