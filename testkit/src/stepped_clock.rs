//! A wrong clock, as a host may have one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::temp_dir::TempDir;

/// Where Debian puts the library, below `/usr/lib` and the machine's name.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clock of processes that are started with its [`environment`](Self::environment). It runs as fast as the real
/// one, and a test can set it forward and back. Intervals, which programs measure with another clock, stay right.
#[derive(Debug)]
pub struct SteppedClock {
    library: PathBuf,
    folder: TempDir,
    seconds: Mutex<i64>,
}

impl SteppedClock {
    /// A clock that is right at first; `None` if libfaketime is not installed.
    pub fn new() -> Option<Self> {
        let below = std::fs::read_dir("/usr/lib").ok()?.flatten();
        let library = below.map(|folder| folder.path().join(LIBRARY)).find(|path| path.exists())?;
        let clock = Self { library, folder: TempDir::new(), seconds: Mutex::new(0) };
        clock.step(0);
        Some(clock)
    }

    /// Variables that make a process use it.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            // Seconds until a process notices.
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Sets it forward, or back, by this many seconds; processes notice within a second. Returns by how much it is
    /// wrong now.
    ///
    /// # Panics
    /// If the file that processes read cannot be written.
    pub fn step(&self, seconds: i64) -> i64 {
        let mut sum = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        *sum += seconds;
        // Renamed, so that nobody reads half of it.
        let new = self.folder.join("new");
        let written =
            std::fs::write(&new, format!("{:+}", *sum)).and_then(|()| std::fs::rename(&new, self.file()));
        if let Err(error) = written {
            panic!("cannot set the clock: {error}");
        }
        *sum
    }

    fn file(&self) -> PathBuf {
        self.folder.join("offset")
    }
}
