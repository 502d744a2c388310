//! One build, from its claim to its end.

pub(crate) mod deadlines;
pub(crate) mod end;
pub mod judge;
pub(crate) mod log_cause;
pub(crate) mod log_rules;
pub(crate) mod registry_check;
pub(crate) mod reporter;
pub(crate) mod start;
pub(crate) mod task;
