//! Nodes that builds should avoid, including hosts of process workers.
//!
//! A node on which builds of three lanes fail within ten minutes, for causes that lie with the node, is
//! avoided for half an hour; at most a third of a cluster's nodes at a time. A cluster's only node is not
//! avoided but probed: it gets one build a minute, and is used again when one succeeds.

use super::views::NodeView;
use super::{By, Queue};
use crate::error::Result;
use crate::id::NodeName;
use crate::library::{CLEAR_NODE, NODES_VIEW};
use crate::queue::script::Args;

/// How far a failure is the fault of the node that it happened on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Blame {
    /// Nothing points at the node (the registry refuses, the API fails).
    #[default]
    Nobody,
    /// Only the log text does, which a repository may have printed itself. The build is retried on another
    /// node: if it succeeds there, the failure counts against this node; if it fails for the same cause, the
    /// repository is to blame.
    Suspect {
        /// The cause in a word or a few, the same on any node: `disk full`.
        cause: String,
    },
    /// The same, but for something that no repository can cause (the container engine is down). If the build
    /// fails for it on any node, the repository is never to blame.
    Machine {
        /// The cause, as in `Suspect`.
        cause: String,
    },
    /// The log does not show whether the repository or its surroundings are to blame. The build is retried
    /// once, on another node if possible. If it fails for the same cause, the repository is to blame; if it
    /// succeeds, the failure counts against the first node.
    Unclear {
        /// The cause, as in `Suspect`.
        cause: String,
    },
    /// The cluster itself reports it (an eviction, a node condition, a failed mount).
    Certain,
}

impl Blame {
    pub(super) fn words(&self) -> (&str, &str) {
        match self {
            Self::Nobody => ("", ""),
            Self::Suspect { cause } => ("suspect", cause),
            Self::Machine { cause } => ("machine", cause),
            Self::Unclear { cause } => ("unclear", cause),
            Self::Certain => ("certain", ""),
        }
    }
}

/// The result of an operator's request to use a node again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleared {
    /// The node is in use again; it belongs to this cluster.
    Cleared(String),
    /// No such node is avoided.
    Unknown,
    /// Several clusters have an avoided node of that name: these.
    Ambiguous(Vec<String>),
}

impl Queue {
    /// The avoided nodes, longest remaining first.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        let mut reply = self.call(&NODES_VIEW, Args::new()).await?;
        if reply.tag != "nodes" {
            return Err(reply.unknown());
        }
        let now: u64 = reply.parse("now")?;
        let mut nodes = Vec::new();
        for mut node in reply.items("nodes")? {
            nodes.push(NodeView {
                name: node.parse("name")?,
                cluster: node.get("cluster")?,
                until: node.parse("until")?,
                since: node.maybe("since")?.unwrap_or(now),
                reason: node.get("reason")?,
                lanes: node.maybe("lanes")?.unwrap_or(0),
                probed: node.maybe("probed")?,
            });
        }
        Ok(nodes)
    }

    /// Puts a node back into use and forgets its failures. The cluster can be left out if only one has an
    /// avoided node of that name.
    pub async fn clear_node<'a>(
        &self,
        node: &NodeName,
        cluster: Option<&str>,
        by: impl Into<By<'a>>,
    ) -> Result<Cleared> {
        let args = Args::new().text("node", node.as_str()).maybe("cluster", cluster).by(by.into());
        let mut reply = self.call(&CLEAR_NODE, args).await?;
        match reply.tag.as_str() {
            "cleared" => Ok(Cleared::Cleared(reply.get("cluster")?)),
            "unknown" => Ok(Cleared::Unknown),
            "ambiguous" => Ok(Cleared::Ambiguous(reply.get("clusters")?)),
            _ => Err(reply.unknown()),
        }
    }
}
