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

mod allowance;
mod answers;
pub mod api;
mod app;
pub mod args;
mod auth;
mod client;
mod glance;
mod hub;
mod input;
mod metrics;
mod outage;
mod people;
mod problem;
mod reaper;
mod reload;
mod routes;
mod server;
mod tokens;
mod unique_json;
mod view;

pub use app::{ServeError, serve};
pub use args::{
    Args, Bounds, ClientArgs, ClientLimits, ConnectionLimits, Rate, RedisArgs, ServeArgs, SettingError,
    Settings,
};
pub use auth::Scope;
pub use fairlane_common::AllowedArgs;
pub use routes::openapi;
pub use server::{TlsError, TlsFiles};
pub use tokens::Tokens;
