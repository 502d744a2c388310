//! Files that are read again while the dispatcher runs: now and then, and at SIGHUP.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at: certificates are renewed days before their end, and who
/// cannot wait for a token sends SIGHUP.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What comes from files.
pub(crate) trait Reload: Send + Sized + 'static {
    /// In a sentence.
    const WHAT: &str;
    type Error: std::error::Error + Send + 'static;

    /// Looks at the files, and takes what they hold by now; a sentence that says so. May block.
    ///
    /// # Errors
    /// They hold nothing that can be taken: what was there stays.
    fn reload(&mut self) -> Result<Option<String>, Self::Error>;
}

/// Looks at the files until `shutdown`. What cannot be taken is told once, and once more when that
/// is over.
pub(crate) async fn keep_fresh<R: Reload>(mut files: R, shutdown: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP is not heard; files are looked at every 10 s");
            None
        }
    };
    let mut told = String::new();
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            _ = hung_up => told.clear(),
            () = shutdown.cancelled() => return,
        }
        let looked = tokio::task::spawn_blocking(move || {
            let looked = files.reload();
            (files, looked)
        });
        let Ok((back, looked)) = looked.await else { return };
        files = back;
        match looked {
            Ok(news) => {
                if !told.is_empty() && news.is_none() {
                    tracing::info!("{} can be read again, and are as they were", R::WHAT);
                }
                told.clear();
                if let Some(news) = news {
                    tracing::info!("{news}");
                }
            }
            Err(error) => tell(R::WHAT, &error, &mut told),
        }
    }
}

fn tell(what: &str, error: &dyn std::error::Error, told: &mut String) {
    let mut why = error.to_string();
    if let Some(source) = error.source().map(ToString::to_string).filter(|source| !why.contains(source)) {
        why = format!("{why}: {source}");
    }
    if *told != why {
        tracing::warn!("{what} stay as they were: {why}");
        *told = why;
    }
}
