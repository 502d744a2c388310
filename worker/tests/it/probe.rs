//! What a worker tells monitoring.

use std::net::SocketAddr;

use fairlane_common::BuildState;
use fairlane_testkit::{free_port, wait_for};
use fairlane_worker::Settings;

use crate::scene::{SOON, Scene, settings};

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), reqwest::Error> {
    let response = reqwest::get(format!("http://{address}{path}")).await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// Waits until `path` is answered with `status` and `text`.
async fn says(address: SocketAddr, path: &str, status: u16, text: &str) {
    wait_for(text, SOON, async || match get(address, path).await {
        Ok((found, body)) if found == status && body.contains(text) => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn a_worker_can_be_asked_how_it_is() {
    let scene = Scene::start().await;
    let script = scene.script("echo built");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let worker = scene.worker(Settings { metrics_listen: Some(address), ..settings(&script) }).await;
    says(address, "/healthz", 200, "\"status\":\"ok\"").await;
    says(address, "/readyz", 200, "\"status\":\"ok\"").await;

    let id = scene.submit().await;
    scene.build_in(id, BuildState::Succeeded).await;
    for line in [
        "fairlane_worker_slots 1\n",
        "fairlane_worker_running_builds 0\n",
        "fairlane_worker_runs_ended_total{host=\"test\",outcome=\"succeeded\",class=\"\"} 1\n",
        "fairlane_worker_heartbeat_age_seconds 0.",
        "fairlane_worker_paused{reason=\"drained\"} 0\n",
    ] {
        says(address, "/metrics", 200, line).await;
    }

    // A worker that claims nothing for a while is ready, and says why.
    scene.drain("test", true).await;
    says(address, "/readyz", 200, "claims no builds: drained by an operator").await;
    says(address, "/metrics", 200, "fairlane_worker_paused{reason=\"drained\"} 1\n").await;

    scene.redis.freeze();
    says(address, "/readyz", 503, "Redis has not answered a heartbeat for").await;
    says(address, "/healthz", 200, "\"status\":\"ok\"").await;
    scene.redis.thaw();
    says(address, "/readyz", 200, "claims no builds").await;
    worker.end().await.unwrap();
}
