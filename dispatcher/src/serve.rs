//! How a dispatcher starts, what it does in the background, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::queue::tend_logs_on;
use fairlane_common::{Duties, DutyFailed, Queue};
use fairlane_http::{Server, Tls, TlsError, keep_fresh};
use tokio_util::sync::CancellationToken;

use crate::access::tokens::TokensReload;
use crate::settings::Settings;
use crate::state::App;
use crate::upkeep::{archiver, reaper};
use crate::{connections, routes};

/// How long open requests may take after a shutdown signal.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a dispatcher could not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is no token, although the address can be reached from outside.
    #[error(
        "refusing to listen on {0} without a token, because anyone who can reach it could do everything: set \
         FAIRLANE_TOKEN or FAIRLANE_TOKENS_FILE, or listen on a loopback address such as 127.0.0.1:8600"
    )]
    Open(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A background task has failed.
    #[error(transparent)]
    Failed(#[from] DutyFailed),
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Serves the queue over HTTP until `shutdown`, then lets open requests finish. `ready` is called with the
/// address once the dispatcher accepts requests.
///
/// # Errors
/// The address cannot be used, or can be reached from outside although there is no token.
pub async fn serve(
    settings: Settings,
    queue: Queue,
    shutdown: CancellationToken,
    ready: impl FnOnce(SocketAddr) + Send,
) -> Result<(), ServeError> {
    let address = settings.listen;
    if settings.tokens.is_empty() && !address.ip().is_loopback() {
        return Err(ServeError::Open(address));
    }
    let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
    let limits = connections::limits(&settings.connections, &settings.bounds);
    let app = App::new(settings, queue, shutdown.clone());
    let failed = |source| ServeError::Listen { address, source };
    let server = Server::bind(address, tls.clone(), limits).map_err(failed)?;
    let local = server.local_addr().map_err(failed)?;

    let mut duties = Duties::default();
    let people =
        Arc::clone(&app.people).run(app.queue.clone(), app.settings.policy.clone(), shutdown.clone());
    duties.spawn("counting people", people);
    duties.spawn("feeding streams", Arc::clone(&app.hub).run());
    let reaping =
        reaper::run(app.queue.clone(), Arc::clone(&app.writes), Arc::clone(&app.feeder), shutdown.clone());
    duties.spawn("reaping", reaping);
    let feeding = Arc::clone(&app.feeder).run(app.queue.clone(), Arc::clone(&app.outlook), shutdown.clone());
    duties.spawn("feeding campaigns", feeding);
    let (queue, limits, told) = (app.queue.clone(), app.settings.log_limits, shutdown.clone());
    duties.spawn("pruning logs", async move {
        tokio::select! {
            () = tend_logs_on(queue, limits) => {}
            () = told.cancelled() => {}
        }
    });
    if let Some(archive) = app.settings.archive.clone() {
        tracing::info!(archive = %archive, "logs of ended builds are archived");
        let archiving = archiver::run(app.queue.clone(), archive, Arc::clone(&app.metrics), shutdown.clone());
        duties.spawn("archiving logs", archiving);
    }
    if let Some(tls) = tls {
        let read = move || {
            let is_other = tls.reload()?;
            Ok::<_, TlsError>(is_other.then(|| "the certificate was reloaded".to_owned()))
        };
        duties
            .spawn("reading certificates", keep_fresh("the certificate and its key", read, shutdown.clone()));
    }
    if let Some(tokens) = TokensReload::new(&app.tokens) {
        let read = move || tokens.reload();
        duties.spawn("reading tokens", keep_fresh("the tokens", read, shutdown.clone()));
    }
    tracing::info!(address = %local, dispatcher.id = %app.dispatcher, "dispatcher {} listens on {local}", app.dispatcher);
    ready(local);
    let serving = server.run(routes::service(app), connections::refuse, shutdown.clone());
    attend(serving, duties, shutdown).await
}

/// Serves until `shutdown` or until a background task has failed. Without that task, streams would stall or
/// people would not be counted, and nobody would notice.
async fn attend(
    serving: impl Future<Output = ()>,
    mut duties: Duties,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let mut result = Ok(());
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::pin!(serving, late);
    loop {
        tokio::select! {
            biased;
            () = &mut serving => break,
            () = &mut late => {
                tracing::warn!("some requests did not finish before the shutdown timeout");
                break;
            }
            // After a shutdown, background tasks end as intended.
            failed = duties.failed(), if !shutdown.is_cancelled() => {
                if shutdown.is_cancelled() {
                    continue;
                }
                tracing::error!(error = %failed, "a background task failed; the dispatcher is shutting down");
                result = Err(failed.into());
                // Streams tell their clients to reconnect elsewhere.
                shutdown.cancel();
            }
        }
    }
    duties.ended(DRAIN).await;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_duty_that_panics_ends_the_dispatcher() {
        let shutdown = CancellationToken::new();
        let mut duties = Duties::default();
        let told = shutdown.clone();
        duties.spawn("reaping", async move { told.cancelled().await });
        duties.spawn("feeding streams", async { panic!("out of streams") });
        let served = shutdown.clone();
        let serving = async move { served.cancelled().await };
        let error = attend(serving, duties, shutdown).await.unwrap_err().to_string();
        assert!(error.contains("'feeding streams' failed: out of streams"), "{error}");
    }

    #[tokio::test]
    async fn duties_that_end_at_a_shutdown_have_not_failed() {
        let shutdown = CancellationToken::new();
        let mut duties = Duties::default();
        let told = shutdown.clone();
        duties.spawn("reaping", async move { told.cancelled().await });
        shutdown.cancel();
        attend(std::future::ready(()), duties, shutdown).await.unwrap();
    }
}
