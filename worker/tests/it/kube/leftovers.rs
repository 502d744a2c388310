//! What a test leaves behind in a namespace that it shares with others.

use std::path::{Path, PathBuf};

use kube::api::{DeleteParams, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use serde_json::Value;

use super::scene::{KubeScene, SOON};

/// The pods and Secrets of one installation.
pub(super) struct Leftovers {
    pub(super) kubeconfig: PathBuf,
    pub(super) namespace: String,
    pub(super) installation: String,
}

pub(super) async fn client(kubeconfig: &Path) -> kube::Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

impl Leftovers {
    /// Removes them. Their workers must be gone.
    pub(super) async fn clear(&self) -> kube::Result<()> {
        let client = client(&self.kubeconfig).await;
        let labels = format!("component=fairlane-build,fairlane/installation={}", self.installation);
        for resource in ["pods", "secrets"] {
            let request = Request::new(format!("/api/v1/namespaces/{}/{resource}", self.namespace));
            let list = request.list(&ListParams::default().labels(&labels));
            let list: Value = client.request(list.map_err(kube::Error::BuildRequest)?).await?;
            for object in list["items"].as_array().into_iter().flatten() {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let delete = request.delete(name, &DeleteParams::default().grace_period(0));
                let delete = delete.map_err(kube::Error::BuildRequest)?;
                match client.request::<Value>(delete).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    other => other.map(drop)?,
                }
            }
        }
        Ok(())
    }

    /// The same at the end of a test, even after a panic.
    pub(super) fn clear_now(self) {
        let cleared = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(SOON, self.clear()).await })
        });
        if !matches!(cleared.join(), Ok(Ok(Ok(())))) {
            tracing::warn!("what the test has left in its namespace could not be removed");
        }
    }
}

#[tokio::test]
async fn a_kube_scene_leaves_nothing_behind() {
    let kube = KubeScene::start().await;
    let other = kube.beside().await;
    let (script, more) = ("exec sleep 1000", ["--keep-pods=1h"]);
    let worker = kube.worker("one", script, &more).await;
    let _other = other.worker("other", script, &more).await;
    for scene in [&kube, &other] {
        scene.scene.submit().await;
        scene.pods_running(1).await;
    }
    worker.kill();
    kube.leftovers().clear().await.unwrap();
    kube.pods_gone().await;
    other.pods_running(1).await;
}
