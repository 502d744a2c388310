//! Nodes, and what happens to them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::deletion;
use super::disruption;
use super::kubelet::Order;
use super::object::{Key, Object, is_terminating, list, seconds, text};
use super::shared::{Event, Shared, Trouble};

/// The taint of a node whose kubelet is silent.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A node to be added to a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
    allocatable: BTreeMap<String, String>,
    unschedulable: bool,
}

impl Node {
    /// A healthy node: 8 CPUs, 32 GiB, 100 GiB of disk, no taint.
    pub fn named(name: &str) -> Self {
        let allocatable =
            [("cpu", "8"), ("memory", "32Gi"), ("ephemeral-storage", "100Gi"), ("pods", "2000")];
        let labels = [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Self {
            name: name.to_owned(),
            labels: labels.into_iter().map(owned).collect(),
            taints: Vec::new(),
            allocatable: allocatable.into_iter().map(owned).collect(),
            unschedulable: false,
        }
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a taint; the effect is `NoSchedule`, `NoExecute` or `PreferNoSchedule`.
    #[must_use]
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.taints.push(json!({ "key": key, "value": value, "effect": effect }));
        self
    }

    /// With this much of a resource, such as `ephemeral-storage`.
    #[must_use]
    pub fn allocatable(mut self, resource: &str, amount: &str) -> Self {
        self.allocatable.insert(resource.to_owned(), amount.to_owned());
        self
    }

    /// Cordoned.
    #[must_use]
    pub fn cordoned(mut self) -> Self {
        self.unschedulable = true;
        self
    }

    pub(super) fn object(&self) -> Value {
        let now = seconds(Timestamp::now());
        let condition = |name: &str, status: &str, reason: &str, message: &str| {
            json!({ "type": name, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now,
                    "reason": reason, "message": message })
        };
        let mut spec = json!({ "podCIDR": "10.244.0.0/24" });
        if !self.taints.is_empty() {
            spec["taints"] = Value::Array(self.taints.clone());
        }
        if self.unschedulable {
            spec["unschedulable"] = json!(true);
        }
        json!({
            "metadata": { "name": self.name, "labels": self.labels, "annotations": {} },
            "spec": spec,
            "status": {
                "capacity": self.allocatable, "allocatable": self.allocatable,
                "conditions": [
                    condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                    condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                    condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                    condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
                ],
                "addresses": [{ "type": "InternalIP", "address": "192.0.2.2" }, { "type": "Hostname", "address": self.name }],
                "nodeInfo": {
                    "kubeletVersion": "v1.36.2", "containerRuntimeVersion": "containerd://2.1.9", "operatingSystem": "linux",
                    "architecture": "amd64", "kernelVersion": "6.1.0", "osImage": "fake", "bootID": "", "machineID": "",
                    "systemUUID": "", "kubeProxyVersion": "",
                },
            },
        })
    }
}

/// What can happen to one node; each method reads like a sentence.
#[derive(Debug)]
pub struct NodeScript<'a> {
    shared: &'a Arc<Shared>,
    name: String,
}

