//! What a kubelet is told.

use std::time::Duration;

/// What a kubelet is told about one of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kube) enum Order {
    /// The pod is being deleted, with this grace.
    Delete(Duration),
    /// The pod's object is gone already.
    Vanish,
    /// The node is short of something.
    Evict(String),
    /// The kernel killed it for its memory.
    OomKill,
    /// Somebody sent it SIGKILL.
    Kill,
    /// The node has no power any more: everything is dead and nobody says so.
    PowerLoss,
}
