//! Calls to the Kubernetes API, each with a time limit, and what the responses mean. The caller retries: only the
//! caller knows for how long, and what must still hold.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use http_body_util::BodyExt;
use jiff::Timestamp;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Secret};
use kube::api::{
    DeleteParams, GetParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions,
    WatchParams,
};
use kube::client::Body;
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use super::api_error::{ApiError, Refusal, Result};
use super::api_error::{away, chain, classify, too_late};
use crate::kubernetes::pod;

/// How long one call may take. Admission webhooks may take up to 30 s, but only broken ones do. If a creation is
/// carried out later, the object is found by its name.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit for the response headers of a stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// Pods per page of a list: 500 are some megabytes.
const PAGE: u32 = 500;
/// How long the server keeps a watch open; it then ends normally and is started again.
const WATCH_SECONDS: u32 = 290;
/// A request, if it could be created.
type Built = std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// The API, in one namespace.
pub(crate) struct Api {
    /// Replaced when the credentials are renewed.
    client: Mutex<kube::Client>,
    /// How many times the credentials were refused.
    refused: watch::Sender<u64>,
    namespace: String,
    pods: Request,
    secrets: Request,
    events: Request,
}

/// The version of an object that a change is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) resource: String,
}

impl Version {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            resource: pod.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

impl Api {
    pub(crate) fn new(client: kube::Client, namespace: &str) -> Self {
        let path = |kind: &str| Request::new(format!("/api/v1/namespaces/{namespace}/{kind}"));
        let (pods, secrets, events) = (path("pods"), path("secrets"), path("events"));
        let (client, refused) = (Mutex::new(client), watch::Sender::default());
        Self { client, refused, namespace: namespace.to_owned(), pods, secrets, events }
    }

    /// Uses other credentials from now on.
    pub(crate) fn set_client(&self, client: kube::Client) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Notifies when the credentials are refused.
    pub(crate) fn refused(&self) -> watch::Receiver<u64> {
        self.refused.subscribe()
    }

    /// The pod's current state, not a cached one.
    pub(crate) async fn pod(&self, name: &str) -> Result<Option<Pod>> {
        found(self.call(self.pods.get(name, &GetParams::default())).await)
    }

    /// Creates a pod. The request carries the time limit, so that the server does not create it when nobody waits
    /// any more.
    pub(crate) async fn create_pod(&self, pod: &Pod) -> Result<Pod> {
        self.call(self.pods.create(&PostParams::default(), bytes(pod)?).map(timed)).await
    }

    /// Merges `patch` into a pod.
    pub(crate) async fn patch_pod(&self, name: &str, patch: Value) -> Result<Pod> {
        self.call(self.pods.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await
    }

    /// Deletes a pod, if it is still the version that was read. It is not an error if the pod is gone.
    pub(crate) async fn delete_pod(&self, name: &str, version: &Version, grace: Option<u32>) -> Result<()> {
        let params = DeleteParams {
            grace_period_seconds: grace,
            preconditions: Some(preconditions(version)),
            ..DeleteParams::default()
        };
        found(self.call::<Value>(self.pods.delete(name, &params)).await).map(drop)
    }

    /// All pods that `labels` select, and the version of the list.
    pub(crate) async fn list_pods(&self, labels: &str) -> Result<(Vec<Pod>, String)> {
        let mut params = ListParams::default().labels(labels).limit(PAGE);
        let mut pods = Vec::new();
        loop {
            let page: List<Pod> = match self.call(self.pods.list(&params)).await {
                Ok(page) => page,
                // The list expired between two pages; a list without pages cannot.
                Err(error) if error.code() == 410 && params.continue_token.is_some() => {
                    pods.clear();
                    params = ListParams::default().labels(labels);
                    continue;
                }
                Err(error) => return Err(error),
            };
            pods.extend(page.items);
            let version = page.metadata.resource_version.unwrap_or_default();
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok((pods, version)),
            }
        }
    }

