//! A disk that can be full.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::temp_dir::TempDir;

/// Written at once while there is room; at last, bytes one by one.
const CHUNK_BYTES: usize = 64 * 1024;

/// A file system of its own in memory, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of this size; `None` if this process may not.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let folder = TempDir::new();
        let options = format!("size={megabytes}m,mode=777");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "fairlane-test"]).arg(folder.path());
        let done = mount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        // Only if it is mounted is there anything to unmount.
        done.is_ok_and(|status| status.success()).then(|| Self { folder })
    }

    /// The folder where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// If nothing can be written although there is room.
    pub fn fill(&self) {
        let file = File::options().create(true).append(true).open(self.ballast());
        let mut file = file.unwrap_or_else(|error| panic!("cannot write to the small disk: {error}"));
        let mut size = CHUNK_BYTES;
        while size > 0 {
            if file.write_all(&vec![b'.'; size]).is_err() {
                size /= 2;
            }
        }
    }

    /// Removes what filled it.
    pub fn clear(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still have a file open there.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
