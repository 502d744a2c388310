//! The questions to the cluster: each call has a time limit. Only `fairlane nodes probe` changes something: it creates
//! its pod and deletes it.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use fairlane_worker::kubernetes::client::Cluster;
use fairlane_worker::pod::CONTAINER;
use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Event, Node, Pod, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams, Preconditions};
use serde::de::DeserializeOwned;

use super::answer::Answer;
use super::rights::{RIGHTS, Review, Right, Scope};

/// Timeout of one call; a person is waiting.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent calls: few, because the cluster may be in trouble.
const AT_ONCE: usize = 8;
/// Objects of one page: 500 nodes are some megabytes.
const PAGE: u32 = 500;
/// Most pages of one list: Kubernetes supports up to 5,000 nodes.
const PAGES_MAX: usize = 20;

/// How often, and with which pause, a deletion is tried; what runs in the pod needs no time to end.
const DELETION_ATTEMPTS: usize = 5;
const DELETION_PAUSE: Duration = Duration::from_secs(1);
const DELETION_GRACE_SECONDS: u32 = 1;

/// The cluster's answer to a creation, or to a dry run of a build pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trial {
    /// The cluster would accept the pod. This is the pod after defaults and webhooks.
    Taken(Box<Pod>),
    /// The cluster would reject the pod, with this HTTP code and message.
    Refused(u16, String),
    /// There was no answer, and this is why.
    Failed(String),
}

/// Asks the cluster.
pub(super) struct Asker<'a> {
    cluster: &'a Cluster,
}

impl<'a> Asker<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster }
    }

    /// Whether this account has each of the rights.
    pub(super) async fn reviews(&self) -> Vec<Review> {
        let wanted = RIGHTS.iter().flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
        stream::iter(wanted)
            .map(|(right, verb)| async move { Review { right, verb, allowed: self.may(right, verb).await } })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn may(&self, right: &Right, verb: &str) -> Answer<bool> {
        let (resource, subresource) =
            right.resource.split_once('/').map_or((right.resource, None), |(of, part)| (of, Some(part)));
        let attributes = ResourceAttributes {
            namespace: (right.scope == Scope::Namespace).then(|| self.cluster.namespace.clone()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.cluster.client.clone());
        match self.ask(reviews.create(&PostParams::default(), &review)).await {
            Answer::Known(review) => Answer::Known(review.status.is_some_and(|status| status.allowed)),
            Answer::Denied => Answer::Denied,
            Answer::Failed(why) => Answer::Failed(why),
        }
    }

    /// All nodes.
    pub(super) async fn nodes(&self) -> Answer<Vec<Node>> {
        self.list(&Api::all(self.cluster.client.clone()), ListParams::default()).await
    }

    /// The namespace's pods with these labels.
    pub(super) async fn pods(&self, selector: &str) -> Answer<Vec<Pod>> {
        self.list(&self.namespaced(), ListParams::default().labels(selector)).await
    }

    /// The namespace's quotas.
    pub(super) async fn quotas(&self) -> Answer<Vec<ResourceQuota>> {
        self.list(&self.namespaced(), ListParams::default()).await
    }

    /// Whether a Secret of that name exists; its contents are not requested.
    pub(super) async fn has_secret(&self, name: &str) -> Answer<bool> {
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace);
        let only = ListParams::default().fields(&format!("metadata.name={name}")).limit(1);
        match self.ask(secrets.list_metadata(&only)).await {
            Answer::Known(found) => Answer::Known(!found.items.is_empty()),
            Answer::Denied => Answer::Denied,
            Answer::Failed(why) => Answer::Failed(why),
        }
    }

    /// Whether the cluster would accept a pod: a dry run, with every check.
    pub(super) async fn try_pod(&self, pod: &Pod) -> Trial {
        self.post(pod, true).await
    }

    /// Creates a pod.
    pub(super) async fn create_pod(&self, pod: &Pod) -> Trial {
        self.post(pod, false).await
    }

    /// The pod of that name, if there is one.
    pub(super) async fn pod(&self, name: &str) -> Answer<Option<Pod>> {
        self.ask(self.namespaced::<Pod>().get_opt(name)).await
    }

    /// The cluster's events about a pod.
    pub(super) async fn events_of(&self, pod: &Pod) -> Answer<Vec<Event>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        self.list(&self.namespaced(), about).await
    }

    /// The log of a pod's build container.
    pub(super) async fn log_of(&self, name: &str) -> Answer<String> {
        let params = LogParams { container: Some(CONTAINER.to_owned()), ..LogParams::default() };
        self.ask(self.namespaced::<Pod>().logs(name, &params)).await
    }

    /// Deletes the pod of that name (and uid, if known), and tries again if there is no answer. It is no error if the
    /// pod is gone.
    pub(super) async fn delete_pod(&self, name: &str, uid: Option<&str>) -> Result<(), String> {
        let params = DeleteParams {
            grace_period_seconds: Some(DELETION_GRACE_SECONDS),
            preconditions: uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        let pods: Api<Pod> = self.namespaced();
        let mut why = String::new();
        for attempt in 0..DELETION_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(DELETION_PAUSE).await;
            }
            why = match tokio::time::timeout(CALL_TIMEOUT, pods.delete(name, &params)).await {
                Ok(Ok(_)) => return Ok(()),
                // 409: another pod has that name, so this one is gone.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return Ok(()),
                Ok(Err(error)) => self.cluster.explain(&error),
                Err(_) => too_late(),
            };
        }
        Err(why)
    }

    async fn post(&self, pod: &Pod, dry_run: bool) -> Trial {
        let params = PostParams { dry_run, ..PostParams::default() };
        let pods: Api<Pod> = self.namespaced();
        match tokio::time::timeout(CALL_TIMEOUT, pods.create(&params, pod)).await {
            Ok(Ok(pod)) => Trial::Taken(Box::new(pod)),
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                Trial::Refused(status.code, status.message)
            }
            Ok(Err(error)) => Trial::Failed(self.cluster.explain(&error)),
            Err(_) => Trial::Failed(too_late()),
        }
    }

    fn namespaced<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace)
    }

    async fn list<K: Clone + DeserializeOwned + Debug>(
        &self,
        api: &Api<K>,
        params: ListParams,
    ) -> Answer<Vec<K>> {
        let (mut params, mut all) = (params.limit(PAGE), Vec::new());
        for _ in 0..PAGES_MAX {
            let page = match self.ask(api.list(&params)).await {
                Answer::Known(page) => page,
                Answer::Denied => return Answer::Denied,
                Answer::Failed(why) => return Answer::Failed(why),
            };
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            all.extend(page.items);
            match next {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        Answer::Known(all)
    }

    async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Answer<T> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(answer)) => Answer::Known(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Answer::Denied,
            Ok(Err(error)) => Answer::Failed(self.cluster.explain(&error)),
            Err(_) => Answer::Failed(too_late()),
        }
    }
}

fn too_late() -> String {
    format!("the Kubernetes API did not answer within {} s", CALL_TIMEOUT.as_secs())
}
