//! What came of a question to the cluster.

/// The result of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// It was answered.
    Known(T),
    /// The right to ask is missing, which is reported elsewhere.
    Denied,
    /// It was not, and why.
    Failed(String),
}
