//! A redis-server for one measurement or replay; it leaves nothing behind.

use std::path::PathBuf;

use anyhow::{Context, Result};
use fairlane_clikit::redis_server::{DataFolder, RedisServer};
use fairlane_common::{Link, RedisUrl};
use tempfile::TempDir;

use crate::raw;

/// A unix socket's path must be short. This folder is used if the path of the folder for temporary files is too
/// long.
const SHORT_FOLDER: &str = "/tmp";
/// Bytes of a folder's path beyond which it is too long.
const FOLDER_BYTES_MAX: usize = 50;

/// A running server, and the folder that goes with it.
pub(crate) struct OwnServer {
    server: RedisServer,
    _folder: TempDir,
}

impl OwnServer {
    /// Starts one, which writes its data to disk if `append_only`.
    pub(crate) async fn start(append_only: bool) -> Result<Self> {
        let mut parent = std::env::temp_dir();
        if parent.as_os_str().len() > FOLDER_BYTES_MAX {
            parent = SHORT_FOLDER.into();
        }
        let folder = tempfile::Builder::new().prefix("fairlane-bench-").tempdir_in(&parent);
        let folder = folder.with_context(|| {
            format!("no folder can be made in {}; name another with TMPDIR", parent.display())
        })?;
        let server = RedisServer::start(DataFolder::open(folder.path())?).await?;
        if !append_only {
            raw::keep_nothing_on_disk(&Link::open(server.url()).await?).await?;
        }
        Ok(Self { server, _folder: folder })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &RedisUrl {
        self.server.url()
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.server.socket()
    }

    /// Ends it, and removes its data.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}
