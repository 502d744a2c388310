//! What can go wrong between us and Redis. Expected outcomes (an old lease, a full queue, a ban)
//! are not errors: they are variants of the replies.

use crate::id::Invalid;

/// The result of an operation on the queue.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the queue could not be done.
#[derive(Debug, Clone, thiserror::Error)]
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
        "the queue in Redis has schema {found}, this release knows {known}; run a release that fits it, or another --prefix"
    )]
    Schema {
        /// What Redis holds.
        found: String,
        /// What this release writes.
        known: &'static str,
    },
    /// A key holds something that no script of ours writes.
    #[error("unexpected data in Redis: {0}")]
    Corrupt(String),
    /// A build holds something that this release cannot read.
    #[error("it was written by a newer release, or changed by hand: {0}")]
    Unreadable(String),
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

    /// The process ends before the answer is there.
    pub fn stopping() -> Self {
        Self::Unavailable(std::io::Error::other("this process is stopping").into())
    }

    /// Whether waiting and trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutOfMemory(_))
    }
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        let code = error.code();
        if code == Some("OOM") {
            return Self::OutOfMemory(error);
        }
        // A replica after a failover, a full disk, a server that loads or is busy, a cluster that
        // moves slots: each passes, and what was to be said must not be thrown away meanwhile.
        let server_passes = matches!(
            code,
            Some(
                "READONLY"
                    | "MISCONF"
                    | "NOREPLICAS"
                    | "BUSY"
                    | "LOADING"
                    | "MASTERDOWN"
                    | "TRYAGAIN"
                    | "CLUSTERDOWN"
            )
        );
        let passing = server_passes
            || error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || error.is_cluster_error();
        if passing { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Error {
        let line = format!("-{text}\r\n");
        let value = redis::parse_redis_value(line.as_bytes()).and_then(redis::Value::extract_error);
        value.expect_err("an error").into()
    }

    #[test]
    fn what_passes_and_what_does_not() {
        assert!(matches!(answer("OOM command not allowed"), Error::OutOfMemory(_)));
        for text in [
            "READONLY You can't write",
            "MISCONF Redis is configured",
            "NOREPLICAS Not enough",
            "BUSY Redis is busy",
        ] {
            assert!(answer(text).is_transient(), "{text}");
        }
        assert!(!answer("WRONGTYPE Operation against a key").is_transient());
        assert!(!answer("NOPERM this user has no permissions").is_transient());
    }
}
