//! A folder that is removed with its owner.

use std::path::{Path, PathBuf};

/// A `sun_path` has 108 bytes; besides the folder's path it must hold the socket's name or tests' files.
const PATH_BYTES_MAX: usize = 70;

/// A private folder, removed with its contents when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Creates an empty folder below the system's folder for temporary files.
    ///
    /// Its path is short enough for a unix socket in it.
    ///
    /// # Panics
    /// If the folder cannot be made.
    pub fn new() -> Self {
        let name = format!("fairlane-{}", &uuid::Uuid::now_v7().simple().to_string()[8..]);
        let mut path = std::env::temp_dir().join(&name);
        if path.as_os_str().len() > PATH_BYTES_MAX {
            path = Path::new("/tmp").join(&name);
        }
        if let Err(error) = std::fs::create_dir_all(&path) {
            panic!("cannot make the folder {}: {error}", path.display());
        }
        Self { path }
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` inside the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A failure here must not hide the test's own; at worst, the folder is left behind.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
