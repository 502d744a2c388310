//! The fake's answers beside those of a real API server, exchange by exchange.
//!
//! The transcripts lie outside the project; without them these tests say so and pass. A test plays the requests of
//! a transcript against the fake, with the objects that the real cluster had then, and compares status, headers and
//! the whole bodies but for names and times that a server gives.

mod events;
mod failures;
mod logs;
mod outages;
mod replay;
mod requests;
mod shape;
mod transcript;
mod watches;
