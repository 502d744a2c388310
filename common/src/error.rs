//! What can go wrong between us and Redis. Expected outcomes (an old lease, a full queue, a ban)
//! are not errors: they are variants of the replies.

use redis::ErrorKind;

use crate::invalid::Invalid;

/// The result of an operation on the queue.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the queue could not be done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis is unreachable, did not answer in time, or refuses for a temporary reason. The operation may
    /// have been applied: repeat it; a repeated script gives the same answer.
    #[error("{how}: {0}", how = if answered(.0) { "Redis rejects requests for now" } else { "Redis does not answer" })]
    Unavailable(#[source] redis::RedisError),
    /// Redis refuses writes because its memory is used up.
    #[error("Redis is out of memory: {0}")]
    OutOfMemory(#[source] redis::RedisError),
    /// Redis answers with an error that a retry will not fix.
    #[error("Redis rejects the request: {0}")]
    Refused(#[source] redis::RedisError),
    /// The data in Redis has a layout that this release does not know.
    #[error(
        "the queue in Redis has schema {found}, but this release needs {known}; run a matching release, or use another --prefix"
    )]
    Schema {
        /// What Redis holds.
        found: String,
        /// What this release writes.
        known: &'static str,
    },
    /// A key holds something that our scripts never write.
    #[error("unexpected data in Redis: {0}")]
    Corrupt(String),
    /// A build holds something that this release cannot read.
    #[error("it was written by a newer release, or changed by hand: {0}")]
    Unreadable(String),
    /// A setting is invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A connection setting is invalid.
    #[error("{0}")]
    Setting(String),
}

impl Error {
    /// A reply whose shape does not match the command.
    #[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
    pub(crate) fn reply(error: redis::ParsingError) -> Self {
        Self::Corrupt(format!("a reply cannot be read: {error}"))
    }

    /// The process ends before the answer arrives.
    pub fn stopping() -> Self {
        Self::Unavailable(std::io::Error::other("this process is stopping").into())
    }

    /// Whether Redis has answered, even if with a refusal.
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Unavailable(error) => answered(error),
            _ => true,
        }
    }

    /// Why a Redis that answers does not accept writes, and what to do; `None` for other errors.
    pub fn refusal(&self) -> Option<&'static str> {
        let Self::Unavailable(error) = self else { return None };
        match error.code()? {
            "MISCONF" => Some(
                "Redis cannot write to its disk, so it rejects writes: check its log and its free disk space",
            ),
            "READONLY" => Some(
                "this Redis is a replica, which rejects writes: use the address of the primary, or redis+sentinel://",
            ),
            "NOREPLICAS" => Some(
                "Redis rejects writes because it has too few replicas (min-replicas-to-write): restart the replicas",
            ),
            "LOADING" => Some("Redis is loading its data and will answer when it is done"),
            "MASTERDOWN" => Some("this Redis is a replica that has lost its primary"),
            _ => None,
        }
    }

    /// Whether waiting and trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutOfMemory(_))
    }
}

/// Error codes that a retry will not fix: the call itself is wrong for this Redis.
const FINAL_CODES: [&str; 6] = ["WRONGTYPE", "NOPERM", "NOSCRIPT", "CROSSSLOT", "EXECABORT", "NOSUB"];
/// Texts under the code `ERR` that a retry will not fix. Other texts may come from a proxy or a server that
/// is full or starting: "max number of clients reached".
const FINAL_TEXTS: [&str; 9] = [
    "script:",
    "user_function",
    "wrong number of arguments",
    "unknown command",
    "unknown subcommand",
    "syntax error",
    "number of keys",
    "invalid stream id",
    "db index is out of range",
];

