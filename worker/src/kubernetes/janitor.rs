//! Removes pods and Secrets that nobody needs any more. Any worker does so. Each decision is based on a fresh
//! read, and the deletion names the version that was read, so that two janitors and a holder cannot interfere with
//! each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fairlane_common::{Build, BuildId};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::cluster::api::Version;
use crate::kubernetes::pod::{self, Observed, PodIdentity};
use crate::time::backoff::jittered;

/// How often finished pods are checked; this needs no call to the cluster unless one is deleted.
const CLEAN_EVERY: Duration = Duration::from_secs(10);
/// How often all pods are checked: a running pod without a build is rare.
const CLEAN_ALL_EVERY: Duration = Duration::from_mins(1);
/// Shortest pause between two checks.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Builds read in one round trip.
const BATCH: usize = 200;
/// How often Secrets are checked.
const SWEEP_EVERY: Duration = Duration::from_mins(5);
/// How long a Secret may have no owner: it has none between its own creation and its pod's.
const OWNERLESS_MAX: Duration = Duration::from_mins(10);

/// Checks the pods as long as it is polled.
pub(super) async fn clean_on(cluster: &Cluster) {
    let mut listed = cluster.pods.listed();
    // Never closed: `pods` lives as long as `cluster`.
    let _ = listed.wait_for(|count| *count > 0).await;
    // By uid, since when each pod has not been needed.
    let mut needless = HashMap::new();
    let (pause, mut all_at) = (CLEAN_EVERY.min(cluster.keep).max(PAUSE_MIN), Instant::now());
    loop {
        tokio::time::sleep(jittered(pause)).await;
        let all = all_at <= Instant::now();
        if all {
            all_at = Instant::now() + jittered(CLEAN_ALL_EVERY);
        }
        clean(cluster, all, &mut needless).await;
    }
}

async fn clean(cluster: &Cluster, all: bool, needless: &mut HashMap<String, Instant>) {
    let there = cluster.pods.there();
    let uids: HashSet<&str> = there.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    needless.retain(|uid, _| uids.contains(uid.as_str()));
    let looked_at: Vec<(Arc<Pod>, PodIdentity)> = there
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !cluster.is_in_use(name_of(pod)))
        .filter(|pod| all || is_over(pod) || is_young(pod))
        .filter_map(|pod| Some((Arc::clone(pod), cluster.identity(&pod.metadata).ok()?)))
        .collect();
    for batch in looked_at.chunks(BATCH) {
        let ids: Vec<BuildId> = batch.iter().map(|(_, identity)| identity.token.build).collect();
        let Ok(loaded) = cluster.queue.load(&ids).await else { return };
        let builds: HashMap<BuildId, Build> =
            loaded.builds.into_iter().map(|build| (build.id, build)).collect();
        for (pod, identity) in batch {
            // Pods of builds that Redis does not know are registered, not removed. If a build cannot be read, its
            // pod is left alone.
            let Some(build) = builds.get(&identity.token.build) else { continue };
            if let Some(after) = keep_for(cluster, pod, identity, build).await {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let since = *needless.entry(uid).or_insert_with(Instant::now);
                if since.elapsed() >= after && !cluster.is_in_use(name_of(pod)) {
                    remove(cluster, pod).await;
                }
            }
        }
    }
}

/// How long a pod that is no longer needed is kept; `None` if it is needed.
async fn keep_for(cluster: &Cluster, pod: &Pod, identity: &PodIdentity, build: &Build) -> Option<Duration> {
    if build.attempt > identity.run {
        return Some(Duration::ZERO);
    }
    if !build.state.is_ended() {
        return None;
    }
    if let Some(moved) = build.moved {
        // Its run may belong to another build now, and its annotations may not say so yet.
        let after = cluster.queue.build(moved).await.ok()??;
        let names = cluster.pod_names(&after, after.attempt);
        if !after.state.is_ended() && names.iter().any(|name| name == name_of(pod)) {
            return None;
        }
    }
    // A finished pod is kept for a while, so that it is found again if Redis loses the build's end.
    Some(if is_over(pod) { cluster.keep } else { Duration::ZERO })
}

async fn remove(cluster: &Cluster, pod: &Pod) {
    let name = name_of(pod);
    match cluster.api.delete_pod(name, &Version::of(pod), None).await {
        Ok(()) => tracing::info!(pod = name, "removed a pod that is no longer needed"),
        // Somebody changed it in the meantime; it will be checked again.
        Err(error) => tracing::debug!(%error, pod = name, "a pod could not be removed"),
    }
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod::observe(pod, &[]), Observed::Ended { .. })
}

/// Whether it has just been created, perhaps for a run that was given up in the meantime, in addition to the next
/// run's.
fn is_young(pod: &Pod) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let age = created.map(|created| Timestamp::now().duration_since(created).unsigned_abs());
    age.is_some_and(|age| age < CLEAN_ALL_EVERY + CLEAN_EVERY)
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Checks the Secrets as long as it is polled.
pub(super) async fn sweep_secrets_on(cluster: &Cluster) {
    let (mut ownerless, mut said) = (HashMap::new(), false);
    loop {
        tokio::time::sleep(jittered(SWEEP_EVERY)).await;
        match cluster.api.list_secrets(&cluster.selector).await {
            Ok(secrets) => sweep(cluster, &secrets, &mut ownerless, OWNERLESS_MAX).await,
            Err(error) if error.code() == 403 && !said => {
                said = true;
                tracing::warn!(
                    %error,
                    "this worker may not list Secrets, so those whose pod was never created are left behind; the Role in deploy/ grants that right"
                );
            }
            Err(error) => tracing::debug!(%error, "the Secrets cannot be listed"),
        }
    }
}

