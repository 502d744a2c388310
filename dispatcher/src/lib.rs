//! Fairlane's dispatcher: the HTTP API and its event streams over the queue.
//!
//! It holds no state that matters: any number of dispatchers serve one queue, and a stream that
//! breaks at one of them goes on at another, after the same line.
//!
//! Read from the outside in:
//!
//! - [`serve()`] starts the dispatcher and stops it; `args` and `settings` are what it is told, `state` is
//!   what its routes share.
//! - `server` takes connections and `access` decides who may do what, and how much of it.
//! - `routes` answer requests, in the words of [`api`] and, where they refuse, of `problem`.
//! - `hub` reads Redis once for all event streams.
//! - `upkeep` is done all the time, whoever asks: counting people, and reaping.

mod access;
pub mod api;
pub mod args;
mod hub;
mod metrics;
mod outlook;
mod problem;
mod redis_wait;
mod reload;
mod routes;
mod serve;
mod server;
mod settings;
mod state;
mod upkeep;

pub use access::scope::Scope;
pub use access::tokens::{Tokens, TokensError};
pub use args::{Args, ClientArgs, RedisArgs, ServeArgs};
pub use fairlane_common::AllowedArgs;
pub use routes::openapi;
pub use serve::{ServeError, serve};
pub use server::{TlsError, TlsFiles};
pub use settings::{Bounds, ClientLimits, ConnectionLimits, Rate, SettingError, Settings};
