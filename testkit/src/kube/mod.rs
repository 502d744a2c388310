//! A Kubernetes cluster in the test's own process: an API server that answers as a real one does, a scheduler, and
//! kubelets that run each container as a local process.
//!
//! [`Cluster`] is the fake, with everything that can go wrong in it as a sentence. [`TestCluster`] is a real cluster
//! where `FAIRLANE_TEST_KUBECONFIG` names one, else the fake: what runs on both stands on it.

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
