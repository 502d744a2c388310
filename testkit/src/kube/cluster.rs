//! The fake cluster, as tests use it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::faults::Fault;
use super::gate::Connection;
use super::gate::Gate;
use super::node::{Node, NodeScript};
use super::object::{Key, kind_of, text};
use super::pod::PodScript;
use super::rights::Rights;
use super::shared::Shared;
use super::{routes, scheduler};
use crate::temp_dir::TempDir;

/// The default namespace of the kubeconfig.
const NAMESPACE: &str = "builds";

/// A fake Kubernetes cluster; when it is dropped, it is gone with every process of its pods.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    gate: Gate,
    folder: TempDir,
    namespace: String,
    admin_token: String,
    token: String,
    tasks: Vec<JoinHandle<()>>,
}

/// The initial state of a cluster.
#[derive(Debug)]
pub struct ClusterBuilder {
    namespace: String,
    nodes: Vec<Node>,
}

impl ClusterBuilder {
    /// Adds a node. By default there is one, `node-1`.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// The namespace of the kubeconfig, `builds` by default.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If no port can be opened.
    pub fn start(self) -> Cluster {
        let token = || uuid::Uuid::new_v4().simple().to_string();
        let (admin_token, token) = (token(), token());
        let rights = Rights::new(&self.namespace, admin_token.clone(), token.clone());
        let shared = Arc::new(Shared::new(rights));
        let (gate, door) = match Gate::open() {
            Ok(opened) => opened,
            Err(error) => panic!("the fake Kubernetes API cannot listen: {error}"),
        };
        let routes = Router::new().fallback(routes::handle).with_state(Arc::clone(&shared));
        let service = routes.into_make_service_with_connect_info::<Connection>();
        let server = tokio::spawn(async move {
            // Ends with the task only.
            let _ = axum::serve(door, service).await;
        });
        let schedules = tokio::spawn(scheduler::run(Arc::clone(&shared)));
        let cluster = Cluster {
            shared,
            gate,
            folder: TempDir::new(),
            namespace: self.namespace,
            admin_token,
            token,
            tasks: vec![server, schedules],
        };
        cluster.add_namespace("default");
        cluster.add_namespace(&cluster.namespace);
        cluster.write_kubeconfig("kubeconfig", &cluster.token);
        for node in if self.nodes.is_empty() { vec![Node::named("node-1")] } else { self.nodes } {
            cluster.add_node(&node);
        }
        cluster
    }
}

