//! What can go wrong between us and Redis. Expected outcomes (an old lease, a full queue, a ban)
//! are not errors: they are variants of the replies.

use crate::id::Invalid;

/// The result of an operation on the queue.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the queue could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis cannot be reached, or did not answer in time. The operation may have been applied:
    /// repeat it, every script gives the same answer twice.
    #[error("Redis does not answer: {0}")]
    Unavailable(#[source] redis::RedisError),
    /// Redis refuses writes because its memory is used up.
    #[error("Redis is out of memory: {0}")]
    OutOfMemory(#[source] redis::RedisError),
    /// Redis answers with an error that repeating will not mend.
    #[error("Redis refuses: {0}")]
    Refused(#[source] redis::RedisError),
    /// The data in Redis has a layout that this release does not know.
    #[error(
        "the queue in Redis has schema {found}, this release knows {known}; use a release that fits, or `fairlane doctor --migrate`"
    )]
    Schema {
        /// What Redis holds.
        found: String,
        /// What this release writes.
        known: &'static str,
    },
    /// Redis was emptied and waits for the workers to put back what runs.
    #[error("Redis was emptied; running builds are being registered again")]
    Refilling,
    /// A key holds something that no script of ours writes.
    #[error("unexpected data in Redis: {0}")]
    Corrupt(String),
    /// A setting cannot be taken.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A setting of the connection cannot be taken.
    #[error("{0}")]
    Setting(String),
}

impl Error {
    /// A reply of a shape that no command of ours gets.
    #[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
    pub(crate) fn reply(error: redis::ParsingError) -> Self {
        Self::Corrupt(format!("a reply cannot be read: {error}"))
    }

    /// Whether waiting and trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutOfMemory(_) | Self::Refilling)
    }
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        if error.code() == Some("OOM") {
            return Self::OutOfMemory(error);
        }
        // A replica after a failover, a loading server, a cluster that moves slots: each passes.
        let passing = error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || error.is_cluster_error()
            || matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                        | ServerErrorKind::TryAgain
                        | ServerErrorKind::ClusterDown
                        | ServerErrorKind::MasterDown
                        | ServerErrorKind::ReadOnly
                )
            );
        if passing { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}
