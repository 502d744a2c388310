//! Who may do what, and how much of it.

pub(crate) mod address;
pub(crate) mod rate_limit;
pub(crate) mod tokens;
