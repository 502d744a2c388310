//! Fixtures that this crate's unit tests share.

use std::collections::HashMap;

use fairlane_common::{Build, Token};

/// A build as a claim returns it.
pub(crate) fn build() -> Build {
    let fields = [
        ("repo", "https://github.com/owner/name"),
        ("ref", "0123abc"),
        ("image", "r.example.org/i:0123abc"),
        ("priority", "interactive"),
        ("lane", "github.com/owner/name"),
        ("state", "starting"),
        ("attempt", "1"),
        ("seq", "2"),
        ("people", "1"),
        ("asked", "1"),
        ("due", "1"),
        ("expected", "1"),
    ];
    let fields: HashMap<String, String> =
        fields.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let id = "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d".parse().unwrap();
    Build::from_fields(id, fields).unwrap()
}

/// A lease on it.
pub(crate) fn token(build: &Build) -> Token {
    Token { build: build.id, epoch: 1_764_000_000_123, worker: "host-0a1b2c3d".parse().unwrap() }
}
