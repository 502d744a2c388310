//! The queue of Fairlane, a build queue for `BinderHub`.
//!
//! Builds wait in sorted sets in one Redis, in the lane of their repository. A lane only starts as many
//! builds as it has permits, so no repository can use up all slots. Workers claim builds under a lease. If a
//! lease expires, the build becomes an orphan, which another worker adopts; if its run died with its worker,
//! the build goes back into line instead. Every change is one Lua script, so any number of dispatchers and
//! workers can die at any moment without losing or duplicating a build.
//!
//! - [`queue`]: the operations. Commands change state, [`queue::inspect`] only looks.
//! - [`build`], [`cause`], [`id`], [`rule`]: the types.
//! - [`log`], [`events`]: what watchers see.
//! - [`memory`]: what happens when Redis is low on memory.
//! - [`seal`]: secrets on their way through Redis.
//! - [`telemetry`], [`trace`]: log lines and spans.
//! - [`connection`], [`script`], [`keys`], [`clock`], [`limits`]: how we talk to Redis.

pub mod acl;
pub mod allow;
pub mod build;
pub mod campaign;
pub mod cause;
pub mod clock;
pub mod connection;
mod dialer;
pub mod duties;
pub mod error;
pub mod events;
pub mod id;
mod invalid;
pub mod keys;
mod library;
pub mod limits;
pub mod log;
pub mod queue;
pub mod redis_info;
pub mod redis_url;
pub mod registry;
pub mod repo;
pub mod rule;
pub mod seal;
mod sentinel;
mod server;
pub mod telemetry;
pub mod trace;
mod words;

pub use allow::AllowedArgs;
pub use build::{Build, BuildSpec, BuildState, FailureClass, Priority};
pub use cause::FailureCause;
pub use connection::Link;
pub use duties::{Duties, DutyFailed};
pub use error::{Error, Result};
pub use id::{BuildId, DispatcherId, NodeName, Token, WorkerId};
pub use invalid::Invalid;
pub use queue::Queue;
pub use redis_info::RedisInfo;
pub use redis_url::RedisUrl;
pub use repo::{GitRef, Image, Lane, Repo};
pub use rule::{Pattern, Rule};
