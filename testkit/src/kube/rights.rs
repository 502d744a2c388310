//! Who may do what.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The rights that a worker needs in its namespace and in the cluster.
const NAMESPACED: [&str; 22] = [
    "create pods",
    "get pods",
    "list pods",
    "watch pods",
    "delete pods",
    "patch pods",
    "get pods/log",
    "get events",
    "list events",
    "watch events",
    "create secrets",
    "get secrets",
    "list secrets",
    "watch secrets",
    "delete secrets",
    "patch secrets",
    "get resourcequotas",
    "list resourcequotas",
    "get daemonsets",
    "list daemonsets",
    "watch daemonsets",
    "watch resourcequotas",
];
const CLUSTER: [&str; 4] = ["get nodes", "list nodes", "watch nodes", "get namespaces"];

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// May do everything.
    Admin,
    /// The account of the kubeconfig.
    Worker,
    /// Sent no token.
    Anonymous,
}

/// The tokens and the rights of the worker's account.
#[derive(Debug)]
pub(super) struct Rights {
    namespace: String,
    admin: String,
    /// The valid tokens of the worker's account.
    workers: Mutex<BTreeSet<String>>,
    allowed: Mutex<BTreeSet<String>>,
}

impl Rights {
    pub(super) fn new(namespace: &str, admin: String, worker: String) -> Self {
        let allowed = NAMESPACED.iter().chain(&CLUSTER).map(|&right| right.to_owned()).collect();
        let workers = Mutex::new([worker].into());
        Self { namespace: namespace.to_owned(), admin, workers, allowed: Mutex::new(allowed) }
    }

    /// Whose token this is; `None` if it is invalid.
    pub(super) fn user(&self, token: Option<&str>) -> Option<User> {
        match token {
            None => Some(User::Anonymous),
            Some(token) if token == self.admin => Some(User::Admin),
            Some(token) if self.workers().contains(token) => Some(User::Worker),
            Some(_) => None,
        }
    }

    /// Makes a token of the worker's account valid.
    pub(super) fn accept(&self, token: &str) {
        self.workers().insert(token.to_owned());
    }

    /// It has expired.
    pub(super) fn refuse(&self, token: &str) {
        self.workers().remove(token);
    }

    fn workers(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self, user: User) -> String {
        match user {
            User::Admin => "system:admin".to_owned(),
            User::Worker => format!("system:serviceaccount:{0}:builder", self.namespace),
            User::Anonymous => "system:anonymous".to_owned(),
        }
    }

    /// Whether the user has `right`, such as `get pods/log`, there; no namespace means the whole cluster.
    pub(super) fn allow(&self, user: User, right: &str, namespace: Option<&str>) -> bool {
        match user {
            User::Admin => true,
            User::Anonymous => false,
            User::Worker => {
                let reaches = match namespace {
                    Some(namespace) => namespace == self.namespace || right == "get namespaces",
                    None => CLUSTER.contains(&right),
                };
                reaches && self.lock().contains(right)
            }
        }
    }

    /// The rights the worker's account has in a namespace.
    pub(super) fn of_namespace(&self, namespace: &str) -> Vec<String> {
        let none = namespace != self.namespace;
        self.lock().iter().filter(|right| !none && !CLUSTER.contains(&right.as_str())).cloned().collect()
    }

    pub(super) fn take(&self, right: &str) {
        self.lock().remove(right);
    }

    pub(super) fn give(&self, right: &str) {
        self.lock().insert(right.to_owned());
    }

    /// Grants only these rights.
    pub(super) fn only(&self, rights: &[&str]) {
        *self.lock() = rights.iter().map(|&right| right.to_owned()).collect();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
