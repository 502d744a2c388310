//! What is said of a value that cannot be taken.

/// An invalid value from outside: which field it was in, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    /// The field's name as the HTTP API and the command line spell it.
    pub field: &'static str,
    /// One sentence: what is wrong and what is allowed.
    pub why: String,
}

impl Invalid {
    /// An error for `field`; `why` says what is wrong and what is allowed.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}
