//! Fairlane's dispatcher: the HTTP API and its event streams over the queue.

pub mod api;
