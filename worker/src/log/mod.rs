//! A run's lines on their way into its log.

mod buffer;
pub mod lines;
pub(crate) mod pump;
