//! All build pods of this installation, as the one shared watch shows them. Runs wait here for changes of their
//! own pod, so that none of them has to poll the cluster.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

/// A pod as the watch last showed it.
#[derive(Debug, Clone, Default)]
pub(crate) enum Seen {
    /// It has not been shown yet.
    #[default]
    Never,
    /// It exists; this is its state.
    There(Arc<Pod>),
    /// It is gone, or no longer selected; this was its last state.
    Gone(Option<Arc<Pod>>),
}

/// The pods by name.
pub(crate) struct Pods {
    entries: Mutex<HashMap<String, watch::Sender<Seen>>>,
    /// Since when and why the API has not answered; `None` while it does.
    away: watch::Sender<Option<(Instant, String)>>,
    /// How many lists have been received.
    listed: watch::Sender<u64>,
}

impl Pods {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), away: watch::Sender::default(), listed: watch::Sender::default() }
    }

    /// Changes of one pod.
    pub(crate) fn subscribe(&self, name: &str) -> watch::Receiver<Seen> {
        self.entries().entry(name.to_owned()).or_default().subscribe()
    }

    /// All existing pods.
    pub(crate) fn there(&self) -> Vec<Arc<Pod>> {
        let entries = self.entries();
        let there = |seen: &watch::Sender<Seen>| match &*seen.borrow() {
            Seen::There(pod) => Some(Arc::clone(pod)),
            _ => None,
        };
        entries.values().filter_map(there).collect()
    }

    /// The current state of a pod.
    pub(crate) fn put(&self, mut pod: Pod) {
        let Some(name) = pod.metadata.name.clone() else { return };
        // These fields are half of an object and not needed here.
        pod.metadata.managed_fields = None;
        self.entries().entry(name).or_default().send_replace(Seen::There(Arc::new(pod)));
    }

    /// A pod is gone, or its labels no longer select it.
    pub(crate) fn remove(&self, pod: Pod) {
        let Some(name) = pod.metadata.name.clone() else { return };
        gone(&mut self.entries(), &name, Some(Arc::new(pod)));
    }

    /// A complete list of the pods.
    pub(crate) fn replace(&self, pods: Vec<Pod>) {
        let names: HashSet<String> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        for pod in pods {
            self.put(pod);
        }
        let mut entries = self.entries();
        let missing: Vec<String> = entries.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in missing {
            let last = entries.get(&name).map(|seen| seen.borrow().clone());
            match last {
                Some(Seen::There(pod)) => gone(&mut entries, &name, Some(pod)),
                _ => gone(&mut entries, &name, None),
            }
        }
        drop(entries);
        self.listed.send_modify(|count| *count += 1);
    }

    /// The API did not answer; `why` says what happened.
    pub(crate) fn note_away(&self, why: &str) {
        self.away.send_if_modified(|away| {
            let news = away.is_none();
            away.get_or_insert_with(|| (Instant::now(), why.to_owned()));
            news
        });
    }

    /// The API refuses to list or watch the pods; the latest reason replaces earlier ones.
    pub(crate) fn note_refused(&self, why: &str) {
        self.away.send_if_modified(|away| {
            let news = away.as_ref().is_none_or(|(_, known)| known != why);
            let since = away.take().map_or_else(Instant::now, |(since, _)| since);
            *away = Some((since, why.to_owned()));
            news
        });
    }

    /// The API answers again; returns since when it had not.
    pub(crate) fn note_back(&self) -> Option<Instant> {
        self.away.send_replace(None).map(|(since, _)| since)
    }

    /// Since when, and why, the API does not answer.
    pub(crate) fn away(&self) -> watch::Receiver<Option<(Instant, String)>> {
        self.away.subscribe()
    }

    /// How many lists have been received.
    pub(crate) fn listed(&self) -> watch::Receiver<u64> {
        self.listed.subscribe()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Seen>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies whoever waits for the pod; forgets it if nobody does.
fn gone(entries: &mut HashMap<String, watch::Sender<Seen>>, name: &str, pod: Option<Arc<Pod>>) {
    match entries.get(name) {
        Some(seen) if seen.receiver_count() > 0 => {
            let known = matches!(&*seen.borrow(), Seen::Gone(_));
            if !known && (pod.is_some() || !matches!(&*seen.borrow(), Seen::Never)) {
                seen.send_replace(Seen::Gone(pod));
            }
        }
        _ => {
            entries.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, version: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.resource_version = Some(version.to_owned());
        pod
    }

    #[test]
    fn waiting_ones_hear_of_their_own_pod_alone() {
        let pods = Pods::new();
        let (mut a, b) = (pods.subscribe("a"), pods.subscribe("b"));
        pods.put(pod("a", "1"));
        assert!(a.has_changed().unwrap() && !b.has_changed().unwrap());
        assert!(
            matches!(&*a.borrow_and_update(), Seen::There(pod) if pod.metadata.resource_version.as_deref() == Some("1"))
        );
        pods.replace(vec![pod("c", "2")]);
        assert!(matches!(&*a.borrow_and_update(), Seen::Gone(Some(_))), "missing from a list is gone");
        assert!(matches!(&*b.borrow(), Seen::Never), "what was never there is not gone");
        assert_eq!(pods.there().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_says_now_counts_and_since_when_it_has_refused() {
        let pods = Pods::new();
        let began = Instant::now();
        for why in ["it starts", "it starts", "a right is missing"] {
            pods.note_refused(why);
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            assert_eq!(*pods.away().borrow(), Some((began, why.to_owned())));
        }
        assert_eq!(pods.note_back(), Some(began));
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let pods = Pods::new();
        drop(pods.subscribe("a"));
        pods.put(pod("b", "1"));
        pods.remove(pod("b", "2"));
        pods.replace(Vec::new());
        assert!(pods.entries().is_empty());
    }
}
