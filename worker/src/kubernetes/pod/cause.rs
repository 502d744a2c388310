//! What can happen to a build pod: one table of causes, the class of each, and what to do.

use std::time::Duration;

use fairlane_common::queue::Blame;
use fairlane_common::{FailureCause, FailureClass};

/// Longest text from Kubernetes in a reason, in bytes.
const DETAIL_BYTES_MAX: usize = 300;

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $class:ident, $blame:literal, $patience:expr, $says:literal, $advice:literal;)+) => {
        /// What happened to a build pod.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum PodCause { $($(#[$doc])* $variant,)+ }

        impl PodCause {
            /// Every cause, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            fn row(self) -> &'static Row {
                match self {
                    $(Self::$variant => &const {
                        Row {
                            word: $word,
                            class: FailureClass::$class,
                            blames_node: $blame,
                            patience: $patience,
                            says: $says,
                            advice: $advice,
                        }
                    },)+
                }
            }
        }
    };
}

struct Row {
    word: &'static str,
    class: FailureClass,
    /// Whether the cluster itself blames the node.
    blames_node: bool,
    /// How many seconds a pod may wait for this cause to pass; `None`: the usual limit.
    patience: Option<u64>,
    /// The sentence for people; `{node}` and `{detail}` are filled in.
    says: &'static str,
    advice: &'static str,
}

causes! {
    /// It used more disk than it was allowed.
    OwnDisk = "own-disk", Repository, false, None,
        "the build pod exceeded its disk limit: {detail}",
        "Raise its ephemeral-storage limit in the pod template, or make the repository smaller.";
    /// It used more memory than it was allowed.
    OwnMemory = "own-memory", Repository, false, None,
        "the build pod used more memory than its limit of {detail}",
        "Raise its memory limit in the pod template, or make the build need less.";
    /// Its node ran short of something.
    NodePressure = "node-pressure", Infrastructure, true, None,
        "{node} ran short of resources and evicted the build pod: {detail}",
        "Set requests for what ran short (ephemeral-storage, memory) on the build pods, or give the node more of it.";
    /// Its node ran out of memory.
    NodeMemory = "node-memory", Infrastructure, true, None,
        "{node} ran out of memory and killed the build",
        "Set a memory request and limit for the build pods, or give the node more memory.";
    /// Its node no longer answers, or is gone.
    NodeLost = "node-lost", Infrastructure, true, None,
        "{node} was lost with the build pod on it: {detail}",
        "Check the node; builds are retried elsewhere.";
    /// Its node was shut down.
    NodeShutdown = "node-shutdown", Infrastructure, false, None,
        "{node} was shut down with the build pod on it: {detail}",
        "Nothing, if it was intended; next time, drain the node before you shut it down.";
    /// Somebody drained its node.
    Drained = "drained", Infrastructure, false, None,
        "the build pod was moved off {node}, which is being drained: {detail}",
        "Nothing: the build is retried elsewhere.";
    /// Its node got a taint.
    Tainted = "tainted", Infrastructure, false, None,
        "the build pod was evicted from {node} because of a taint: {detail}",
        "Nothing, if the taint is intended.";
    /// A pod with a higher priority needed its place.
    Preempted = "preempted", Infrastructure, false, None,
        "the build pod on {node} had to make room for pods of a higher priority: {detail}",
        "Give build pods a priority class in the pod template, or add nodes.";
    /// Somebody deleted it.
    Deleted = "deleted", Infrastructure, false, None,
        "somebody deleted the build pod on {node}",
        "Cancel builds with `fairlane cancel`; make sure that no cleanup job deletes pods with component=fairlane-build.";
    /// Its node rejected it.
    Rejected = "rejected", Infrastructure, false, None,
        "{node} rejected the build pod: {detail}",
        "Nothing, if it is rare: the node had just filled up.";
    /// It reached its deadline.
    Deadline = "deadline", Stuck, false, None,
        "the build pod was ended at its deadline: {detail}",
        "Raise --timeout if builds may take this long.";
    /// An init container from the pod template failed.
    InitFailed = "init-failed", Infrastructure, false, None,
        "an init container of the build pod failed: {detail}",
        "Look at the init containers in the pod template.";
    /// The command could not be run.
    CannotStart = "cannot-start", Infrastructure, false, None,
        "the build command could not be run in the build image: {detail}",
        "Check --build-image and --command: the command must be in the image.";
    /// The container could not be created.
    CannotCreate = "cannot-create", Infrastructure, false, Some(60),
        "the build container cannot be created on {node}: {detail}",
        "See `kubectl describe pod`, and the node's container runtime.";
    /// The build image is not on the node, and may not be pulled.
    ImageAbsent = "image-absent", Infrastructure, false, Some(0),
        "the build image is not on {node} and may not be pulled: {detail}",
        "Load it onto the nodes, or change imagePullPolicy in the pod template.";
    /// The build image cannot be pulled.
    ImagePull = "image-pull", Infrastructure, false, Some(180),
        "the build image cannot be pulled to {node}: {detail}",
        "Check --build-image, the registry, and imagePullSecrets in the pod template.";
    /// The build image's name is invalid.
    ImageName = "image-name", Infrastructure, false, Some(0),
        "the name of the build image is invalid: {detail}",
        "Correct --build-image.";
    /// What the container refers to does not exist.
    MissingObject = "missing-object", Infrastructure, false, Some(60),
        "the build pod refers to something that does not exist: {detail}",
        "Create it in the namespace of the builds, or correct --push-secret or the pod template.";
    /// The container engine's socket is not on the node.
    NoSocket = "no-socket", Infrastructure, true, Some(60),
        "the container engine's socket is not on {node}: {detail}",
        "Make sure that its daemon (Docker, or the DaemonSet of dind or pink) runs there, or correct --docker-socket. If the node has a folder of that name, remove it by hand.";
    /// A volume cannot be mounted.
    MountFailed = "mount-failed", Infrastructure, true, Some(150),
        "a volume of the build pod cannot be mounted on {node}: {detail}",
        "See `kubectl describe pod`, and the node.";
    /// The node cannot create a sandbox.
    NoSandbox = "no-sandbox", Infrastructure, true, Some(150),
        "{node} cannot create the build pod's sandbox: {detail}",
        "Look at the node's network plugin and container runtime.";
    /// No node can run it.
    Unschedulable = "unschedulable", Stuck, false, None,
        "no node can run the build pod: {detail}",
        "Add nodes or free some, or correct the node selector, tolerations and requests in the pod template; `fairlane doctor` says why each node is ruled out.";
    /// It never started, and nothing says why.
    Pending = "pending", Stuck, false, None,
        "the build pod did not start: {detail}",
        "See `kubectl describe pod`. Without the right to list events, the worker cannot tell why.";
    /// It failed and nothing says why.
    Unexplained = "unexplained", Infrastructure, false, None,
        "the build pod on {node} failed without an explanation: {detail}",
        "Run `kubectl describe pod` while the pod still exists.";
}