    /// Asks the cluster whether this account has this right in its namespace.
    pub(crate) async fn may(&self, verb: &str, resource: &str) -> Result<bool> {
        let attributes = json!({ "namespace": self.namespace, "verb": verb, "resource": resource });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let reviews = Request::new("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
        let answer: Value = self.call(reviews.create(&PostParams::default(), bytes(&review)?)).await?;
        Ok(answer["status"]["allowed"].as_bool().unwrap_or(true))
    }

    /// Other pods in the same namespace.
    pub(crate) async fn pods_of(&self, labels: &str) -> Result<Vec<Pod>> {
        let params = ListParams::default().labels(labels).limit(PAGE);
        Ok(self.call::<List<Pod>>(self.pods.list(&params)).await?.items)
    }

    /// The cluster's nodes.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        let nodes = Request::new("/api/v1/nodes");
        Ok(self.call::<List<Node>>(nodes.list(&ListParams::default().limit(PAGE))).await?.items)
    }

    /// One node. Found by listing, because workers only have that right.
    pub(crate) async fn node(&self, name: &str) -> Result<Option<Node>> {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        Ok(self.call::<List<Node>>(Request::new("/api/v1/nodes").list(&params)).await?.items.pop())
    }

    /// Watches the pods that `labels` select, from `version` on: bytes, one JSON object a line.
    pub(crate) async fn watch_pods(
        &self,
        labels: &str,
        version: &str,
    ) -> Result<impl Stream<Item = std::result::Result<Vec<u8>, String>> + Send + use<>> {
        let params = WatchParams::default().labels(labels).timeout(WATCH_SECONDS);
        self.stream(self.pods.watch(&params, version)).await
    }

    /// The log of a container from `since` on (in whole seconds): what exists so far or, with `follow`, also what
    /// comes later.
    pub(crate) async fn read_log(
        &self,
        name: &str,
        container: &str,
        since: Option<Timestamp>,
        follow: bool,
    ) -> Result<impl Stream<Item = std::result::Result<Vec<u8>, String>> + Send + use<>> {
        let params = LogParams {
            container: Some(container.to_owned()),
            follow,
            timestamps: true,
            since_time: since,
            ..LogParams::default()
        };
        self.stream(self.pods.logs(name, &params)).await
    }