impl Cluster {
    /// A cluster with one node.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A cluster with other nodes, or with another namespace.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { namespace: NAMESPACE.to_owned(), nodes: Vec::new() }
    }

    /// The address of its API, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.gate.address())
    }

    /// A kubeconfig of the worker's account, which has the rights that a worker needs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Another kubeconfig of that account, with another token; a second one with the same name replaces it.
    pub fn kubeconfig_with(&self, name: &str, token: &str) -> PathBuf {
        self.shared.rights.accept(token);
        self.write_kubeconfig(name, token)
    }

    /// A token of that account expires: it gets 401 from now on. Streams that are open go on.
    pub fn token_expires(&self, token: &str) {
        self.shared.rights.refuse(token);
    }

    /// The token of that account.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A token that may do everything.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The namespace of the kubeconfig.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    // --- what is in it

    /// Adds a namespace.
    pub fn add_namespace(&self, name: &str) {
        if !self.shared.store().exists(&Key::new("namespaces", "", name)) {
            self.add(
                "",
                "namespaces",
                "",
                json!({ "metadata": { "name": name }, "status": { "phase": "Active" } }),
            );
        }
    }

    /// The namespace is being deleted: nothing new can be created in it.
    pub fn namespace_ends(&self, name: &str) {
        self.shared.store().update(&Key::new("namespaces", "", name), |namespace| {
            namespace["status"]["phase"] = json!("Terminating");
        });
    }

    /// Adds a node.
    pub fn add_node(&self, node: &Node) {
        self.add("", "nodes", "", node.object());
    }

    /// Adds any object of a known kind as it is, such as a `DaemonSet` (group `apps`, resource `daemonsets`).
    ///
    /// # Panics
    /// If the kind is unknown, or there is such an object already.
    pub fn add(&self, group: &str, resource: &str, namespace: &str, object: Value) {
        let Some(kind) = kind_of(group, resource) else {
            panic!("the fake knows no {resource} in group {group:?}")
        };
        let name = text(&object, "/metadata/name");
        let key = Key::new(kind.resource, namespace, name);
        let mut store = self.shared.store();
        assert!(!store.exists(&key), "there is a {resource} {name:?} already");
        store.create(&key, object);
    }

    /// A quota on the number of pods that have not ended.
    pub fn add_pod_quota(&self, name: &str, pods: u32) {
        let pods = pods.to_string();
        let quota = json!({
            "metadata": { "name": name }, "spec": { "hard": { "pods": pods } },
            "status": { "hard": { "pods": pods }, "used": { "pods": "0" } },
        });
        self.add("", "resourcequotas", &self.namespace, quota);
    }

    /// Removes an object at once, such as a quota.
    pub fn remove(&self, resource: &'static str, name: &str) {
        let namespaced = !matches!(resource, "nodes" | "namespaces");
        let namespace = if namespaced { self.namespace.as_str() } else { "" };
        self.shared.store().remove(&Key::new(resource, namespace, name));
    }

    /// The existing pods of the namespace, by name.
    pub fn pods(&self) -> Vec<Value> {
        self.objects("pods")
    }

    /// All objects of a resource in the namespace.
    pub fn objects(&self, resource: &'static str) -> Vec<Value> {
        let objects = self.shared.store().list(resource, Some(&self.namespace));
        objects.iter().map(|object| Value::clone(object)).collect()
    }

    /// Every pod that was ever created, as it was created.
    pub fn pods_created(&self) -> Vec<Value> {
        self.shared.store().pods_created().iter().map(|pod| Value::clone(pod)).collect()
    }

    // --- what happens to it

    /// What can be done to a node.
    pub fn node(&self, name: &str) -> NodeScript<'_> {
        NodeScript::new(&self.shared, name)
    }

    /// What can be done to a pod of the namespace.
    pub fn pod(&self, name: &str) -> PodScript<'_> {
        PodScript::new(&self.shared, &self.namespace, name)
    }

    /// An image cannot be pulled; `why` is what the registry says.
    pub fn cannot_pull(&self, image: &str, why: &str) {
        self.shared.images().insert(image.to_owned(), why.to_owned());
    }

    // --- the API server

    /// The next request of this kind (`create pods`, `watch *`, `get pods/log`) meets the fault.
    pub fn next(&self, on: &str, fault: Fault) {
        self.shared.faults.order(on, fault, Some(1));
    }

    /// The next `times` requests of this kind meet the fault.
    pub fn next_times(&self, times: usize, on: &str, fault: Fault) {
        self.shared.faults.order(on, fault, Some(times));
    }

    /// Every request of this kind meets the fault, until [`Cluster::all_is_well`].
    pub fn always(&self, on: &str, fault: Fault) {
        self.shared.faults.order(on, fault, None);
    }

    /// Removes all faults.
    pub fn all_is_well(&self) {
        self.shared.faults.clear();
    }

    /// The API server dies: open connections are cut, new ones refused. Pods run on.
    ///
    /// # Panics
    /// If the port cannot be shut.
    pub fn api_goes_away(&self) {
        self.api_stops_listening();
        self.gate.cut_all();
    }

    /// The API server starts to shut down: new connections are refused, open ones stay.
    ///
    /// # Panics
    /// If the port cannot be shut.
    pub fn api_stops_listening(&self) {
        if let Err(error) = self.gate.shut() {
            panic!("cannot shut the port of the fake Kubernetes API: {error}");
        }
    }

    /// The API server is back, with the same objects but without its history of changes.
    ///
    /// # Panics
    /// If the port cannot be opened again.
    pub fn api_comes_back(&self) {
        self.shared.store().compact();
        if let Err(error) = self.gate.reopen() {
            panic!("cannot open the port of the fake Kubernetes API again: {error}");
        }
    }

    /// All open connections are cut; new ones are accepted.
    pub fn connections_are_cut(&self) {
        self.gate.cut_all();
    }

    /// The history of changes is forgotten: watches get 410, whether they resume or are running.
    pub fn watches_expire(&self) {
        self.shared.store().expire();
    }

    /// Bookmarks come this often; a minute by default.
    pub fn bookmarks_come_every(&self, interval: Duration) {
        self.shared.set_bookmark_interval(interval);
    }

    /// The worker's account loses a right, such as `list nodes`.
    pub fn forbids(&self, right: &str) {
        self.shared.rights.take(right);
    }

    /// The worker's account gets a right.
    pub fn permits(&self, right: &str) {
        self.shared.rights.give(right);
    }

    /// The worker's account has these rights and no other.
    pub fn permits_only(&self, rights: &[&str]) {
        self.shared.rights.only(rights);
    }

    // --- requests to it

    /// How many requests of this kind (`list pods`, `get pods/log`) there were.
    pub fn requests(&self, what: &str) -> usize {
        self.shared.counters.of(what)
    }

    /// All requests so far, by kind.
    pub fn all_requests(&self) -> BTreeMap<String, usize> {
        self.shared.counters.all()
    }

    fn write_kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": self.url() } }],
            "users": [{ "name": "worker", "user": { "token": token } }],
            "contexts": [{ "name": "fake", "context":
                { "cluster": "fake", "user": "worker", "namespace": self.namespace } }],
        });
        // JSON is YAML.
        let path = self.folder.join(name);
        if let Err(error) = std::fs::write(&path, config.to_string()) {
            panic!("cannot write {}: {error}", path.display());
        }
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.gate.cut_all();
        self.shared.groups.kill_all();
    }
}
