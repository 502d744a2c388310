//! What monitoring can ask a process: whether it is alive, whether it is ready, and its metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::admission::Excess;
use crate::metrics::metrics_response;
use crate::server::{Limits, Server};

/// A process that monitoring can query.
pub trait Probe: Send + Sync + 'static {
    /// A name that distinguishes this process from others of its kind.
    fn name(&self) -> String;

    /// Whether the process is ready, and its status in words. Must not block.
    ///
    /// # Errors
    /// The process is not ready; the text says why.
    fn ready(&self) -> Result<String, String>;

    /// The process's metrics.
    fn metrics(&self) -> Registry;
}

/// The response of `/healthz` and `/readyz`.
#[derive(Serialize)]
struct Health {
    status: String,
    name: String,
    version: &'static str,
}

impl Server {
    /// Listens on `address` for monitoring: few connections, without TLS.
    ///
    /// # Errors
    /// Cannot listen on the address.
    pub fn bind_probe(address: SocketAddr) -> std::io::Result<Self> {
        let limits = Limits {
            total: 64,
            per_address: None,
            exempt: Vec::new(),
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            send_buffer: 128 * 1024,
        };
        Self::bind(address, None, limits)
    }

    /// Answers `/healthz`, `/readyz` and `/metrics` until `shutdown`.
    pub async fn run_probe(self, probe: Arc<impl Probe>, shutdown: CancellationToken) {
        let refuse = |_: Excess| StatusCode::SERVICE_UNAVAILABLE.into_response();
        self.run(routes(probe), refuse, shutdown).await;
    }
}

fn routes<P: Probe>(probe: Arc<P>) -> Router {
    let health = |probe: &P, status: String| {
        Json(Health { status, name: probe.name(), version: env!("CARGO_PKG_VERSION") })
    };
    Router::new()
        .route("/healthz", get(async move |State(probe): State<Arc<P>>| health(&probe, "ok".to_owned())))
        .route(
            "/readyz",
            get(async move |State(probe): State<Arc<P>>| match probe.ready() {
                Ok(status) => health(&probe, status).into_response(),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, health(&probe, why)).into_response(),
            }),
        )
        .route(
            "/metrics",
            get(async move |State(probe): State<Arc<P>>, request: HeaderMap| {
                metrics_response(&request, &probe.metrics())
            }),
        )
        .with_state(probe)
}
