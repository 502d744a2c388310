//! Reading transcripts.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// One request of a real client and what a real server answered.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exchange {
    #[serde(default)]
    pub(super) note: String,
    pub(super) request: Option<Request>,
    pub(super) response: Option<Response>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) query: Value,
    #[serde(default)]
    pub(super) headers: Value,
    #[serde(default)]
    pub(super) body: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Response {
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) headers: Value,
    #[serde(default)]
    pub(super) body: Value,
    pub(super) stream: Option<Vec<Value>>,
    #[serde(default)]
    pub(super) stream_end: Option<String>,
}

/// The transcripts' folder; nothing where it is not there.
fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kube-golden");
    let folder = std::env::var_os("FAIRLANE_KUBE_TRANSCRIPTS").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// A transcript by the beginning of its name; nothing, said aloud, where there are none.
#[expect(clippy::print_stdout, reason = "a test that was skipped says so")]
pub(super) fn read(number: &str) -> anyhow::Result<Option<Vec<Exchange>>> {
    let Some(folder) = folder() else {
        println!(
            "skipped: no transcripts of a real API server here (FAIRLANE_KUBE_TRANSCRIPTS names their folder)"
        );
        return Ok(None);
    };
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("{number}-")) {
            return Ok(Some(serde_json::from_slice(&std::fs::read(&path)?)?));
        }
    }
    anyhow::bail!("no transcript {number} in {}", folder.display())
}
