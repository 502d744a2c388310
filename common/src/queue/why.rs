//! Why a build waits, and for how long: one sentence with its facts.

use serde::Serialize;

use super::Queue;
use crate::build::Build;
use crate::error::Result;

/// Why a build is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// One sentence for people.
    pub text: String,
    /// Its place in line, from 1, and the length of the line; `None` once it has started.
    pub position: Option<(u64, u64)>,
    /// Expected time until its image is ready, in milliseconds; `None` where nothing can be said.
    pub eta_ms: Option<u64>,
}

impl Queue {
    /// Says why a build waits.
    pub async fn why(&self, build: &Build) -> Result<Why> {
        let position = self.position(build.id).await?;
        Ok(Why { text: build.state.to_string(), position, eta_ms: None })
    }
}
