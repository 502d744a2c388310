//! A plain HTTP client of the fake, as the worker's account.

use std::time::Duration;

use fairlane_testkit::kube::Cluster;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// Generous: the machine may be busy.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Plain {
    client: reqwest::Client,
    url: String,
    namespace: String,
    token: String,
}

impl Plain {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self {
            client: reqwest::Client::new(),
            url: cluster.url(),
            namespace: cluster.namespace().to_owned(),
            token: cluster.token().to_owned(),
        }
    }

    /// Gets something of the namespace, such as `pods/a/log`.
    pub(super) async fn get(&self, what: &str) -> reqwest::Result<Response> {
        let url = format!("{}/api/v1/namespaces/{}/{what}", self.url, self.namespace);
        self.client.get(url).bearer_auth(&self.token).send().await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> reqwest::Result<Response> {
        self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body).send().await
    }

    /// Creates a pod that runs a script, and gives the status.
    pub(super) async fn create_pod(&self, name: &str, script: &str) -> reqwest::Result<StatusCode> {
        self.create_pod_with(name, script, &json!({})).await
    }

    /// The same with more in its spec.
    pub(super) async fn create_pod_with(
        &self,
        name: &str,
        script: &str,
        more: &Value,
    ) -> reqwest::Result<StatusCode> {
        let mut spec = json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "build", "image": "busybox", "command": ["sh", "-c", script] }],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let pod = json!({ "metadata": { "name": name, "labels": { "made-by": "a-test" } }, "spec": spec });
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        Ok(self.post(&path, &pod).await?.status())
    }
}
