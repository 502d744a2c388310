//! Files that are reread while the process runs: every few seconds, and at SIGHUP.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often the files are checked. Certificates are renewed days before they expire, and anyone who cannot wait
/// for a new token to take effect can send SIGHUP.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Rereads files until `shutdown`. `read` loads them, and returns a message for the log if their contents have
/// changed; it may block. If it fails, the previous version stays in use. `what` names the files in the log.
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
                    tracing::info!(files = what, "the files are readable again and unchanged");
                }
                logged.clear();
            }
            Err(error) => {
                let error = in_full(&error);
                // An error is logged once, not every ten seconds.
                if logged != error {
                    tracing::warn!(
                        files = what,
                        error,
                        "the files cannot be used; the previous version stays in use"
                    );
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
