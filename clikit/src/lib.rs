//! What the programs `fairlane` and `fairlane-bench` share, so that both behave the same at the terminal.
//!
//! A program reads its command line with [`line::Line`]: an option overrides the environment, which overrides
//! `fairlane.toml` ([`settings`]). Output goes through [`output::Output`]: data to standard output, messages to
//! standard error. It ends with an [`exit::Exit`] that scripts can rely on; an error carries its own
//! ([`exit::Stop`]), and [`exit::report`] prints it.
//!
//! If no Redis is named, [`redis_server`] starts one that lives as long as the program. [`program`] finds other
//! programs; `fairlane` and `fairlane-bench` find each other with it.

pub mod exit;
pub mod human;
pub mod line;
pub mod output;
pub mod program;
pub mod redis_server;
pub mod settings;
