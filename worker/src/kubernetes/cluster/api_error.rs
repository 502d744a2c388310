//! What unsuccessful responses of the Kubernetes API mean.

use std::time::Duration;

use kube::core::Status;

/// Longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Longest text quoted from a response.
const QUOTE_MAX: usize = 600;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ApiError {
    /// No response, or one that says nothing: the request may have been carried out.
    #[error("{0}")]
    Away(String),
    /// Overloaded; retry after this long.
    #[error("the Kubernetes API is overloaded: {1}")]
    Busy(Duration, String),
    /// It was refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// A refusal, with its HTTP code and the server's reason.
#[derive(Debug, Clone, Default, thiserror::Error)]
#[error("{message} ({code} {reason})")]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The reasons of its causes.
    pub(crate) causes: Vec<String>,
}

impl ApiError {
    /// The HTTP code; 0 if there was no response.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Away(_) => 0,
            Self::Busy(..) => 429,
            Self::Refused(refusal) => refusal.code,
        }
    }

    /// Whether the same call may succeed later by itself.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Busy(..))
    }

    /// How long the server asks to wait.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Busy(wait, _) => *wait,
            _ => Duration::ZERO,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// What an unsuccessful response means. Its body may be a Status, or plain text from a proxy.
pub(crate) fn classify(code: u16, wait: Option<Duration>, body: &[u8]) -> ApiError {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let mut message = status.message;
    if message.is_empty() {
        String::from_utf8_lossy(body).trim().clone_into(&mut message);
    }
    message.truncate(message.floor_char_boundary(QUOTE_MAX));
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let causes = causes.into_iter().map(|cause| cause.reason).collect();
    // The only 500 that is permanent.
    let too_large = code == 500 && message.contains("too large");
    match code {
        429 => ApiError::Busy(wait.unwrap_or(Duration::from_secs(1)).min(RETRY_AFTER_MAX), message),
        408 | 500.. if !too_large => ApiError::Away(format!("the Kubernetes API fails: {message} ({code})")),
        _ => ApiError::Refused(Refusal { code, reason: status.reason, message, causes }),
    }
}

pub(crate) fn away(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::Away(format!("the Kubernetes API does not answer: {}", chain(error)))
}

pub(crate) fn too_late(timeout: Duration) -> String {
    format!("the Kubernetes API did not answer within {} s", timeout.as_secs())
}

/// An error and its causes, each part once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text.truncate(text.floor_char_boundary(QUOTE_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let quota = br#"{"kind":"Status","status":"Failure","message":"pods \"q\" is forbidden: exceeded quota: q","reason":"Forbidden","code":403}"#;
        let error = classify(403, None, quota);
        assert!(!error.passes() && error.code() == 403, "{error}");
        let busy =
            classify(429, Some(Duration::from_secs(7)), b"Too many requests, please try again later.\n");
        assert_eq!((busy.passes(), busy.wait()), (true, Duration::from_secs(7)));
        assert!(classify(429, Some(Duration::from_secs(9999)), b"").wait() <= RETRY_AFTER_MAX);
        assert!(classify(503, None, b"apiserver not ready").passes());
        assert!(classify(500, None, b"{}").passes());
        assert!(!classify(500, None, br#"{"message":"etcdserver: request is too large"}"#).passes());
        assert!(!classify(422, None, b"{}").passes());
    }
}
