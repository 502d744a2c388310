//! Credentials expire and are renewed: they are reread when their files change, and when the cluster refuses them
//! (a plugin may then return new ones).

use std::time::Duration;

use tokio::time::Instant;

use super::Cluster;
use crate::time::backoff::jittered;

/// How often their files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often refused credentials are reread even though no file has changed.
const AGAIN_EVERY: Duration = Duration::from_secs(10);

/// Keeps the credentials up to date, as long as it is polled.
pub(crate) async fn keep_on(cluster: &Cluster) {
    let mut refused = cluster.api.refused();
    let mut read_at = Instant::now();
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let way = cluster.way();
        let changed = way.has_changed();
        if !changed && (!refused.has_changed().unwrap_or(false) || read_at.elapsed() < AGAIN_EVERY) {
            continue;
        }
        refused.mark_unchanged();
        read_at = Instant::now();
        match way.again().await {
            Ok(again) => {
                if changed {
                    tracing::info!(source = again.source(), "reloaded the changed credentials");
                }
                cluster.set_way(again);
            }
            Err(error) if changed => tracing::warn!("could not reload the credentials: {error:#}"),
            Err(error) => tracing::debug!("could not reload the credentials: {error:#}"),
        }
    }
}
