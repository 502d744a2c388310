//! HTTP for any process of Fairlane: a server that bad clients cannot exhaust, and the three paths for monitoring.
//!
//! hyper speaks HTTP/1.1 and HTTP/2, rustls does TLS, and axum routes. This crate puts them together and decides
//! which connections stay open. It knows nothing about the queue.
//!
//! A connection must be admitted before anything is read from it: there is a limit on open connections in total,
//! and one per address. A connection beyond a limit gets a single response that says why; only a few get even that
//! at the same time. An admitted connection has time limits: for its TLS handshake, for its first request, and for
//! the idle time between requests. If its client stops reading, it is closed, even if more is to be sent. An event
//! stream may be silent for hours, as long as its client reads.
//!
//! A shutdown closes the listener first, then the connections that have not sent a request. The others are closed
//! once their requests have been answered. [`Server::run`] returns when the last one is closed; its caller decides
//! how long to wait for that.
//!
//! Files that the process depends on, such as the certificate, are reread while it runs ([`keep_fresh`]). New
//! connections use the new version; an invalid one is never used.
//!
//! [`Probe`] is for processes that serve nothing else. It answers `/healthz`, `/readyz` and `/metrics`. All
//! processes use [`metrics`].

mod admission;
pub mod metrics;
mod probe;
mod reload;
mod server;
mod tls;

pub use admission::{Excess, network_of};
pub use metrics::metrics_response;
pub use probe::Probe;
pub use reload::keep_fresh;
pub use server::{Limits, Server};
pub use tls::{Tls, TlsError, TlsFiles};
