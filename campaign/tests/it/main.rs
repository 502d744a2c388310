//! Tests against recordings and programs.

mod names;