impl<'a> NodeScript<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, name: &str) -> Self {
        Self { shared, name: name.to_owned() }
    }

    /// Its disk is full: each container that starts there from now on says so and exits with 1.
    pub fn has_no_space_left(&self) {
        self.trouble(|trouble| trouble.no_space = true);
    }

    /// No volume can be mounted there: pods stay `ContainerCreating`, and only events say why.
    pub fn cannot_mount(&self, why: &str) {
        self.trouble(|trouble| trouble.mounts_fail = Some(why.to_owned()));
    }

    /// Its kubelet is out of inotify instances: it sends the existing log, and ends each follow with an error
    /// text.
    pub fn is_out_of_inotify_instances(&self) {
        self.trouble(|trouble| trouble.cannot_follow = true);
    }

    /// Its runtime removes the containers of deleted pods as soon as they have ended, so that their logs are gone
    /// while the pods still exist; these go once it is well again.
    pub fn removes_containers_before_their_pods(&self) {
        self.trouble(|trouble| trouble.removes_containers = true);
    }

    /// Its containers start and its volumes are mounted again.
    pub fn is_well_again(&self) {
        self.trouble(|trouble| *trouble = Trouble::default());
    }

    /// Its kubelet stops: log requests get 500, followed logs end normally, the status no longer changes,
    /// containers keep running.
    pub fn kubelet_stops(&self) {
        self.shared.node(&self.name).kubelet.send_replace(false);
    }

    /// Its kubelet is back and reports what happened in the meantime.
    pub fn kubelet_starts(&self) {
        self.shared.node(&self.name).kubelet.send_replace(true);
        self.set_ready(true);
        for (key, pod) in self.pods() {
            let conditions = list(&pod, "/status/conditions");
            if conditions.iter().any(|one| one["type"] == "ContainersReady" && one["status"] == "True") {
                self.shared.store().update(&key, |pod| set_pod_ready(pod, "True"));
            }
        }
    }

    /// It is cut off: its kubelet is silent, it is not ready and tainted, and its pods stay `Running` but not
    /// ready.
    pub fn is_cut_off(&self) {
        self.kubelet_stops();
        self.set_ready(false);
        for (key, pod) in self.pods() {
            // The control plane only changes pods that a kubelet had accepted.
            if text(&pod, "/status/phase") != "Running" {
                continue;
            }
            self.event(&pod, (true, "NodeNotReady"), "Node is not ready", "node-controller");
            self.shared.store().update(&key, |pod| set_pod_ready(pod, "False"));
        }
    }

    /// The control plane gives up its pods: they are marked `DisruptionTarget` and are being deleted, which no
    /// kubelet finishes.
    pub fn loses_its_pods_to_the_taint(&self) {
        for (key, pod) in self.pods() {
            self.give_up(&key, &pod);
        }
    }

    /// The same for one pod, whose toleration ended first.
    pub fn loses_to_the_taint(&self, pod: &str) {
        for (key, pod) in self.pods().into_iter().filter(|(key, _)| key.name == pod) {
            self.give_up(&key, &pod);
        }
    }

    fn give_up(&self, key: &Key, pod: &Object) {
        if !is_terminating(pod) {
            let message = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
            self.event(pod, (false, "TaintManagerEviction"), &message, "taint-eviction-controller");
            let why = "Taint manager: deleting due to NoExecute taint";
            disruption::delete(self.shared, key, "DeletionByTaintManager", why);
        }
    }

    fn event(&self, pod: &Object, (warning, reason): (bool, &str), message: &str, from: &str) {
        self.shared.event(pod, &Event { warning, reason, message, field: None, from: (from, "") });
    }

    /// Its object is removed; its pods become `Failed`, although their containers still show as running, and are
    /// deleted.
    pub fn is_removed(&self) {
        self.shared.store().remove(&Key::new("nodes", "", &self.name));
        for (key, pod) in self.pods() {
            self.shared.store().update(&key, |pod| {
                disruption::set_condition(pod, "DeletionByPodGC", "PodGC: node no longer exists");
                pod["status"]["phase"] = json!("Failed");
                pod["status"]["observedGeneration"] = pod["metadata"]["generation"].clone();
            });
            let uid = text(&pod, "/metadata/uid");
            self.shared.order(uid, Order::PowerLoss);
            deletion::finish(self.shared, &key, uid);
            self.shared.order(uid, Order::Vanish);
        }
    }

    /// Nothing new is scheduled there.
    pub fn is_cordoned(&self) {
        self.update(|node| node["spec"]["unschedulable"] = json!(true));
    }

    fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        let node = self.shared.node(&self.name);
        change(&mut node.trouble.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn set_ready(&self, ready: bool) {
        self.update(|node| {
            for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
                let (status, reason, message) = match (condition["type"] == "Ready", ready) {
                    (true, true) => ("True", "KubeletReady", "kubelet is posting ready status"),
                    (false, true) => ("False", "KubeletHasNoPressure", "kubelet has no pressure"),
                    (_, false) => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
                };
                if condition["status"] != status {
                    condition["status"] = json!(status);
                    condition["reason"] = json!(reason);
                    condition["message"] = json!(message);
                    condition["lastTransitionTime"] = json!(seconds(Timestamp::now()));
                }
            }
            let mut taints = list(node, "/spec/taints").to_vec();
            taints.retain(|taint| taint["key"] != UNREACHABLE);
            if !ready {
                let time = json!(seconds(Timestamp::now()));
                for effect in ["NoSchedule", "NoExecute"] {
                    taints.push(json!({ "key": UNREACHABLE, "effect": effect, "timeAdded": time }));
                }
            }
            node["spec"]["taints"] = Value::Array(taints);
        });
    }

    fn update(&self, change: impl FnOnce(&mut Value)) {
        self.shared.store().update(&Key::new("nodes", "", &self.name), change);
    }

    /// Its pods, of all namespaces.
    fn pods(&self) -> Vec<(Key, Object)> {
        let pods = self.shared.store().list("pods", None);
        let here = pods.into_iter().filter(|pod| text(pod, "/spec/nodeName") == self.name);
        here.map(|pod| {
            (Key::new("pods", text(&pod, "/metadata/namespace"), text(&pod, "/metadata/name")), pod)
        })
        .collect()
    }
}

fn set_pod_ready(pod: &mut Value, status: &str) {
    for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if condition["type"] == "Ready" && condition["status"] != status {
            condition["status"] = json!(status);
            condition["lastTransitionTime"] = json!(seconds(Timestamp::now()));
        }
    }
}