    /// Creates a Secret, and returns its uid.
    pub(crate) async fn create_secret(&self, secret: &Secret) -> Result<String> {
        let made: Value = self.call(self.secrets.create(&PostParams::default(), bytes(secret)?)).await?;
        Ok(made["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes a pod the owner of the Secret with that name and uid, so that it is deleted with the pod.
    pub(crate) async fn own_secret(&self, (name, uid): (&str, &str), pod: &Pod) -> Result<()> {
        let patch = pod::owner_patch(&pod.metadata, uid);
        let request = self.secrets.patch(name, &PatchParams::default(), &Patch::Merge(&patch));
        self.call::<Value>(request).await.map(drop)
    }

    /// Metadata of Secrets; their contents are not requested.
    pub(crate) async fn list_secrets(&self, labels: &str) -> Result<Vec<Value>> {
        let list: Value =
            self.call(self.secrets.list_metadata(&ListParams::default().labels(labels).limit(PAGE))).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Deletes a Secret, if it is still the version that was read.
    pub(crate) async fn delete_secret(&self, name: &str, version: &Version) -> Result<()> {
        let params = DeleteParams { preconditions: Some(preconditions(version)), ..DeleteParams::default() };
        found(self.call::<Value>(self.secrets.delete(name, &params)).await).map(drop)
    }

    /// The cluster's events about a pod.
    pub(crate) async fn events_of(&self, pod: &Pod) -> Result<Vec<Event>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(PAGE);
        Ok(self.call::<List<Event>>(self.events.list(&params)).await?.items)
    }

    async fn call<T: DeserializeOwned>(&self, request: Built) -> Result<T> {
        let asking = async {
            let response = self.send(request).await?;
            let body = response.into_body().collect_bytes().await.map_err(|error| away(&error))?;
            // A truncated response says nothing.
            serde_json::from_slice(&body).map_err(|error| away(&error))
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, asking).await;
        answer.unwrap_or_else(|_| Err(ApiError::Away(too_late(CALL_TIMEOUT))))
    }

    async fn stream(
        &self,
        request: Built,
    ) -> Result<impl Stream<Item = std::result::Result<Vec<u8>, String>> + Send + use<>> {
        let answer = tokio::time::timeout(STREAM_TIMEOUT, self.send(request)).await;
        let response = answer.unwrap_or_else(|_| Err(ApiError::Away(too_late(STREAM_TIMEOUT))))?;
        let chunks = response.into_body().into_data_stream();
        Ok(chunks.map(|chunk| chunk.map(|bytes| bytes.to_vec()).map_err(|error| chain(&error))))
    }

    async fn send(&self, request: Built) -> Result<http::Response<Body>> {
        let request = request.map_err(|error| {
            ApiError::Refused(Refusal { message: error.to_string(), ..Refusal::default() })
        })?;
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = client.send(request.map(Body::from)).await.map_err(|error| away(&error))?;
        let code = response.status().as_u16();
        if code == 401 {
            self.refused.send_modify(|count| *count += 1);
        }
        if (200..300).contains(&code) {
            return Ok(response);
        }
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wait = header.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let body = response.into_body().collect_bytes().await.map_err(|error| away(&error))?;
        Err(classify(code, wait, &body))
    }
}

/// Asks the server to give up on a request when the caller does.
fn timed(mut request: http::Request<Vec<u8>>) -> http::Request<Vec<u8>> {
    let uri = request.uri().to_string();
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let query = [query, &format!("timeout={}s", CALL_TIMEOUT.as_secs())].join("&");
    if let Ok(uri) = format!("{path}?{}", query.trim_start_matches('&')).parse() {
        *request.uri_mut() = uri;
    }
    request
}

fn preconditions(version: &Version) -> Preconditions {
    Preconditions { uid: Some(version.uid.clone()), resource_version: Some(version.resource.clone()) }
}

fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn bytes(object: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(object)
        .map_err(|error| ApiError::Refused(Refusal { message: error.to_string(), ..Refusal::default() }))
}

#[cfg(test)]
mod tests {
    use fairlane_testkit::kube::{Cluster, Fault};

    use super::*;
    use crate::kubernetes::client;

    #[test]
    fn the_server_is_told_when_its_caller_gives_up() {
        for (uri, timed_uri) in [
            ("/api/v1/namespaces/n/pods?", "/api/v1/namespaces/n/pods?timeout=15s"),
            ("/pods?dryRun=All", "/pods?dryRun=All&timeout=15s"),
        ] {
            let request = http::Request::post(uri).body(Vec::new()).unwrap();
            assert_eq!(timed(request).uri().to_string(), timed_uri);
        }
    }

    #[tokio::test]
    async fn a_list_that_expires_between_two_pages_is_asked_for_as_a_whole() {
        let fake = Cluster::start();
        let pods = usize::try_from(PAGE).unwrap() + 1;
        for n in 0..pods {
            let meta = json!({ "name": format!("p{n}"), "namespace": "builds", "labels": { "a": "b" } });
            let pod = json!({ "metadata": meta, "status": { "phase": "Succeeded" } });
            fake.add("", "pods", fake.namespace(), pod);
        }
        fake.next("list pods", Fault::Delay(Duration::ZERO));
        fake.next("list pods", Fault::Fails(410));
        let way = client::Cluster::of_file(&fake.kubeconfig(), None, None).await.unwrap();
        let api = Api::new(way.client.clone(), &way.namespace);
        assert_eq!(api.list_pods("a=b").await.unwrap().0.len(), pods);
        assert_eq!(fake.requests("list pods"), 3);
    }
}