/// Whether a retry will not fix it. The list is closed: anything not on it is retried (no known primary, a
/// server that is loading or busy, a full disk, name resolution, TLS, an unparsable answer), because a write
/// must not be lost meanwhile.
fn is_final(error: &redis::RedisError) -> bool {
    match error.kind() {
        // From the settings, or a bug of ours.
        ErrorKind::InvalidClientConfig | ErrorKind::EmptySentinelList => return true,
        _ => {}
    }
    let by_code = |code: &str, text: &str| {
        let text = text.to_ascii_lowercase();
        FINAL_CODES.contains(&code) || (code == "ERR" && FINAL_TEXTS.iter().any(|end| text.contains(end)))
    };
    if let Some(code) = error.code() {
        return by_code(code, error.detail().unwrap_or_default());
    }
    let of_pipeline = error.clone().into_server_errors();
    of_pipeline.is_some_and(|errors| {
        errors.iter().any(|(_, error)| by_code(error.code(), error.details().unwrap_or_default()))
    })
}

/// Whether it is an answer of a server.
fn answered(error: &redis::RedisError) -> bool {
    error.code().is_some() || error.kind() == ErrorKind::AuthenticationFailed
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        if error.code() == Some("OOM") {
            Self::OutOfMemory(error)
        } else if is_final(&error) {
            Self::Refused(error)
        } else {
            Self::Unavailable(error)
        }
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
    fn what_a_server_says_for_a_while_passes() {
        assert!(matches!(answer("OOM command not allowed"), Error::OutOfMemory(_)));
        for text in [
            "READONLY You can't write against a read only replica.",
            "READONLY You can't write against a read only replica. script: fairlane_append, on fairlane_1:2.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MOVED 866 127.0.0.1:7002",
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "ERR max number of clients reached",
            "ERR Function not found",
            "ERR Connection refused by the upstream",
            "upstream failure",
            "SOMETHING that no release says today",
        ] {
            assert!(answer(text).is_transient(), "{text}");
        }
    }

    #[test]
    fn what_fails_beside_the_servers_words_passes() {
        let io = |kind: std::io::ErrorKind| Error::from(redis::RedisError::from(std::io::Error::from(kind)));
        let lookup = std::io::Error::other("failed to lookup address information: Name or service not known");
        let certificate =
            std::io::Error::new(std::io::ErrorKind::InvalidData, "invalid peer certificate: Expired");
        let parsed = redis::parse_redis_value(b"?nonsense\r\n").expect_err("no answer of a Redis");
        let named = |kind: ErrorKind| Error::from(redis::RedisError::from((kind, "text")));
        for error in [
            io(std::io::ErrorKind::ConnectionRefused),
            io(std::io::ErrorKind::TimedOut),
            io(std::io::ErrorKind::BrokenPipe),
            io(std::io::ErrorKind::UnexpectedEof),
            Error::from(redis::RedisError::from(lookup)),
            Error::from(redis::RedisError::from(certificate)),
            Error::from(parsed),
            // No primary is known right now.
            named(ErrorKind::MasterNameNotFoundBySentinel),
            named(ErrorKind::NoValidReplicasFoundBySentinel),
            named(ErrorKind::ClusterConnectionNotFound),
            named(ErrorKind::AuthenticationFailed),
            named(ErrorKind::UnexpectedReturnType),
            named(ErrorKind::Client),
        ] {
            assert!(error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_closed_list_is_final() {
        for text in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "EXECABORT Transaction discarded because of previous errors.",
            "ERR user_function:12: attempt to concatenate a nil value, on @user_function:12.",
            "ERR wrong number of arguments for 'fcall' command",
            "ERR unknown command 'FCALL', with args beginning with: ",
            "ERR DB index is out of range",
            "ERR Invalid stream ID specified as stream command argument",
        ] {
            assert!(matches!(answer(text), Error::Refused(_)), "{text}");
        }
        let settings = (redis::ErrorKind::InvalidClientConfig, "Redis URL did not parse");
        assert!(matches!(Error::from(redis::RedisError::from(settings)), Error::Refused(_)));
    }

    #[test]
    fn a_refusal_is_told_from_silence() {
        assert!(answer("MISCONF disk full").to_string().starts_with("Redis rejects requests for now: "));
        assert!(answer("MISCONF disk full").refusal().unwrap().contains("free disk space"));
        assert!(answer("READONLY a replica").refusal().unwrap().contains("is a replica"));
        assert_eq!(answer("OOM full").refusal(), None);
        let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let silence = Error::from(redis::RedisError::from(silence)).to_string();
        assert!(silence.starts_with("Redis does not answer: "), "{silence}");
    }
}
