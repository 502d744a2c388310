//! The life of one pod on its node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep;

use super::log::ContainerLog;
use super::order::Order;
use super::process::Container;
use super::view::{ContainerView, PodView, State};
use crate::kube::deletion;
use crate::kube::object::{Key, list, text};
use crate::kube::shared::{Event, NodeState, PodHandle, Shared};
use crate::temp_dir::TempDir;

/// Between the container's end and the pod's: a real kubelet takes about a second.
const PHASE_LAG: Duration = Duration::from_millis(30);
/// How long a container lives on after its pod was force-deleted: about two seconds in reality.
const FORCED_KILL_LAG: Duration = Duration::from_millis(300);
/// Grace period for containers that the kubelet decides to kill.
const OWN_GRACE: Duration = Duration::from_millis(200);
/// How often a kubelet checks whether an obstacle to a pod is gone.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Why a pod's containers end.
enum Ending {
    Ordered(Order),
    Deadline,
    /// By themselves.
    Finished,
}

/// Runs a pod that was assigned to a node until its object is gone.
pub(in crate::kube) async fn run(shared: Arc<Shared>, key: Key, uid: String) {
    let (orders, mut ordered) = unbounded_channel();
    let logs = Arc::new(Mutex::new(HashMap::new()));
    shared.pods().insert(uid.clone(), PodHandle { orders: orders.clone(), logs: Arc::clone(&logs) });
    // Read only now: a deletion before this moment had no one to notify.
    let Some(pod) = shared.store().get_same(&key, &uid) else {
        shared.pods().remove(&uid);
        return;
    };
    if let Some(grace) = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64) {
        let _ = orders.send(Order::Delete(Duration::from_secs(grace)));
    }
    drop(orders);
    let node_name = text(&pod, "/spec/nodeName").to_owned();
    let node = shared.node(&node_name);
    let watched = Arc::clone(&node);
    let mut run = PodRun::new(shared, node, node_name, key, uid, &pod, logs);
    let fields = run.keep_fields();
    let ending = tokio::select! {
        biased;
        order = next_order(&mut ordered, &watched) => Ending::Ordered(order),
        () = deadline(&pod) => Ending::Deadline,
        () = run.work() => Ending::Finished,
        () = fields => Ending::Finished,
    };
    if let Some(last_order) = run.end(ending, &mut ordered).await {
        run.leave(last_order).await;
    }
    run.shared.pods().remove(&run.uid);
}

/// The next order. Orders only reach a pod while its kubelet is up.
async fn next_order(orders: &mut UnboundedReceiver<Order>, node: &NodeState) -> Order {
    let Some(order) = orders.recv().await else { std::future::pending().await };
    if order != Order::PowerLoss {
        node.up().await;
    }
    order
}

async fn deadline(pod: &Value) {
    match pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_u64) {
        Some(seconds) => sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

impl NodeState {
    /// Waits until its kubelet is up.
    pub(super) async fn up(&self) {
        // The sender lives as long as the node.
        let _ = self.kubelet.subscribe().wait_for(|up| *up).await;
    }

    /// Whether its runtime removes containers before their pods.
    pub(in crate::kube) fn removes_containers(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).removes_containers
    }
}

/// A running pod.
pub(super) struct PodRun {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Arc<NodeState>,
    pub(super) node_name: String,
    pub(super) key: Key,
    pub(super) uid: String,
    /// The pod as it was assigned to the node.
    pub(super) spec: Value,
    pub(super) view: PodView,
    pub(super) logs: Arc<Mutex<HashMap<String, Vec<Arc<ContainerLog>>>>>,
    pub(super) running: HashMap<usize, Container>,
    pub(super) folder: TempDir,
    pub(super) dead_silently: bool,
}

impl PodRun {
    fn new(
        shared: Arc<Shared>,
        node: Arc<NodeState>,
        node_name: String,
        key: Key,
        uid: String,
        pod: &Value,
        logs: Arc<Mutex<HashMap<String, Vec<Arc<ContainerLog>>>>>,
    ) -> Self {
        let of = |pointer, init| list(pod, pointer).iter().map(move |spec| ContainerView::new(spec, init));
        let mut containers = of("/spec/initContainers", true).collect::<Vec<_>>();
        let initializes = !containers.is_empty();
        containers.extend(of("/spec/containers", false));
        if initializes {
            for container in &mut containers {
                container.state = State::Waiting { reason: "PodInitializing", message: None };
            }
        }
        let view = PodView {
            phase: "Pending",
            reason: None,
            message: None,
            started: Timestamp::now(),
            sandbox: false,
            ip: None,
            containers,
        };
        let (spec, running, folder) = (pod.clone(), HashMap::new(), TempDir::new());
        Self { shared, node, node_name, key, uid, spec, view, logs, running, folder, dead_silently: false }
    }