impl PodCause {
    /// Its name in the docs.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The same word as the queue knows it.
    pub fn cause(self) -> FailureCause {
        FailureCause::of(self.word())
    }

    /// What it is put down to.
    pub fn class(self) -> FailureClass {
        self.row().class
    }

    /// Whether it counts against the node at once, without waiting for a success elsewhere.
    pub fn blames_node(self) -> bool {
        self.row().blames_node
    }

    /// How long a pod may wait for this to pass; `None`: the usual limit.
    pub fn patience(self) -> Option<Duration> {
        self.row().patience.map(Duration::from_secs)
    }

    /// The sentence for people, with `{node}` and `{detail}` in it.
    pub fn says(self) -> &'static str {
        self.row().says
    }

    /// What an operator can do about it.
    pub fn advice(self) -> &'static str {
        self.row().advice
    }

    /// The failure of a pod on `node`. `detail` is what Kubernetes says about it.
    pub fn failure(self, node: Option<&str>, detail: &str) -> Failure {
        let row = self.row();
        let place = node.map_or_else(|| "its node".to_owned(), |node| format!("node {node}"));
        let detail = plain(detail);
        let says = row.says.replace("{node}", &place);
        let reason = if detail.is_empty() {
            says.replace(": {detail}", "").replace(" of {detail}", "").replace("{detail}", "it")
        } else {
            says.replace("{detail}", &detail)
        };
        Failure { cause: self, reason }
    }
}

/// How a run on a pod failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened to the pod; determines the class.
    pub cause: PodCause,
    /// One sentence for people.
    pub reason: String,
}

impl Failure {
    /// What it is put down to.
    pub fn class(&self) -> FailureClass {
        self.cause.class()
    }

    /// How far its node is to blame.
    pub fn blame(&self) -> Blame {
        if self.cause.blames_node() { Blame::Certain } else { Blame::Nobody }
    }
}

/// A text from Kubernetes on one line, with limited length and without a trailing period.
pub(super) fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let mut text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    while text.ends_with('.') {
        text.pop();
    }
    if text.len() > DETAIL_BYTES_MAX {
        text.truncate(text.floor_char_boundary(DETAIL_BYTES_MAX));
        text.push('…');
    }
    text
}
