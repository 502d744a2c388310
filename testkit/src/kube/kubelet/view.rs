//! A pod's status as the kubelet writes it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kube::object::{list, seconds, text};

/// What a container is doing.
#[derive(Debug, Clone)]
pub(super) enum State {
    Waiting { reason: &'static str, message: Option<String> },
    Running { since: Timestamp },
    Terminated(Ended),
}

/// How a container ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
}

/// One container of a pod, as its status shows it.
#[derive(Debug, Clone)]
pub(super) struct ContainerView {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) resources: Value,
    mounts: Vec<Value>,
    pub(super) state: State,
    pub(super) last: Option<Ended>,
    pub(super) restarts: u32,
    pub(super) id: String,
    /// An init container has to end before the next one starts, unless it is a sidecar.
    pub(super) init: bool,
    pub(super) sidecar: bool,
    pub(super) pulled: bool,
}

/// A pod as its kubelet sees it.
#[derive(Debug)]
pub(super) struct PodView {
    pub(super) phase: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) message: Option<String>,
    pub(super) started: Timestamp,
    pub(super) sandbox: bool,
    pub(super) ip: Option<String>,
    pub(super) containers: Vec<ContainerView>,
}

impl ContainerView {
    pub(super) fn new(spec: &Value, init: bool) -> Self {
        Self {
            name: text(spec, "/name").to_owned(),
            image: text(spec, "/image").to_owned(),
            resources: spec["resources"].clone(),
            mounts: list(spec, "/volumeMounts").iter().map(mount).collect(),
            state: State::Waiting { reason: "ContainerCreating", message: None },
            last: None,
            restarts: 0,
            id: String::new(),
            init,
            sidecar: init && text(spec, "/restartPolicy") == "Always",
            pulled: false,
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn is_done(&self) -> bool {
        match &self.state {
            State::Terminated(ended) => ended.code == 0,
            State::Running { .. } => self.sidecar,
            State::Waiting { .. } => false,
        }
    }

    fn status(&self) -> Value {
        let mut status = json!({
            "name": self.name, "image": self.image, "imageID": "", "lastState": {}, "ready": self.is_ready(),
            "restartCount": self.restarts, "started": matches!(self.state, State::Running { .. }),
            "state": self.state(),
        });
        if self.pulled {
            status["imageID"] =
                json!("sha256:08306a9e3e95a924e108fb49acb1b738829a95aed5cfd733bf485b177e67d2ca");
        }
        if !self.mounts.is_empty() {
            status["volumeMounts"] = Value::Array(self.mounts.clone());
        }
        if let Some(last) = &self.last {
            status["lastState"] = json!({ "terminated": last.json(&self.id) });
        }
        if !self.id.is_empty() {
            status["containerID"] = json!(self.id);
            status["resources"] = self.resources.clone();
            if let Some(requests) = self.resources.get("requests") {
                status["allocatedResources"] = requests.clone();
            }
        }
        status
    }

    fn state(&self) -> Value {
        match &self.state {
            State::Waiting { reason, message: None } => json!({ "waiting": { "reason": reason } }),
            State::Waiting { reason, message } => {
                json!({ "waiting": { "reason": reason, "message": message } })
            }
            State::Running { since } => json!({ "running": { "startedAt": seconds(*since) } }),
            State::Terminated(ended) => json!({ "terminated": ended.json(&self.id) }),
        }
    }
}

impl Ended {
    fn json(&self, id: &str) -> Value {
        let mut ended = json!({
            "exitCode": self.code, "reason": self.reason, "startedAt": seconds(self.started),
            "finishedAt": seconds(self.finished), "containerID": id,
        });
        if let Some(message) = &self.message {
            ended["message"] = json!(message);
        }
        ended
    }
}

fn mount(spec: &Value) -> Value {
    let mut mount = json!({ "name": spec["name"], "mountPath": spec["mountPath"] });
    if spec["readOnly"] == true {
        mount["readOnly"] = json!(true);
        mount["recursiveReadOnly"] = json!("Disabled");
    }
    mount
}

/// A condition's status, reason and message.
type Condition = (bool, Option<&'static str>, Option<String>);

impl PodView {
    /// Writes this view into the pod's status; what others wrote there stays.
    pub(super) fn write(&self, pod: &mut Value) {
        let generation = pod["metadata"]["generation"].clone();
        let conditions = self.conditions(list(pod, "/status/conditions"), &generation);
        let status = &mut pod["status"];
        status["observedGeneration"] = generation;
        status["phase"] = json!(self.phase);
        status["conditions"] = Value::Array(conditions);
        status["hostIP"] = json!("192.0.2.2");
        status["hostIPs"] = json!([{ "ip": "192.0.2.2" }]);
        status["startTime"] = json!(seconds(self.started));
        status["resources"] = self.resources();
        if let Some(ip) = &self.ip {
            status["podIP"] = json!(ip);
            status["podIPs"] = json!([{ "ip": ip }]);
        }
        if let Some(reason) = self.reason {
            status["reason"] = json!(reason);
        }
        if let Some(message) = &self.message {
            status["message"] = json!(message);
        }
        let of = |init: bool| {
            self.containers
                .iter()
                .filter(|one| one.init == init)
                .map(ContainerView::status)
                .collect::<Vec<_>>()
        };
        let init = of(true);
        if !init.is_empty() {
            status["initContainerStatuses"] = Value::Array(init);
        }
        status["containerStatuses"] = Value::Array(of(false));
    }

    /// The requests of all containers, shown for the first one, which is the only one in most pods.
    fn resources(&self) -> Value {
        let of_one = self.containers.iter().find(|one| !one.init).map(|one| one.resources.clone());
        of_one.filter(|_| self.containers.iter().any(|one| !one.id.is_empty())).unwrap_or_else(|| json!({}))
    }

    fn conditions(&self, before: &[Value], generation: &Value) -> Vec<Value> {
        let ready = self.readiness();
        let ours: [(&str, Condition); 5] = [
            ("PodReadyToStartContainers", (self.sandbox, None, None)),
            ("Initialized", self.initialized()),
            ("Ready", ready.clone()),
            ("ContainersReady", ready),
            ("PodScheduled", (true, None, None)),
        ];
        let mut conditions =
            before.iter().filter(|one| one["type"] == "DisruptionTarget").cloned().collect::<Vec<_>>();
        for (name, (holds, reason, message)) in ours {
            let status = if holds { "True" } else { "False" };
            let old = before.iter().find(|one| one["type"] == name && one["status"] == status);
            let since =
                old.map_or_else(|| json!(seconds(Timestamp::now())), |old| old["lastTransitionTime"].clone());
            let mut condition = Map::new();
            condition.insert("type".to_owned(), json!(name));
            condition.insert("status".to_owned(), json!(status));
            condition.insert("observedGeneration".to_owned(), generation.clone());
            condition.insert("lastProbeTime".to_owned(), Value::Null);
            condition.insert("lastTransitionTime".to_owned(), since);
            if let Some(reason) = reason {
                condition.insert("reason".to_owned(), json!(reason));
            }
            if let Some(message) = message {
                condition.insert("message".to_owned(), json!(message));
            }
            conditions.push(Value::Object(condition));
        }
        conditions
    }

    fn initialized(&self) -> Condition {
        let open = self
            .containers
            .iter()
            .filter(|one| one.init && !one.is_done())
            .map(|one| one.name.clone())
            .collect::<Vec<_>>();
        if open.is_empty() {
            return (true, self.all_completed().then_some("PodCompleted"), None);
        }
        let message = format!("containers with incomplete status: [{}]", open.join(" "));
        (false, Some("ContainersNotInitialized"), Some(message))
    }

    fn readiness(&self) -> Condition {
        if self.phase == "Failed" {
            return (false, Some("PodFailed"), None);
        }
        if self.all_completed() {
            return (false, Some("PodCompleted"), None);
        }
        let unready = self
            .containers
            .iter()
            .filter(|one| !one.init && !one.is_ready())
            .map(|one| one.name.clone())
            .collect::<Vec<_>>();
        if unready.is_empty() {
            return (true, None, None);
        }
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        (false, Some("ContainersNotReady"), Some(message))
    }

    fn all_completed(&self) -> bool {
        let mut main = self.containers.iter().filter(|one| !one.init);
        main.all(|one| matches!(&one.state, State::Terminated(ended) if ended.code == 0))
    }
}
