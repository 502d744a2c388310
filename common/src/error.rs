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
        matches!(self, Self::Unavailable(_) | Self::OutOfMemory(_))
    }
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        let code = server_code(&error);
        if code.as_deref() == Some("OOM") {
            return Self::OutOfMemory(error);
        }
        // A replica after a failover, a full disk, a server that loads or is busy, a cluster that
        // moves slots: each passes, and what was to be said must not be thrown away meanwhile.
        let server_passes = matches!(
            code.as_deref(),
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

/// The server's code for an error. Redis 6.2 wraps errors of commands within scripts: their code
/// stands behind the position in the script, after a minus.
pub(crate) fn server_code(error: &redis::RedisError) -> Option<String> {
    let text = error.to_string();
    if text.contains("Error running script") {
        let (_, code) = text.split_once(": -")?;
        return code.split_whitespace().next().map(str::to_owned);
    }
    error.code().map(str::to_owned)
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
        let wrapped = "ERR Error running script (call to f_0): @user_script:9: @user_script: 9: -OOM command not allowed";
        assert!(matches!(answer(wrapped), Error::OutOfMemory(_)));
        for text in [
            "READONLY You can't write",
            "MISCONF Redis is configured",
            "NOREPLICAS Not enough",
            "BUSY Redis is busy",
        ] {
            assert!(answer(text).is_transient(), "{text}");
        }
        let wrapped = "ERR Error running script (call to f_0): @user_script:9: @user_script: 9: -READONLY You can't write";
        assert!(answer(wrapped).is_transient());
        assert!(!answer("WRONGTYPE Operation against a key").is_transient());
        assert!(!answer("NOPERM this user has no permissions").is_transient());
    }
}