    /// Runs the pod until its containers have ended by themselves.
    async fn work(&mut self) {
        self.node.up().await;
        self.view.started = Timestamp::now();
        self.publish().await;
        while let Some(why) = self.mounts_fail() {
            self.event(true, "FailedMount", &why, None);
            sleep(RETRY_INTERVAL).await;
            self.node.up().await;
        }
        self.view.sandbox = true;
        self.publish().await;
        let octets = address(&self.uid);
        self.view.ip = Some(format!("10.244.{}.{}", octets[0], octets[1]));
        for index in 0..self.view.containers.len() {
            self.bring_up(index).await;
            if self.view.containers[index].init && !self.view.containers[index].sidecar {
                self.view.phase = "Pending";
                self.publish().await;
                if self.reap(index).await != 0 {
                    self.fail_unstarted();
                    break;
                }
            }
        }
        if self.main_started() {
            self.view.phase = "Running";
        }
        self.publish().await;
        self.reap_all().await;
        self.stop_sidecars().await;
    }

    fn main_started(&self) -> bool {
        self.view.containers.iter().any(|one| !one.init && !matches!(one.state, State::Waiting { .. }))
    }

    /// Containers that never started stay `PodInitializing` in a failed pod.
    fn fail_unstarted(&mut self) {
        for container in self.view.containers.iter_mut().filter(|one| !one.init) {
            container.state = State::Waiting { reason: "PodInitializing", message: None };
        }
    }

    /// Ends the containers for this reason, and reports it. Returns the order that removes the pod.
    async fn end(&mut self, ending: Ending, orders: &mut UnboundedReceiver<Order>) -> Option<Order> {
        let mut last = None;
        let by_itself = matches!(ending, Ending::Finished | Ending::Ordered(Order::OomKill | Order::Kill));
        match ending {
            Ending::Finished => {}
            Ending::Deadline => {
                self.view.reason = Some("DeadlineExceeded");
                let why = "Pod was active on the node longer than the specified deadline";
                self.view.message = Some(why.to_owned());
                self.event(false, "DeadlineExceeded", why, None);
                self.stop(OWN_GRACE, None).await;
            }
            Ending::Ordered(Order::Evict(why)) => {
                self.view.reason = Some("Evicted");
                self.event(true, "Evicted", &why, None);
                self.view.message = Some(why);
                self.stop(OWN_GRACE, None).await;
            }
            Ending::Ordered(Order::OomKill) => self.stop(Duration::ZERO, Some("OOMKilled")).await,
            Ending::Ordered(Order::Kill) => self.stop(Duration::ZERO, None).await,
            Ending::Ordered(Order::PowerLoss) => {
                self.dead_silently = true;
                self.stop(Duration::ZERO, None).await;
                // Reported when the node is back, if it ever is.
                self.node.up().await;
                self.dead_silently = false;
            }
            Ending::Ordered(Order::Delete(grace)) => {
                self.stop(grace, None).await;
                last = Some(Order::Delete(grace));
            }
            Ending::Ordered(Order::Vanish) => {
                sleep(FORCED_KILL_LAG).await;
                self.stop(Duration::ZERO, None).await;
                return Some(Order::Vanish);
            }
        }
        if by_itself {
            // The container's end is reported before the pod's, unless the kubelet ended it.
            self.publish().await;
            sleep(PHASE_LAG).await;
        }
        self.close();
        self.publish().await;
        loop {
            match last.take() {
                Some(order @ (Order::Delete(_) | Order::Vanish)) => return Some(order),
                _ => last = Some(next_order(orders, &self.node).await),
            }
        }
    }

    /// The pod's own end.
    fn close(&mut self) {
        self.view.sandbox = false;
        let well = self.view.reason.is_none()
            && self
                .view
                .containers
                .iter()
                .filter(|one| !one.sidecar)
                .all(|one| matches!(&one.state, State::Terminated(ended) if ended.code == 0));
        self.view.phase = if well { "Succeeded" } else { "Failed" };
    }

    /// Removes the object, as a kubelet does when nothing of the pod is left.
    async fn leave(&mut self, order: Order) {
        if order != Order::Vanish {
            while self.node.removes_containers() {
                sleep(RETRY_INTERVAL).await;
            }
            self.node.up().await;
            deletion::finish(&self.shared, &self.key, &self.uid);
        }
    }

    /// Writes the pod's status as soon as the kubelet can.
    pub(super) async fn publish(&self) {
        self.node.up().await;
        let mut store = self.shared.store();
        if store.get_same(&self.key, &self.uid).is_some() {
            store.update(&self.key, |pod| self.view.write(pod));
        }
    }

    /// Records an event of this pod.
    pub(super) fn event(&self, warning: bool, reason: &str, message: &str, container: Option<usize>) {
        let Some(pod) = self.shared.store().get_same(&self.key, &self.uid) else { return };
        let field = container.map(|index| {
            let view = &self.view.containers[index];
            format!("spec.{}{{{}}}", if view.init { "initContainers" } else { "containers" }, view.name)
        });
        let from = ("kubelet", self.node_name.as_str());
        self.shared.event(&pod, &Event { warning, reason, message, field, from });
    }
}

fn address(uid: &str) -> [u8; 2] {
    uid.bytes()
        .fold([0, 1], |[high, low], byte| [high.wrapping_add(byte), low.wrapping_mul(31).wrapping_add(byte)])
}
