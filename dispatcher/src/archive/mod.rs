//! The archive of finished logs: a folder, or a bucket of a store that speaks S3's API. Redis forgets a log after a day at
//! most; the archive keeps it for as long as its owner likes.
//!
//! [`args`] are its settings; `upkeep/archiver.rs` fills it after the ends of builds; `routes/log.rs` reads it.

mod args;
mod problems;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use fairlane_common::id::BuildId;
use futures::stream::BoxStream;
use jiff::Timestamp;
use object_store::aws::AmazonS3;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub use args::{ArchiveArgs, ArchiveError};
pub(crate) use problems::problems;

/// Longest time to store one log. A log has a few megabytes.
const PUT_LIMIT: Duration = Duration::from_mins(1);
/// Longest time until a store begins to answer a reader.
const GET_LIMIT: Duration = Duration::from_secs(10);
/// Longest error text that is passed on, in bytes.
const WHY_BYTES_MAX: usize = 300;

/// Where finished logs go.
#[derive(Clone)]
pub struct LogArchive {
    place: Place,
    /// Before all paths in it.
    prefix: Path,
    /// Its name for people, without secrets.
    shown: String,
}

#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Bucket(Arc<AmazonS3>),
}

impl fmt::Debug for LogArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogArchive").field(&self.shown).finish()
    }
}

impl fmt::Display for LogArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl LogArchive {
    fn new(place: Place, prefix: Path, shown: String) -> Self {
        Self { place, prefix, shown }
    }

    /// Stores a log. A log that is already there is replaced.
    ///
    /// # Errors
    /// Says why it is not stored.
    pub(crate) async fn put(&self, id: BuildId, text: String) -> Result<(), String> {
        let store = self.store(PUT_LIMIT).await?;
        let path = self.path(id);
        let putting = store.put(&path, text.into());
        match tokio::time::timeout(PUT_LIMIT, putting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.why(&error)),
            Err(_) => Err(format!("{} did not take a log within {} s", self.shown, PUT_LIMIT.as_secs())),
        }
    }

    /// A log, if it is there.
    ///
    /// # Errors
    /// Says why that is unknown.
    pub(crate) async fn get(
        &self,
        id: BuildId,
    ) -> Result<Option<BoxStream<'static, object_store::Result<Bytes>>>, String> {
        let store = self.store(GET_LIMIT).await?;
        let path = self.path(id);
        match tokio::time::timeout(GET_LIMIT, store.get(&path)).await {
            Ok(Ok(found)) => Ok(Some(found.into_stream())),
            // A bucket that does not exist has no log, but it is not the one that was meant.
            Ok(Err(error)) if in_full(&error).contains("NoSuchBucket") => {
                Err(format!("{}: there is no such bucket", self.shown))
            }
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(self.why(&error)),
            Err(_) => Err(format!("{} did not answer within {} s", self.shown, GET_LIMIT.as_secs())),
        }
    }

    /// Checks that it answers and lets us read. Changes nothing.
    ///
    /// # Errors
    /// Says why not.
    pub async fn check(&self) -> Result<(), String> {
        // No build has this id.
        self.get(BuildId::new()).await.map(drop)
    }

    /// The folder is looked for anew each time: it may be on a disk that is mounted later, or away for a while.
    async fn store(&self, limit: Duration) -> Result<Arc<dyn ObjectStore>, String> {
        let folder = match &self.place {
            Place::Bucket(bucket) => return Ok(Arc::clone(bucket) as Arc<dyn ObjectStore>),
            Place::Folder(folder) => folder.clone(),
        };
        // In a thread of its own: a disk in the network that hangs must not hold up anything else.
        let open = move || folder.is_dir().then(|| LocalFileSystem::new_with_prefix(&folder));
        match tokio::time::timeout(limit, tokio::task::spawn_blocking(open)).await {
            Ok(Ok(Some(Ok(store)))) => Ok(Arc::new(store)),
            Ok(Ok(Some(Err(error)))) => Err(self.why(&error)),
            // It is not created: where a disk is not mounted, logs would fill the disk below.
            Ok(Ok(None)) => Err(format!("the folder {} does not exist", self.shown)),
            Ok(Err(error)) => Err(format!("{}: {error}", self.shown)),
            Err(_) => Err(format!("{} did not answer within {} s", self.shown, limit.as_secs())),
        }
    }

    /// By day, because folders with very many files are slow, and so that old ones are easily deleted by hand.
    fn path(&self, id: BuildId) -> Path {
        // Ids begin with their time: UUID version 7.
        let ms = i64::try_from(id.as_u128() >> 80).unwrap_or_default();
        let day = Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%d").to_string();
        self.prefix.clone().join(day).join(format!("{id}.log"))
    }

    fn why(&self, error: &object_store::Error) -> String {
        let text = in_full(error).split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = format!("{}: {text}", self.shown);
        text.truncate(text.floor_char_boundary(WHY_BYTES_MAX));
        text
    }
}

/// An error and its causes, each part once.
fn in_full(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
