//! Fairlane's dispatcher: the HTTP API and its event streams over the queue.
//!
//! It has no important state of its own. Any number of dispatchers serve one queue, and a stream that breaks
//! at one of them continues at another, after the same line.
//!
//! The modules, from the outside in:
//!
//! - [`serve()`] starts and stops the dispatcher; `args` and `settings` configure it; `state` is what its
//!   routes share.
//! - `connections` limits what the crate `http` accepts; `access` decides who may do what, and how often.
//! - `routes` answer requests with the types of [`api`], and errors with those of `problem`.
//! - `hub` reads Redis once for all event streams.
//! - `archive` is where finished logs go, if anywhere.
//! - `upkeep` runs in the background: counting people, reaping, archiving logs.

mod access;
pub mod api;
mod archive;
pub mod args;
mod connections;
mod history;
mod hours;
mod hub;
mod log_text;
mod metrics;
mod outlook;
mod problem;
mod problems;
mod queue_metrics;
mod redis_wait;
mod routes;
mod serve;
mod settings;
mod shared;
mod state;
mod upkeep;

pub use access::scope::Scope;
pub use access::tokens::{Tokens, TokensError};
pub use archive::{ArchiveArgs, ArchiveError, LogArchive};
pub use args::{Args, ClientArgs, RedisArgs, ServeArgs};
pub use fairlane_common::AllowedArgs;
pub use fairlane_http::{TlsError, TlsFiles};
pub use routes::openapi;
pub use serve::{ServeError, serve};
pub use settings::{BasePath, Bounds, ClientLimits, ConnectionLimits, Rate, SettingError, Settings};
