//! What the cluster answered to a question.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// The answer.
    Known(T),
    /// This account may not ask. That is reported with the missing rights.
    Denied,
    /// There was no answer, and this is why.
    Failed(String),
}
