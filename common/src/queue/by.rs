//! Who acts on the queue, and why.

/// Who acts, and the reason for the audit log; an empty reason is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By<'a> {
    /// The token's name.
    pub name: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl<'a> From<&'a str> for By<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, reason: "" }
    }
}

impl<'a> From<&'a String> for By<'a> {
    fn from(name: &'a String) -> Self {
        name.as_str().into()
    }
}