/// Removes this queue's Secrets that have had no owner for `patience`. If a Secret's pod exists, the pod is made
/// its owner instead, because the worker that created both did not get to do so.
async fn sweep(
    cluster: &Cluster,
    secrets: &[Value],
    ownerless: &mut HashMap<String, Instant>,
    patience: Duration,
) {
    let text =
        |secret: &Value, field: &str| secret["metadata"][field].as_str().unwrap_or_default().to_owned();
    let orphans: Vec<&Value> = secrets
        .iter()
        .filter(|secret| secret["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty))
        .filter(|secret| cluster.owner().check(|key| secret["metadata"]["labels"][key].as_str()).is_ok())
        .collect();
    ownerless.retain(|uid, _| orphans.iter().any(|secret| text(secret, "uid") == *uid));
    for secret in orphans {
        let version = Version { uid: text(secret, "uid"), resource: text(secret, "resourceVersion") };
        let since = *ownerless.entry(version.uid.clone()).or_insert_with(Instant::now);
        let name = text(secret, "name");
        let pod_name = secret["metadata"]["labels"]["name"].as_str().unwrap_or(&name);
        // A run of this worker may be about to create its pod.
        if since.elapsed() < patience || cluster.is_in_use(pod_name) {
            continue;
        }
        let done = match cluster.api.pod(pod_name).await {
            Ok(Some(pod)) if refers(cluster, &pod, &name) => {
                let owned = cluster.api.own_secret((&name, &version.uid), &pod).await;
                owned.map(|()| "set a pod as the owner of its Secret")
            }
            Ok(_) => {
                let removed = cluster.api.delete_secret(&name, &version).await;
                removed.map(|()| "removed a Secret without an owner")
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => tracing::info!(secret = name, "{done}"),
            Err(error) => tracing::debug!(%error, secret = name, "a Secret without an owner stays for now"),
        }
    }
}

/// Whether the pod belongs to this queue and was made with that Secret.
fn refers(cluster: &Cluster, pod: &Pod, secret: &str) -> bool {
    match cluster.identity(&pod.metadata) {
        Ok(PodIdentity { secret: Some((name, _)), .. }) => name == secret,
        // An earlier release gave both the same name.
        Ok(identity) => identity.had_secrets && name_of(pod) == secret,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use fairlane_common::Queue;
    use fairlane_testkit::{RedisServer, kube as fake};
    use serde_json::json;

    use super::*;
    use crate::kubernetes::client;
    use crate::settings::Settings;

    #[tokio::test]
    async fn a_secret_without_an_owner_is_given_its_pod_or_goes() {
        let (redis, there) = (RedisServer::start_default().await, fake::Cluster::start());
        let queue = Queue::open(&redis.url().parse().unwrap(), "fairlane").await.unwrap();
        let way = client::Cluster::of_file(&there.kubeconfig(), None, None).await.unwrap();
        let cluster = Cluster::new(way, &Settings::default(), &queue);
        let add = |resource, name: &str, labels: Value, annotations: Value| {
            let meta = json!({ "name": name, "namespace": there.namespace(), "labels": labels, "annotations": annotations });
            there.add(
                "",
                resource,
                there.namespace(),
                json!({ "metadata": meta, "status": { "phase": "Running" } }),
            );
        };
        let labels = |name: &str, whose: &str| json!({ "component": "fairlane-build", "fairlane/installation": whose, "name": name, "fairlane/run": "1" });
        for name in ["alive", "alone", "in-use"] {
            add("secrets", name, labels(&format!("pod-{name}"), "fairlane"), json!({}));
        }
        // Neither a pod of another installation nor one that was made with another Secret may become the owner.
        add("secrets", "theirs", labels("pod-theirs", "another"), json!({}));
        let mut annotations = annotations_of_a_pod();
        add("pods", "pod-in-use", labels("pod-in-use", "another"), annotations.clone());
        add("pods", "pod-alone", labels("pod-alone", "fairlane"), annotations.clone());
        annotations["fairlane/secret"] = json!("alive u");
        add("pods", "pod-alive", labels("pod-alive", "fairlane"), annotations);
        let pod_uid = || {
            let pods = there.pods();
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "pod-alive");
            pod.map(|pod| pod["metadata"]["uid"].clone())
        };
        let in_use = cluster.mark_in_use("pod-in-use");
        let mut ownerless = HashMap::new();
        let mut look = async |patience| {
            let secrets = cluster.api.list_secrets(&cluster.selector).await.unwrap();
            sweep(&cluster, &secrets, &mut ownerless, patience).await;
            there.objects("secrets")
        };
        assert_eq!(look(OWNERLESS_MAX).await.len(), 4, "each is given its time");
        let left = look(Duration::ZERO).await;
        let names: Vec<&str> = left.iter().filter_map(|secret| secret["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["alive", "in-use", "theirs"]);
        let owner = &left[0]["metadata"]["ownerReferences"][0]["uid"];
        assert_eq!(Some(owner.clone()), pod_uid());
        drop(in_use);
        assert_eq!(look(Duration::ZERO).await.len(), 2);
        assert_eq!(there.pods().len(), 3);
    }

    fn annotations_of_a_pod() -> Value {
        let (build, settings) = (crate::fixtures::build(), Settings::default());
        let token = crate::fixtures::token(&build);
        let pod = pod::pod(&build, &token, &settings.pods, &pod::Placement::default(), None);
        json!(pod.metadata.annotations)
    }
}
