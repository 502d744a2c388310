//! Options of `nodes`.

use std::time::Duration;

use clap::{Args, Subcommand};
use fairlane_clikit::human::read_span;
use fairlane_common::id::NodeName;
use fairlane_worker::pod::KubernetesArgs;

use super::Reach;

/// List nodes and hosts that builds avoid; clear one, or probe a new one
///
/// Examples:
///   fairlane nodes
///   fairlane nodes clear node-3
///   fairlane nodes probe node-4
#[derive(Debug, Args)]
#[command(display_order = 11, verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    pub(crate) act: Option<NodesAct>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub(crate) enum NodesAct {
    /// Put a node back into use at once, and forget its failures
    ///
    /// Example: fairlane nodes clear node-3
    Clear {
        /// The node or host, as listed by `fairlane nodes`
        node: NodeName,
        /// Its cluster, if several clusters have a node of this name
        #[arg(long)]
        cluster: Option<String>,
        #[command(flatten)]
        reach: Reach,
    },
    Probe(Box<NodesProbe>),
}

/// Run one pod like a build's on a node, and say whether the node can build
///
/// The pod has the template, the image, the volumes and the requests of build pods, and goes through the
/// scheduler. Inside, it checks the free disk, whether the container engine answers on its socket, and whether
/// hosts can be reached. The pod is deleted at the end. Exit code 1 if the node cannot build.
///
/// Takes the Kubernetes options and variables of `fairlane worker`.
///
/// Examples:
///   fairlane nodes probe node-4 --pod-template pod.yaml --docker-socket /var/run/dind/docker.sock
///   kubectl exec deployment/fairlane-worker -- fairlane nodes probe node-4
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NodesProbe {
    /// The node's name, as in `kubectl get nodes`
    pub(crate) node: String,
    /// A host that builds must reach; repeatable. `none` for no host
    #[arg(long, value_name = "HOST:PORT", default_values_t = ["github.com:443".to_owned()])]
    pub(crate) connect: Vec<String>,
    /// How long the pod may take, from its creation to the end of its checks
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = read_span)]
    pub(crate) timeout: Duration,
    /// The prefix of the queue's keys, which is the default name of the installation
    #[arg(long, env = "FAIRLANE_PREFIX", value_name = "PREFIX", default_value = "fairlane")]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,
}
