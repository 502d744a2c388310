//! HTTP for any process of Fairlane: a server that bad clients cannot exhaust, and the three paths
//! that machines ask a process about.
//!
//! hyper speaks HTTP/1.1 and HTTP/2, rustls TLS, and axum routes. This crate puts them together and
//! decides which connections live. It knows nothing of the queue.
//!
//! A connection is admitted first, before anything is read from it: only so many are open in all, and
//! only so many from one address. One beyond that gets a single answer that says why, and few get even
//! that at a time. What is admitted then has to show that it is worth its memory. Its TLS handshake
//! and its first request must come soon. Between requests it may rest, but not for ever. Whoever asks
//! for something must take it: a connection whose client stops reading is cut, whatever is still to be
//! sent. An event stream that says nothing for hours passes all of this, as long as its client reads.
//!
//! A shutdown begins with the listener. Then connections that have not asked for anything are closed,
//! and the others end after the answers that they are owed. [`Server::run`] returns when the last one
//! is gone; how long to wait for that is its caller's decision.
//!
//! Files that the process depends on, such as the certificate, are read again while it runs
//! ([`keep_fresh`]): a new version is served from the next connection on, and a broken one never is.
//!
//! [`Probe`] is for processes that serve nothing else. It answers `/healthz`, `/readyz` and `/metrics`; [`metrics`] is
//! for all.

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
