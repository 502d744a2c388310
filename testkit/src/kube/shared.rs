//! What the API, the scheduler and the kubelets of one fake cluster share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::counters::Counters;
use super::faults::Faults;
use super::kubelet::{ContainerLog, Groups, Order};
use super::object::{Key, list, micros, seconds, text};
use super::rights::Rights;
use super::store::Store;

/// An API server sends a bookmark about once a minute.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);

/// The whole cluster behind its API.
#[derive(Debug)]
pub(super) struct Shared {
    store: Mutex<Store>,
    nodes: Mutex<HashMap<String, Arc<NodeState>>>,
    pods: Mutex<HashMap<String, PodHandle>>,
    images: Mutex<HashMap<String, String>>,
    bookmarks: Mutex<Duration>,
    applied: Mutex<HashMap<(Key, String), String>>,
    events: Mutex<HashMap<(String, String, String), Key>>,
    pub(super) groups: Arc<Groups>,
    pub(super) faults: Faults,
    pub(super) rights: Rights,
    pub(super) counters: Counters,
}

/// The state of a node besides its object: its kubelet, and its faults.
#[derive(Debug)]
pub(super) struct NodeState {
    pub(super) kubelet: watch::Sender<bool>,
    pub(super) trouble: Mutex<Trouble>,
}

/// The faults of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    /// Its disk is full.
    pub(super) no_space: bool,
    /// Why volumes cannot be mounted.
    pub(super) mounts_fail: Option<String>,
    /// Its kubelet cannot watch files: it sends the existing log, and ends each followed log with an error.
    pub(super) cannot_follow: bool,
    /// Its runtime removes the containers of a deleted pod at once, but the pod's object stays.
    pub(super) removes_containers: bool,
}

/// The state of a pod besides its object: what runs it, and its logs.
#[derive(Debug, Clone)]
pub(super) struct PodHandle {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) logs: Arc<Mutex<HashMap<String, Vec<Arc<ContainerLog>>>>>,
}

impl Shared {
    pub(super) fn new(rights: Rights) -> Self {
        Self {
            store: Mutex::new(Store::new()),
            nodes: Mutex::default(),
            pods: Mutex::default(),
            images: Mutex::default(),
            bookmarks: Mutex::new(BOOKMARK_INTERVAL),
            applied: Mutex::default(),
            events: Mutex::default(),
            groups: Arc::new(Groups::new()),
            faults: Faults::default(),
            rights,
            counters: Counters::default(),
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, HashMap<String, Arc<NodeState>>> {
        locked(&self.nodes)
    }

    /// The node with this name; healthy by default.
    pub(super) fn node(&self, name: &str) -> Arc<NodeState> {
        let mut nodes = self.nodes();
        let node = nodes.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(NodeState { kubelet: watch::Sender::new(true), trouble: Mutex::default() })
        });
        Arc::clone(node)
    }

    /// Handles of the pods that a kubelet has accepted, by uid.
    pub(super) fn pods(&self) -> MutexGuard<'_, HashMap<String, PodHandle>> {
        locked(&self.pods)
    }

    /// Sends an order to the kubelet of a pod, if one has accepted it.
    pub(super) fn order(&self, uid: &str, order: Order) {
        if let Some(handle) = self.pods().get(uid) {
            let _ = handle.orders.send(order);
        }
    }

    /// Images that cannot be pulled, and what the registry says.
    pub(super) fn images(&self) -> MutexGuard<'_, HashMap<String, String>> {
        locked(&self.images)
    }

    pub(super) fn bookmark_interval(&self) -> Duration {
        *locked(&self.bookmarks)
    }

    pub(super) fn set_bookmark_interval(&self, interval: Duration) {
        *locked(&self.bookmarks) = interval;
    }

    /// Records an event of a pod; repeated events are counted.
    pub(super) fn event(&self, pod: &Value, event: &Event<'_>) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let same = (text(pod, "/metadata/uid").to_owned(), event.reason.to_owned(), event.message.to_owned());
        let now = Timestamp::now();
        let mut events = locked(&self.events);
        if let Some(key) = events.get(&same) {
            self.store().update(key, |known| {
                let count = known["count"].as_u64().unwrap_or(1) + 1;
                known["count"] = json!(count);
                known["lastTimestamp"] = json!(seconds(now));
            });
            return;
        }
        let event_name = format!("{name}.{:x}", now.as_nanosecond());
        let key = Key::new("events", namespace, &event_name);
        self.store().create(&key, event.object(pod, &event_name, now));
        events.insert(same, key);
    }

    /// Who applied which field of which object first.
    pub(super) fn applied(&self) -> MutexGuard<'_, HashMap<(Key, String), String>> {
        locked(&self.applied)
    }

    /// Removes an object whose owners are all gone, as the garbage collector does.
    pub(super) fn collect_orphaned(&self, key: &Key) {
        let mut store = self.store();
        let orphaned = store.get(key).is_some_and(|object| {
            let owners = list(&object, "/metadata/ownerReferences");
            !owners.is_empty() && !owners.iter().any(|owner| store.knows_uid(text(owner, "/uid")))
        });
        if orphaned {
            store.remove(key);
        }
    }
}

/// What happened to a pod.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) warning: bool,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    /// The container it is about.
    pub(super) field: Option<String>,
    /// The component that reports it, and on which node.
    pub(super) from: (&'a str, &'a str),
}

impl Event<'_> {
    fn object(&self, pod: &Value, name: &str, now: Timestamp) -> Value {
        let mut involved = json!({
            "kind": "Pod", "apiVersion": "v1", "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
            "resourceVersion": pod["metadata"]["resourceVersion"],
        });
        if let Some(field) = &self.field {
            involved["fieldPath"] = json!(field);
        }
        let (component, host) = self.from;
        let mut event = json!({
            "metadata": { "name": name }, "involvedObject": involved, "reason": self.reason,
            "message": self.message, "type": if self.warning { "Warning" } else { "Normal" },
            "reportingComponent": component,
        });
        if component == "default-scheduler" {
            event["source"] = json!({});
            event["firstTimestamp"] = Value::Null;
            event["lastTimestamp"] = Value::Null;
            event["eventTime"] = json!(micros(now));
            event["action"] = json!(if self.warning { "Scheduling" } else { "Binding" });
            event["reportingInstance"] = json!("default-scheduler-fake");
        } else {
            event["source"] = json!({ "component": component, "host": host });
            event["firstTimestamp"] = json!(seconds(now));
            event["lastTimestamp"] = json!(seconds(now));
            event["count"] = json!(1);
            event["eventTime"] = Value::Null;
            event["reportingInstance"] = json!(host);
        }
        event
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
