//! What the programs `fairlane` and `fairlane-bench` share, so that both behave alike at the terminal.
//!
//! A program reads its command line with [`line::Line`]: an option wins over the environment, which
//! wins over `fairlane.toml` ([`settings`]). What it has to say goes through [`output::Output`]: data to
//! standard output, talk to standard error. It ends with an [`exit::Exit`], which scripts can go by; an
//! error decides that by itself ([`exit::Stop`]), and [`exit::report`] tells it.
//!
//! Where no Redis is named, [`redis_server`] starts one that lives as long as the program. [`program`]
//! finds other programs, and `fairlane` and `fairlane-bench` each other.

pub mod exit;
pub mod human;
pub mod line;
pub mod output;
pub mod program;
pub mod redis_server;
pub mod settings;
