//! Files that are read again while the process runs: every few seconds, and at SIGHUP.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often the files are checked: certificates are renewed days before they expire, and whoever cannot wait
/// for a new token sends SIGHUP.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Looks at files until `shutdown`: `read` takes what they hold by now, and says so if that is
/// something new. It may block. What was there stays when it fails; `what` names it in the log.
pub async fn keep_fresh<E: std::error::Error + Send + 'static>(
    what: &'static str,
    mut read: impl FnMut() -> Result<Option<String>, E> + Send + 'static,
    shutdown: CancellationToken,
) {
    let mut hangup = signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "cannot listen for SIGHUP; files are checked every 10 s"))
        .ok();
    let mut logged = String::new();
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            _ = hung_up => logged.clear(),
            () = shutdown.cancelled() => return,
        }
        let looked = tokio::task::spawn_blocking(move || {
            let looked = read();
            (read, looked)
        });
        let Ok((back, looked)) = looked.await else { return };
        read = back;
        match looked {
            Ok(news) => {
                if let Some(news) = news {
                    tracing::info!("{news}");
                } else if !logged.is_empty() {
                    tracing::info!(files = what, "files can be read again, and are unchanged");
                }
                logged.clear();
            }
            Err(error) => {
                let error = in_full(&error);
                // Once, not every ten seconds.
                if logged != error {
                    tracing::warn!(files = what, error, "files cannot be used; the previous version stays");
                    logged = error;
                }
            }
        }
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    match error.source().map(ToString::to_string) {
        Some(source) if !text.contains(&source) => format!("{text}: {source}"),
        _ => text,
    }
}
