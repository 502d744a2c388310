//! A Kubernetes cluster in the test's own process: an API server that behaves like a real one, a scheduler, and
//! kubelets that run each container as a local process.
//!
//! [`Cluster`] is the fake; each fault is a method that reads like a sentence. [`TestCluster`] is a real cluster
//! if `FAIRLANE_TEST_KUBECONFIG` names one, otherwise the fake: tests that can run on both use it.

mod call;
mod cluster;
mod counters;
mod defaults;
mod deletion;
mod disruption;
pub mod examples;
mod faults;
mod gate;
mod kubelet;
mod node;
mod object;
mod patch;
mod pod;
mod quantity;
mod quota;
mod rights;
mod routes;
mod scheduler;
mod selectors;
mod shared;
mod status;
mod store;
mod test_cluster;
mod validate;
mod watch;

pub use cluster::{Cluster, ClusterBuilder};
pub use faults::Fault;
pub use node::{Node, NodeScript};
pub use pod::PodScript;
pub use test_cluster::TestCluster;
