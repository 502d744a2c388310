//! A folder that is removed with its owner.

use std::path::{Path, PathBuf};

/// A `sun_path` holds 108 bytes; the socket's own name and some room for tests' files come on top of the folder.
const PATH_BYTES_MAX: usize = 70;

/// A folder of its own, removed with all it holds when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes an empty folder below the system's folder for temporary files.
    ///
    /// Its path is short enough for a unix socket in it.
    ///
    /// # Panics
    /// Where the folder cannot be made.
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

    /// Where the folder is.
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
        // A failure here must not hide the test's own: the folder is left behind, no more.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
