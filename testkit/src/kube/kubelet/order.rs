//! Orders to a kubelet.

use std::time::Duration;

/// An order to a kubelet about one of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kube) enum Order {
    /// The pod is being deleted, with this grace period.
    Delete(Duration),
    /// The pod's object is already gone.
    Vanish,
    /// The node is short of something.
    Evict(String),
    /// The kernel killed it because of its memory.
    OomKill,
    /// Somebody sent it SIGKILL.
    Kill,
    /// The node has lost power: everything is dead, and nothing is reported.
    PowerLoss,
}
