//! Fairlane's dispatcher: the HTTP API and its event streams over the queue.
//!
//! It holds no state that matters: any number of dispatchers serve one queue, and a stream that
//! breaks at one of them goes on at another, after the same line.
//!
//! - [`api`]: the JSON that clients send and get.
//! - [`args`]: settings; [`serve`] runs the dispatcher until it is told to stop.
//! - `routes`: one module for each part of the API, each route with its documentation.
//! - `hub`: one reader of Redis that serves every event stream.
//! - `answers`: what a client may keep, and how it travels.
//! - `server`: connections, within limits; `allowance`: requests, within limits.
//! - `people`: how many wait for what, told to the queue.

mod access;
pub mod api;
pub mod args;
mod hub;
mod metrics;
mod outlook;
mod problem;
mod reload;
mod routes;
mod serve;
mod server;
mod upkeep;

pub use access::tokens::Tokens;
pub use args::{
    Args, Bounds, ClientArgs, ClientLimits, ConnectionLimits, Rate, RedisArgs, ServeArgs, SettingError,
    Settings,
};
pub use fairlane_common::AllowedArgs;
pub use routes::caller::Scope;
pub use routes::openapi;
pub use serve::{ServeError, serve};
pub use server::{TlsError, TlsFiles};
