//! The fake Kubernetes API: with the client that the worker uses, and against transcripts of a real one.

mod client;
mod faults;
mod golden;
mod nodes;
mod plain;
