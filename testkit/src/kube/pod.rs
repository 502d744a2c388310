//! What happens to single pods.

use std::sync::Arc;

use serde_json::{Value, json};

use super::disruption;
use super::kubelet::Order;
use super::object::{Key, text};
use super::shared::Shared;

/// What can happen to one pod; each method reads like a sentence.
#[derive(Debug)]
pub struct PodScript<'a> {
    shared: &'a Arc<Shared>,
    key: Key,
}

impl<'a> PodScript<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, namespace: &str, name: &str) -> Self {
        Self { shared, key: Key::new("pods", namespace, name) }
    }

    /// Its object, if it exists.
    pub fn object(&self) -> Option<Value> {
        self.shared.store().get(&self.key).map(|pod| Value::clone(&pod))
    }

    /// Its phase; empty if there is no such pod.
    pub fn phase(&self) -> String {
        self.object().map(|pod| text(&pod, "/status/phase").to_owned()).unwrap_or_default()
    }

    /// The kubelet evicts it: phase `Failed`, reason `Evicted`, with this message.
    pub fn is_evicted(&self, message: &str) {
        self.order(Order::Evict(message.to_owned()));
    }

    /// The kernel kills its containers because of their memory.
    pub fn is_oom_killed(&self) {
        self.order(Order::OomKill);
    }

    /// Somebody kills its containers: exit code 137.
    pub fn is_killed(&self) {
        self.order(Order::Kill);
    }

    /// The scheduler removes it for a pod with a higher priority.
    pub fn is_preempted(&self) {
        let message = "default-scheduler: preempting to accommodate a higher priority pod";
        disruption::delete(self.shared, &self.key, "PreemptionByScheduler", message);
    }

    /// Somebody deletes it, with its own grace period.
    pub fn is_deleted(&self) {
        super::deletion::delete(self.shared, &self.key, None);
    }

    /// Somebody changes one of its labels.
    pub fn is_relabelled(&self, label: &str, value: &str) {
        self.shared.store().update(&self.key, |pod| pod["metadata"]["labels"][label] = json!(value));
    }

    fn order(&self, order: Order) {
        if let Some(uid) = self.uid() {
            self.shared.order(&uid, order);
        }
    }

    fn uid(&self) -> Option<String> {
        self.object().map(|pod| text(&pod, "/metadata/uid").to_owned())
    }
}
